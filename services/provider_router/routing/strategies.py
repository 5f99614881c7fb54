"""In which order the members of a group are tried: the nine strategies. No I/O, no clock.

| strategy | first comes |
|---|---|
| `failover` | the first as configured |
| `round_robin` | whose turn is longest ago: each exactly as often as the others |
| `random` | any, all orders alike likely |
| `weighted` | by smooth weighted round-robin: in any run each close to its share, no bursts |
| `cost_optimized` | the cheapest for the tokens expected |
| `latency` | of two drawn at random, the one with the shorter time to the first token |
| `least_busy` | the one with the fewest requests in flight |
| `task_aware` | the best fit to what the task needs, of equals the cheaper |
| `adaptive` | the best bet on success, speed and cost; see there |

Each gives a permutation of the members it got, with a reason for every place; who is not available
at all, behind an open circuit or full (`Figures.is_full`), the caller leaves out. A member that was
never tried counts as an ordinary one, or as quick where speed decides, so that it is tried. The
strategies that take turns keep whose turn it is, so there is one object per group; the others keep
nothing.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from atlas.contracts.catalogue import Strategy
from atlas.contracts.inference import Level, ModelCapability
from provider_router.routing.adaptive import DEFAULT_COST_WEIGHT, Adaptive
from provider_router.routing.members import Demand, Member, Placed, in_dollars


class Ordering(Protocol):
    """Orders the members of one group for one request."""

    def order(
        self, members: Sequence[Member], demand: Demand, rng: random.Random, now_ms: int
    ) -> list[Placed]:
        """The members, the first to try first."""
        ...


def strategy_of(name: Strategy, *, cost_weight: float | None = None) -> Ordering:
    """A new strategy object, for one group; only `adaptive` reads how much price weighs."""
    match name:
        case Strategy.ADAPTIVE:
            return Adaptive(DEFAULT_COST_WEIGHT if cost_weight is None else cost_weight)
        case Strategy.ROUND_ROBIN:
            return RoundRobin()
        case Strategy.WEIGHTED:
            return Weighted()
        case _:
            return Stateless(_STATELESS[name])


type _Order = Callable[[Sequence[Member], Demand, random.Random, int], list[Placed]]


@dataclass(frozen=True, slots=True)
class Stateless:
    """A strategy that is a function."""

    ordering: _Order

    def order(
        self, members: Sequence[Member], demand: Demand, rng: random.Random, now_ms: int
    ) -> list[Placed]:
        """The members, the first to try first."""
        return self.ordering(members, demand, rng, now_ms)


@dataclass(slots=True)
class RoundRobin:
    """Whose turn is longest ago comes first; who was away returns first, and once only."""

    _turns: int = 0
    _last_turn: dict[str, int] = field(default_factory=dict)

    def order(
        self, members: Sequence[Member], demand: Demand, rng: random.Random, now_ms: int
    ) -> list[Placed]:
        """Take a turn."""
        del demand, rng, now_ms
        last = [self._last_turn.get(member.name, 0) for member in members]
        places = sorted(range(len(members)), key=lambda at: (last[at], at))
        self._turns += 1
        if places:
            self._last_turn[members[places[0]].name] = self._turns
        return [Placed(members[at].name, f"turn {self._turns}") for at in places]


@dataclass(slots=True)
class Weighted:
    """Smooth weighted round-robin, as nginx has it.

    Each turn every member gains its weight in credit, the richest is first and pays the sum of all
    weights. Over a cycle everybody is first exactly by weight, and the turns are spread. Who is
    away neither gains nor pays. A weight of 0 is never first but when nobody else is there.
    """

    _credit: dict[str, float] = field(default_factory=dict)

    def order(
        self, members: Sequence[Member], demand: Demand, rng: random.Random, now_ms: int
    ) -> list[Placed]:
        """Take a turn."""
        del demand, rng, now_ms
        total = sum(member.weight for member in members)
        for member in members:
            self._credit[member.name] = self._credit.get(member.name, 0.0) + member.weight
        ordered = sorted(
            members, key=lambda member: (not member.weight, -self._credit[member.name])
        )
        if ordered:
            self._credit[ordered[0].name] -= total
        return [Placed(one.name, f"weight {one.weight:g} of {total:g}") for one in ordered]


def _failover(
    members: Sequence[Member], demand: Demand, rng: random.Random, now_ms: int
) -> list[Placed]:
    del demand, rng, now_ms
    return [
        Placed(member.name, "first as configured" if not at else f"fallback {at}")
        for at, member in enumerate(members)
    ]


def _random(
    members: Sequence[Member], demand: Demand, rng: random.Random, now_ms: int
) -> list[Placed]:
    del demand, now_ms
    shuffled = rng.sample(members, len(members))
    return [Placed(member.name, f"drawn from {len(members)}") for member in shuffled]


def _cost_optimized(
    members: Sequence[Member], demand: Demand, rng: random.Random, now_ms: int
) -> list[Placed]:
    del rng, now_ms
    costs = [(member.expected_usd(demand), member) for member in members]
    ordered = sorted(costs, key=lambda pair: (pair[0] is None, pair[0] or 0.0))
    return [
        Placed(member.name, ("" if at or usd is None else "cheapest: ") + in_dollars(usd))
        for at, (usd, member) in enumerate(ordered)
    ]


def _latency(
    members: Sequence[Member], demand: Demand, rng: random.Random, now_ms: int
) -> list[Placed]:
    """Two random choices keep everybody's figures fresh and nobody crowded (Mitzenmacher, 2001).

    A member that fails fast is not fast: its time counts as often as it takes until it succeeds.
    """
    del demand
    waits = {member.name: _wait_ms(member, now_ms) for member in members}
    left = sorted(members, key=lambda member: waits[member.name])
    ordered: list[Member] = []
    if len(left) > 1:
        drawn = sorted(rng.sample(range(len(left)), 2))
        ordered.append(left.pop(drawn[0]))
    return [
        Placed(
            member.name,
            "never tried"
            if member.figures.at(now_ms).is_unknown
            else f"{waits[member.name]:.0f} ms to the first token",
        )
        for member in (*ordered, *left)
    ]


def _wait_ms(member: Member, now_ms: int) -> float:
    figures = member.figures.at(now_ms)
    if figures.is_unknown:
        return 0.0
    return figures.expected_first_token_ms(now_ms) / max(figures.success_rate, 0.02)


def _least_busy(
    members: Sequence[Member], demand: Demand, rng: random.Random, now_ms: int
) -> list[Placed]:
    del demand, now_ms
    shuffled = rng.sample(members, len(members))  # so that ties are spread
    ordered = sorted(shuffled, key=lambda member: member.figures.in_flight)
    return [Placed(one.name, f"{one.figures.in_flight} in flight") for one in ordered]


def _task_aware(
    members: Sequence[Member], demand: Demand, rng: random.Random, now_ms: int
) -> list[Placed]:
    """What is missing counts first; then one level above the need is better, more is not."""
    del rng, now_ms

    def rank(member: Member) -> tuple[int, int, bool, float]:
        usd = member.expected_usd(demand)
        missing, surplus = _fit(member.capabilities, demand.needs)
        return missing, -surplus, usd is None, usd or 0.0

    ordered = sorted(members, key=rank)
    return [Placed(member.name, _fit_in_words(member, demand)) for member in ordered]


def _fit(
    have: Mapping[ModelCapability, Level], needs: Mapping[ModelCapability, Level]
) -> tuple[int, int]:
    """Levels missing in all, and needs that are surpassed."""
    gaps = [have.get(one, Level.NONE).rank - level.rank for one, level in needs.items()]
    return sum(max(0, -gap) for gap in gaps), sum(gap > 0 for gap in gaps)


def _fit_in_words(member: Member, demand: Demand) -> str:
    levels = [
        f"{one.value} {member.capabilities.get(one, Level.NONE).value}" for one in demand.needs
    ]
    price = in_dollars(member.expected_usd(demand))
    return f"{', '.join(levels) or 'no special needs'}; {price}"


_STATELESS: dict[Strategy, _Order] = {
    Strategy.FAILOVER: _failover,
    Strategy.RANDOM: _random,
    Strategy.COST_OPTIMIZED: _cost_optimized,
    Strategy.LATENCY: _latency,
    Strategy.LEAST_BUSY: _least_busy,
    Strategy.TASK_AWARE: _task_aware,
}
