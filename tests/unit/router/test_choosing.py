"""The order in which able models are tried: who can be asked now, and a spread over providers."""

import random
from dataclasses import replace

import pytest

from atlas.contracts.base import now_ms
from atlas.contracts.catalogue import Strategy
from atlas.contracts.errors import (
    ErrorInfo,
    ProviderAuthError,
    ProviderCircuitOpenError,
    ProviderRateLimitError,
    ProviderServerError,
)
from atlas.contracts.inference import ModelRequest
from atlas.provider_settings import GroupSettings, LimitSettings, ProviderSettings
from atlas.settings import RouterSettings
from provider_router.routing.board import Board
from provider_router.routing.catalogue import Catalogue
from provider_router.routing.choosing import Chooser
from provider_router.routing.circuit_record import Opening
from provider_router.routing.provider_accounts import AccountConfig
from provider_router.routing.rate import Tokens

PRICES = {"cheap": 1, "middle": 5, "dear": 20}
PROVIDERS = {
    name: ProviderSettings.model_validate(
        {
            "kind": "openai",
            "base_url": f"http://{name}/v1",
            "models": [
                {"name": size, "price": {"input_usd_per_mtok": usd, "output_usd_per_mtok": usd}}
                for size, usd in PRICES.items()
            ],
        }
    )
    for name in ("one", "two")
}
GROUPS = {
    "turns": {"strategy": "round_robin", "members": ["one/cheap", "two/cheap"]},
    "weighted": {
        "strategy": "weighted",
        "members": [{"model": "one/cheap", "weight": 3}, {"model": "two/cheap", "weight": 1}],
    },
    "ordered": {"members": ["one/cheap", "one/dear", "two/cheap"], "hedge_after_ms": 300},
}


class Rig:
    """A chooser of two providers, and what is known of them."""

    def __init__(self, strategy: Strategy = Strategy.FAILOVER, default: str | None = None) -> None:
        self.board = Board({name: AccountConfig("", LimitSettings()) for name in PROVIDERS})
        self.chooser = Chooser(self.board, random.Random(1))
        groups = {name: GroupSettings.model_validate(group) for name, group in GROUPS.items()}
        router = RouterSettings(strategy=strategy, default_model=default)
        self.catalogue = Catalogue(PROVIDERS, groups, router)

    def order(self, model: str | None = None) -> dict[str, str]:
        """The candidates with their reasons; it takes a turn."""
        plan = self.chooser.plan(self.catalogue.choice(request(model)))
        return {one.full_name: one.reason for one in plan.candidates}

    def fail(self, provider: str, error: ErrorInfo, times: int = 1) -> None:
        for _ in range(times):
            ticket = self.board.of(provider).admit("cheap", Tokens(1, 1))
            ticket.failed(error)


def request(model: str | None = None) -> ModelRequest:
    return ModelRequest.model_validate(
        {"messages": [{"role": "user", "content": "Hello"}], "model": model}
    )


SERVER = ProviderServerError("500").to_info()
LIMIT = ProviderRateLimitError("429", retry_after_ms=30_000).to_info()
KEY = ProviderAuthError("401").to_info()


def test_whoever_finds_all_probes_taken_is_told_when_one_may_end_not_when_its_lease_does():
    rig = Rig()
    account, now = rig.board.of("one"), now_ms()
    opening = Opening(until_ms=now - 1, cool_down_ms=1, reason="failures", code="x")
    account.circuit = replace(account.circuit, opening=opening)
    for _ in range(account.circuit.settings.probes):
        account.admit("cheap", Tokens(1, 1))
    with pytest.raises(ProviderCircuitOpenError) as refused:
        account.admit("cheap", Tokens(1, 1))
    soon_ms = refused.value.retry_after_ms
    assert soon_ms is not None
    assert 0 < soon_ms < account.circuit.settings.probe_lease_ms / 10
    rig.board.of("two").circuit = replace(
        account.circuit, probes=(), opening=opening.model_copy(update={"until_ms": now + 30_000})
    )
    assert next(iter(rig.order("ordered"))).startswith("one/"), "it is free sooner"


