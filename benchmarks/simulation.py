"""Providers that degrade and recover, in virtual time: no sleeping, no sockets, seeded.

What is simulated is the world: vendors, arrivals, answers. What is real is what it is there to
judge: the strategies, the figures they learn from, and the circuit breaker.
"""

import heapq
import math
import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from atlas.contracts.errors import (
    ProviderConnectionError,
    ProviderError,
    ProviderOverloadedError,
    ProviderRateLimitError,
    ProviderServerError,
    ProviderTimeoutError,
)
from provider_router.routing.circuit import Circuit, Permit
from provider_router.routing.figures import UNKNOWN, Figures
from provider_router.routing.members import Demand, Member
from provider_router.routing.strategies import Ordering

FIRST_TOKEN_TIMEOUT_MS = 10_000
DEADLINE_MS = 4_000
"""A request is good when it completes and its first token came so soon after its arrival."""
GIVE_UP_MS = 30_000
MOST_ATTEMPTS = 4
USUAL_ERRORS = 0.005
PAUSE_MS = 250
"""Before members are tried a second time."""


type FaultKind = Literal["slow", "errors", "refused", "silent", "limited"]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with a vendor for a while."""

    kind: FaultKind
    from_s: float
    until_s: float
    amount: float = 0.0
    """How many times slower; the share of errors; requests a second."""


@dataclass(frozen=True, slots=True)
class Vendor:
    """A provider as the world has it."""

    name: str
    input_usd_per_mtok: float
    output_usd_per_mtok: float
    first_token_ms: float
    tokens_per_s: float
    capacity: int
    """Requests at a time; one more is refused as overload."""
    faults: tuple[Fault, ...] = ()

    def fault(self, kind: FaultKind, now_ms: float) -> float | None:
        """Its amount, while there is such a fault."""
        now_s = now_ms / 1000
        for one in self.faults:
            if one.kind == kind and one.from_s <= now_s < one.until_s:
                return one.amount
        return None


@dataclass(frozen=True, slots=True)
class Answer:
    """What an attempt will bring."""

    first_token_ms: float | None
    """None when it fails before."""
    ends_ms: float
    error: ProviderError | None = None
    share: float = 1.0
    """Of the output that was made."""


@dataclass(slots=True)
class Outcome:
    """One request, when it is over."""

    arrived_ms: float
    is_completed: bool = False
    first_token_ms: float = math.inf
    usd: float = 0.0
    attempts: int = 0

    @property
    def is_good(self) -> bool:
        """Whether it counts for goodput."""
        return self.is_completed and self.first_token_ms <= DEADLINE_MS


@dataclass(slots=True)
class _Account:
    """A vendor as its one router uses it."""

    vendor: Vendor
    circuit: Circuit
    figures: Figures = UNKNOWN
    in_service: int = 0
    allowance: float = 0.0
    allowance_at_ms: float = 0.0

    def member(self) -> Member:
        return Member(
            name=self.vendor.name,
            input_usd_per_mtok=self.vendor.input_usd_per_mtok,
            output_usd_per_mtok=self.vendor.output_usd_per_mtok,
            figures=self.figures,
        )

    def is_within_limit(self, per_s: float, now_ms: float) -> bool:
        """The vendor's own rate limiter: a bucket of one second."""
        gained = (now_ms - self.allowance_at_ms) / 1000 * per_s
        self.allowance = min(per_s, self.allowance + gained)
        self.allowance_at_ms = now_ms
        if self.allowance < 1:
            return False
        self.allowance -= 1
        return True

    def refusal(self, now_ms: float) -> Answer | None:
        """How the vendor turns a request away that reaches it now, if it does."""
        limit = self.vendor.fault("limited", now_ms)
        if self.vendor.fault("refused", now_ms) is not None:
            return Answer(None, 20, ProviderConnectionError("refused"))
        if limit is not None and not self.is_within_limit(limit, now_ms):
            return Answer(None, 60, ProviderRateLimitError("429", retry_after_ms=1_000))
        if self.in_service >= self.vendor.capacity:
            return Answer(None, 80, ProviderOverloadedError("529"))
        return None

    def answer(self, output_tokens: int, now_ms: float, dice: random.Random) -> Answer:
        """What the vendor does with a request that it takes now."""
        vendor = self.vendor
        slower = vendor.fault("slow", now_ms) or 1.0
        load = self.in_service / vendor.capacity
        first_ms = vendor.first_token_ms * slower * (1 + load**4) * dice.lognormvariate(0, 0.35)
        if first_ms > FIRST_TOKEN_TIMEOUT_MS or vendor.fault("silent", now_ms) is not None:
            return Answer(None, FIRST_TOKEN_TIMEOUT_MS, ProviderTimeoutError("no first token"))
        streaming_ms = 1000 * output_tokens / vendor.tokens_per_s * slower
        if dice.random() >= (vendor.fault("errors", now_ms) or USUAL_ERRORS):
            return Answer(first_ms, first_ms + streaming_ms)
        if dice.random() < 0.7:  # most fail before they begin
            return Answer(None, 150, ProviderServerError("500"))
        cut = dice.random()
        return Answer(first_ms, first_ms + cut * streaming_ms, ProviderServerError("cut"), cut)


