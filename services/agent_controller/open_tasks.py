"""The index of open tasks: what a new controller must look after, and nothing that is finished."""

import json

from nats.js.errors import Error as JetStreamError

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.errors import RequestTimeoutError, StoreRefusedError

_BUCKET = f"KV_{subjects.OPEN_TASKS}"
_PREFIX = f"$KV.{subjects.OPEN_TASKS}."
_PAGES = 100
"""The server names 100,000 subjects a page: ten million open tasks are the end of one index."""

type Key = tuple[str, str]
"""A tenant and a task id."""


class OpenTasks:
    """The bucket `ATLAS_OPEN`: a key for each open task."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def add(self, key: Key) -> None:
        """Enter a task; before its log begins, so that no log is ever forgotten."""
        await self._bus.store(_PREFIX + subjects.open_task(*key), b"")

    async def remove(self, key: Key) -> None:
        """Take a task out; the message goes, and leaves no marker behind.

        Raises:
            StoreRefusedError: It is still there; worth another try.
        """
        subject = _PREFIX + subjects.open_task(*key)
        try:
            await self._bus.jetstream.purge_stream(_BUCKET, subject=subject)
        except (JetStreamError, TimeoutError) as error:
            raise StoreRefusedError(f"{subject} was not removed: {error}") from error

    async def list(self) -> list[Key]:
        """Every open task of every tenant.

        Raises:
            RequestTimeoutError: NATS is silent.
        """
        keys: list[Key] = []
        for _ in range(_PAGES):
            request = {"subjects_filter": f"{_PREFIX}>", "offset": len(keys)}
            reply = await self._ask(json.dumps(request).encode())
            found = (json.loads(reply).get("state") or {}).get("subjects") or {}
            keys.extend(_key(subject) for subject in found)
            if not found or len(keys) >= int(json.loads(reply).get("total", 0)):
                break
        return keys

    async def _ask(self, request: bytes) -> bytes:
        try:
            msg = await self._bus.nats.request(f"$JS.API.STREAM.INFO.{_BUCKET}", request, timeout=5)
        except TimeoutError as error:
            raise RequestTimeoutError(f"{_BUCKET}: no answer within 5 s") from error
        return msg.data


def _key(subject: str) -> Key:
    tenant, _, task_id = subject.removeprefix(_PREFIX).partition(".")
    return tenant, task_id
