"""What a stream that has ended gives, which log entries end an attempt, and which wishes count."""

from typing import Any

import pytest

from agent_worker.wishes import can_meet
from atlas.contracts.catalogue import ModelInfo, ProviderInfo, ProvidersReply
from atlas.contracts.errors import AtlasError, BudgetExceededError, WorkCancelledError
from atlas.contracts.inference import (
    Budget,
    Cost,
    FinishReason,
    Level,
    ModelCapability,
    Requirements,
    StreamMetrics,
    Usage,
)
from atlas.contracts.streams import StreamCancelled, StreamCompleted, StreamStarted, TextDelta
from atlas.contracts.work import Subtask
from atlas.reading import Reading, text_digest
from atlas.worker.reporting import ends
from atlas.worker.streaming import answer_of, budget_left, narrower

SUBTASK = Subtask(
    task_id="t",
    subtask_id="s",
    attempt=2,
    capability="draft",
    instruction="i",
    goal="g",
    stream_id="x",
    idempotency_key="t:s:2",
)
USAGE = Usage(input_tokens=1, output_tokens=2)


def reading(finish_reason=FinishReason.STOP, text="hello") -> Any:
    base = {"stream_id": "x", "epoch": 1, "at_ms": 1}
    length, digest = text_digest(text)
    found = Reading()
    found.take(StreamStarted(**base, seq=1, provider="p", model="m", attempt=1, reason="r"))
    found.take(TextDelta(**base, seq=2, text=text))
    found.take(
        StreamCompleted(
            **base,
            seq=3,
            finish_reason=finish_reason,
            usage=USAGE,
            cost=Cost(),
            metrics=StreamMetrics(),
            events=3,
            text_length=length,
            text_sha256=digest,
        )
    )
    return found


def test_a_completed_stream_gives_its_text_and_its_bill():
    answer = answer_of(reading(), SUBTASK, "x")
    assert (answer.content, answer.usage) == ("hello", USAGE)


@pytest.mark.parametrize(
    ("reason", "category"),
    [(FinishReason.CONTENT_FILTER, "content_filter"), (FinishReason.BUDGET, "budget")],
)
def test_an_answer_cut_off_by_filter_or_budget_is_a_failure(reason, category):
    with pytest.raises(AtlasError) as caught:
        answer_of(reading(reason), SUBTASK, "x")
    assert caught.value.category == category


def test_a_cancelled_stream_says_who_and_why():
    found = Reading()
    found.take(
        StreamCancelled(
            stream_id="x",
            seq=1,
            epoch=1,
            at_ms=1,
            by="me",
            reason="enough",
            usage=USAGE,
            cost=Cost(),
        )
    )
    with pytest.raises(WorkCancelledError, match="stream 'x' was cancelled by me: enough"):
        answer_of(found, SUBTASK, "x")


def test_a_further_stream_gets_what_the_earlier_ones_left_of_the_budget():
    budget = Budget(max_tokens=10, max_usd=1.0, max_ms=1_000)
    left = budget_left(budget, USAGE, Cost(total_usd=0.25), 400)
    assert left == Budget(max_tokens=7, max_usd=0.75, max_ms=600)
    assert budget_left(Budget(max_usd=1), USAGE, Cost(), 9_999_999) == Budget(max_usd=1)


def test_a_budget_of_which_nothing_is_left_asks_no_model():
    with pytest.raises(BudgetExceededError, match="max_tokens"):
        budget_left(Budget(max_tokens=3, max_usd=1), USAGE, Cost(), 0)


def test_of_two_budgets_each_limit_is_the_narrower_one():
    both = narrower(Budget(max_tokens=5, max_usd=2), Budget(max_tokens=9, max_ms=7))
    assert both == Budget(max_tokens=5, max_usd=2, max_ms=7)
    assert narrower(None, None) is None
    assert narrower(None, Budget(max_ms=7)) == Budget(max_ms=7)


@pytest.mark.parametrize(
    ("event", "is_end"),
    [
        ('{"type": "task.cancelled"}', True),
        ('{"type": "task.sang"}', False),
        ('{"type": "subtask.succeeded", "subtask_id": "s", "attempt": 1}', True),
        ('{"type": "subtask.succeeded", "subtask_id": "other"}', False),
        ('{"type": "subtask.failed", "subtask_id": "s", "attempt": 1}', False),
        ('{"type": "subtask.failed", "subtask_id": "s", "attempt": 2}', True),
        ('{"type": "subtask.dispatched", "subtask_id": "s", "attempt": 2}', False),
        ('{"type": "subtask.dispatched", "subtask_id": "s", "attempt": 3}', True),
        ('{"type": "subtask.cancelled", "subtask_id": "s"}', True),
    ],
)
def test_an_attempt_is_pointless_once_the_log_says_so(event, is_end):
    assert ends(event.encode(), SUBTASK) is is_end


def providers(*models) -> Any:
    return ProvidersReply(
        router="r",
        default_model="d",
        providers=[ProviderInfo(provider=name, kind=kind) for name, kind, _ in models],
        models=[
            ModelInfo(model=f"{name}/m", provider=name, capabilities={ModelCapability.CODE: level})
            for name, _, level in models
        ],
    )


def test_a_wish_counts_where_a_model_grants_it_and_the_mock_only_where_it_is_alone():
    wish = Requirements(capabilities={ModelCapability.CODE: Level.STRONG})
    assert can_meet(providers(("mock", "mock", Level.EXCEPTIONAL)), wish)
    assert can_meet(providers(("a", "openai", Level.STRONG)), wish)
    small = ("a", "openai", Level.BASIC)
    assert not can_meet(providers(("mock", "mock", Level.EXCEPTIONAL), small), wish)
    assert not can_meet(providers(), wish)
