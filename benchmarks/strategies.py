"""Strategy against strategy on the same providers, which degrade and recover.

    python -m benchmarks.strategies [--worlds N] [--minutes N]

Every world draws its providers, three to six of different price, speed and size, and what befalls
each of them when: it gets slow, fails in part, refuses connections, falls silent, limits its rate,
and recovers. They share 15 requests a second.

Every strategy meets the same worlds and the same requests, with the same circuit breaker, the same
learnt bounds on requests in flight, and up to four attempts, each on the first of its order that
was not tried yet. No member has capability levels, so that `task_aware` is `cost_optimized` here.

A request is good when it completes and its first token came within 4 s. Goodput and cost pull in
opposite directions, and `adaptive` has a setting for how they are to be weighed (`cost_weight`), so
it is judged at equal cost: it *beats* a strategy when at one of its settings it has at least that
strategy's goodput at no more than that strategy's cost per completed request, in the mean of all
worlds. It *wins* when it beats every other, and no other has at least its goodput at no more than
its cost where it is set as it comes.

The worlds are held out: those below number `HELD_OUT` were used to set the constants of `adaptive`
and the settings tried here, and none from it on was.
"""

import argparse
import os
import random
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from itertools import repeat
from statistics import fmean, quantiles, stdev

from atlas.contracts.catalogue import Strategy
from benchmarks.simulation import Fault, FaultKind, Outcome, Vendor, World
from provider_router.routing.adaptive import DEFAULT_COST_WEIGHT
from provider_router.routing.strategies import strategy_of

HELD_OUT = 2_001
COST_WEIGHTS = (0.1, DEFAULT_COST_WEIGHT, 1.6, 6.4, 25.6, 51.2)
REQUESTS_PER_S = 15.0
DRAWN_AMOUNTS: dict[FaultKind, tuple[float, float]] = {
    "slow": (2, 10),
    "errors": (0.1, 0.9),
    "limited": (1, 8),
    "refused": (0, 0),
    "silent": (0, 0),
}


@dataclass(frozen=True, slots=True, order=True)
class Contender:
    """A strategy, and for `adaptive` how it is set."""

    strategy: Strategy
    cost_weight: float | None = None

    def __str__(self) -> str:
        if self.cost_weight is None:
            return f"`{self.strategy}`"
        is_default = self.cost_weight == DEFAULT_COST_WEIGHT
        return f"`{self.strategy}` {self.cost_weight:g}{' (default)' if is_default else ''}"


DEFAULT = Contender(Strategy.ADAPTIVE, DEFAULT_COST_WEIGHT)
SETTINGS = tuple(Contender(Strategy.ADAPTIVE, weight) for weight in COST_WEIGHTS)
OTHERS = tuple(Contender(name) for name in Strategy if name is not Strategy.ADAPTIVE)


def drawn_vendors(seed: int, duration_s: float) -> list[Vendor]:
    """The providers of one world, and their faults."""
    dice = random.Random(f"world {seed}")

    def fault() -> Fault:
        kind = dice.choice(list(DRAWN_AMOUNTS))
        from_s = dice.uniform(0, 0.9) * duration_s
        until_s = from_s + dice.uniform(0.03, 0.2) * duration_s
        return Fault(kind, from_s, until_s, dice.uniform(*DRAWN_AMOUNTS[kind]))

    def vendor(name: str) -> Vendor:
        usd = 10 ** dice.uniform(-1, 1)
        first_ms, tokens_per_s = dice.uniform(200, 1_200), dice.uniform(30, 150)
        faults = tuple(fault() for _ in range(dice.randint(0, 3)))
        capacity = dice.randint(60, 150)
        return Vendor(name, usd, 4 * usd, first_ms, tokens_per_s, capacity, faults)

    return [vendor(f"vendor-{number}") for number in range(dice.randint(3, 6))]


@dataclass(frozen=True, slots=True)
class Result:
    """How one strategy did, in one world or in the mean of several."""

    goodput_per_s: float
    missed_share: float
    """Requests that were not good: too late, or never complete."""
    error_share: float
    """Requests that never completed."""
    first_token_p50_ms: float
    first_token_p95_ms: float
    usd_per_1k: float
    """All money that was spent, over a thousand completed requests."""
    attempts: float

    def beats(self, other: "Result") -> bool:
        """Whether it has at least the other's goodput at no more than its cost."""
        return self.goodput_per_s >= other.goodput_per_s and self.usd_per_1k <= other.usd_per_1k


type Results = dict[Contender, list[Result]]
"""Of each contender one result a world, in the same order."""


