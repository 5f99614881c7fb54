"""What a stream spends of budgets that it shares, and what is told of its use to the counters.

Between a session, which knows attempts, and `accounting`, which knows amounts.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

import structlog

from atlas import subjects
from atlas.contracts.base import JsonObject, now_ms
from atlas.contracts.catalogue import BudgetInfo, ModelUsage
from atlas.contracts.errors import AtlasError, BudgetExceededError
from atlas.contracts.ids import new_id
from atlas.contracts.inference import Budget, Usage
from atlas.contracts.streams import (
    Ownership,
    StreamCancelled,
    StreamCompleted,
    StreamFailed,
)
from atlas.service import Events
from provider_router.accounting.account import UNLIMITED, Account
from provider_router.accounting.accounts import Accounts, Owned
from provider_router.accounting.bill import Bill
from provider_router.accounting.budgets import (
    NOTHING,
    Amounts,
    Estimate,
    Verdict,
    amounts,
    limit_microusd,
)
from provider_router.accounting.budgets import microusd as rounded_up
from provider_router.accounting.reconciling import UsedBy
from provider_router.accounting.reservations import Reservation
from provider_router.accounting.usage import UsageCounters
from provider_router.routing.choosing import Candidate
from provider_router.routing.prices import Pricing
from provider_router.streaming.job import Job
from provider_router.streaming.ledger import Ledger, ledger_of_events
from provider_router.streaming.store import StreamAddress, StreamStore

_MILLION = 1_000_000
_TOLD_S = 2.0
"""How long who asks for budgets is kept waiting for counters."""

log = structlog.get_logger("atlas.spending")


@dataclass(slots=True)
class Spending:
    """One ownership of one stream."""

    ledger: Ledger
    account: Account = UNLIMITED
    before: Amounts = NOTHING
    """What earlier owners used."""

    @property
    def exceeded(self) -> JsonObject | None:
        """The shared budget that is spent, or None."""
        return self.account.exceeded

    async def goes_on(self) -> bool:
        """Whether there is budget for more: of content, or for an attempt that was just made.

        Mostly does not wait.

        Raises:
            AtlasError: NATS is away, for longer than a stream waits.
        """
        if not self.account.is_limited:
            return True
        used = self._counted()
        if self.account.used(used.tokens, used.microusd) is Verdict.OK:
            return True
        return await self.account.extend()

    async def settle(self) -> None:
        """The stream is over, or somebody else's by now."""
        if self.account.is_limited:
            used = amounts(self.ledger.usage(), self.ledger.cost())
            await self.account.settle(used.less(self.before))

    def _counted(self) -> Amounts:
        """What was used so far, at list price: an exact price takes 150 µs a chunk.

        The input of an attempt counts before it is sent.
        """
        tokens, usd = 0, 0.0
        for attempt in self.ledger.attempts:
            usage = attempt.committed()
            into, out = attempt.pricing.usd_per_mtok() or (0.0, 0.0)
            tokens += usage.input_tokens + usage.output_tokens
            usd += (usage.input_tokens * into + usage.output_tokens * out) / _MILLION
        return Amounts(tokens, rounded_up(usd))


