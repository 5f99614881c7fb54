"""The keeper: no open task is forgotten, whoever began it and whoever died.

It sweeps the index of open tasks for those that this process does not know, and visits each task
when something in it is due, or at the latest after the revisit time.
"""

import asyncio

import structlog

from agent_controller.open_tasks import Key, OpenTasks
from agent_controller.scheduling.scheduler import Scheduler
from agent_controller.tasks.admission import Admission
from agent_controller.tasks.lifetime import end_forgotten
from agent_controller.tasks.view import TaskView
from atlas.contracts.base import now_ms
from atlas.contracts.errors import AtlasError

_AGAIN_MS = 1_000

log = structlog.get_logger("agent_controller.scheduling")


class Keeper:
    """Looks after every open task for as long as it is open, whoever began it."""

    def __init__(
        self,
        scheduler: Scheduler,
        open_tasks: OpenTasks,
        admission: Admission,
        *,
        interval_ms: int,
        concurrency: int,
        max_open_ms: int,
    ) -> None:
        self._scheduler = scheduler
        self._admission = admission
        self._open_tasks = open_tasks
        self._interval_ms = interval_ms
        self._concurrency = concurrency
        self._max_open_ms = max_open_ms
        self._busy: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Sweep the index of open tasks, and visit each task when it is due. Until cancelled."""
        sweep_at_ms = 0
        try:
            while True:
                at_ms = now_ms()
                if at_ms >= sweep_at_ms:
                    sweep_at_ms = at_ms + self._interval_ms
                    await self._sweep(at_ms)
                room = self._concurrency - len(self._busy)
                for key in self._scheduler.agenda.pop_due(at_ms, room):
                    task = asyncio.create_task(self._visit(key))
                    self._busy.add(task)
                    task.add_done_callback(self._visited)
                await self._wait(sweep_at_ms)
        finally:
            for task in self._busy:
                task.cancel()
            await asyncio.gather(*self._busy, return_exceptions=True)

    async def _sweep(self, at_ms: int) -> None:
        """Open tasks that this process does not know yet: its own after a start, or another's."""
        try:
            keys = await self._open_tasks.list()
        except AtlasError as error:
            log.warning("sweep_failed", error=error.message)
            return
        self._admission.saw_open(keys)
        for key in keys:
            if key not in self._scheduler.agenda:
                self._scheduler.agenda.reset(key, at_ms)

    def _visited(self, task: asyncio.Task[None]) -> None:
        """There is room for another visit, and perhaps another time on the agenda."""
        self._busy.discard(task)
        self._scheduler.agenda_changed.set()

    async def _visit(self, key: Key) -> None:
        try:
            view = await self._scheduler.advance(key)
            if not view.version:
                await self._without_log(key, view)
        except AtlasError as error:
            log.warning("visit_failed", task_id=key[1], error=error.message)
            self._scheduler.agenda.reset(key, now_ms() + _AGAIN_MS)
        except Exception:
            log.exception("visit_failed_inside", task_id=key[1])
            self._scheduler.agenda.reset(key, now_ms() + self._interval_ms * 10)

    async def _without_log(self, key: Key, view: TaskView) -> None:
        """An open task that has no log: it was deleted, or all of its log expired.

        Where neither is so it is about to be accepted.
        """
        if view.is_deleted:
            await self._open_tasks.remove(key)
        elif await self._open_tasks.age_ms(key) > self._max_open_ms:
            log.warning("task_forgotten", task_id=key[1])
            await self._scheduler.advance(key, [end_forgotten])

    async def _wait(self, until_ms: int) -> None:
        next_ms = self._scheduler.agenda.next_at_ms()
        if next_ms is not None and len(self._busy) < self._concurrency:
            until_ms = min(until_ms, next_ms)
        self._scheduler.agenda_changed.clear()
        try:
            async with asyncio.timeout(max(0.0, (until_ms - now_ms()) / 1000)):
                await self._scheduler.agenda_changed.wait()
        except TimeoutError:
            return
