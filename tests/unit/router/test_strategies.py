"""The order in which each strategy tries the members of a group."""

import random
import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.documents import DOCS

from atlas.contracts.catalogue import Strategy
from atlas.contracts.errors import ProviderServerError
from atlas.contracts.inference import TASK_NEEDS, Level, ModelCapability, TaskType
from provider_router.routing.adaptive import timeliness
from provider_router.routing.figures import UNKNOWN, Figures
from provider_router.routing.members import Demand, Member, Placed, in_dollars
from provider_router.routing.strategies import strategy_of

NOW = 1_000_000
DEMAND = Demand(input_tokens=1_000, output_tokens=500)


def figures(
    *, wait_ms: int = 500, good: int = 20, bad: int = 0, in_flight: int = 0, now_ms: int = NOW
) -> Figures:
    """Of a member that was asked so many times a moment ago."""
    learnt = UNKNOWN
    broken = ProviderServerError("500").to_info()
    for _ in range(bad):
        began_ms = now_ms - 50
        learnt = learnt.started(began_ms)
        learnt = learnt.failed(broken, began_ms, now_ms, has_first_token=False)
    for _ in range(good):
        began_ms = now_ms - wait_ms
        learnt = learnt.started(began_ms).first_token(began_ms, now_ms)
        learnt = learnt.succeeded(began_ms, now_ms, usd=None, output_tokens=1)
    return replace(learnt, in_flight=in_flight)


def member(name: str, price: float | None = 1.0, learnt: Figures = UNKNOWN, **more) -> Member:
    return Member(name, input_usd_per_mtok=price, output_usd_per_mtok=price, figures=learnt, **more)


def ordered(name: Strategy, members: list[Member], demand: Demand = DEMAND) -> list[Placed]:
    return strategy_of(name).order(members, demand, random.Random(1), NOW)


def firsts(name: Strategy, members: list[Member], times: int) -> Counter[str]:
    strategy, rng = strategy_of(name), random.Random(7)
    return Counter(strategy.order(members, DEMAND, rng, NOW)[0].name for _ in range(times))


figure_sets = st.builds(
    figures,
    wait_ms=st.integers(0, 20_000),
    good=st.integers(0, 5),
    bad=st.integers(0, 5),
    in_flight=st.integers(0, 9),
)
levels = st.dictionaries(st.sampled_from(ModelCapability), st.sampled_from(Level), max_size=4)
groups = st.lists(
    st.builds(
        Member,
        name=st.sampled_from([f"p{number}/m" for number in range(9)]),
        weight=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
        input_usd_per_mtok=st.none() | st.floats(0, 100),
        output_usd_per_mtok=st.none() | st.floats(0, 100),
        capabilities=levels,
        figures=figure_sets,
    ),
    unique_by=lambda one: one.name,
    max_size=6,
)
demands = st.builds(
    Demand, input_tokens=st.integers(0, 10**6), output_tokens=st.integers(0, 10**5), needs=levels
)


@given(st.sampled_from(Strategy), groups, demands, st.integers(0, 999))
def test_every_strategy_gives_each_member_exactly_once_with_a_reason(
    name: Strategy, group: list[Member], demand: Demand, seed: int
) -> None:
    strategy, rng = strategy_of(name), random.Random(seed)
    for now_ms in (NOW, NOW + 5_000, NOW + 10**9):
        placed = strategy.order(group, demand, rng, now_ms)
        assert sorted(one.name for one in placed) == sorted(one.name for one in group)
        assert all(one.reason for one in placed)


@given(st.sampled_from(Strategy), groups, demands, st.integers(0, 999))
def test_the_same_seed_gives_the_same_order(
    name: Strategy, group: list[Member], demand: Demand, seed: int
) -> None:
    def run() -> list[list[Placed]]:
        strategy, rng = strategy_of(name), random.Random(seed)
        return [strategy.order(group, demand, rng, NOW) for _ in range(3)]

    assert run() == run()


def test_failover_keeps_the_configured_order() -> None:
    group = [member("b"), member("a"), member("c")]
    assert [one.name for one in ordered(Strategy.FAILOVER, group)] == ["b", "a", "c"]


@given(st.integers(1, 7), st.integers(1, 200))
def test_round_robin_gives_everybody_exactly_the_same(size: int, turns: int) -> None:
    count = firsts(Strategy.ROUND_ROBIN, [member(str(number)) for number in range(size)], turns)
    assert max(count.values()) - min(count[str(number)] for number in range(size)) <= 1


