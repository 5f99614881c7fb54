"""Who is there and who is gone."""

import pytest

from agent_controller.roll import Roll, Silent, read_offers
from atlas.contracts.events import Offer
from atlas.contracts.inference import Level

W1, W2 = ("default", "w1"), ("default", "w2")


def offers(*names: str) -> frozenset[tuple[str, Offer]]:
    return read_offers({"capabilities": list(names)})


@pytest.fixture
def roll() -> Roll:
    return Roll("a")


def test_a_worker_that_falls_silent_is_gone_once(roll):
    roll.hear(W1, "ready", 1_000)
    roll.hear(W2, "ready", 5_000)
    assert roll.silent(6_000) == []
    assert roll.silent(6_001) == [Silent(W1, 1_000)]
    assert roll.silent(6_002) == []


def test_a_worker_that_stops_tells_it_itself(roll):
    roll.hear(W1, "ready", 1_000)
    roll.hear(W1, "draining", 2_000)
    roll.hear(W1, "stopped", 3_000)
    roll.hear(W2, "ready", 1_000)
    roll.is_told(W2)
    assert roll.silent(60_000) == []


def test_a_worker_that_dies_while_it_drains_is_gone_too(roll):
    roll.hear(W1, "ready", 1_000, offers("draft"))
    roll.hear(W1, "draining", 2_000, offers("draft"))
    assert roll.offers == {}
    assert roll.silent(7_001) == [Silent(W1, 2_000)]


def test_of_several_controllers_the_first_tells_and_the_others_hear_it():
    rolls = {name: Roll(name) for name in ("a", "b", "c")}
    for at_ms in range(0, 20_000, 1_000):
        for roll in rolls.values():
            for name in rolls:
                roll.hear_controller(name, "ready", at_ms)
            if not at_ms:
                roll.hear(W1, "ready", 0)
        telling = [name for name, roll in rolls.items() if roll.silent(at_ms)]
        if telling:
            assert (telling, at_ms) == (["a"], 6_000)
            for roll in rolls.values():
                roll.is_told(W1)
    assert all(roll.silent(60_000) == [] for roll in rolls.values())


def test_where_the_first_controller_died_with_the_worker_the_next_one_tells():
    second, third = Roll("b"), Roll("c")
    told = []
    for roll in (second, third):
        roll.hear_controller("a", "ready", 0)
        roll.hear(W1, "ready", 0)
    for at_ms in range(0, 20_000, 500):
        for roll in (second, third):
            roll.hear_controller("b", "ready", at_ms)
            roll.hear_controller("c", "ready", at_ms)
            if roll.silent(at_ms):
                told.append((roll.me, at_ms))
                second.is_told(W1)
                third.is_told(W1)
    assert told == [("b", 5_500)]  # "a" was silent for as long as the worker


def test_a_controller_that_drains_leaves_the_telling_to_the_next():
    roll = Roll("b")
    roll.hear_controller("a", "ready", 3_000)
    roll.hear_controller("a", "draining", 3_500)
    roll.hear(W1, "ready", 0)
    assert roll.silent(5_001) == [Silent(W1, 0)]


def test_while_nats_is_away_nobody_can_be_heard(roll):
    roll.hear(W1, "ready", 1_000, offers("draft"))
    roll.excuse(60_000)
    assert roll.silent(65_000) == []
    assert roll.offers
    assert roll.silent(65_001) == [Silent(W1, 1_000)]


def test_who_beats_seldom_is_silent_after_three_beats():
    roll = Roll("a", health_interval_ms=10_000)
    roll.hear(W1, "ready", 0)
    assert roll.silent(30_000) == []
    assert roll.silent(30_001) == [Silent(W1, 0)]


def test_what_workers_can_do_is_known_as_long_as_they_are_there(roll):
    roll.hear(("default", "a"), "ready", 0, offers("draft", "translate"))
    roll.hear(("acme", "b"), "ready", 4_000, offers("draft", "headline"))
    assert set(roll.offers) == {"draft", "translate", "headline"}
    roll.silent(6_000)
    assert set(roll.offers) == {"draft", "headline"}
    roll.hear(("acme", "b"), "draining", 6_100)
    assert roll.offers == {}


def test_of_several_workers_the_best_is_offered(roll):
    for worker, said in {
        "a": {"description": "By rote."},
        "b": {"level": "strong", "description": "Any language."},
        "c": {"level": "strong"},
    }.items():
        told = read_offers({"capabilities": ["translate"], "offers": {"translate": said}})
        roll.hear(("default", worker), "ready", 0, told)
    assert roll.offers == {"translate": Offer(level=Level.STRONG, description="Any language.")}


def test_what_a_model_is_asked_to_plan_with_stays_short(roll):
    for worker in range(3):
        can = offers(*(f"c{worker}-{number}" for number in range(90)))
        roll.hear(("default", str(worker)), "ready", 0, can)
    assert len(roll.offers) == 100
    assert {name for name, _ in offers("fine", "not fine", *["more"] * 200)} == {"fine", "more"}


@pytest.mark.parametrize("said", ["x", {"level": "best"}, {"description": "a\nb"}, {"level": 3}])
def test_an_offer_that_makes_no_sense_is_an_ordinary_one(said):
    told = read_offers({"capabilities": ["translate", 7], "offers": {"translate": said, "x": {}}})
    assert told == {("translate", Offer())}
    assert read_offers({"capabilities": "translate"}) == read_offers({}) == frozenset()
