"""What is said of answers: for whom it counts, for how long, and how it is bounded."""

import random

import pytest
from tests.unit.router.test_choosing import Rig, request

from atlas.contracts.base import now_ms
from atlas.contracts.catalogue import Strategy
from atlas.contracts.inference import Cost, Usage
from provider_router.routing.adaptive import Adaptive
from provider_router.routing.answers import _MOST_SHARES, _MOST_STREAMS, Answers, Asker
from provider_router.routing.members import Demand, Member
from provider_router.routing.rate import Tokens

ACME, OTHER = Asker("acme", wants_json=True), Asker("other", wants_json=True)
PROSE = Asker("acme", wants_json=False)
MODEL = "one/cheap"
NOW = 1_000_000


@pytest.fixture
def answers() -> Answers:
    return Answers()


def given(answers: Answers, count: int, asker: Asker = ACME, at_ms: int = NOW) -> list[str]:
    """Streams that were answered."""
    streams = [f"{asker.tenant}-{asker.wants_json}-{number}" for number in range(count)]
    for one in streams:
        answers.gave(asker, one, MODEL, at_ms)
    return streams


def test_answers_are_of_use_until_somebody_says_otherwise(answers):
    assert answers.share(ACME, MODEL, NOW) == 1
    streams = given(answers, 4)
    assert answers.share(ACME, MODEL, NOW) == 1
    assert answers.blame("acme", streams[0], NOW) == MODEL
    assert answers.share(ACME, MODEL, NOW) == pytest.approx(7 / 8, abs=0.01)


def test_a_stream_is_blamed_once(answers):
    (stream,) = given(answers, 1)
    assert answers.blame("acme", stream, NOW) == MODEL
    share = answers.share(ACME, MODEL, NOW)
    assert answers.blame("acme", stream, NOW) is None
    assert answers.share(ACME, MODEL, NOW) == share


def test_nobody_spoils_a_model_for_another_tenant_or_another_kind_of_work(answers):
    for stream in given(answers, 50):
        answers.blame("acme", stream, NOW)
    given(answers, 3, PROSE)
    assert answers.share(ACME, MODEL, NOW) < 0.2
    assert answers.share(OTHER, MODEL, NOW) == answers.share(PROSE, MODEL, NOW) == 1


def test_a_stream_of_another_tenant_cannot_be_blamed(answers):
    (stream,) = given(answers, 1)
    assert answers.blame("other", stream, NOW) is None
    assert answers.blame("acme", "unknown", NOW) is None
    assert answers.share(ACME, MODEL, NOW) == 1


def test_blame_is_forgotten_by_and_by_so_that_the_model_is_tried_again(answers):
    for stream in given(answers, 5):
        answers.blame("acme", stream, NOW)
    shares = [answers.share(ACME, MODEL, NOW + minutes * 60_000) for minutes in (0, 10, 30, 120)]
    assert shares == sorted(shares)
    assert shares[0] < 0.5
    assert shares[-1] > 0.95


def test_what_is_kept_is_bounded(answers):
    for number in range(_MOST_STREAMS + 10):
        answers.gave(ACME, f"s{number}", f"one/{number % (_MOST_SHARES + 10)}", NOW)
    assert (len(answers._given), len(answers._shares)) == (_MOST_STREAMS, _MOST_SHARES)
    assert answers.blame("acme", "s0", NOW) is None
    assert answers.blame("acme", f"s{_MOST_STREAMS + 9}", NOW) is not None


@pytest.mark.parametrize(("useful", "least", "most"), [(1.0, 60, 140), (0.5, 0, 10)])
def test_adaptive_chooses_a_model_whose_answers_are_of_no_use_less_often(useful, least, most):
    members = [Member("a/one", useful=useful), Member("b/two")]
    rng = random.Random(5)
    firsts = [Adaptive().order(members, Demand(), rng, NOW)[0] for _ in range(200)]
    assert least <= sum(one.name == "a/one" for one in firsts) <= most


def test_what_was_said_stands_in_the_reason():
    placed = Adaptive().order([Member("a/one", useful=0.25)], Demand(), random.Random(1), NOW)
    assert "25 % of use" in placed[0].reason


def test_the_chooser_orders_for_who_asks():
    rig = Rig(Strategy.ADAPTIVE)
    for name in ("one", "two"):
        for _ in range(30):  # both are known well: nothing is left to explore
            ticket = rig.board.of(name).admit("cheap", Tokens(1, 1))
            ticket.succeeded(Usage(output_tokens=1), Cost())
            ticket.ended(Usage())
    choice = rig.catalogue.choice(request())
    now = now_ms()
    for number in range(20):
        rig.board.answers.gave(ACME, str(number), MODEL, now)
        rig.board.answers.blame("acme", str(number), now)

    def firsts(asker: Asker) -> int:
        plans = [rig.chooser.plan(choice, asker) for _ in range(60)]
        return sum(plan.candidates[0].full_name == MODEL for plan in plans)

    assert firsts(ACME) == 0
    assert firsts(OTHER) > 10
    assert firsts(PROSE) > 10
