"""What the simulation of strategies claims, in a shorter run, and the rule it is judged by."""

from dataclasses import replace
from functools import cache

import pytest

from atlas.contracts.catalogue import Strategy
from benchmarks.simulation import World
from benchmarks.strategies import (
    DEFAULT,
    OTHERS,
    REQUESTS_PER_S,
    SETTINGS,
    Contender,
    Results,
    beaten_at,
    compare,
    does_adaptive_win,
    drawn_vendors,
    mean,
    run,
    table,
)
from provider_router.routing.strategies import strategy_of

CHEAPEST = Contender(Strategy.COST_OPTIMIZED)


@cache
def results() -> Results:
    return compare(range(1, 4), 120.0)


@pytest.mark.parametrize(
    "other", [one for one in OTHERS if one.strategy not in {CHEAPEST.strategy, Strategy.TASK_AWARE}]
)
def test_adaptive_beats_whoever_does_not_go_by_price_alone(other: Contender) -> None:
    assert beaten_at(results(), other), table(results())


def test_adaptive_set_for_price_costs_hardly_more_than_the_cheapest_and_misses_fewer() -> None:
    thrifty, cheapest = mean(results()[SETTINGS[-1]]), mean(results()[CHEAPEST])
    assert thrifty.usd_per_1k < 1.02 * cheapest.usd_per_1k
    assert thrifty.missed_share <= cheapest.missed_share


def test_the_less_price_weighs_the_more_is_spent_for_a_first_token_that_comes_sooner() -> None:
    little, default, much = (mean(results()[one]) for one in (SETTINGS[0], DEFAULT, SETTINGS[-1]))
    assert little.usd_per_1k > default.usd_per_1k > much.usd_per_1k
    assert little.first_token_p95_ms < much.first_token_p95_ms


def _made(default_good: float, default_usd: float) -> Results:
    """Every other strategy at 14 good a second for $2; `adaptive` as given, at every setting."""
    result = run(Contender(Strategy.RANDOM), 1, 20.0)
    other = replace(result, goodput_per_s=14.0, usd_per_1k=2.0)
    adaptive = replace(result, goodput_per_s=default_good, usd_per_1k=default_usd)
    return {one: [other] for one in OTHERS} | {one: [adaptive] for one in SETTINGS}


@pytest.mark.parametrize(
    ("good", "usd", "wins"),
    [(14.1, 1.9, True), (14.1, 2.1, False), (13.9, 1.9, False), (13.9, 2.1, False)],
)
def test_to_win_is_at_least_the_goodput_at_no_more_than_the_cost(
    good: float, usd: float, *, wins: bool
) -> None:
    assert does_adaptive_win(_made(good, usd)) is wins


def test_no_win_where_another_beats_it_as_it_comes() -> None:
    made = _made(14.1, 1.9)
    made[DEFAULT] = [replace(made[DEFAULT][0], goodput_per_s=13.0, usd_per_1k=3.0)]
    assert all(beaten_at(made, other) for other in OTHERS)
    assert not does_adaptive_win(made)


def test_the_same_seed_gives_the_same_figures() -> None:
    assert run(DEFAULT, 1, 30.0) == run(DEFAULT, 1, 30.0)


def test_every_strategy_meets_the_same_requests() -> None:
    def arrivals(name: Strategy) -> list[float]:
        world = World(drawn_vendors(1, 30.0), strategy_of(name), 1, REQUESTS_PER_S, 30.0)
        return [outcome.arrived_ms for outcome in world.run()]

    assert arrivals(Strategy.RANDOM) == arrivals(Strategy.FAILOVER)


def test_the_table_names_every_strategy() -> None:
    assert all(f"`{name}`" in table(results()) for name in Strategy)


def test_a_world_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    assert drawn_vendors(1, 60.0) == drawn_vendors(1, 60.0)
    assert drawn_vendors(1, 60.0) != drawn_vendors(2, 60.0)
