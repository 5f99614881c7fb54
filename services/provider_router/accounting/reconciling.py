"""Gives back what routers held that are dead. Every router runs it; several at once do no harm.

Two that settle the same reservation read the same history, so their increments have the same
numbers, and JetStream counts one of them.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from atlas.contracts.errors import AtlasError
from provider_router.accounting.budgets import Amounts, Line, counter_of
from provider_router.accounting.counters import Counters
from provider_router.accounting.holding import Holding
from provider_router.accounting.reservations import Reservation, Reservations

_PATIENCE_S = 3.0

log = structlog.get_logger("atlas.reconciling")

type UsedBy = Callable[[Reservation], Awaitable[Amounts]]
"""What the stream used under the ownership that reserved it, as its history tells."""


class Reconciler:
    """Settles the reservations of dead routers to what was used."""

    def __init__(
        self,
        counters: Counters,
        reservations: Reservations,
        is_alive: Callable[[str], bool],
        used_by: UsedBy,
        *,
        grace_s: float = 10.0,
    ) -> None:
        """Compose it.

        Args:
            counters: Of budgets.
            reservations: Of all routers.
            is_alive: Whether a router is heard of.
            used_by: What a stream's history tells.
            grace_s: A router silent for so long does not come back with increments of its own.
        """
        self._counters = counters
        self._reservations = reservations
        self._is_alive = is_alive
        self._used_by = used_by
        self._grace_s = grace_s
        self._dead_since_s: dict[str, float] = {}

    async def run(self, every_s: float) -> None:
        """Look after the dead again and again, until cancelled."""
        while True:
            # Spread, so that of several routers one has mostly done the work before the next.
            await asyncio.sleep(every_s * random.uniform(0.5, 1.5))  # noqa: S311 - a rhythm
            try:
                await self.once()
            except AtlasError as error:
                log.info("budgets_not_reconciled", error=error.message)

    async def once(self) -> int:
        """Settle what the dead hold now; gives how many reservations that were.

        Raises:
            AtlasError: NATS did not answer.
        """
        records = [found async for found in self._reservations.all()]
        gone = self._gone({record.router for _, record in records})
        settled = 0
        for seq, record in records:
            if record.router in gone:
                await self._settle(seq, record)
                settled += 1
        return settled

    def _gone(self, routers: set[str]) -> set[str]:
        """Those of some routers that have been dead for the time of grace."""
        now_s = asyncio.get_running_loop().time()
        self._dead_since_s = {
            router: self._dead_since_s.get(router, now_s)
            for router in routers
            if not self._is_alive(router)
        }
        return {
            router
            for router, since_s in self._dead_since_s.items()
            if now_s - since_s >= self._grace_s
        }

    async def _settle(self, seq: int, record: Reservation) -> None:
        lines = [Line(counter_of(line.subject)) for line in record.lines]
        holding = Holding(self._counters, self._reservations, record, lines, seq)
        used = await self._used_by(record)
        await holding.recover()
        held = {line.limit.subject: line.held for line in holding.lines}
        await holding.settle(used, _PATIENCE_S)
        log.info(
            "reservation_settled",
            router=record.router,
            stream=record.stream_id,
            held=held,
            tokens=used.tokens,
            microusd=used.microusd,
        )