@dataclass(slots=True)
class World:
    """One run: a strategy among vendors, under a load."""

    vendors: Sequence[Vendor]
    strategy: Ordering
    seed: int
    requests_per_s: float
    duration_s: float
    outcomes: list[Outcome] = field(default_factory=list)
    _now_ms: float = 0.0
    _accounts: dict[str, _Account] = field(default_factory=dict)
    _choice: random.Random = field(default_factory=random.Random)
    _dice: random.Random = field(default_factory=random.Random)

    def run(self) -> list[Outcome]:
        """Let everything happen. The same seed brings the same requests to every strategy."""
        self._accounts = {one.name: _Account(one, Circuit("benchmark")) for one in self.vendors}
        self._choice.seed(f"choice {self.seed}")
        self._dice.seed(f"dice {self.seed}")
        waiting: list[tuple[float, int, Generator[float]]] = []
        for number, (at_ms, demand) in enumerate(self._arrivals()):
            heapq.heappush(waiting, (at_ms, number, self._serve(demand)))
        while waiting:
            self._now_ms, number, request = heapq.heappop(waiting)
            wait_ms = next(request, None)
            if wait_ms is not None:
                heapq.heappush(waiting, (self._now_ms + wait_ms, number, request))
        return self.outcomes

    def _arrivals(self) -> list[tuple[float, Demand]]:
        load = random.Random(f"load {self.seed}")
        at_ms, arrivals = 0.0, []
        while (at_ms := at_ms + load.expovariate(self.requests_per_s / 1000)) < (
            1000 * self.duration_s
        ):
            tokens = int(load.lognormvariate(6.5, 0.7)), int(load.lognormvariate(5.3, 0.7)) + 1
            arrivals.append((at_ms, Demand(*tokens)))
        return arrivals

    def _serve(self, demand: Demand) -> Generator[float]:
        """One request from its arrival to its end, over as many attempts as it takes."""
        outcome = Outcome(self._now_ms)
        self.outcomes.append(outcome)
        tried: set[str] = set()
        while outcome.attempts < MOST_ATTEMPTS:
            account, permit = self._choose(demand, tried)
            if account is None or permit is None:
                if self._now_ms - outcome.arrived_ms > GIVE_UP_MS:
                    return
                tried.clear()
                yield PAUSE_MS
                continue
            tried.add(account.vendor.name)
            outcome.attempts += 1
            yield from self._attempt(account, permit, demand, outcome)
            if outcome.is_completed:
                return

    def _choose(
        self, demand: Demand, tried: set[str]
    ) -> tuple[_Account, Permit] | tuple[None, None]:
        now_ms = int(self._now_ms)
        members = [
            account.member()
            for name, account in self._accounts.items()
            if name not in tried
            and account.circuit.available_at_ms(now_ms) <= now_ms
            and not account.figures.at(now_ms).is_full
        ]
        if not members:
            return None, None
        first = self.strategy.order(members, demand, self._choice, now_ms)[0]
        account = self._accounts[first.name]
        account.circuit, permit = account.circuit.admit(now_ms)
        assert permit is not None, "it was available"  # noqa: S101 - a simulation checks itself
        return account, permit

    def _attempt(
        self, account: _Account, permit: Permit, demand: Demand, outcome: Outcome
    ) -> Generator[float]:
        began_ms = self._now_ms
        account.figures = account.figures.started(int(began_ms))
        refusal = account.refusal(began_ms)
        answer = refusal or account.answer(demand.output_tokens, began_ms, self._dice)
        account.in_service += refusal is None
        usd = 0.0
        if answer.first_token_ms is not None:
            yield answer.first_token_ms
            account.figures = account.figures.first_token(int(began_ms), int(self._now_ms))
            made = replace(demand, output_tokens=int(answer.share * demand.output_tokens))
            usd = account.member().expected_usd(made) or 0.0
        yield answer.ends_ms - (answer.first_token_ms or 0.0)
        now_ms = int(self._now_ms)
        account.in_service -= refusal is None
        outcome.usd += usd
        if answer.error is not None:
            info = answer.error.to_info()
            account.circuit = account.circuit.failed(permit, info, now_ms)
            account.figures = account.figures.failed(
                info, int(began_ms), now_ms, has_first_token=answer.first_token_ms is not None
            )
            return
        account.circuit = account.circuit.succeeded(permit, now_ms)
        account.figures = account.figures.succeeded(
            int(began_ms), now_ms, usd=usd, output_tokens=demand.output_tokens
        )
        outcome.is_completed = True
        if answer.first_token_ms is not None:
            outcome.first_token_ms = began_ms + answer.first_token_ms - outcome.arrived_ms
