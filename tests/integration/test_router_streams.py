"""One stream whatever happens under it: providers that fail, NATS that dies, routers that die."""

import asyncio
from dataclasses import dataclass

import pytest
import pytest_asyncio

from atlas.contracts.errors import (
    ProviderConnectionError,
    ProviderServerError,
    ProviderStreamError,
)
from atlas.contracts.inference import FinishReason, UsageSource
from atlas.contracts.streams import (
    AttemptFailed,
    StreamAdopted,
    StreamCompleted,
    StreamStarted,
    StreamState,
    TextDelta,
)
from tests.support.provider_server import ProviderServer, Reply, refusal, serving
from tests.support.router import (
    TERMINAL,
    Pair,
    Stack,
    chat,
    chat_chunk,
    chat_cuts,
    provider,
    stack,
    stored_events,
    two_routers,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORDS = [f"word {number} " for number in range(60)]
FALLBACKS: dict[str, Reply] = {
    "refuses": refusal(503, {"error": {"message": "busy"}}),
    "ends an empty answer": Reply(b""),
    "tells an error inside a 200": Reply(
        b'data: {"error":{"message":"busy","type":"server_error","code":503}}\n\n'
    ),
    "cuts the line": Reply(chat_chunk("never"), break_at=5),
}


@dataclass(frozen=True)
class Rig:
    """A router with two providers, the second there for when the first fails."""

    stack: Stack
    first: ProviderServer
    second: ProviderServer


@pytest_asyncio.fixture(loop_scope="module")
async def rig(tmp_path):
    """Anew for each test: a router remembers which providers failed."""
    async with serving(Reply()) as first, serving(Reply()) as second:
        providers = {
            "first": provider("openai", first.url, api="chat"),
            "second": provider("openai", second.url, api="chat"),
        }
        router = {"strategy": "failover"}
        async with stack(tmp_path, providers, router=router) as running:
            yield Rig(running, first, second)


@pytest.mark.parametrize("what", FALLBACKS)
async def test_a_provider_that_fails_before_content_is_replaced_unseen(rig: Rig, what: str):
    rig.first.reply, rig.second.reply = FALLBACKS[what], Reply(chat(WORDS))
    async with asyncio.timeout(20), rig.stack.atlas.stream("Hello") as stream:
        pieces = [piece async for piece in stream]
    assert "".join(pieces) == "".join(WORDS)
    assert not any(piece.restart for piece in pieces)
    events = await rig.stack.stored(stream.stream_id)
    assert not any(isinstance(event, AttemptFailed) for event in events)
    started = [event for event in events if isinstance(event, StreamStarted)]
    assert (started[-1].provider, started[-1].attempt) == ("second", 2)
    assert started[-1].seq < next(one.seq for one in events if isinstance(one, TextDelta))


async def test_a_provider_that_breaks_off_after_content_is_replaced_by_a_whole_new_answer(
    rig: Rig,
):
    rig.first.reply = Reply(chat(["Never ", "mind"]), break_at=len(chat_chunk("Never ")))
    rig.second.reply = Reply(chat(WORDS))
    async with asyncio.timeout(20), rig.stack.atlas.stream("Hello") as stream:
        response = await stream.result()
    assert response.content == "".join(WORDS)
    assert stream.reading.is_whole()
    events = await rig.stack.stored(stream.stream_id)
    (failed,) = [event for event in events if isinstance(event, AttemptFailed)]
    assert (failed.attempt, failed.provider, failed.next) == (1, "first", "restart")
    assert events[failed.seq - 2].type == "text.delta"


async def test_the_usage_of_an_answer_holds_what_its_failed_attempt_used(rig: Rig):
    rig.first.reply = Reply(chat(["x" * 400, "y"]), break_at=len(chat_chunk("x" * 400)))
    rig.second.reply = Reply(chat(["fine"]))  # and its provider reports 3 tokens in, 5 out
    async with asyncio.timeout(20), rig.stack.atlas.stream("Hello") as stream:
        usage = (await stream.result()).usage
    assert (usage.output_tokens, usage.source) == (100 + 5, UsageSource.ESTIMATED)
    assert usage.input_tokens > 3


async def test_a_stream_that_wants_no_fallback_fails_with_its_first_error(rig: Rig):
    rig.first.reply = Reply(chat(WORDS), break_at=len(chat_chunk(WORDS[0])))
    rig.second.reply = Reply(chat(WORDS))
    fallback = {"on_failure": "fail"}
    async with asyncio.timeout(20), rig.stack.atlas.stream("Hello", fallback=fallback) as stream:
        with pytest.raises((ProviderConnectionError, ProviderStreamError)):
            await stream.result()
    assert not rig.second.requests
    assert [end.type for end in await rig.stack.ends(stream.stream_id)] == ["stream.failed"]
    (failed,) = [
        event
        for event in await rig.stack.stored(stream.stream_id)
        if isinstance(event, AttemptFailed)
    ]
    assert failed.next is None


async def test_a_stream_whose_providers_all_fail_has_one_end_with_the_last_error(rig: Rig):
    rig.first.reply = rig.second.reply = refusal(500, {"error": {"message": "broken"}})
    async with asyncio.timeout(30), rig.stack.atlas.stream("Hello") as stream:
        with pytest.raises(ProviderServerError):
            await stream.result()
    assert len(rig.first.requests) + len(rig.second.requests) == 3
    assert [end.type for end in await rig.stack.ends(stream.stream_id)] == ["stream.failed"]


async def test_a_provider_that_hangs_up_on_a_paused_stream_is_replaced_when_it_goes_on(rig: Rig):
    rig.first.reply = Reply(chat_chunk("Never "), then_silent=True)
    rig.second.reply = Reply(chat(WORDS))
    async with asyncio.timeout(20), rig.stack.atlas.stream("Hello") as stream:
        await anext(aiter(stream))
        await stream.pause()
        rig.first.hang_up()
        assert stream.reading.terminal is None
        assert (await stream.resume()).state is StreamState.ACTIVE
        assert (await stream.result()).content == "".join(WORDS)


async def test_a_budget_of_tokens_ends_the_answer_where_it_is_spent(rig: Rig):
    rig.first.reply = Reply(chat_chunk("word " * 20), is_endless=True)
    rig.first.disconnected.clear()
    async with (
        asyncio.timeout(20),
        rig.stack.atlas.stream(
            "Hello", model="first/some-model", budget={"max_tokens": 200}
        ) as stream,
    ):
        response = await stream.result()
    assert response.finish_reason is FinishReason.BUDGET
    assert response.usage.input_tokens + response.usage.output_tokens >= 200
    assert stream.reading.is_whole()
    async with asyncio.timeout(1):
        await rig.first.disconnected.wait()


async def test_a_budget_of_time_ends_a_silent_answer(rig: Rig):
    rig.first.reply = Reply(chat_chunk("Once "), then_silent=True)
    async with (
        asyncio.timeout(20),
        rig.stack.atlas.stream("Hello", model="first/some-model", budget={"max_ms": 300}) as stream,
    ):
        response = await stream.result()
    assert (response.content, response.finish_reason) == ("Once ", FinishReason.BUDGET)


async def test_a_pause_does_not_count_against_a_budget_of_time(rig: Rig):
    rig.first.reply = Reply(chat_chunk("Once "), then_silent=True)
    budget = {"max_ms": 1_000}
    async with (
        asyncio.timeout(20),
        rig.stack.atlas.stream("Hello", model="first/some-model", budget=budget) as stream,
    ):
        await anext(aiter(stream))
        await stream.pause()
        await asyncio.sleep(1.3)  # time itself is what is tested
        assert stream.reading.terminal is None
        await stream.resume()
        response = await stream.result()
    assert response.finish_reason is FinishReason.BUDGET
    assert response.metrics.paused_ms >= 1_300
    assert 900 <= response.metrics.duration_ms - response.metrics.paused_ms < 3_000


@pytest.mark.parametrize(("coalesce", "events"), [("off", len(WORDS)), ("adaptive", 1)])
async def test_what_was_read_at_once_is_one_event_unless_each_chunk_was_asked_for(
    rig: Rig, coalesce: str, events: int
):
    rig.first.reply = Reply(chat(WORDS))
    async with (
        asyncio.timeout(20),
        rig.stack.atlas.stream(
            "Hello", model="first/some-model", buffer={"coalesce": coalesce}
        ) as stream,
    ):
        pieces = [piece async for piece in stream]
    assert "".join(pieces) == "".join(WORDS)
    assert len(pieces) == events
    assert stream.metrics is not None
    assert stream.metrics.chunks == len(WORDS)


async def test_options_of_a_provider_reach_it_as_they_are(rig: Rig):
    rig.first.reply = Reply(chat(["fine"]))
    options = {"seed": 7, "logit_bias": {"50256": -100}}
    async with (
        asyncio.timeout(20),
        rig.stack.atlas.stream(
            "Hello", model="first/some-model", provider_options=options
        ) as stream,
    ):
        await stream.result()
    (asked,) = rig.first.requests
    assert asked.json().items() >= options.items()


async def test_the_providers_door_tells_models_health_and_the_default(rig: Rig):
    rig.first.reply = Reply(chat(["fine"]))
    async with rig.stack.atlas.stream("Hello", model="first/some-model") as stream:
        await stream.result()
    reply = await rig.stack.atlas.providers()
    by_name = {one.provider: one for one in reply.providers}
    assert set(by_name) >= {"first", "second"}
    assert (by_name["first"].kind, by_name["first"].base_url) == ("openai", rig.first.url)
    assert by_name["first"].health == "healthy"
    assert by_name["first"].attempts >= 1
    assert reply.default_model == "first/some-model"
    assert {one.model for one in reply.models} >= {"first/some-model", "second/some-model"}


async def test_a_nats_server_that_is_killed_in_the_middle_leaves_no_gap(rig: Rig):
    texts = [f"word {number} " for number in range(80)]
    rig.first.reply = Reply(chat(texts), cuts=chat_cuts(texts), pause_s=0.03)
    async with (
        asyncio.timeout(60),
        rig.stack.atlas.stream("Hello", model="first/some-model") as stream,
    ):
        seqs: list[int] = []
        async for event in stream.events():
            seqs = [*(seq for seq in seqs if seq < event.seq), event.seq]
            if len(seqs) == 15:
                await rig.stack.nats.kill()
                await rig.stack.nats.start()
    assert stream.reading.text == "".join(texts)
    assert stream.reading.is_whole()
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(rig.first.requests) == 1
    await rig.stack.bus.wait_connected(10)
    (end,) = await rig.stack.ends(stream.stream_id)
    assert isinstance(end, StreamCompleted)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(tmp_path_factory):
    async with two_routers(tmp_path_factory.mktemp("pair")) as both:
        yield both


async def test_a_killed_routers_stream_is_adopted_and_ends_once_with_the_whole_text(pair: Pair):
    pair.server.reply = Reply(chat(WORDS), cuts=chat_cuts(WORDS), pause_s=0.03)
    async with asyncio.timeout(60), pair.atlas.stream("Hello", model="acme/some-model") as stream:
        pieces = aiter(stream)
        while len(stream.reading.text) < 100:
            await anext(pieces)
        await pair.kill_owner(stream.stream_id)
        response = await stream.result()
        await pair.services.start(["provider_router"])
    assert response.content == "".join(WORDS)
    assert stream.reading.is_whole()
    stored = await stored_events(pair.bus, stream.stream_id)
    adopted = [one for one in stored if isinstance(one, StreamAdopted)]
    assert [(one.next, one.attempt, one.seq) for one in adopted] == [
        ("restart", 2, adopted[0].from_seq + 1)
    ]
    assert sum(one.type in TERMINAL for one in stored) == 1
    assert response.usage.source is UsageSource.ESTIMATED
    assert response.usage.output_tokens > 5
    assert len(pair.server.requests) == 2


async def test_a_paused_stream_whose_router_is_killed_stays_paused_with_its_next_one(pair: Pair):
    pair.server.reply = Reply(chat_chunk("Once "), then_silent=True)
    async with asyncio.timeout(60), pair.atlas.stream("Hello", model="acme/some-model") as stream:
        await anext(aiter(stream))
        await stream.pause("lunch")
        await pair.kill_owner(stream.stream_id)
        pair.server.requests.clear()
        pair.server.reply = Reply(chat(WORDS))
        async for event in stream.events():
            if event.type == "stream.started":
                break
        assert stream.state is StreamState.PAUSED
        assert not pair.server.requests
        assert (await stream.resume()).state is not StreamState.PAUSED
        assert (await stream.result()).content == "".join(WORDS)
