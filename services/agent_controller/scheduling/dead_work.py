"""Takes out of the queues what nobody waits for any more, where it keeps other work out.

Work of an attempt that ended is dropped by the worker that takes it. Before a capability that has
no worker nobody does that, and what lies there would count for ever against its tenant. So where a
line moved no more for a while, what lies in its way is looked at, a bounded amount at a time, and
the logs of its tasks say what is dead. Where nobody stands in line, nothing is asked. Work that no
worker began is sent again, and again; of its copies the first is kept.

An attempt that ended never lives again. So several controllers may do this at once, each by its own
and perhaps older view: one keeps what another removes, and nobody removes what somebody waits for,
but for copies of what it keeps, of which each was there after the first.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from agent_controller.open_tasks import Key
from agent_controller.queued_work import QueuedWork, queued_work
from agent_controller.tasks.entries import LogCorruptError
from agent_controller.tasks.shares import Lane, Shares
from agent_controller.tasks.view import TaskView
from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.base import now_ms
from atlas.contracts.errors import AtlasError
from atlas.contracts.tasks import SubtaskState
from atlas.erasing import remove

_LOOK_S = 1.0
_AT_ONCE = 256
"""Messages that a look reads at most."""
_SHORTEST_MS = 1_000
_LONGEST_MS = 60_000
"""Until a subject is read again in which nothing was dead; the wait doubles."""
_UNLOGGED = timedelta(minutes=1)
"""Work that is older and has no log: it is long over. What is younger, a replica may not know."""

log = structlog.get_logger("agent_controller.scheduling")


def is_dead(view: TaskView, work: QueuedWork, now: datetime) -> bool:
    """Whether it is certain, by any view of the task however old, that nobody waits for it."""
    if view.end is not None or view.is_deleted or work.subtask_id in view.removed:
        return True
    if not view.version:
        return now - work.stored_at > _UNLOGGED
    record = view.subtasks.get(work.subtask_id)
    if record is None or record.attempt < work.attempt:
        return False
    return record.attempt > work.attempt or not record.is_live


type _Attempt = tuple[Key, str, int]
"""A task, a subtask, and which of its attempts."""


def is_waiting(view: TaskView, work: QueuedWork) -> bool:
    """Whether it is of an attempt that no worker began: whichever copy is taken, it is the same."""
    record = view.subtasks.get(work.subtask_id)
    return (
        record is not None
        and record.attempt == work.attempt
        and record.state is SubtaskState.DISPATCHED
    )


def needless(
    view: TaskView, works: Iterable[QueuedWork], now: datetime, kept: dict[_Attempt, int]
) -> Iterator[QueuedWork]:
    """Of a task's work in the queue what is dead, and copies of what is `kept`, which it notes.

    It may be asked of the same work again, where the last answer was not carried out.
    """
    for work in works:
        attempt = (work.key, work.subtask_id, work.attempt)
        is_copy = is_waiting(view, work) and work.seq != kept.setdefault(attempt, work.seq)
        if is_copy or is_dead(view, work, now):
            yield work


@dataclass(slots=True)
class _Reading:
    """How far a subject was read."""

    from_seq: int = 1
    removed: int = 0
    """Since its beginning."""
    kept: dict[_Attempt, int] = field(default_factory=dict)
    """Since its beginning, by sequence: what comes later of these are copies."""
    wait_ms: int = _SHORTEST_MS
    due_ms: int = 0


class DeadWork:
    """Looks at what keeps lines from moving."""

    def __init__(
        self, bus: Bus, shares: Shares, view: Callable[[Key], Awaitable[TaskView]]
    ) -> None:
        self._bus = bus
        self._shares = shares
        self._view = view
        self._readings: dict[str, _Reading] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await self._look(now_ms())
            except AtlasError as error:
                log.warning("dead_work_not_removed", error=error.message)

    async def _look(self, at_ms: int) -> None:
        stuck = (one for lane in self._shares.stuck(at_ms) for one in self._in_its_way(lane))
        self._readings = {one: self._readings.get(one) or _Reading() for one in stuck}
        room = _AT_ONCE
        for subject, reading in self._readings.items():
            if room and reading.due_ms <= at_ms:
                room -= await self._read_on(subject, reading, room)

    def _in_its_way(self, lane: Lane) -> Iterator[str]:
        """The subjects whose messages count against a lane."""
        limits, (capability, priority) = self._shares.limits, lane.queue
        if limits.tenant is None:
            yield subjects.work(lane.tenant, capability, priority)
        else:
            yield subjects.work_of(lane.tenant)
        if capability in limits.capabilities:
            yield subjects.capability_work(capability, "*")

    async def _read_on(self, subject: str, reading: _Reading, most: int) -> int:
        """Go on where the last look ended; gives how many messages were read."""
        found = await self._next_of(subject, reading.from_seq, most)
        removed = await self._remove_dead(found, reading.kept)
        reading.removed += removed
        if removed:
            log.info("dead_work_removed", subject=subject, messages=removed)
        if len(found) == most:
            reading.from_seq = found[-1].seq + 1
            return most
        reading.wait_ms = _SHORTEST_MS if reading.removed else min(reading.wait_ms * 2, _LONGEST_MS)
        reading.from_seq, reading.removed, reading.kept = 1, 0, {}
        reading.due_ms = now_ms() + reading.wait_ms
        return len(found)

    async def _next_of(self, subject: str, from_seq: int, most: int) -> list[QueuedWork]:
        found: list[QueuedWork] = []
        async with contextlib.aclosing(queued_work(self._bus, subject, from_seq)) as works:
            async for work in works:
                found.append(work)
                if len(found) == most:
                    break
        return found

    async def _remove_dead(self, works: list[QueuedWork], kept: dict[_Attempt, int]) -> int:
        """Gives how many there were, copies of what is `kept` among them."""
        removed = 0
        for key in dict.fromkeys(work.key for work in works):
            try:
                view, now = await self._view(key), datetime.now(UTC)
            except LogCorruptError:
                continue  # whoever visits the task tells
            of_the_task = [work for work in works if work.key == key]
            for work in needless(view, of_the_task, now, kept):
                removed += await remove(self._bus, subjects.WORK, work.seq)
        return removed
