"""One entry of a task's log, read: an event that this version knows, or only its place."""

from pydantic import ValidationError

from atlas.contracts.errors import AtlasError
from atlas.contracts.task_events import TASK_EVENT, TaskEvent


class LogCorruptError(AtlasError):
    """A task's log has a gap, or speaks of a subtask that it never planned."""

    code = "log_corrupt"


def read_entry(data: bytes) -> TaskEvent:
    """Read one message of a log.

    Raises:
        LogCorruptError: It is no event of any version.
    """
    try:
        return TASK_EVENT.validate_json(data, extra="ignore")
    except ValidationError as error:
        raise LogCorruptError(
            f"no task event, for {error.error_count()} problems: {data[:200]!r}"
        ) from error