@dataclass(frozen=True, slots=True)
class Spendings:
    """Opens what streams spend, and counts what they used."""

    accounts: Accounts
    used: UsageCounters
    events: Events

    async def open(self, job: Job, epoch: int, ledger: Ledger) -> Spending:
        """Reserve what a stream will probably use first, if budgets limit it.

        Raises:
            BudgetExceededError: Too little is left.
            InvalidRequestError: The headers that name its task cannot be read.
            RequestTimeoutError: NATS is away, so nothing can be reserved.
        """
        address, candidate = job.address, job.plan.candidates[0]
        limits = self.accounts.limits(address.tenant, job.headers)
        if not limits:
            return Spending(ledger)
        into, out = candidate.pricing.usd_per_mtok() or (0.0, 0.0)
        own = job.request.budget or Budget()
        estimate = Estimate(
            job.plan.expected.input_tokens,
            job.request.max_tokens,
            into,
            out,
            most_tokens=own.max_tokens,
            most_microusd=None if own.max_usd is None else limit_microusd(own.max_usd),
        )
        before = amounts(ledger.usage(), ledger.cost())
        owned = Owned(address.tenant, address.stream_id, epoch)
        account = await self.accounts.open(owned, limits, estimate, before)
        return Spending(ledger, account, before)

    @contextlib.asynccontextmanager
    async def open_bill(
        self, tenant: str, headers: Mapping[str, str], candidate: Candidate, expected: Usage
    ) -> AsyncIterator[Bill]:
        """The bill of an answer that is no stream: reserved for, counted and settled.

        `budget.exceeded` is told of it where a budget ends it, also within the block.

        Raises:
            BudgetExceededError: Too little is left.
            InvalidRequestError: The headers that name its task cannot be read.
            RequestTimeoutError: NATS is away, so nothing can be reserved.
        """
        usd, tokens = candidate.pricing.cost(expected).total_usd, expected.input_tokens
        estimate = Estimate(tokens, 1, usd * _MILLION / tokens if tokens else 0.0)
        owned = Owned(tenant, new_id(), now_ms())
        bill = Bill(count=functools.partial(self.used.add, tenant))
        try:
            limits = self.accounts.limits(tenant, headers)
            bill.account = await self.accounts.open(owned, limits, estimate)
            yield bill
        except BudgetExceededError as error:
            await self._tell_exceeded(tenant, candidate, bill, error)
            raise
        finally:
            await bill.settle()

    async def _tell_exceeded(
        self, tenant: str, candidate: Candidate, bill: Bill, error: BudgetExceededError
    ) -> None:
        told: JsonObject = {"model": candidate.full_name, **(error.details or {})}
        if bill.usage.input_tokens:
            told["usage"] = bill.usage.model_dump(mode="json")
            told["cost"] = bill.cost.model_dump(mode="json")
        await self.events.emit("budget.exceeded", told, tenant=tenant)

    def count(self, job: Job, ledger: Ledger) -> None:
        """Count what a stream that ended here used, its dead routers' part included."""
        tenant = job.address.tenant
        for attempt in ledger.all:
            if attempt.has_response:
                name = f"{attempt.provider}/{attempt.pricing.model}"
                self.used.add(tenant, name, attempt.usage(), attempt.cost())

    async def told(self, tenant: str) -> tuple[list[BudgetInfo], list[ModelUsage]] | None:
        """A tenant's budgets and what it used today, or None when the counters are out of reach."""
        try:
            async with asyncio.timeout(_TOLD_S):
                return await self.accounts.told(tenant), await self.used.spent(tenant)
        except (AtlasError, TimeoutError) as error:
            log.warning("counters_not_read", error=str(error) or type(error).__name__)
            return None

    async def close(self, timeout_s: float) -> None:
        """Settle and count what is left, as far as time allows."""
        await self.accounts.drain(timeout_s)
        try:
            await self.used.flush()
        except AtlasError as error:
            log.warning("usage_not_counted", error=error.message)


def used_of_history(store: StreamStore, pricing: Callable[[str, str], Pricing]) -> UsedBy:
    """How to tell from its history what a stream used under a router that is dead."""

    async def used_by(record: Reservation) -> Amounts:
        address = StreamAddress(record.tenant, record.stream_id)
        # A router that lost its connection claims anew, and spends under the same reservation.
        owners = [
            Ownership.from_json(stored.data)
            async for stored in store.bus.read(subjects.STREAMS, address.owner)
        ]
        epochs = {
            one.epoch for one in owners if one.router == record.router and one.epoch >= record.epoch
        }
        events = [event async for event in store.history(address) if event.epoch in epochs]
        for event in events:
            if isinstance(event, StreamCompleted | StreamFailed | StreamCancelled):
                before = Amounts(record.tokens_before, record.microusd_before)
                return amounts(event.usage, event.cost).less(before)
        ledger = ledger_of_events(events, record.input_tokens, pricing)
        return amounts(ledger.usage(), ledger.cost())

    return used_by
