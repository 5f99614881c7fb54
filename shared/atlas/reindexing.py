"""The index of open tasks, made anew from the logs of all tasks: they are the truth about them.

For what was restored: each stream of a backup is as it was at a moment of its own, so the index may
lack a task whose log is open, which nobody would ever carry on, and have one that has ended. Only
while no service runs: a task is entered before its log begins.
"""

import asyncio
import time

from pydantic import BaseModel, ConfigDict, ValidationError

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.errors import NoResponderError, StoreRefusedError
from atlas.erasing import purge
from atlas.settings import TopologySettings
from atlas.topology import Topology, ensure_bucket

_ENDS = frozenset({"task.completed", "task.failed", "task.cancelled", "task.deleted"})
_KNOWN_S = 10.0
_AGAIN_S = 0.1
_BUCKET = subjects.bucket_stream(subjects.OPEN_TASKS)


class _Entry(BaseModel):
    """As much of a task event as tells whether its task is open."""

    model_config = ConfigDict(extra="ignore")

    type: str


async def reindex(bus: Bus, settings: TopologySettings) -> int:
    """Enter every task whose log has no end, and nothing else; gives how many there are.

    In a cluster it may take a moment until every server has what was just restored.

    Raises:
        StoreRefusedError: Not all logs could be read, or the index not be written.
        RequestTimeoutError: The server fell silent.
    """
    expected = Topology(settings).buckets()[subjects.OPEN_TASKS]
    await ensure_bucket(bus.jetstream, subjects.OPEN_TASKS, expected)
    until_s = time.monotonic() + _KNOWN_S
    while True:
        try:
            return await _reindex(bus)
        except (NoResponderError, _NotAllError):
            if time.monotonic() > until_s:
                raise
        await asyncio.sleep(_AGAIN_S)


class _NotAllError(StoreRefusedError):
    """Whoever answered does not have everything yet."""


async def _reindex(bus: Bus) -> int:
    open_ = await _open(bus)
    there = {one.subject async for one in bus.read(_BUCKET, _key(">"))}
    for key in sorted(open_ - there):
        await bus.store(key, b"")
    for key in sorted(there - open_):
        await purge(bus, _BUCKET, key)
    return len(open_)


async def _open(bus: Bus) -> set[str]:
    """The keys of the tasks whose logs have no end; what is no event is passed over."""
    found: set[str] = set()
    messages = 0
    async for stored in bus.read(subjects.TASKS, subjects.TASK_WRITE_ALL):
        messages += 1
        parsed = subjects.parse(stored.subject)
        key = _key(subjects.open_task(parsed.tenant, parsed.id))
        try:
            entry = _Entry.model_validate_json(stored.data)
        except ValidationError:
            continue
        if entry.type in _ENDS:
            found.discard(key)
        else:
            found.add(key)
    kept = (await bus.jetstream.stream_info(subjects.TASKS)).state.messages
    if messages < kept:
        raise _NotAllError(
            f"{subjects.TASKS} holds {kept} messages, and {messages} could be read; the index of "
            "open tasks is not complete: restore again with --replace"
        )
    return found


def _key(task: str) -> str:
    return subjects.bucket_key(subjects.OPEN_TASKS, task)
