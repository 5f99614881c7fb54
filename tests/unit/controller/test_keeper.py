"""The keeper: what is due is visited as soon as there is room, not at the next sweep."""

import asyncio
from typing import cast

from agent_controller.open_tasks import Key, OpenTasks
from agent_controller.scheduling.agenda import Agenda
from agent_controller.scheduling.keeper import Keeper
from agent_controller.scheduling.scheduler import Scheduler
from agent_controller.tasks.admission import Admission
from agent_controller.tasks.view import TaskView
from atlas.contracts.errors import NoResponderError

_NO_SWEEP_MS = 3_600_000
_GIVE_UP_S = 20
_AT_ONCE = 4
_TASKS = 10 * _AT_ONCE


class _Index:
    async def list(self) -> list[Key]:
        return [("t", f"task-{number}") for number in range(_TASKS)]


class _Closing:
    """A scheduler for which every task is closed, perhaps after a failure."""

    def __init__(self, failures: int) -> None:
        self.agenda = Agenda()
        self.agenda_changed = asyncio.Event()
        self.done: set[Key] = set()
        self.all_done = asyncio.Event()
        self._failures = failures

    async def advance(self, key: Key) -> TaskView:
        await asyncio.sleep(0)
        if self._failures:
            self._failures -= 1
            raise NoResponderError("NATS is away")
        self.done.add(key)
        if len(self.done) == _TASKS:
            self.all_done.set()
        return TaskView(*key, version=1)


async def _keep(scheduler: _Closing) -> None:
    keeper = Keeper(
        cast("Scheduler", scheduler),
        cast("OpenTasks", _Index()),
        Admission(_TASKS, 1),
        interval_ms=_NO_SWEEP_MS,
        concurrency=_AT_ONCE,
        max_open_ms=1,
    )
    async with asyncio.timeout(_GIVE_UP_S), asyncio.TaskGroup() as group:
        running = group.create_task(keeper.run())
        await scheduler.all_done.wait()
        running.cancel()


async def test_tasks_that_end_make_room_for_those_that_are_due() -> None:
    await _keep(_Closing(failures=0))


async def test_a_visit_that_failed_is_made_again_without_a_sweep() -> None:
    await _keep(_Closing(failures=_TASKS))
