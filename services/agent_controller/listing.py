"""The newest tasks, from the logs themselves: no index of finished tasks is kept."""

import asyncio

import structlog

from agent_controller.open_tasks import Key
from agent_controller.scheduling.scheduler import Scheduler
from agent_controller.tasks.entries import LogCorruptError
from agent_controller.tasks.view import TaskView
from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.tasks import TaskState

_FIRST_WINDOW = 512
_MOST_WINDOW = 65_536
_READS_AT_ONCE = 16

log = structlog.get_logger("agent_controller.listing")


class Listing:
    """Walks the stream of all logs backwards, window by window."""

    def __init__(self, bus: Bus, scheduler: Scheduler) -> None:
        self._bus = bus
        self._scheduler = scheduler

    async def newest(self, tenant: str, limit: int, state: TaskState | None) -> list[TaskView]:
        """The tasks that something happened in last, the newest accepted first."""
        info = (await self._bus.jetstream.stream_info(subjects.TASKS)).state
        pattern = subjects.task_write(tenant, "*")
        end, window = info.last_seq, _FIRST_WINDOW
        seen: set[str] = set()
        found: list[TaskView] = []
        while end >= info.first_seq and end > 0 and len(found) < limit:
            start = max(info.first_seq, end - window + 1)
            ids = await self._ids(pattern, start, end)
            fresh = [id_ for id_ in ids if id_ not in seen]
            seen.update(fresh)
            views = await self._views(tenant, fresh)
            found.extend(view for view in views if state is None or view.state is state)
            end, window = start - 1, min(window * 2, _MOST_WINDOW)
        found.sort(key=lambda view: (view.accepted_at_ms, view.task_id), reverse=True)
        return found[:limit]

    async def _ids(self, pattern: str, start: int, end: int) -> list[str]:
        ids: dict[str, None] = {}
        async for stored in self._bus.read(subjects.TASKS, pattern, from_seq=start):
            if stored.seq > end:
                break
            ids[subjects.parse(stored.subject).id] = None
        return list(ids)

    async def _views(self, tenant: str, ids: list[str]) -> list[TaskView]:
        views: list[TaskView] = []
        for place in range(0, len(ids), _READS_AT_ONCE):
            some = ids[place : place + _READS_AT_ONCE]
            views += await asyncio.gather(*(self._view((tenant, id_)) for id_ in some))
        return [view for view in views if view.version]

    async def _view(self, key: Key) -> TaskView:
        """A task; one whose log cannot be folded, such as one with a gap, is left out."""
        try:
            return await self._scheduler.view(key)
        except LogCorruptError as error:
            log.warning("task_not_listed", task_id=key[1], error=error.message)
            return TaskView(*key)