def result_of(outcomes: Sequence[Outcome], duration_s: float) -> Result:
    """The figures of one run."""
    done = [one for one in outcomes if one.is_completed]
    good = sum(one.is_good for one in outcomes)
    cuts = quantiles([one.first_token_ms for one in done], n=20)
    return Result(
        goodput_per_s=good / duration_s,
        missed_share=1 - good / len(outcomes),
        error_share=1 - len(done) / len(outcomes),
        first_token_p50_ms=cuts[9],
        first_token_p95_ms=cuts[18],
        usd_per_1k=1000 * sum(one.usd for one in outcomes) / len(done),
        attempts=fmean(one.attempts for one in outcomes),
    )


def run(contender: Contender, seed: int, duration_s: float) -> Result:
    """One contender in one world."""
    strategy = strategy_of(contender.strategy, cost_weight=contender.cost_weight)
    world = World(drawn_vendors(seed, duration_s), strategy, seed, REQUESTS_PER_S, duration_s)
    return result_of(world.run(), duration_s)


def compare(worlds: Iterable[int], duration_s: float, *, processes: int = 1) -> Results:
    """Every contender in the same worlds."""
    seeds = list(worlds)
    contenders = (*OTHERS, *SETTINGS)
    runs = [(one, seed) for one in contenders for seed in seeds]
    names, numbers = zip(*runs, strict=True)
    if processes == 1:
        found = list(map(run, names, numbers, repeat(duration_s)))
    else:
        with ProcessPoolExecutor(processes) as pool:
            found = list(pool.map(run, names, numbers, repeat(duration_s)))
    count = len(seeds)
    return {one: found[at * count : (at + 1) * count] for at, one in enumerate(contenders)}


def mean(results: Sequence[Result]) -> Result:
    """The mean of runs, figure by figure."""
    names = [one.name for one in fields(Result)]
    return Result(**{name: fmean(getattr(one, name) for one in results) for name in names})


def beaten_at(results: Results, other: Contender) -> list[Contender]:
    """The settings at which `adaptive` beats another strategy."""
    target = mean(results[other])
    return [one for one in SETTINGS if mean(results[one]).beats(target)]


def does_adaptive_win(results: Results) -> bool:
    """Whether it beats every other strategy, and none beats it as it comes."""
    default = mean(results[DEFAULT])
    return all(
        beaten_at(results, other) and not mean(results[other]).beats(default) for other in OTHERS
    )


def table(results: Results) -> str:
    """The results, the cheapest first."""
    lines = [
        "| strategy | good/s | missed | errors | TTFT p50 | p95 ms | $/1,000 | tries | beaten at |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for contender, one in sorted(
        ((contender, mean(found)) for contender, found in results.items()),
        key=lambda pair: pair[1].usd_per_1k,
    ):
        at = ""
        if contender in OTHERS:
            beaten = (f"{setting.cost_weight:g}" for setting in beaten_at(results, contender))
            at = ", ".join(beaten) or "no setting"
        lines.append(
            f"| {contender} | {one.goodput_per_s:.3f} | {one.missed_share:.2%} "
            f"| {one.error_share:.2%} | {one.first_token_p50_ms:.0f} "
            f"| {one.first_token_p95_ms:.0f} | {one.usd_per_1k:.4f} | {one.attempts:.3f} | {at} |"
        )
    return "\n".join(lines)


def closest(results: Results) -> str:
    """By how much `adaptive` beats the cheapest other, with standard errors over the worlds."""
    other = min(OTHERS, key=lambda one: mean(results[one]).usd_per_1k)
    lines = []
    for setting in beaten_at(results, other):
        pairs = list(zip(results[setting], results[other], strict=True))
        good = [mine.goodput_per_s - its.goodput_per_s for mine, its in pairs]
        usd = [mine.usd_per_1k - its.usd_per_1k for mine, its in pairs]
        lines.append(
            f"{setting} against {other}: {_with_error(good)} good/s, {_with_error(usd)} $/1,000"
        )
    return "\n".join(lines)


def _with_error(differences: Sequence[float]) -> str:
    error = stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else 0.0
    return f"{fmean(differences):+.4f} ± {error:.4f}"


def main() -> int:
    """Print the table; the status tells whether `adaptive` won."""
    parser = argparse.ArgumentParser(description="Strategy against strategy, simulated.")
    parser.add_argument("--worlds", type=int, default=40, help="how many to average (40)")
    parser.add_argument("--minutes", type=float, default=10.0, help="of each world (10)")
    options = parser.parse_args()
    worlds = range(HELD_OUT, HELD_OUT + options.worlds)
    results = compare(worlds, 60 * options.minutes, processes=os.cpu_count() or 1)
    print(
        f"{REQUESTS_PER_S:g} requests a second for {options.minutes:g} min, "
        f"mean of {options.worlds} worlds\n\n{table(results)}\n\n{closest(results)}\n"
    )
    has_won = does_adaptive_win(results)
    print(f"adaptive {'wins' if has_won else 'does not win'}: at equal cost, against every other")
    return 0 if has_won else 1


if __name__ == "__main__":
    sys.exit(main())
