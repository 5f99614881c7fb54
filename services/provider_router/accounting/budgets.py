"""What a budget limits, and the arithmetic of reserving, extending and settling. Pure.

A stream reserves what it will probably use first, takes further slices as it streams, and is
settled to what it really used. Each of these is an increment of a counter that all routers share.
The counter holds what is spent and what is reserved, so whoever was granted something holds it:

    sum of what is granted <= counter <= limit

An increment that exceeds the limit is given back, as far as it does. Until then it may make
others' asking fail that could have been granted, but nobody is granted what is not there.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import StrEnum

from atlas import subjects
from atlas.budget_settings import BudgetSettings
from atlas.contracts.base import JsonObject
from atlas.contracts.catalogue import BudgetInfo
from atlas.contracts.errors import BudgetExceededError
from atlas.contracts.inference import Budget, Cost, Usage

MICRO = 1_000_000
"""Micro-USD in a USD: what counters count, for they take whole numbers."""


class Unit(StrEnum):
    """What is counted; always whole numbers. Time has no counter: a stream's timer watches it."""

    TOKENS = "tokens"
    MICROUSD = "microusd"


class Scope(StrEnum):
    """Whose budget it is: a tenant's for a day or a month, or a task's."""

    DAY = "day"
    MONTH = "month"
    TASK = "task"


@dataclass(frozen=True, slots=True)
class Amounts:
    """Input and output tokens, and money in micro-USD."""

    tokens: int = 0
    microusd: int = 0

    def of(self, unit: Unit) -> int:
        """One of them."""
        return self.tokens if unit is Unit.TOKENS else self.microusd

    def __add__(self, other: "Amounts") -> "Amounts":
        """The sum."""
        return Amounts(self.tokens + other.tokens, self.microusd + other.microusd)

    def less(self, other: "Amounts") -> "Amounts":
        """What is more than `other`; nothing where it is not."""
        return Amounts(max(0, self.tokens - other.tokens), max(0, self.microusd - other.microusd))


NOTHING = Amounts()


def amounts(usage: Usage, cost: Cost) -> Amounts:
    """What usage and cost come to on counters."""
    return Amounts(usage.input_tokens + usage.output_tokens, microusd(cost.total_usd))


def microusd(usd: float) -> int:
    """Money that was spent, rounded up to a micro-USD."""
    # 12 digits are what a price of tokens has; what binary fractions add after them is not money.
    spent = Decimal(f"{usd:.12f}") * MICRO
    return int(spent.to_integral_value(ROUND_CEILING))


def limit_microusd(usd: float) -> int:
    """Money that may be spent, rounded down to a micro-USD, but never to nothing."""
    return max(1, int((Decimal(repr(usd)) * MICRO).to_integral_value(ROUND_FLOOR)))


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of one budget: one counter."""

    tenant: str
    scope: Scope
    key: str
    """The period, such as `2026-07-31` or `2026-07`, or the task's id."""
    unit: Unit
    amount: int
    resets_at_ms: int | None = None

    @property
    def subject(self) -> str:
        """The counter."""
        return subjects.budget(self.tenant, self.scope, self.key, self.unit)

    def exceeded(self, counted: int, now_ms: int) -> BudgetExceededError:
        """The error of whoever finds nothing left."""
        whose = f"task {self.key}" if self.scope is Scope.TASK else f"tenant {self.tenant}"
        when, wait_ms = "; give the task a larger budget", None
        if self.resets_at_ms is not None:
            wait_ms = max(0, self.resets_at_ms - now_ms)
            when = f" until {_written(self.resets_at_ms)}; wait, or raise budgets.tenants"
        left = max(0, self.amount - counted)
        period = "" if self.scope is Scope.TASK else f"{self.scope} {self.key} of "
        return BudgetExceededError(
            f"the budget of {period}{whose}, {self._written(self.amount)} {self._unit}, has "
            f"{self._written(left)} left, which is too little for this request{when}",
            retry_after_ms=wait_ms,
            details=self.told(counted),
        )

    def info(self, counted: int) -> BudgetInfo:
        """The limit and how far it is used up, for those who ask."""
        return BudgetInfo(
            scope=self.scope.value,
            key=self.key,
            unit="tokens" if self.unit is Unit.TOKENS else "usd",
            limit=self._shown(self.amount),
            spent=self._shown(counted),
            left=self._shown(max(0, self.amount - counted)),
            resets_at_ms=self.resets_at_ms,
        )

    def told(self, counted: int) -> JsonObject:
        """The same, for events and errors."""
        return self.info(counted).model_dump(mode="json")

    def _shown(self, amount: int) -> int | float:
        return amount if self.unit is Unit.TOKENS else amount / MICRO

    def _written(self, amount: int) -> str:
        return f"{amount}" if self.unit is Unit.TOKENS else f"{amount / MICRO:.10g}"

    @property
    def _unit(self) -> str:
        return "tokens" if self.unit is Unit.TOKENS else "USD"


