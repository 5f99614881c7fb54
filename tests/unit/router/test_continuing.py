"""When the next attempt goes on from what was said, when it begins anew, and why."""

from dataclasses import dataclass

import pytest
from structlog.testing import capture_logs

from atlas.contracts.errors import (
    AtlasError,
    NotFoundError,
    ProviderInvalidRequestError,
    ProviderServerError,
)
from atlas.contracts.inference import ModelRequest
from atlas.contracts.streams import StreamStarted, TextDelta
from atlas.provider_settings import ProviderSettings
from atlas.reading import Reading
from provider_router.providers.base import Adapter, Text, ToolCall
from provider_router.providers.registry import make_adapter
from provider_router.routing.choosing import Candidate, Plan
from provider_router.routing.prices import Pricing
from provider_router.routing.rate import Tokens
from provider_router.streaming.attempt import Attempt
from provider_router.streaming.begun import Said
from provider_router.streaming.continuing import Continuing, step_of_adoption
from provider_router.streaming.ledger import AttemptUsage
from provider_router.streaming.write_errors import HistoryLostError

PRICING = Pricing("mock", "fast")
FIRST, SECOND, PLAIN = (
    Candidate(name, "fast", "named", PRICING) for name in ("first", "second", "plain")
)
BROKEN = ProviderServerError("broken")
ADAPTERS: dict[str, Adapter] = {
    name: make_adapter(name, ProviderSettings.model_validate({"kind": "mock", **more}))
    for name, more in (("first", {}), ("second", {}), ("plain", {"prefill": False}))
}


def request(policy: str = "continue") -> ModelRequest:
    return ModelRequest.model_validate(
        {
            "messages": [{"role": "user", "content": "Hello"}],
            "fallback": {"on_failure": policy},
        }
    )


def attempt(candidate: Candidate, continuing: Continuing) -> Attempt:
    usage = AttemptUsage(PRICING, 1)
    return Attempt(1, candidate, usage, is_patient=False, continuation=continuing.continuation())


def begun(policy: str = "continue") -> Continuing:
    one = Continuing(request(policy), ADAPTERS, None)
    one.add([Text("Once upon ")])
    return one


@dataclass(frozen=True)
class Decided:
    step: str
    reasons: list[str]
    goes_on: bool


def decide(
    one: Continuing, candidate: Candidate, error: AtlasError = BROKEN, failed: Candidate = FIRST
) -> Decided:
    with capture_logs() as logs:
        step = one.decide(error.to_info(), attempt(failed, one), candidate)
    reasons = [str(line["reason"]) for line in logs if line["event"] == "not_continued"]
    return Decided(step, reasons, one.continuation() is not None)


def test_text_is_continued_by_a_provider_that_takes_a_begun_answer():
    one = begun()
    assert one.continuation() is None
    assert decide(one, SECOND) == Decided("continue", [], goes_on=True)


def test_it_is_not_where_nobody_asked_for_it_and_that_is_no_news():
    assert decide(begun("restart"), SECOND) == Decided("restart", [], goes_on=False)


def test_what_stands_in_the_way_is_logged():
    refused = decide(begun(), PLAIN)
    assert (refused.step, refused.goes_on) == ("restart", False)
    assert "prefill: false" in refused.reasons[0]
    one = begun()
    one.add([ToolCall(0, "a", "weather")])
    assert "tool" in decide(one, SECOND).reasons[0]
    assert "history" in decide(begun(), SECOND, HistoryLostError("gone")).reasons[0]


def test_who_refused_the_begun_answer_is_not_asked_for_its_rest_again():
    refusal = ProviderInvalidRequestError("no prefill")
    one = begun()
    decide(one, SECOND)
    assert "refused" in decide(one, SECOND, refusal, failed=SECOND).reasons[0]
    one = begun()
    decide(one, SECOND)
    assert decide(one, FIRST, refusal, failed=SECOND).step == "continue"


def test_after_a_restart_only_what_was_said_since_is_continued():
    one = begun()
    decide(one, PLAIN)
    one.add([Text("Anew, ")])
    decide(one, SECOND)
    continuation = one.continuation()
    assert continuation is not None
    assert continuation.request.messages[-1].content == "Anew,"


def test_a_race_is_run_only_by_those_who_can_go_on():
    one = begun()
    assert one.suits(PLAIN)
    decide(one, SECOND)
    assert (one.suits(PLAIN), one.suits(FIRST)) == (False, True)


def test_what_a_dead_router_said_is_gone_on_from_at_once():
    one = Continuing(request(), ADAPTERS, Said([Text("Once")]))
    continuation = one.continuation()
    assert continuation is not None
    assert continuation.request.messages[-1].content == "Once"


@pytest.mark.parametrize(
    ("policy", "text", "candidate", "step"),
    [
        ("continue", "Once", FIRST, "continue"),
        ("continue", "Once", PLAIN, "restart"),
        ("continue", "", FIRST, "restart"),
        ("restart", "Once", FIRST, "restart"),
        ("fail", "Once", FIRST, None),
        ("fail", "", FIRST, "restart"),
    ],
)
def test_an_adoption_keeps_drops_or_ends_what_was_said(
    policy: str, text: str, candidate: Candidate, step: str | None
):
    head = {"stream_id": "s1", "epoch": 1, "at_ms": 0}
    reading = Reading()
    reading.take(StreamStarted(**head, seq=1, provider="p", model="p/m", attempt=1, reason=""))
    if text:
        reading.take(TextDelta(**head, seq=2, text=text))
    plan = Plan([candidate], Tokens(1, 1))
    assert step_of_adoption(reading, request(policy), plan, ADAPTERS) == step


def test_an_adoption_of_what_nobody_can_answer_any_more_keeps_nothing():
    reading = Reading()
    gone = NotFoundError("no such model")
    assert step_of_adoption(reading, request(), gone, ADAPTERS) == "restart"
