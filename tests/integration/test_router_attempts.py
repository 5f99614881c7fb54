"""What each attempt of a stream used and cost, as the event of the stream's end tells it."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest_asyncio

from atlas import subjects
from atlas.contracts.catalogue import ModelUsage
from atlas.contracts.events import AttemptOutcome, AttemptReport
from atlas.contracts.inference import Cost, Usage, UsageSource
from atlas.wire import read_event
from provider_router.accounting.counters import Counters
from provider_router.accounting.usage import UsageCounters
from tests.support.provider_server import ProviderServer, Reply, refusal, serving
from tests.support.router import TENANT, Stack, chat, chat_chunk, chat_event, provider, stack
from tests.support.waiting import eventually

PRICED = [
    {
        "name": "some-model",
        "price": {
            "input_usd_per_mtok": 1.0,
            "cached_input_usd_per_mtok": 0.1,
            "output_usd_per_mtok": 10.0,
        },
    }
]
WORDS = ["all ", "is ", "well"]
QUESTION = "Hello " * 400
ASKED = 600
"""Its tokens, as estimated."""
ANSWERED = Usage(input_tokens=3, output_tokens=5)
REPORTED = UsageSource.REPORTED
ESTIMATED = UsageSource.ESTIMATED


@dataclass(frozen=True)
class Rig:
    """A router with two providers that take money."""

    stack: Stack
    first: ProviderServer
    second: ProviderServer

    async def told(self, model: str = "either", *, cancel: bool = False, **fields: Any) -> Any:
        """Ask; gives the type of the stream's last event, its data, and its attempts."""
        hear = await self.stack.bus.open(subjects.events_of(TENANT, "provider_router", "stream.*"))
        await self.stack.bus.flush()
        async with asyncio.timeout(20):
            async with self.stack.atlas.stream(QUESTION, model=model, **fields) as stream:
                if cancel:
                    await anext(aiter(stream))
                    await stream.cancel()
            while True:
                msg = await hear.next_msg(timeout=20)
                event = read_event(msg.subject, msg.data)
                if event.type != "stream.started":
                    break
        data: dict[str, Any] = event.data
        attempts = [AttemptReport.model_validate(one) for one in data["attempts"]]
        usage, cost = Usage.model_validate(data["usage"]), Cost.model_validate(data["cost"])
        assert sum((one.usage for one in attempts), start=Usage()) == usage
        assert sum((one.cost for one in attempts), start=Cost()) == cost
        return event.type, data, attempts


@pytest_asyncio.fixture
async def rig(tmp_path):
    async with serving(Reply(chat(WORDS))) as first, serving(Reply(chat(WORDS))) as second:
        more = {"api": "chat", "models": PRICED}
        providers = {
            "first": provider("openai", first.url, first_token_timeout_ms=5_000, **more),
            "second": provider("openai", second.url, **more),
        }
        members = ["first/some-model", "second/some-model"]
        groups = {"either": {"members": members}}
        async with stack(tmp_path, providers, groups=groups) as running:
            yield Rig(running, first, second)