def counter_of(subject: str) -> Limit:
    """The counter at a subject; what it is limited to does not stand there."""
    parsed = subjects.parse(subject)
    key, unit = parsed.rest.split(".")
    return Limit(parsed.tenant, Scope(parsed.id), key, Unit(unit), 0)


def tenant_limits(settings: BudgetSettings, tenant: str, now_ms: int) -> list[Limit]:
    """What a tenant may spend in the periods of this moment.

    What a stream uses counts for the periods in which it began.
    """
    budgets = settings.of(tenant)
    limits: list[Limit] = []
    for scope in (Scope.DAY, Scope.MONTH):
        found = budgets and (budgets.day if scope is Scope.DAY else budgets.month)
        if found:
            key, resets_at_ms = period(scope, now_ms)
            limits += _limits(tenant, scope, key, resets_at_ms, found.max_tokens, found.max_usd)
    return limits


def task_limits(tenant: str, task_id: str, budget: Budget) -> list[Limit]:
    """What all streams of a task may spend together."""
    return _limits(tenant, Scope.TASK, task_id, None, budget.max_tokens, budget.max_usd)


def period(scope: Scope, now_ms: int) -> tuple[str, int]:
    """The key of the day or month of a moment, in UTC, and when the next one begins."""
    today = datetime.fromtimestamp(now_ms / 1000, UTC).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    if scope is Scope.DAY:
        key, following = f"{today:%Y-%m-%d}", today + timedelta(days=1)
    else:
        first = today.replace(day=1)
        key, following = f"{today:%Y-%m}", (first + timedelta(days=32)).replace(day=1)
    return key, int(following.timestamp() * 1000)


def _limits(  # noqa: PLR0917 - the fields of a limit
    tenant: str,
    scope: Scope,
    key: str,
    resets_at_ms: int | None,
    max_tokens: int | None,
    max_usd: float | None,
) -> list[Limit]:
    limits = []
    if max_tokens is not None:
        limits.append(Limit(tenant, scope, key, Unit.TOKENS, max_tokens, resets_at_ms))
    if max_usd is not None:
        money = limit_microusd(max_usd)
        limits.append(Limit(tenant, scope, key, Unit.MICROUSD, money, resets_at_ms))
    return limits


