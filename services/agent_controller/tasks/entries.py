"""One entry of a task's log, read: an event that this version knows, or only its place."""

from typing import get_args

from pydantic import ValidationError

from atlas.contracts.base import Contract
from atlas.contracts.errors import AtlasError
from atlas.contracts.task_events import TASK_EVENT, TaskEvent


class LogCorruptError(AtlasError):
    """A task's log has a gap, or speaks of a subtask that it never planned."""

    code = "log_corrupt"


class UnknownEvent(Contract):
    """An event of a type that this version does not know."""

    task_id: str
    version: int
    at_ms: int
    type: str


type LogEntry = TaskEvent | UnknownEvent

_KNOWN = frozenset(
    kind.model_fields["type"].default for kind in get_args(get_args(TaskEvent.__value__)[0])
)


def read_entry(data: bytes) -> LogEntry:
    """Read one message of a log.

    Raises:
        LogCorruptError: It is no event of any version.
    """
    try:
        return TASK_EVENT.validate_json(data)
    except ValidationError as error:
        try:
            unknown = UnknownEvent.model_validate_json(data)
        except ValidationError:
            raise LogCorruptError(f"no task event: {data[:120]!r}") from error
        if unknown.type in _KNOWN:
            raise LogCorruptError(
                f"task {unknown.task_id}, version {unknown.version}: "
                f"{unknown.type} cannot be read: {error.error_count()} problems"
            ) from error
        return unknown
