"""What a stream used: reported where a provider finished, counted where it could not."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.contracts.errors import ProviderServerError
from atlas.contracts.events import AttemptOutcome
from atlas.contracts.inference import Budget, ModelRequest, Usage, UsageSource
from atlas.contracts.streams import (
    AttemptFailed,
    NextStep,
    StreamEvent,
    StreamStarted,
    TextDelta,
)
from provider_router.providers.base import Reasoning, Text, ToolCall
from provider_router.routing.estimates import input_tokens
from provider_router.routing.prices import Pricing
from provider_router.streaming.ledger import (
    AttemptUsage,
    Ledger,
    TextDigest,
    ledger_of_history,
)

REPORT = Usage(input_tokens=25, output_tokens=1, cached_input_tokens=5)
REQUEST = ModelRequest.model_validate(
    {"messages": [{"role": "user", "content": "x" * 36}], "system_prompt": "y" * 4}
)


def attempt(**fields: object) -> AttemptUsage:
    made = AttemptUsage(Pricing("openai", "gpt-4o"), input_tokens=10)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_a_refused_attempt_used_nothing_and_costs_nothing():
    refused = attempt()
    assert refused.usage() == Usage()
    assert refused.cost().total_usd == 0


def test_an_attempt_without_a_report_is_estimated_from_its_characters():
    streamed = attempt()
    streamed.count([Text("a" * 9), Reasoning("b" * 10), ToolCall(0, "c", "f", "{}")])
    assert streamed.usage() == Usage(
        input_tokens=10, output_tokens=6, reasoning_tokens=3, source=UsageSource.ESTIMATED
    )
    assert streamed.cost().total_usd > 0


def test_the_report_of_a_finished_attempt_is_its_usage():
    finished = attempt(has_response=True, reported=REPORT, is_finished=True)
    finished.count([Text("a" * 400)])
    assert finished.usage() == REPORT


def test_the_report_of_an_attempt_that_was_cut_is_no_less_than_what_was_counted():
    cut = attempt(has_response=True, reported=REPORT)
    cut.count([Text("a" * 400)])
    assert cut.usage() == Usage(
        input_tokens=25, output_tokens=100, cached_input_tokens=5, source=UsageSource.ESTIMATED
    )


def test_an_attempt_counts_with_its_input_from_when_it_is_made_until_it_is_refused():
    made = attempt()
    assert made.committed().input_tokens == 10
    made.end(AttemptOutcome.FAILED, "provider_auth")
    assert made.committed() == Usage()


def test_cached_tokens_are_paid_at_their_own_price():
    fresh = attempt(has_response=True, reported=Usage(input_tokens=1_000), is_finished=True)
    cached = attempt(
        has_response=True,
        reported=Usage(input_tokens=1_000, cached_input_tokens=800),
        is_finished=True,
    )
    assert 0 < cached.cost().total_usd < fresh.cost().total_usd


def test_what_was_said_first_of_an_attempts_end_stands():
    lost = attempt(is_hedge=True)
    lost.end(AttemptOutcome.LOST)
    lost.end(AttemptOutcome.FAILED, "provider_connection")
    report = lost.report(AttemptOutcome.CANCELLED)
    assert (report.outcome, report.error, report.hedged) == (AttemptOutcome.LOST, None, True)
    assert attempt().report(AttemptOutcome.CANCELLED).outcome is AttemptOutcome.CANCELLED


def test_a_budget_is_spent_by_the_input_of_an_attempt_that_is_still_on_its_way():
    ledger = Ledger([], [attempt(), attempt()])
    assert ledger.spent_limits(Budget(max_tokens=20)) == ["max_tokens"]
    assert ledger.spent_limits(Budget(max_tokens=21)) == []
    assert ledger.spent_limits(Budget(max_usd=1e-9)) == ["max_usd"]


def test_a_model_without_a_price_makes_the_cost_incomplete():
    unknown = AttemptUsage(Pricing("openai", "no-such-model"), 10, has_response=True)
    assert not unknown.cost().complete


def test_a_ledger_sums_all_attempts_and_one_estimate_makes_it_an_estimate():
    finished = attempt(has_response=True, reported=REPORT, is_finished=True)
    cut = attempt(has_response=True)
    earlier = attempt(has_response=True, reported=Usage(input_tokens=1), is_finished=True)
    ledger = Ledger([earlier], [finished, cut])
    assert ledger.usage() == Usage(
        input_tokens=1 + 25 + 10,
        output_tokens=1,
        cached_input_tokens=5,
        source=UsageSource.ESTIMATED,
    )


def test_the_attempts_of_a_dead_router_are_estimated_from_history():
    head = {"stream_id": "s1", "epoch": 1, "at_ms": 0}
    events: list[StreamEvent] = [
        StreamStarted(**head, seq=1, provider="p", model="p/gpt-4o", attempt=1, reason=""),
        TextDelta(**head, seq=2, text="a" * 40),
        AttemptFailed(
            **head, seq=3, attempt=1, provider="p", error=ProviderServerError("x").to_info()
        ),
        StreamStarted(**head, seq=4, provider="p", model="p/gpt-4o", attempt=2, reason=""),
        StreamStarted(**head, seq=5, provider="q", model="q/gpt-4.1", attempt=3, reason=""),
        TextDelta(**head, seq=6, text="a" * 20),
    ]
    ledger = ledger_of_history(events, REQUEST, lambda _, model: Pricing("openai", model))
    assert ledger.usage() == Usage(input_tokens=30, output_tokens=15, source=UsageSource.ESTIMATED)
    assert ledger.cost().total_usd > 0
    told = [one.report(AttemptOutcome.CANCELLED) for one in ledger.all]
    assert [(one.model, one.outcome, one.error) for one in told] == [
        ("p/gpt-4o", "failed", "provider_server"),
        ("p/gpt-4o", "failed", None),
        ("q/gpt-4.1", "abandoned", None),
    ]


@pytest.mark.parametrize(("step", "sent"), [("continue", 10 + 10), ("restart", 10)])
def test_an_attempt_that_went_on_from_a_text_has_sent_it_too(step: NextStep, sent: int):
    head = {"stream_id": "s1", "epoch": 1, "at_ms": 0}
    start = {"provider": "p", "model": "p/gpt-4o", "reason": ""}
    failed = {"provider": "p", "error": ProviderServerError("x").to_info(), "next": step}
    events: list[StreamEvent] = [
        StreamStarted(**head, seq=1, attempt=1, **start),
        TextDelta(**head, seq=2, text="a" * 40),
        AttemptFailed(**head, seq=3, attempt=1, **failed),
        StreamStarted(**head, seq=4, attempt=2, **start),
    ]
    ledger = ledger_of_history(events, REQUEST, lambda _, model: Pricing("openai", model))
    assert [one.usage().input_tokens for one in ledger.all] == [10, sent]


def test_the_tokens_of_a_request_are_those_of_its_texts_and_images():
    image = {"type": "image", "data": "A" * 1_000_000, "media_type": "image/png"}
    shown = {"messages": [{"role": "user", "content": [{"type": "text", "text": "a" * 40}, image]}]}
    assert input_tokens(REQUEST) == 10
    assert input_tokens(ModelRequest.model_validate(shown)) == 1_010


@given(st.lists(st.text()), st.lists(st.text()))
def test_a_digest_is_that_of_the_text_since_the_last_restart(dropped: list[str], kept: list[str]):
    digest = TextDigest()
    for text in dropped:
        digest.add(text)
    digest.restart()
    for text in kept:
        digest.add(text)
    whole = "".join(kept)
    assert (digest.length, digest.sha256) == (
        len(whole),
        hashlib.sha256(whole.encode()).hexdigest(),
    )