def _written(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"


FIRST_SLICE_TOKENS = 512
LARGEST_SLICE_TOKENS = 8_192


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a stream will probably use, as far as is known before it starts.

    Prices are in USD for a million tokens, which is micro-USD for one.
    """

    input_tokens: int
    max_output_tokens: int | None = None
    input_price: float = 0.0
    output_price: float = 0.0
    most_tokens: int | None = None
    most_microusd: int | None = None
    """What it may use in all by a budget of its own: more than that it need not reserve."""

    def most(self, unit: Unit) -> int | None:
        """What it may use in all; None: as much as there is."""
        return self.most_tokens if unit is Unit.TOKENS else self.most_microusd

    def first(self) -> Amounts:
        """The input and a first slice of output: what to reserve before the call."""
        found = self.least() + self.slice(0)
        return Amounts(
            min(found.tokens, self.most_tokens or found.tokens),
            min(found.microusd, self.most_microusd or found.microusd),
        )

    def least(self) -> Amounts:
        """The input alone: with less than this left, and one token, it is not worth starting."""
        return Amounts(self.input_tokens, _price(self.input_tokens, self.input_price))

    def slice(self, number: int) -> Amounts:
        """A further slice of output; the longer a stream runs, the larger."""
        tokens = min(FIRST_SLICE_TOKENS << min(number, 16), LARGEST_SLICE_TOKENS)
        if self.max_output_tokens is not None:
            tokens = max(1, min(tokens, self.max_output_tokens))
        return Amounts(tokens, _price(tokens, self.output_price))


def _price(tokens: int, price: float) -> int:
    return microusd(tokens * price / MICRO)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a counter's value makes of an increment: what is kept, and what is to be given back."""

    kept: int
    give_back: int


def granted(limit: int, value: int, asked: int, least: int) -> Grant:
    """Decide on an increment of `asked` that is in the counter.

    Args:
        limit: What the counter may come to.
        value: The counter, read at or after the increment.
        asked: The increment.
        least: With less than this, rather nothing; above 0.
    """
    room = limit - (value - asked)
    kept = min(asked, room) if room >= min(least, asked) else 0
    return Grant(kept, asked - kept)


@dataclass(frozen=True, slots=True)
class Increment:
    """An increment of one counter for one reservation, which has a number in it."""

    number: int
    amount: int


@dataclass(slots=True)
class Line:
    """What a reservation holds of one counter, by the increments that are known to stand.

    At most one increment is under way. Whether it stands is not known until it is answered, so it
    is repeated under its number, or history is asked.
    """

    limit: Limit
    held: int = 0
    """What stands in the counter."""
    granted: int = 0
    """What of it may be used; the rest is to be given back."""
    number: int = 0
    """Of the next increment."""
    under_way: Increment | None = None

    def wanted(self, used: int, slice_: int) -> tuple[int, int]:
        """What to ask for next, and the least that helps: more than what is used already.

        A slice that proves too small, as its price was not known, is as large as what is missing.
        """
        behind = max(0, used - self.granted)
        return behind + max(behind, slice_), behind + 1

    def ask(self, amount: int) -> Increment:
        """Begin an increment; a negative one gives back.

        Raises:
            ValueError: One is under way.
        """
        if self.under_way is not None:
            raise ValueError(f"an increment of {self.limit} is under way")
        self.under_way = Increment(self.number, amount)
        self.number += 1
        return self.under_way

    def stands(self) -> None:
        """The increment under way is answered: it stands in the counter."""
        if self.under_way is not None:
            self.held += self.under_way.amount
            self.under_way = None

    def found(self, held: int, number: int) -> None:
        """History was read: it knows what stands, whatever was under way."""
        self.held, self.number, self.under_way = held, max(self.number, number), None
        self.granted = min(self.granted, held)


def standing(line: Line, found: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """What stands for a reservation in a counter, and the number of its next increment.

    Args:
        line: As it was when its record was written.
        found: Number and amount of the reservation's increments in the counter's history since.
    """
    held, number = line.held, line.number
    for one, amount in found:
        if one >= line.number:
            held, number = held + amount, max(number, one + 1)
    return held, number


class Verdict(StrEnum):
    """Whether a stream may go on."""

    OK = "ok"
    EXTEND = "extend"
    """Go on, but ask for the next slice meanwhile."""
    WAIT = "wait"
    """What is reserved is used up: ask for the next slice first."""


def verdict(lines: Iterable[Line], used: Amounts, last_slice: Amounts) -> Verdict:
    """What a stream that has used so much is to do.

    It may use what is reserved, so it exceeds that by no more than the chunk that ended it. The
    next slice is asked for when half of the last one is used.
    """
    worst = Verdict.OK
    for line in lines:
        unit = line.limit.unit
        spent, ahead = used.of(unit), last_slice.of(unit) // 2
        if spent > 0 and spent >= line.granted:
            return Verdict.WAIT
        if ahead > 0 and spent + ahead >= line.granted:
            worst = Verdict.EXTEND
    return worst
