"""Counts what is in the queues of work, and wakes the tasks for which there is room.

It looks once a second, and at once when a task finds no room: then every few moments, more seldom
the longer nothing moves.
"""

import asyncio
import contextlib

import structlog

from agent_controller.scheduling.scheduler import Scheduler
from agent_controller.stock import Stock
from agent_controller.tasks.admission import Admission
from agent_controller.tasks.shares import Shares
from atlas.contracts.base import now_ms
from atlas.contracts.errors import AtlasError

_IDLE_S = 1.0
_SHORTEST_S = 0.02
_LONGEST_S = 0.25

log = structlog.get_logger("agent_controller.scheduling")


class QueueWatch:
    """Looks, and deals out."""

    def __init__(
        self, stock: Stock, scheduler: Scheduler, shares: Shares, admission: Admission
    ) -> None:
        self._stock = stock
        self._scheduler = scheduler
        self._shares = shares
        self._admission = admission

    async def run(self) -> None:
        """Until cancelled."""
        wait_s = _SHORTEST_S
        while True:
            moved = await self._look()
            if not self._shares.is_line:
                wait_s = _SHORTEST_S
                await self._until_wanted()
            else:
                wait_s = _SHORTEST_S if moved else min(wait_s * 1.5, _LONGEST_S)
            await asyncio.sleep(wait_s)

    async def _until_wanted(self) -> None:
        self._scheduler.room_wanted.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_IDLE_S):
                await self._scheduler.room_wanted.wait()

    async def _look(self) -> bool:
        """Count, and wake who may go on; says whether anybody may."""
        try:
            counts = await self._stock.work(self._shares.queues(now_ms()))
            self._admission.saw_waiting(await self._stock.submissions())
        except AtlasError as error:
            log.warning("queues_not_counted", error=error.message)
            return False
        at_ms = now_ms()
        woken = self._shares.take(counts, at_ms)
        for task in woken:
            self._scheduler.agenda.reset(task, at_ms)
        if woken:
            self._scheduler.agenda_changed.set()
        return bool(woken)