def test_the_best_of_each_provider_comes_before_the_second_best_of_any():
    assert list(Rig(Strategy.COST_OPTIMIZED).order()) == [
        "one/cheap",
        "two/cheap",
        "one/middle",
        "two/middle",
        "one/dear",
        "two/dear",
    ]


def test_a_group_keeps_the_order_of_its_strategy_as_it_is():
    assert list(Rig().order("ordered")) == ["one/cheap", "one/dear", "two/cheap"]


def test_who_cannot_be_asked_now_comes_last_and_the_reason_says_why():
    rig = Rig()
    rig.fail("one", SERVER, times=5)
    order = rig.order()
    assert [name.partition("/")[0] for name in order] == ["two"] * 3 + ["one"] * 3
    assert order["one/cheap"].startswith("circuit open after provider_server, probed in ")


def test_of_those_that_must_wait_the_soonest_comes_first():
    rig = Rig()
    rig.fail("one", KEY)
    rig.fail("two", LIMIT)
    order = rig.order("turns")
    assert list(order) == ["two/cheap", "one/cheap"]
    assert order["two/cheap"].startswith("held off by its rate limit for ")
    assert order["one/cheap"] == (
        "circuit open: the key was refused; waits for another configuration"
    )


def test_a_default_that_cannot_be_asked_now_does_not_come_first():
    rig = Rig(default="one/dear")
    assert next(iter(rig.order().items())) == ("one/dear", "default")
    rig.fail("one", SERVER, times=5)
    assert next(iter(rig.order())) == "two/cheap"


def test_a_model_that_was_named_is_asked_whatever_is_known_of_it():
    rig = Rig()
    rig.fail("one", SERVER, times=5)
    assert rig.order("one/cheap") == {"one/cheap": "named"}


def test_turns_are_kept_group_by_group():
    rig = Rig()
    firsts = [next(iter(rig.order("turns"))) for _ in range(4)]
    assert firsts == ["one/cheap", "two/cheap"] * 2
    assert next(iter(rig.order("weighted"))) == "one/cheap"


@pytest.mark.parametrize("cost_weight", [0, 1_000])
def test_how_much_price_weighs_is_said_group_by_group(cost_weight: float):
    rig = Rig()
    group = {"strategy": "adaptive", "members": ["one/dear", "two/cheap"]}
    thrifty = GroupSettings.model_validate(group | {"cost_weight": cost_weight})
    catalogue = Catalogue(PROVIDERS, {"thrifty": thrifty}, RouterSettings())
    plans = [rig.chooser.plan(catalogue.choice(request("thrifty"))) for _ in range(50)]
    firsts = {plan.candidates[0].full_name for plan in plans}
    assert firsts == ({"two/cheap"} if cost_weight else {"one/dear", "two/cheap"})


def test_who_was_away_takes_no_turns_and_returns_with_the_next_one():
    rig = Rig()
    rig.fail("one", LIMIT)
    assert [next(iter(rig.order("turns"))) for _ in range(3)] == ["two/cheap"] * 3


def test_an_explanation_takes_no_turn():
    rig = Rig()
    choice = rig.catalogue.choice(request("turns"))
    explained = {rig.chooser.explain(choice).candidates[0].model for _ in range(3)}
    assert explained == {"one/cheap"}
    assert next(iter(rig.order("turns"))) == "one/cheap"


def test_an_explanation_tells_prices_and_circuits():
    rig = Rig()
    rig.fail("one", SERVER, times=5)
    explanation = rig.chooser.explain(rig.catalogue.choice(request("ordered")))
    first, *others = explanation.candidates
    assert (first.model, first.circuit) == ("two/cheap", "closed")
    assert {one.circuit for one in others} == {"open"}
    assert first.expected_usd is not None
    assert 0 < first.expected_usd < 0.01


def test_a_groups_patience_is_in_the_plan():
    rig = Rig()
    assert rig.chooser.plan(rig.catalogue.choice(request("ordered"))).hedge_after_ms == 300
    assert rig.chooser.plan(rig.catalogue.choice(request())).hedge_after_ms is None
