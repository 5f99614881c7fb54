"""Pulls requests off the lanes, never more than there are slots for."""

import asyncio

import structlog
from nats.aio.msg import Msg

from atlas import subjects
from atlas.bus import Bus
from provider_router.streaming.delivery import tell_jetstream
from provider_router.streaming.supervisor import Supervisor

_FETCH_S = 1.0
_BATCH_LANE_SHARE = 2
"""The batch lane gets one slot of so many, so that it never keeps people waiting."""

_AT_ONCE = 8
"""So many requests of people are fetched at a time: a busy router answers late, and one after the
other they would begin as slowly as it does."""
_SLOTS_FOR_EACH = 8
"""A fetch holds a slot while it waits; a small router fetches less."""

log = structlog.get_logger("atlas.intake")


class Intake:
    """Fills the router's slots from the lanes."""

    def __init__(self, bus: Bus, supervisor: Supervisor, slots: int) -> None:
        self._bus = bus
        self._supervisor = supervisor
        self._slots = asyncio.Semaphore(slots)
        self._at_once = max(1, min(_AT_ONCE, slots // _SLOTS_FOR_EACH))
        self._batch_slots = asyncio.Semaphore(max(1, slots // _BATCH_LANE_SHARE))
        self._is_open = True

    async def run(self) -> None:
        """Pull until `close`; ends when every stream that was taken has ended or left."""
        async with asyncio.TaskGroup() as group:
            for lane in subjects.LANES:
                for _ in range(self._at_once if lane == "interactive" else 1):
                    group.create_task(self._pull(lane, group))

    def close(self) -> None:
        """Take nothing new."""
        self._is_open = False

    async def _pull(self, lane: str, group: asyncio.TaskGroup) -> None:
        pull = await self._bus.pull(subjects.REQUESTS, subjects.lane_consumer(lane))
        try:
            while self._is_open:
                taken = await self._take_slots(lane)
                messages = await pull.fetch(1, wait_s=_FETCH_S) if self._is_open else []
                if not messages:
                    self._give_back(taken)
                    continue
                task = group.create_task(self._carry(messages[0]))
                task.add_done_callback(lambda _, taken=taken: self._give_back(taken))  # type: ignore[misc]
        finally:
            await pull.close()

    async def _carry(self, msg: Msg) -> None:
        if not self._is_open:  # closed during the fetch
            await tell_jetstream(msg.nak())
            return
        try:
            await self._supervisor.carry(msg)
        except Exception:  # one stream's failure is not the others'
            log.exception("stream_failed", subject=msg.subject)

    async def _take_slots(self, lane: str) -> list[asyncio.Semaphore]:
        needed = [self._slots] if lane == "interactive" else [self._batch_slots, self._slots]
        for one in needed:
            await one.acquire()
        return needed

    @staticmethod
    def _give_back(taken: list[asyncio.Semaphore]) -> None:
        for one in taken:
            one.release()
