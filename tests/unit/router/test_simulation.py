"""What the simulation of strategies claims, in a shorter run of it."""

from functools import cache

from atlas.contracts.catalogue import Strategy
from benchmarks.simulation import World
from benchmarks.strategies import (
    REQUESTS_PER_S,
    Result,
    compare,
    competitors,
    does_adaptive_win,
    drawn_vendors,
    run,
    table,
    vendors,
)
from provider_router.routing.strategies import strategy_of

DURATION_S = 180.0


@cache
def results() -> dict[Strategy, Result]:
    return compare((1, 2), DURATION_S)


def test_adaptive_has_the_best_goodput_and_is_the_cheapest_of_those_that_come_near_it() -> None:
    assert does_adaptive_win(results()), table(results())
    assert len(competitors(results())) > 1, "to be cheapest of one means nothing"


def test_what_is_cheaper_than_adaptive_misses_many_more_requests() -> None:
    adaptive = results()[Strategy.ADAPTIVE]
    cheaper = [one for one in results().values() if one.usd_per_1k < adaptive.usd_per_1k]
    assert cheaper
    assert all(one.missed_share > 2 * adaptive.missed_share for one in cheaper)


def test_the_same_seed_gives_the_same_figures() -> None:
    assert run(Strategy.ADAPTIVE, 1, 30.0) == run(Strategy.ADAPTIVE, 1, 30.0)


def test_every_strategy_meets_the_same_requests() -> None:
    def arrivals(name: Strategy) -> list[float]:
        world = World(vendors(30.0), strategy_of(name), 1, REQUESTS_PER_S, 30.0)
        return [outcome.arrived_ms for outcome in world.run()]

    assert arrivals(Strategy.RANDOM) == arrivals(Strategy.FAILOVER)


def test_the_table_names_every_strategy() -> None:
    assert all(f"`{name}`" in table(results()) for name in Strategy)


def test_a_drawn_world_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    assert drawn_vendors(1) == drawn_vendors(1)
    assert drawn_vendors(1) != drawn_vendors(2)
