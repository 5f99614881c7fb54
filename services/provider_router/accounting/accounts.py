"""The accounts of a router's streams: opened before the call, settled after.

What cannot be settled at once, because NATS is away, is settled when it is back. What a router
leaves when it dies, `reconciling` settles; if it was only cut off, it finds its records gone and
learns from the counters' history what is its own by now.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from pydantic import ValidationError

from atlas import wire
from atlas.budget_settings import BudgetSettings
from atlas.bus import Bus
from atlas.contracts.base import now_ms
from atlas.contracts.catalogue import BudgetInfo
from atlas.contracts.errors import AtlasError, FencedError, InvalidRequestError
from atlas.contracts.ids import ID_PATTERN, is_id, new_id
from atlas.contracts.inference import Budget
from provider_router.accounting.account import (
    PATIENCE_S,
    UNLIMITED,
    Account,
    LimitedAccount,
    unreachable,
)
from provider_router.accounting.budgets import (
    NOTHING,
    Amounts,
    Estimate,
    Limit,
    Line,
    task_limits,
    tenant_limits,
)
from provider_router.accounting.counters import Counters
from provider_router.accounting.holding import Holding
from provider_router.accounting.reservations import HeldLine, Reservation, Reservations

_TICK_S = 0.5
_STALL_S = 5.0
"""So long without a tick, and others may have taken this router for dead."""
_RENEW_MS = 60_000
"""Older records are written anew, so that history is read from then on only."""
_AT_ONCE = 64

log = structlog.get_logger("atlas.accounts")


@dataclass(frozen=True, slots=True)
class Owned:
    """A stream under one ownership."""

    tenant: str
    stream_id: str
    epoch: int


class Accounts:
    """The accounts of a router's streams."""

    def __init__(
        self,
        bus: Bus,
        counters: Counters,
        reservations: Reservations,
        router: str,
        budgets: Callable[[], BudgetSettings],
    ) -> None:
        """Compose it.

        Args:
            bus: The connection.
            counters: Of budgets.
            reservations: Of all routers.
            router: Whose accounts they are.
            budgets: What tenants may spend now; asked each time, so that a change counts at once.
        """
        self._budgets = budgets
        self._bus = bus
        self._counters = counters
        self._reservations = reservations
        self._router = router
        self._open: set[LimitedAccount] = set()
        self._unsettled: dict[LimitedAccount, Amounts] = {}
        self._doubts = 0
        bus.on_reconnect(self._doubt)

    @property
    def running(self) -> int:
        """How many accounts hold something."""
        return len(self._open)

    def limits(self, tenant: str, headers: Mapping[str, str]) -> list[Limit]:
        """What limits a request: budgets of its tenant, and of its task when it belongs to one.

        Raises:
            InvalidRequestError: The headers that name a task cannot be read.
        """
        budgets = self._budgets()
        limits = tenant_limits(budgets, tenant, now_ms()) if budgets.tenants else []
        if wire.TASK_BUDGET_HEADER in headers:
            limits += task_limits(tenant, *_task(headers))
        return limits

    async def open(
        self, owned: Owned, limits: Sequence[Limit], estimate: Estimate, before: Amounts = NOTHING
    ) -> Account:
        """Reserve what a stream will probably use first.

        Args:
            owned: The stream; what is used is charged to this ownership of it.
            limits: From `limits`.
            estimate: What it will probably use.
            before: What earlier owners used, which is charged to them.

        Raises:
            BudgetExceededError: Too little is left; says in which budget and until when.
            RequestTimeoutError: NATS is away, so nothing can be reserved; try again.
            OverloadedError: It has no room for that.
        """
        if not limits:
            return UNLIMITED
        account = LimitedAccount(
            self, estimate, self._holding(owned, limits, estimate, before), self._doubts
        )
        self._open.add(account)
        first, least = estimate.first(), estimate.least()
        holding = account.holding
        try:
            async with account.lock:
                await holding.enter(PATIENCE_S)
                wants = [
                    (line, first.of(line.limit.unit), least.of(line.limit.unit) + 1)
                    for line in holding.lines
                ]
                refusal = await holding.grow(wants, PATIENCE_S)
        except AtlasError as error:
            self._settle_later(account)
            raise unreachable(owned.tenant, error) from error
        except asyncio.CancelledError:
            self._settle_later(account)
            raise
        if refusal is not None:
            await account.settle(NOTHING)
            raise refusal.line.limit.exceeded(refusal.counted, now_ms())
        return account

    async def told(self, tenant: str) -> list[BudgetInfo]:
        """The budgets of a tenant and how far each is used up, what is reserved included.

        Raises:
            AtlasError: NATS did not answer.
        """
        limits = tenant_limits(self._budgets(), tenant, now_ms())
        values = await asyncio.gather(*(self._counters.values(one.subject) for one in limits))
        return [
            limit.info(value.get(limit.subject, 0))
            for limit, value in zip(limits, values, strict=True)
        ]

    async def run(self) -> None:
        """Settle what could not be settled at once, and renew old records. Until cancelled."""
        ticked_s = _now_s()
        while True:
            await asyncio.sleep(_TICK_S)
            if _now_s() - ticked_s > _STALL_S:
                self._doubt()
            if self._bus.is_connected:
                await self._tend()
            ticked_s = _now_s()

    async def drain(self, timeout_s: float) -> None:
        """Settle what is still to be settled, as far as time allows; others do the rest."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._tend()
                while self._unsettled:
                    await asyncio.sleep(_TICK_S)
                    await self._tend()
        except TimeoutError:
            log.warning("budgets_unsettled", accounts=len(self._unsettled))

    async def close(self, account: LimitedAccount, used: Amounts) -> None:
        """Settle an account, now or, when NATS does not answer, later."""
        if account in self._open:
            account.is_closed = True
            self._unsettled.setdefault(account, used)
            await self._settle(account)

    async def be_sure(self, account: LimitedAccount) -> None:
        """Make sure that nobody settled the account while this router was away.

        Raises:
            AtlasError: NATS did not answer.
        """
        doubts, holding = self._doubts, account.holding
        if account.sure_of != doubts or holding.may_be_foreign:
            if not await holding.is_mine():
                log.warning("reservation_taken_back", stream=holding.record.stream_id)
                await holding.take_back(PATIENCE_S)
            account.sure_of = doubts

    def _settle_later(self, account: LimitedAccount) -> None:
        account.is_closed = True
        self._unsettled[account] = NOTHING

    async def _settle(self, account: LimitedAccount) -> None:
        async with account.lock:
            if account not in self._unsettled:
                return
            try:
                await self.be_sure(account)
                await account.holding.settle(self._unsettled[account], PATIENCE_S)
            except AtlasError as error:
                log.info("budget_settled_later", error=error.message)
            else:
                del self._unsettled[account]
                self._open.discard(account)

    async def _tend(self) -> None:
        for account in list(self._unsettled)[:_AT_ONCE]:
            await self._settle(account)
            if not self._bus.is_connected:
                return
        oldest_ms = now_ms() - _RENEW_MS
        for account in [one for one in self._open if one.holding.record.at_ms < oldest_ms]:
            if not account.lock.locked():
                await self._renew(account)

    async def _renew(self, account: LimitedAccount) -> None:
        async with account.lock:
            try:
                await self.be_sure(account)
                await account.holding.enter(PATIENCE_S)
            except FencedError:
                account.sure_of = -1  # somebody settled it: looked into before its next use
            except AtlasError as error:
                log.debug("reservation_not_renewed", error=error.message)

    def _doubt(self) -> None:
        self._doubts += 1

    def _holding(
        self, owned: Owned, limits: Sequence[Limit], estimate: Estimate, before: Amounts
    ) -> Holding:
        record = Reservation(
            reservation_id=new_id(),
            router=self._router,
            tenant=owned.tenant,
            stream_id=owned.stream_id,
            epoch=owned.epoch,
            at_ms=now_ms(),
            from_seq=self._counters.seen_seq + 1,
            input_tokens=estimate.input_tokens,
            tokens_before=before.tokens,
            microusd_before=before.microusd,
            lines=[HeldLine(subject=limit.subject) for limit in limits],
        )
        lines = [Line(limit) for limit in limits]
        return Holding(self._counters, self._reservations, record, lines)


def _task(headers: Mapping[str, str]) -> tuple[str, Budget]:
    task_id = headers.get(wire.TASK_HEADER, "")
    if not is_id(task_id):
        raise InvalidRequestError(
            f"{wire.TASK_HEADER}: {task_id!r} is no task_id ({ID_PATTERN}), "
            f"and {wire.TASK_BUDGET_HEADER} needs one"
        )
    try:
        return task_id, Budget.model_validate_json(headers[wire.TASK_BUDGET_HEADER])
    except ValidationError as error:
        raise InvalidRequestError(
            f"{wire.TASK_BUDGET_HEADER}: no Budget in JSON: {error.errors()[0]['msg']}"
        ) from error


def _now_s() -> float:
    return asyncio.get_running_loop().time()
