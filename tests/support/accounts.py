"""A router's accounts on a connection of their own; as a process, one that spends until killed."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from atlas import subjects
from atlas.budget_settings import BudgetSettings
from atlas.bus import Bus
from atlas.contracts.ids import new_id
from atlas.nats_settings import NatsSettings
from provider_router.accounting.account import Account
from provider_router.accounting.accounts import Accounts, Owned
from provider_router.accounting.budgets import NOTHING, Amounts, Estimate, Unit, Verdict
from provider_router.accounting.counters import Counters
from provider_router.accounting.reconciling import Reconciler
from provider_router.accounting.reservations import Reservation, Reservations

TENANT = "default"


def limited(**day: float) -> BudgetSettings:
    """Settings that limit the tenant by day."""
    return BudgetSettings.model_validate({"tenants": {TENANT: {"day": day}}})


@dataclass
class Books:
    """A router, as far as budgets go."""

    name: str
    bus: Bus
    counters: Counters
    reservations: Reservations
    accounts: Accounts

    async def open(
        self,
        estimate: Estimate,
        stream_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Account:
        """An account for a stream."""
        limits = self.accounts.limits(TENANT, headers or {})
        return await self.accounts.open(Owned(TENANT, stream_id or new_id(), 1), limits, estimate)

    async def tokens(self) -> int:
        """What the tenant's counter of the day comes to."""
        limit = next(one for one in self.accounts.limits(TENANT, {}) if one.unit is Unit.TOKENS)
        return await self.counters.value(limit.subject)

    async def records(self) -> list[Reservation]:
        """Every record that stands."""
        return [record async for _, record in self.reservations.all()]

    def reconciler(self, dead: str, used: Mapping[str, Amounts] | None = None) -> Reconciler:
        """One that takes a router for dead, and knows what its streams used."""

        async def used_by(record: Reservation) -> Amounts:
            return (used or {}).get(record.stream_id, NOTHING)

        return Reconciler(
            self.counters, self.reservations, lambda name: name != dead, used_by, grace_s=0
        )


@asynccontextmanager
async def books(url: str, budgets: BudgetSettings, name: str = "") -> AsyncIterator[Books]:
    """Accounts that are tended while the block runs."""
    name = name or f"router-{new_id()[-6:]}"
    bus = await Bus.connect(NatsSettings(url=url), name)
    counters, reservations = Counters(bus), Reservations(bus)
    await counters.open()
    accounts = Accounts(bus, counters, reservations, name, lambda: budgets)
    tending = asyncio.create_task(accounts.run())
    try:
        yield Books(name, bus, counters, reservations, accounts)
    finally:
        tending.cancel()
        await asyncio.wait({tending})
        await bus.close()


async def spend(
    account: Account, tokens: int, chunk: int, tell: Callable[[int], None] = lambda _: None
) -> int:
    """Use tokens chunk by chunk as a stream does; gives how many, less when the budget ends it."""
    used = 0
    while used < tokens:
        await asyncio.sleep(0)
        part = min(chunk, tokens - used)
        used += part
        tell(part)
        if account.used(used, 0) is Verdict.WAIT and not await account.extend():
            break
    return used


async def _hold(url: str, name: str, streams: int) -> None:
    """Streams that use 10 tokens each and then go on for ever."""
    async with books(url, limited(max_tokens=1_000_000), name) as mine:
        for number in range(streams):
            account = await mine.open(Estimate(100), f"{name}-{number}")
            account.used(10, 0)
        await mine.bus.publish(subjects.event(TENANT, "test", "held"), name.encode())
        await mine.bus.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_hold(sys.argv[1], sys.argv[2], int(sys.argv[3])))
