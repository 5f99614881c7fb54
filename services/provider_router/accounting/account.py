"""What one ownership of one stream may spend: told what is used, it says whether to go on.

Nothing here is on the path of a chunk but a comparison of numbers: a further slice is asked for
while the last one is used up, and a stream waits only when that comes too late. Who is limited by
nothing gets `UNLIMITED`, which does nothing.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from atlas.contracts.base import JsonObject
from atlas.contracts.errors import AtlasError, OverloadedError, RequestTimeoutError
from atlas.wire import told_outside
from provider_router.accounting.budgets import (
    NOTHING,
    Amounts,
    Estimate,
    Line,
    Verdict,
    verdict,
)
from provider_router.accounting.holding import Holding, Refusal

PATIENCE_S = 3.0
"""What a stream waits for budgets while NATS is away."""


class Account(Protocol):
    """What one ownership of one stream may spend."""

    @property
    def is_limited(self) -> bool:
        """Whether anything limits it; when not, there is no need to count for it."""
        ...

    @property
    def exceeded(self) -> JsonObject | None:
        """The budget that refused a further slice (`scope`, `limit`, `spent` …), or None."""
        ...

    def used(self, tokens: int, microusd: int) -> Verdict:
        """Tell what was used so far, in all; `WAIT` means: `extend` before reading on."""
        ...

    async def extend(self) -> bool:
        """Wait for the next slice; False when the budget is spent.

        Raises:
            AtlasError: NATS is away, for longer than a stream waits.
        """
        ...

    async def settle(self, used: Amounts) -> None:
        """The stream is over and used so much. What NATS does not take now, it takes later."""
        ...


class Unlimited:
    """The account of whom nobody limits."""

    is_limited = False
    exceeded: JsonObject | None = None

    def used(self, tokens: int, microusd: int) -> Verdict:  # noqa: ARG002 - as in Account
        """Go on."""
        return Verdict.OK

    async def extend(self) -> bool:
        """Go on."""
        return True

    async def settle(self, used: Amounts) -> None:
        """Nothing was held."""


UNLIMITED = Unlimited()


class Keeper(Protocol):
    """Who keeps the accounts of a router."""

    async def be_sure(self, account: "LimitedAccount") -> None:
        """Make sure that nobody settled the account while this router was away.

        Raises:
            AtlasError: NATS did not answer.
        """
        ...

    async def close(self, account: "LimitedAccount", used: Amounts) -> None:
        """Settle an account, now or, when NATS does not answer, later."""
        ...


@dataclass(eq=False, slots=True)
class LimitedAccount:
    """See `Account`."""

    _keeper: Keeper
    _estimate: Estimate
    holding: Holding
    sure_of: int
    """Up to which of the router's doubts its record is known to stand."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    is_closed: bool = False
    _used: Amounts = NOTHING
    _slices: int = 0
    _growing: asyncio.Task[None] | None = None
    _refusal: Refusal | None = None
    _failure: AtlasError | None = None

    @property
    def is_limited(self) -> bool:
        """See `Account`."""
        return True

    @property
    def exceeded(self) -> JsonObject | None:
        """See `Account`."""
        refusal = self._refusal
        return None if refusal is None else refusal.line.limit.told(refusal.counted)

    def used(self, tokens: int, microusd: int) -> Verdict:
        """See `Account`."""
        self._used = Amounts(tokens, microusd)
        said = self._verdict(self.holding.lines)
        if said is Verdict.EXTEND:
            if self._growing is None and self._refusal is None and self._wants():
                self._grow()
            return Verdict.OK
        return said

    async def extend(self) -> bool:
        """See `Account`."""
        if self._growing is not None:
            await self._grown(self._growing)
        while self._verdict(self.holding.lines) is Verdict.WAIT:
            await self._grown(self._grow())
            if self._failure is not None:
                raise unreachable(self.holding.record.tenant, self._failure)
            if self._refusal is not None:
                return False
        return True

    async def settle(self, used: Amounts) -> None:
        """See `Account`."""
        await self._keeper.close(self, used)

    def _verdict(self, lines: Sequence[Line]) -> Verdict:
        return verdict(lines, self._used, self._estimate.slice(self._slices))

    def _grow(self) -> asyncio.Task[None]:
        self._growing = task = asyncio.create_task(self._take_slice())
        return task

    async def _grown(self, growing: asyncio.Task[None]) -> None:
        await asyncio.shield(growing)  # whoever waits may be cancelled; what is asked for is not

    def _wants(self) -> list[tuple[Line, int, int]]:
        """For each line that is nearly used up: what to ask for, and the least that helps."""
        slice_ = self._estimate.slice(self._slices + 1)
        wants = []
        for line in self.holding.lines:
            unit = line.limit.unit
            said = self._verdict([line])
            asked, least = line.wanted(self._used.of(unit), slice_.of(unit))
            most = self._estimate.most(unit)
            if most is not None:
                asked = max(least if said is Verdict.WAIT else 0, min(asked, most - line.granted))
            if said is not Verdict.OK and asked:
                wants.append((line, asked, least))
        return wants

    async def _take_slice(self) -> None:
        try:
            async with self.lock:
                if self.is_closed:
                    return
                await self._keeper.be_sure(self)
                self._refusal = await self.holding.grow(self._wants(), PATIENCE_S)
                self._slices += 1
                self._failure = None
        except AtlasError as error:
            self._failure = error
        finally:
            self._growing = None


def unreachable(tenant: str, error: AtlasError) -> AtlasError:
    """The error of whoever cannot reserve: NATS does not answer, or has no room."""
    if isinstance(told := told_outside(error), OverloadedError):
        return told
    return RequestTimeoutError(
        f"the budgets of tenant {tenant} cannot be reached, so nothing is spent: {error.message}",
        retry_after_ms=1_000,
    )
