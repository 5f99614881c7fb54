"""Strategy against strategy on the same providers, which degrade and recover.

    python -m benchmarks.strategies [--seeds N] [--drawn]

Five providers of different price, speed and size share 15 requests a second for ten minutes. One
after the other, and sometimes two at once, they get slow, fail half of the time, refuse
connections, fall silent, or limit their rate, and recover. With `--drawn` every seed draws a world
of its own: how many providers, how good, and what befalls them when.

Every strategy meets the same requests, with the same circuit breaker, the same learnt bounds on
requests in flight, and up to four attempts, each on the first of its order that was not tried yet.
No member has capability levels, so that `task_aware` is `cost_optimized` here.

A request is good when it completes and its first token came within 4 s. A strategy *competes* when
its goodput is at least 95 % of the best. `adaptive` wins when no strategy has a better goodput and
none that competes is cheaper per completed request, in the mean of all seeds.
"""

import argparse
import random
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from statistics import fmean, quantiles

from atlas.contracts.catalogue import Strategy
from benchmarks.simulation import Fault, FaultKind, Outcome, Vendor, World
from provider_router.routing.strategies import strategy_of

COMPETES = 0.95
DURATION_S = 600.0
REQUESTS_PER_S = 15.0
DRAWN_AMOUNTS: dict[FaultKind, tuple[float, float]] = {
    "slow": (2, 10),
    "errors": (0.1, 0.9),
    "limited": (1, 8),
    "refused": (0, 0),
    "silent": (0, 0),
}


def vendors(duration_s: float = DURATION_S) -> list[Vendor]:
    """The providers, with their faults, which shrink with the time they have."""

    def fault(kind: FaultKind, from_s: float, until_s: float, amount: float = 0.0) -> Fault:
        shrink = duration_s / DURATION_S
        return Fault(kind, from_s * shrink, until_s * shrink, amount)

    large = (
        fault("slow", 20, 50, 6),
        fault("refused", 270, 300),
        fault("errors", 420, 480, 0.3),
    )
    budget = (
        fault("errors", 60, 150, 0.5),
        fault("slow", 330, 420, 8),
        fault("refused", 500, 540),
    )
    middle = (
        fault("slow", 100, 220, 8),
        fault("silent", 360, 400),
        fault("errors", 540, 570, 0.5),
    )
    quick = fault("limited", 240, 420, 4), fault("refused", 450, 510)
    steady = fault("silent", 160, 240), fault("slow", 440, 500, 6)
    # name, USD per million tokens in and out, ms to the first token, tokens/s, capacity, faults
    return [
        Vendor("large", 3.0, 15.0, 700, 70, 60, large),
        Vendor("budget", 0.1, 0.4, 900, 60, 40, budget),
        Vendor("middle", 0.25, 1.25, 600, 80, 80, middle),
        Vendor("quick", 1.0, 5.0, 250, 150, 50, quick),
        Vendor("steady", 0.8, 4.0, 650, 80, 100, steady),
    ]


def drawn_vendors(seed: int, duration_s: float = DURATION_S) -> list[Vendor]:
    """Providers and faults at random: a scenario that nobody has set a strategy against."""
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
    """How one strategy did."""

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


def run(
    name: Strategy, seed: int, duration_s: float = DURATION_S, *, is_drawn: bool = False
) -> Result:
    """One strategy, one seed."""
    world = drawn_vendors(seed, duration_s) if is_drawn else vendors(duration_s)
    outcomes = World(world, strategy_of(name), seed, REQUESTS_PER_S, duration_s).run()
    return result_of(outcomes, duration_s)


def mean(results: Sequence[Result]) -> Result:
    """The mean of runs, figure by figure."""
    names = [one.name for one in fields(Result)]
    return Result(**{name: fmean(getattr(one, name) for one in results) for name in names})


def compare(
    seeds: Iterable[int], duration_s: float = DURATION_S, *, is_drawn: bool = False
) -> dict[Strategy, Result]:
    """Every strategy on the same seeds."""
    chosen = list(seeds)
    return {
        name: mean([run(name, seed, duration_s, is_drawn=is_drawn) for seed in chosen])
        for name in Strategy
    }


def competitors(results: dict[Strategy, Result]) -> list[Strategy]:
    """Who has at least nearly the best goodput."""
    best = max(result.goodput_per_s for result in results.values())
    return [name for name, one in results.items() if one.goodput_per_s >= COMPETES * best]


def does_adaptive_win(results: dict[Strategy, Result]) -> bool:
    """Whether it has the best goodput, and is the cheapest of those that compete."""
    adaptive, competing = results[Strategy.ADAPTIVE], competitors(results)
    return all(
        adaptive.goodput_per_s >= one.goodput_per_s
        and (name not in competing or adaptive.usd_per_1k <= one.usd_per_1k)
        for name, one in results.items()
    )


def table(results: dict[Strategy, Result]) -> str:
    """The results, the best goodput first."""
    lines = [
        "| strategy | good/s | missed | errors | TTFT p50 | p95 ms | $/1,000 | tries | competes |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    competing = competitors(results)
    for name, one in sorted(results.items(), key=lambda pair: -pair[1].goodput_per_s):
        lines.append(
            f"| `{name}` | {one.goodput_per_s:.2f} | {one.missed_share:.1%} "
            f"| {one.error_share:.1%} | {one.first_token_p50_ms:.0f} "
            f"| {one.first_token_p95_ms:.0f} | {one.usd_per_1k:.2f} | {one.attempts:.3f} "
            f"| {'yes' if name in competing else 'no'} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Print the table; the status tells whether `adaptive` won."""
    parser = argparse.ArgumentParser(description="Strategy against strategy, simulated.")
    parser.add_argument("--seeds", type=int, default=5, help="how many runs to average (5)")
    parser.add_argument("--drawn", action="store_true", help="draw a world for every seed")
    options = parser.parse_args()
    results = compare(range(1, options.seeds + 1), is_drawn=options.drawn)
    has_won = does_adaptive_win(results)
    worlds = f"{options.seeds} drawn worlds" if options.drawn else f"{options.seeds} seeds"
    print(f"{REQUESTS_PER_S:g} requests a second for {DURATION_S:g} s, mean of {worlds}\n")
    print(table(results))
    verdict = "wins" if has_won else "does not win"
    print(f"\nadaptive {verdict}: best goodput, and cheapest of those with {COMPETES:.0%} of it")
    return 0 if has_won else 1


if __name__ == "__main__":
    sys.exit(main())
