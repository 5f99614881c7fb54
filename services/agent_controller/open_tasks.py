"""The index of open tasks: what a new controller must look after, and nothing that is finished."""

import json

from nats.errors import Error as NatsError
from pydantic import BaseModel, ValidationError

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.base import JsonObject, now_ms
from atlas.contracts.errors import NoResponderError, RequestTimeoutError, StoreRefusedError

_BUCKET = subjects.bucket_stream(subjects.OPEN_TASKS)
_PREFIX = subjects.bucket_key(subjects.OPEN_TASKS, "")
_PAGES = 100
"""The server names 100,000 subjects a page: ten million open tasks are the end of one index."""
_ASK_S = 5

type Key = tuple[str, str]
"""A tenant and a task id."""


class _State(BaseModel):
    subjects: dict[str, int] | None = None


class _Info(BaseModel):
    """As much of the server's answer as is needed; an error lacks `state`."""

    state: _State
    total: int = 0


class _Purged(BaseModel):
    """What the server answers to a purge; an error lacks `success`."""

    success: bool = False


class OpenTasks:
    """The bucket `ATLAS_OPEN`: a key for each open task."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def add(self, key: Key) -> None:
        """Enter a task; before its log begins, so that no log is ever forgotten."""
        await self._bus.store(_PREFIX + subjects.open_task(*key), b"")

    async def age_ms(self, key: Key) -> int:
        """How long ago a task was entered; 0 when it is not there."""
        entered = await self._bus.last(_BUCKET, _PREFIX + subjects.open_task(*key))
        return 0 if entered is None else now_ms() - entered.at_ms

    async def remove(self, key: Key) -> None:
        """Take a task out; the message goes, and leaves no marker behind.

        Raises:
            AtlasError: It may be there still; worth another try.
        """
        subject = _PREFIX + subjects.open_task(*key)
        request = json.dumps({"filter": subject}).encode()
        reply = await self._bus.ask(subjects.jetstream("STREAM.PURGE", _BUCKET), request)
        if not _Purged.model_validate_json(reply.data).success:
            raise StoreRefusedError(f"{subject} was not removed: {reply.data[:200]!r}")

    async def list(self) -> list[Key]:
        """Every open task of every tenant.

        Raises:
            RequestTimeoutError: NATS is silent.
            NoResponderError: JetStream is not up, or has lost the index.
        """
        keys: list[Key] = []
        for _ in range(_PAGES):
            reply = await self._ask({"subjects_filter": f"{_PREFIX}>", "offset": len(keys)})
            found = reply.state.subjects or {}
            keys.extend(_key(subject) for subject in found)
            if not found or len(keys) >= reply.total:
                break
        return keys

    async def _ask(self, request: JsonObject) -> _Info:
        """A page of the bucket's subjects; nats-py's own call knows no offset."""
        try:
            door = subjects.jetstream("STREAM.INFO", _BUCKET)
            msg = await self._bus.nats.request(door, json.dumps(request).encode(), timeout=_ASK_S)
            return _Info.model_validate_json(msg.data)
        except TimeoutError as error:
            raise RequestTimeoutError(f"{_BUCKET}: no answer within {_ASK_S} s") from error
        except (NatsError, ValidationError) as error:
            raise NoResponderError(f"{_BUCKET}: the index cannot be read now: {error}") from error


def _key(subject: str) -> Key:
    tenant, _, task_id = subject.removeprefix(_PREFIX).partition(".")
    return tenant, task_id
