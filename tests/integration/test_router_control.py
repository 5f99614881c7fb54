"""Pause, resume and cancel as the provider and a second client see them."""

import asyncio
import contextlib

import pytest
import pytest_asyncio

from atlas import subjects
from atlas.contracts.errors import NoResponderError, RequestTimeoutError
from atlas.contracts.inference import UsageSource
from atlas.contracts.streams import (
    StreamCancelled,
    StreamPaused,
    StreamResumed,
    StreamState,
    StreamStatus,
)
from tests.support.provider_server import ProviderServer, Reply, serving
from tests.support.router import TENANT, Stack, chat, chat_chunk, chat_cuts, provider, stack
from tests.support.waiting import eventually, standing_still

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "acme/some-model"
PAUSED_S = 5.0
ACK_WAIT_S = 1.0
"""Of the stack's topology: after it a request that nobody marks is delivered again."""
LINE = "0123456789abcde "
LONG = [f"{number:05d} " + LINE * 1_000 for number in range(1_000)]
"""16 MB: more than all buffers between a provider and a router hold."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider_server():
    async with serving(Reply()) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack_(tmp_path_factory, provider_server: ProviderServer):
    providers = {
        "acme": provider("openai", provider_server.url, api="chat"),
        "claude": provider("anthropic", provider_server.url),
    }
    async with stack(tmp_path_factory.mktemp("router"), providers) as running:
        yield running


@pytest.fixture
def server(provider_server: ProviderServer) -> ProviderServer:
    """The provider, as if it had never been asked."""
    provider_server.requests.clear()
    provider_server.written_bytes = 0
    for event in (provider_server.asked, provider_server.stalled, provider_server.disconnected):
        event.clear()
    return provider_server


async def answered(running: Stack, stream_id: str, action: str) -> StreamStatus:
    """What a control is answered, asked again until everybody is connected again."""
    while True:
        with contextlib.suppress(RequestTimeoutError, NoResponderError):
            return await running.other.control_stream(stream_id, action)


def silent_after(*texts: str) -> Reply:
    """An answer that begins and then falls silent with an open line."""
    return Reply(b"".join(map(chat_chunk, texts)), then_silent=True)


async def test_a_pause_of_five_seconds_holds_the_provider_and_loses_nothing(
    stack_: Stack, server: ProviderServer
):
    server.reply = Reply(chat(LONG), cuts=chat_cuts(LONG), pause_s=0.001)
    async with asyncio.timeout(60), stack_.atlas.stream("Hello", model=MODEL) as stream:
        reading = asyncio.create_task(stream.result())
        await eventually(lambda: len(stream.reading.text) > 100_000)
        paused = await stack_.other.control_stream(
            stream.stream_id, "pause", reason="lunch", by="tester"
        )
        assert paused.state is StreamState.PAUSED
        sent_bytes = await standing_still(lambda: server.written_bytes)
        assert sent_bytes < len(server.reply.body)
        seq = stream.reading.seq
        await asyncio.sleep(PAUSED_S)
        assert server.written_bytes == sent_bytes
        assert stream.reading.seq == seq
        assert stream.state is StreamState.PAUSED
        assert (await stack_.other.control_stream(stream.stream_id, "resume")).state in (
            StreamState.ACTIVE,
            StreamState.COMPLETED,
        )
        response = await reading
    assert response.content == "".join(LONG)
    assert response.metrics.paused_ms >= PAUSED_S * 1000
    kinds = [event.type for event in await stack_.stored(stream.stream_id)]
    assert (kinds.count("stream.paused"), kinds.count("stream.resumed")) == (1, 1)
    assert len(server.requests) == 1


async def test_a_paused_stream_stays_paused_when_nats_is_killed_and_ends_whole_once_resumed(
    stack_: Stack, server: ProviderServer
):
    server.reply = Reply(chat(LONG[:100]), cuts=chat_cuts(LONG[:100]), pause_s=0.01)
    async with asyncio.timeout(60), stack_.atlas.stream("Hello", model=MODEL) as stream:
        reading = asyncio.create_task(stream.result())
        await eventually(lambda: len(stream.reading.text) > 100_000)
        await stack_.other.control_stream(stream.stream_id, "pause")
        await eventually(lambda: stream.state is StreamState.PAUSED)
        text = stream.reading.text
        await stack_.nats.kill()
        await stack_.nats.start()
        assert (await answered(stack_, stream.stream_id, "pause")).state is StreamState.PAUSED
        await standing_still(lambda: stream.reading.seq, quiet_s=2 * ACK_WAIT_S)
        assert (stream.state, stream.reading.text) == (StreamState.PAUSED, text)
        await stack_.other.control_stream(stream.stream_id, "resume")
        response = await reading
    assert response.content == "".join(LONG[:100])
    kinds = [event.type for event in await stack_.stored(stream.stream_id)]
    assert (kinds.count("stream.paused"), kinds.count("stream.resumed")) == (1, 1)
    assert len(server.requests) == 1


async def test_a_pause_and_its_end_say_who_and_why(stack_: Stack, server: ProviderServer):
    server.reply = silent_after("Once ")
    async with stack_.atlas.stream("Hello", model=MODEL, cancel_on_exit=True) as stream:
        assert await anext(aiter(stream)) == "Once "
        control = stack_.other.control_stream
        await control(stream.stream_id, "pause", by="ada", reason="lunch")
        await control(stream.stream_id, "resume", by="bob", reason="coffee")
        told = [await anext(stream.events()) for _ in range(2)]
    paused, resumed = told
    assert isinstance(paused, StreamPaused)
    assert (paused.by, paused.reason) == ("ada", "lunch")
    assert isinstance(resumed, StreamResumed)
    assert (resumed.by, resumed.reason) == ("bob", "coffee")


async def test_cancel_closes_the_provider_at_once_and_is_the_one_end(
    stack_: Stack, server: ProviderServer
):
    server.reply = Reply(chat_chunk("word " * 20), is_endless=True)
    async with stack_.atlas.stream("Hello", model=MODEL) as stream:
        await anext(aiter(stream))
        status = await stack_.other.control_stream(
            stream.stream_id, "cancel", reason="enough", by="tester"
        )
        assert status.state is StreamState.CANCELLED
        async with asyncio.timeout(1):
            await server.disconnected.wait()
        async for _ in stream.events():
            pass
    (end,) = await stack_.ends(stream.stream_id)
    assert isinstance(end, StreamCancelled)
    assert (end.by, end.reason) == ("tester", "enough")
    assert end.usage.source is UsageSource.ESTIMATED
    assert end.usage.output_tokens >= len(stream.reading.text) // 4


async def test_a_cancelled_answer_is_counted_although_its_provider_reported_its_beginning(
    stack_: Stack, server: ProviderServer
):
    server.reply = Reply(
        b'data: {"type":"message_start","message":{"usage":'
        b'{"input_tokens":25,"output_tokens":1}}}\n\n'
        b'data: {"type":"content_block_start","index":0,'
        b'"content_block":{"type":"text","text":""}}\n\n'
        b'data: {"type":"content_block_delta","index":0,'
        b'"delta":{"type":"text_delta","text":"' + b"word " * 80 + b'"}}\n\n',
        then_silent=True,
    )
    async with stack_.atlas.stream("Hello", model="claude/some-model") as stream:
        await anext(aiter(stream))
        await stream.cancel()
        async for _ in stream.events():
            pass
    (end,) = await stack_.ends(stream.stream_id)
    assert isinstance(end, StreamCancelled)
    assert (end.usage.input_tokens, end.usage.output_tokens) == (25, 100)
    assert end.usage.source is UsageSource.ESTIMATED


async def test_cancel_before_the_first_token_closes_the_provider(
    stack_: Stack, server: ProviderServer
):
    server.reply = Reply(b"", then_silent=True)
    async with stack_.atlas.stream("Hello", model=MODEL) as stream:
        await server.asked.wait()
        await stack_.other.control_stream(stream.stream_id, "cancel")
        async with asyncio.timeout(1):
            await server.disconnected.wait()
    (end,) = await stack_.ends(stream.stream_id)
    assert end.type == "stream.cancelled"


async def test_cancel_before_the_providers_headers_closes_the_provider(
    stack_: Stack, server: ProviderServer
):
    server.reply = Reply(chat(["late"]), headers_after_s=30)
    async with stack_.atlas.stream("Hello", model=MODEL) as stream:
        await server.asked.wait()
        await stack_.other.control_stream(stream.stream_id, "cancel")
        async with asyncio.timeout(1):
            await server.disconnected.wait()
    (end,) = await stack_.ends(stream.stream_id)
    assert end.type == "stream.cancelled"


async def test_cancel_of_a_paused_stream_closes_the_provider(stack_: Stack, server: ProviderServer):
    server.reply = Reply(chat_chunk(LINE * 100), is_endless=True)
    async with stack_.atlas.stream("Hello", model=MODEL) as stream:
        await anext(aiter(stream))
        await stack_.other.control_stream(stream.stream_id, "pause")
        async with asyncio.timeout(10):
            await server.stalled.wait()
        await stack_.other.control_stream(stream.stream_id, "cancel")
        async with asyncio.timeout(1):
            await server.disconnected.wait()
    assert [end.type for end in await stack_.ends(stream.stream_id)] == ["stream.cancelled"]


async def test_a_repeated_control_is_fine_and_says_nothing_twice(
    stack_: Stack, server: ProviderServer
):
    server.reply = silent_after("Once ")
    control = stack_.other.control_stream
    async with stack_.atlas.stream("Hello", model=MODEL) as stream:
        await anext(aiter(stream))
        states = [
            (await control(stream.stream_id, action)).state
            for action in ("pause", "pause", "resume", "resume", "cancel", "cancel")
        ]
        async for _ in stream.events():
            pass
    assert states == ["paused", "paused", "active", "active", "cancelled", "cancelled"]
    assert (await control(stream.stream_id, "cancel")).state is StreamState.CANCELLED
    kinds = [event.type for event in await stack_.stored(stream.stream_id)]
    assert [kind for kind in kinds if kind != "text.delta"] == [
        "stream.started",
        "stream.paused",
        "stream.resumed",
        "stream.cancelled",
    ]


async def test_a_control_that_cannot_be_read_is_answered_with_what_is_wrong(
    stack_: Stack, server: ProviderServer
):
    server.reply = silent_after("Once ")
    async with stack_.atlas.stream("Hello", model=MODEL, cancel_on_exit=True) as stream:
        await anext(aiter(stream))
        subject = subjects.stream_control(TENANT, stream.stream_id)
        for body in (b"no json", b'{"action":"stop"}', b'{"action":"pause","raeson":"x"}'):
            reply = await stack_.bus.nats.request(subject, body, timeout=1)
            assert b'"invalid_request"' in reply.data
        assert stream.state is StreamState.ACTIVE


async def test_a_pause_while_initializing_holds_the_answers_first_token(
    stack_: Stack, server: ProviderServer
):
    server.reply = Reply(chat(["Once"]), headers_after_s=0.3)
    async with asyncio.timeout(20), stack_.atlas.stream("Hello", model=MODEL) as stream:
        await server.asked.wait()
        status = await stack_.other.control_stream(stream.stream_id, "pause")
        assert status.state is StreamState.PAUSED
        await eventually(lambda: server.written_bytes == len(server.reply.body))
        assert [one.type for one in await stack_.stored(stream.stream_id)] == [
            "stream.started",
            "stream.paused",
        ]
        await stack_.other.control_stream(stream.stream_id, "resume")
        assert (await stream.result()).content == "Once"


@pytest_asyncio.fixture(loop_scope="module")
async def busy(tmp_path, provider_server: ProviderServer):
    """A router with one slot for a stream."""
    providers = {"acme": provider("openai", provider_server.url, api="chat")}
    async with stack(tmp_path, providers, router={"max_streams": 1}) as running:
        yield running


async def _take_the_slot(running: Stack, server: ProviderServer):
    server.reply = silent_after("Once ")
    first = running.atlas.stream("first", model=MODEL)
    async with first:
        await anext(aiter(first))
    server.reply = Reply(chat(["mine"]))
    server.asked.clear()
    server.requests.clear()
    return first


async def test_a_queued_stream_answers_controls_and_a_pause_keeps_the_provider_uncalled(
    busy: Stack, server: ProviderServer
):
    first = await _take_the_slot(busy, server)
    async with asyncio.timeout(20), busy.atlas.stream("second", model=MODEL) as queued:
        status = await busy.other.control_stream(queued.stream_id, "pause", by="early")
        assert status == StreamStatus(stream_id=queued.stream_id, state=StreamState.QUEUED)
        await first.cancel()
        events = queued.events()
        told = [(await anext(events)).type for _ in range(2)]
        assert told == ["stream.paused", "stream.started"]
        assert not server.requests
        await busy.other.control_stream(queued.stream_id, "resume")
        assert (await queued.result()).content == "mine"


async def test_a_stream_that_was_cancelled_in_the_queue_never_reaches_a_provider(
    busy: Stack, server: ProviderServer
):
    first = await _take_the_slot(busy, server)
    async with asyncio.timeout(20), busy.atlas.stream("second", model=MODEL) as queued:
        await busy.other.control_stream(queued.stream_id, "cancel", by="early", reason="no need")
        await first.cancel()
        async for _ in queued.events():
            pass
    end = queued.reading.terminal
    assert isinstance(end, StreamCancelled)
    assert (end.by, end.reason, end.usage.output_tokens) == ("early", "no need", 0)
    assert not server.requests