@given(st.lists(st.sets(st.sampled_from("abcd"), min_size=1), min_size=1, max_size=60))
def test_who_was_away_gets_one_turn_and_no_more_for_it(present: list[set[str]]) -> None:
    strategy, history = strategy_of(Strategy.ROUND_ROBIN), []
    for names in present:
        group = [member(name) for name in sorted(names)]
        history.append(strategy.order(group, DEMAND, random.Random(), NOW)[0].name)
        waited = {name: history[::-1].index(name) if name in history else 99 for name in names}
        assert waited[history[-1]] == 0
    for place in range(1, len(history)):
        if history[place] == history[place - 1] and len(present[place]) > 1:
            raise AssertionError(f"{history[place]} came twice in a row")


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 3))
def test_weights_are_met_exactly_over_a_cycle_and_closely_within(
    weights: list[int], cycles: int
) -> None:
    group = [member(str(at), weight=float(weight)) for at, weight in enumerate(weights)]
    strategy, total, count = strategy_of(Strategy.WEIGHTED), sum(weights), Counter[str]()
    for turn in range(1, (cycles + 1) * total + 1):
        count[strategy.order(group, DEMAND, random.Random(), NOW)[0].name] += 1
        for at, weight in enumerate(weights):
            assert abs(count[str(at)] - turn * weight / total) < len(weights)
        if turn % total == 0:
            assert [count[str(at)] for at in range(len(weights))] == [
                weight * turn // total for weight in weights
            ]


def test_weighted_turns_are_spread_rather_than_in_bursts() -> None:
    group = [member("a", weight=5.0), member("b", weight=1.0), member("c", weight=1.0)]
    strategy = strategy_of(Strategy.WEIGHTED)
    turns = [strategy.order(group, DEMAND, random.Random(), NOW)[0].name for _ in range(7)]
    assert "".join(turns) == "aabacaa", "as nginx documents it"


def test_a_weight_of_nothing_is_a_fallback_only() -> None:
    group = [member("spare", weight=0.0), member("main", weight=1.0)]
    assert firsts(Strategy.WEIGHTED, group, 50) == {"main": 50}


def test_random_prefers_nobody() -> None:
    count = firsts(Strategy.RANDOM, [member(str(number)) for number in range(4)], 4_000)
    assert all(abs(one - 1_000) < 150 for one in count.values()), "five standard deviations"


def test_cost_optimized_puts_the_cheapest_for_these_tokens_first() -> None:
    reader = Member("reader", input_usd_per_mtok=0.1, output_usd_per_mtok=10.0)
    writer = Member("writer", input_usd_per_mtok=2.0, output_usd_per_mtok=1.0)
    unknown = member("unknown", None)
    long_input = ordered(Strategy.COST_OPTIMIZED, [unknown, writer, reader], Demand(10_000, 100))
    assert [one.name for one in long_input] == ["reader", "writer", "unknown"]
    assert [one.reason for one in long_input] == [
        "cheapest: $0.002 expected",
        "$0.02 expected",
        "price unknown",
    ]
    long_output = ordered(Strategy.COST_OPTIMIZED, [reader, writer], Demand(100, 10_000))
    assert [one.name for one in long_output] == ["writer", "reader"]


def test_a_price_that_no_list_knows_is_learnt_from_what_requests_cost() -> None:
    learnt = UNKNOWN.started(NOW).first_token(NOW, NOW)
    learnt = learnt.succeeded(NOW, NOW, usd=0.001, output_tokens=100)
    placed = ordered(Strategy.COST_OPTIMIZED, [member("a", 1.0), member("b", None, learnt)])
    assert [one.name for one in placed] == ["b", "a"]


def test_latency_never_puts_the_slowest_first_and_mostly_the_fastest() -> None:
    group = [member(str(ms), 1.0, figures(wait_ms=ms)) for ms in (3_000, 200, 900, 1_500)]
    count = firsts(Strategy.LATENCY, group, 1_000)
    assert count["3000"] == 0, "of two it always loses"
    assert count["200"] > count["900"] > count["1500"] > 0


def test_latency_tries_the_unknown_and_is_not_fooled_by_fast_failures() -> None:
    failing = figures(wait_ms=50, good=1, bad=40)
    group = [member("failing", 1.0, failing), member("slow", 1.0, figures(wait_ms=2_000))]
    assert firsts(Strategy.LATENCY, group, 100) == {"slow": 100}
    with_new = [member("known", 1.0, figures(wait_ms=200)), member("new")]
    placed = ordered(Strategy.LATENCY, with_new)
    assert (placed[0].name, placed[0].reason) == ("new", "never tried")