async def test_a_whole_answer_costs_what_its_provider_reported_cached_and_reasoning_included(
    rig: Rig,
):
    usage = {
        "prompt_tokens": 1_000,
        "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 800},
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
    stop = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    end = chat_event(stop) + chat_event({"choices": [], "usage": usage}) + b"data: [DONE]\n\n"
    rig.first.reply = Reply(chat_chunk("fine") + end)
    type_, data, attempts = await rig.told()
    assert (type_, data["finish_reason"]) == ("stream.completed", "stop")
    (one,) = attempts
    assert (one.provider, one.model, one.outcome, one.hedged) == (
        "first", "first/some-model", AttemptOutcome.COMPLETED, False,
    )  # fmt: skip
    assert one.usage == Usage(
        input_tokens=1_000, output_tokens=50, cached_input_tokens=800, reasoning_tokens=30
    )
    assert one.cost == Cost(total_usd=(200 * 1.0 + 800 * 0.1 + 50 * 10.0) / 1e6)
    used = UsageCounters(Counters(rig.stack.bus))
    assert await eventually(lambda: used.spent(TENANT)) == [
        ModelUsage(
            model="first/some-model",
            requests=1,
            input_tokens=1_000,
            output_tokens=50,
            cached_input_tokens=800,
            reasoning_tokens=30,
            cost=Cost(total_usd=0.00078),
        )
    ]


async def test_an_attempt_that_failed_after_content_costs_what_was_counted(rig: Rig):
    rig.first.reply = Reply(chat_chunk("word " * 20), break_at=len(chat_chunk("word " * 20)))
    _, _, (failed, answered) = await rig.told()
    assert (failed.outcome, failed.error) == (AttemptOutcome.FAILED, "provider_connection")
    assert failed.usage == Usage(input_tokens=ASKED, output_tokens=25, source=ESTIMATED)
    assert failed.cost == Cost(total_usd=(ASKED * 1.0 + 25 * 10.0) / 1e6)
    assert (answered.outcome, answered.usage) == (AttemptOutcome.COMPLETED, ANSWERED)


async def test_an_attempt_that_its_provider_refused_costs_nothing(rig: Rig):
    rig.first.reply = refusal(500, {"error": {"message": "broken"}})
    _, data, (refused, answered) = await rig.told()
    assert (refused.outcome, refused.error) == (AttemptOutcome.FAILED, "provider_server")
    assert (refused.usage, refused.cost) == (Usage(), Cost())
    assert answered.usage == ANSWERED
    assert data["usage"]["source"] == REPORTED


async def test_a_request_that_a_provider_took_and_never_answered_may_have_to_be_paid(rig: Rig):
    rig.first.reply = Reply(chat(WORDS), headers_after_s=30)
    _, _, (late, _) = await rig.told()
    assert (late.outcome, late.error) == (AttemptOutcome.FAILED, "provider_timeout")
    assert late.usage == Usage(input_tokens=ASKED, source=ESTIMATED)


async def test_the_loser_of_a_race_costs_its_input(rig: Rig):
    rig.first.reply = Reply(chat(WORDS), headers_after_s=30)
    _, data, (lost, won) = await rig.told(fallback={"hedge_after_ms": 50})
    assert (lost.outcome, lost.hedged) == (AttemptOutcome.LOST, False)
    assert lost.usage == Usage(input_tokens=ASKED, source=ESTIMATED)
    assert (won.outcome, won.hedged, won.usage) == (AttemptOutcome.COMPLETED, True, ANSWERED)
    assert data["usage"]["source"] == ESTIMATED
    assert data["metrics"]["tokens_per_second"] > 0


async def test_a_race_that_the_first_wins_says_whose_tokens_a_second_its_metrics_tell(rig: Rig):
    rig.first.reply = Reply(chat(WORDS), headers_after_s=0.3)
    rig.second.reply = Reply(chat(WORDS), headers_after_s=30)
    _, data, (won, lost) = await rig.told(fallback={"hedge_after_ms": 50})
    assert (won.outcome, won.hedged) == (AttemptOutcome.COMPLETED, False)
    assert (lost.outcome, lost.hedged) == (AttemptOutcome.LOST, True)
    assert data["metrics"]["tokens_per_second"] > 0


async def test_a_cancelled_stream_costs_what_was_counted(rig: Rig):
    rig.first.reply = Reply(chat_chunk("word " * 20), then_silent=True)
    type_, _, (cancelled,) = await rig.told(cancel=True)
    assert type_ == "stream.cancelled"
    assert cancelled.outcome is AttemptOutcome.CANCELLED
    assert cancelled.usage == Usage(input_tokens=ASKED, output_tokens=25, source=ESTIMATED)


async def test_a_stream_that_its_budget_ended_costs_what_was_counted(rig: Rig):
    rig.first.reply = Reply(chat_chunk("word " * 20), is_endless=True)
    _, data, (ended,) = await rig.told(budget={"max_tokens": ASKED + 100})
    assert (data["finish_reason"], ended.outcome) == ("budget", AttemptOutcome.BUDGET)
    assert ended.usage.input_tokens == ASKED
    assert ended.usage.output_tokens >= 100
    assert ended.usage.source is ESTIMATED


async def test_when_every_attempt_failed_each_of_them_is_told(rig: Rig):
    for server in (rig.first, rig.second):
        server.reply = refusal(401, {"error": {"message": "no", "code": "invalid_api_key"}})
    type_, data, attempts = await rig.told()
    assert (type_, data["error"]["code"]) == ("stream.failed", "provider_auth")
    assert [one.error for one in attempts] == ["provider_auth", "provider_auth"]


async def test_a_budget_that_does_not_reach_for_the_input_sends_nothing(rig: Rig):
    type_, data, attempts = await rig.told(budget={"max_tokens": ASKED})
    assert (type_, data["error"]["code"]) == ("stream.failed", "budget_exceeded")
    assert "about 600 tokens" in data["error"]["message"]
    assert "max_tokens 600" in data["error"]["message"]
    assert attempts == []
    assert rig.first.requests == []


async def test_a_retry_for_whose_input_there_is_no_budget_is_not_sent(rig: Rig):
    rig.first.reply = Reply(chat_chunk("word " * 20), break_at=len(chat_chunk("word " * 20)))
    _, data, (failed,) = await rig.told(budget={"max_tokens": ASKED * 2})
    assert (data["finish_reason"], failed.outcome) == ("budget", AttemptOutcome.FAILED)
    assert rig.second.requests == []


async def test_a_late_attempt_is_not_raced_where_there_is_no_budget_for_a_second_input(rig: Rig):
    rig.first.reply = Reply(chat(WORDS), headers_after_s=0.5)
    budget, fallback = {"max_usd": 0.001}, {"hedge_after_ms": 50}
    _, data, (only,) = await rig.told(budget=budget, fallback=fallback)
    assert (data["finish_reason"], only.outcome) == ("stop", AttemptOutcome.COMPLETED)
    assert rig.second.requests == []