def test_least_busy_counts_requests_in_flight_and_spreads_ties() -> None:
    group = [member(name, 1.0, figures(in_flight=busy)) for name, busy in
             (("a", 4), ("b", 1), ("c", 1))]  # fmt: skip
    count = firsts(Strategy.LEAST_BUSY, group, 200)
    assert count["a"] == 0
    assert min(count["b"], count["c"]) > 60
    assert ordered(Strategy.LEAST_BUSY, group)[2].reason == "4 in flight"


def capable(name: str, price: float, **have: str) -> Member:
    capabilities = {ModelCapability(one): Level(level) for one, level in have.items()}
    return member(name, price, capabilities=capabilities)


def test_task_aware_prefers_what_fits_and_of_equals_the_cheaper() -> None:
    needs = Demand(1_000, 500, needs=TASK_NEEDS[TaskType.CODE_GENERATION])
    group = [
        capable("weak", 0.1, code="moderate", reasoning="strong", technical="moderate"),
        capable("dear", 9.0, code="strong", reasoning="moderate", technical="moderate"),
        capable("cheap", 1.0, code="strong", reasoning="moderate", technical="moderate"),
        capable("best", 20.0, code="exceptional", reasoning="strong", technical="strong"),
    ]
    placed = ordered(Strategy.TASK_AWARE, group, needs)
    assert [one.name for one in placed] == ["best", "cheap", "dear", "weak"]
    assert placed[1].reason == (
        "code strong, reasoning moderate, technical moderate; $0.0015 expected"
    )


def test_adaptive_takes_the_cheap_when_it_is_good_enough_and_not_when_it_fails_or_lags() -> None:
    good, failing, slow = figures(), figures(good=5, bad=30), figures(wait_ms=9_000)

    def share(cheap: Figures) -> float:
        group = [member("cheap", 0.5, cheap), member("dear", 10.0, good)]
        return firsts(Strategy.ADAPTIVE, group, 500)["cheap"] / 500

    assert share(good) > 0.9
    assert share(failing) < 0.05
    assert share(slow) < 0.05


@pytest.mark.parametrize(("cost_weight", "first"), [(0.0, "quick"), (50.0, "cheap")])
def test_how_much_price_weighs_for_adaptive_is_the_groups_to_say(
    cost_weight: float, first: str
) -> None:
    group = [member("cheap", 1.0, figures(wait_ms=3_000)), member("quick", 5.0, figures())]
    strategy, rng = strategy_of(Strategy.ADAPTIVE, cost_weight=cost_weight), random.Random(1)
    orders = (strategy.order(group, DEMAND, rng, NOW) for _ in range(200))
    assert sum(order[0].name == first for order in orders) > 190


def test_adaptive_keeps_exploring_what_it_does_not_know() -> None:
    group = [member("known", 1.0, figures(wait_ms=800)), member("new", 1.0)]
    count = firsts(Strategy.ADAPTIVE, group, 500)
    assert min(count.values()) > 25


def test_adaptive_gives_a_member_that_failed_another_chance_after_a_while() -> None:
    bad = member("was-bad", 0.1, figures(good=0, bad=40))
    dear = member("dear", 10.0, figures())
    strategy, rng = strategy_of(Strategy.ADAPTIVE), random.Random(3)

    def share(now_ms: int) -> float:
        good = replace(dear, figures=figures(now_ms=now_ms))
        orders = (strategy.order([bad, good], DEMAND, rng, now_ms) for _ in range(400))
        return sum(order[0].name == "was-bad" for order in orders) / 400

    assert share(NOW) == 0
    assert 0 < share(NOW + 240_000) < share(NOW + 1_200_000)


@pytest.mark.parametrize(("wait_ms", "least", "most"), [(0, 1, 1), (500, 0.9, 1), (2_000, 0.5, 0.5),
                                                        (8_000, 0, 0.1)])  # fmt: skip
def test_timeliness_falls_off_beyond_the_target(wait_ms, least, most) -> None:
    assert least <= timeliness(wait_ms, 2_000) <= most


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (0.0004, "$0.0004 expected"),
        (0.0, "$0 expected"),
        (0.01234, "$0.012 expected"),
        (123.456, "$123.46 expected"),
        (None, "price unknown"),
    ],
)
def test_a_price_is_told_in_as_many_digits_as_mean_something(usd, text) -> None:
    assert in_dollars(usd) == text


def test_the_page_of_providers_has_a_row_for_each_strategy() -> None:
    page = (DOCS / "providers.md").read_text()
    tables = re.findall(r"(?:^\| `\w+` \| .*\n)+", page, re.MULTILINE)
    rows = [re.findall(r"^\| `(\w+)` \| ", table, re.MULTILINE) for table in tables]
    assert [name.value for name in Strategy] in rows
