"""How long a pause may last, what then happens, and that a router's death does not change it."""

import asyncio
from dataclasses import dataclass

import pytest
import pytest_asyncio

from atlas.contracts.streams import (
    StreamAdopted,
    StreamCancelled,
    StreamPaused,
    StreamResumed,
    StreamState,
)
from tests.support.provider_server import ProviderServer, Reply, serving
from tests.support.router import (
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

MODEL = "acme/some-model"
WORDS = [f"word {number} " for number in range(60)]
SLOWLY = Reply(chat(WORDS), cuts=chat_cuts(WORDS), pause_s=0.02)
REASON = "the longest that buffer.max_paused_ms allows"


@dataclass(frozen=True)
class Rig:
    """A router with one provider."""

    stack: Stack
    server: ProviderServer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory):
    async with serving(Reply()) as server:
        providers = {"acme": provider("openai", server.url, api="chat")}
        async with stack(tmp_path_factory.mktemp("router"), providers) as running:
            yield Rig(running, server)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(tmp_path_factory):
    async with two_routers(tmp_path_factory.mktemp("pair")) as both:
        yield both


async def test_a_stream_that_is_paused_for_too_long_is_cancelled_by_atlas(rig: Rig):
    rig.server.disconnected.clear()
    rig.server.reply = Reply(chat_chunk("Once "), then_silent=True)
    buffer = {"max_paused_ms": 300}
    async with asyncio.timeout(20):
        async with rig.stack.atlas.stream("Hello", model=MODEL, buffer=buffer) as stream:
            await anext(aiter(stream))
            await stream.pause()
            async for _ in stream.events():
                pass
            await rig.server.disconnected.wait()
    paused, end = (await rig.stack.stored(stream.stream_id))[-2:]
    assert isinstance(paused, StreamPaused)
    assert isinstance(end, StreamCancelled)
    assert end.by == "atlas"
    assert REASON in (end.reason or "")
    assert end.at_ms - paused.at_ms >= 300 / 2  # it was told a moment after it began


async def test_a_stream_that_is_to_go_on_then_does_and_stays_so_when_nats_comes_back(rig: Rig):
    rig.server.reply = SLOWLY
    buffer = {"max_paused_ms": 300, "on_max_paused": "resume"}
    async with asyncio.timeout(40):
        async with rig.stack.atlas.stream("Hello", model=MODEL, buffer=buffer) as stream:
            await anext(aiter(stream))
            await stream.pause()
            async for event in stream.events():
                if isinstance(event, StreamResumed):
                    assert event.by == "atlas"
                    assert REASON in (event.reason or "")
                    break
            await rig.stack.nats.kill()
            await rig.stack.nats.start()
            assert (await stream.result()).content == "".join(WORDS)
    await rig.stack.bus.wait_connected(10)
    kinds = [event.type for event in await rig.stack.stored(stream.stream_id)]
    assert kinds.count("stream.paused") == 1


async def test_each_pause_has_the_whole_time(rig: Rig):
    rig.server.reply = SLOWLY
    async with asyncio.timeout(20):
        async with rig.stack.atlas.stream(
            "Hello", model=MODEL, buffer={"max_paused_ms": 1_000}
        ) as stream:
            await anext(aiter(stream))
            for _ in range(3):
                await stream.pause()
                await asyncio.sleep(0.4)  # time itself is what is tested
                await stream.resume()
            response = await stream.result()
    assert response.content == "".join(WORDS)
    assert response.metrics.paused_ms > 1_000


async def test_a_pause_goes_on_while_no_router_is_there_and_ends_with_the_next_one(pair: Pair):
    pair.server.reply = Reply(chat_chunk("Once "), then_silent=True)
    max_ms = 4_000
    async with asyncio.timeout(60):
        async with pair.atlas.stream(
            "Hello", model=MODEL, buffer={"max_paused_ms": max_ms}
        ) as stream:
            await anext(aiter(stream))
            await stream.pause("lunch")
            for one in list(pair.services.running):
                await pair.services.kill(one.pid)
            await asyncio.sleep(max_ms / 1000)  # time itself is what is tested
            await pair.services.start(["provider_router"])
            async for _ in stream.events():
                pass
    assert stream.state is StreamState.CANCELLED
    events = await stored_events(pair.bus, stream.stream_id)
    (paused,) = [event for event in events if isinstance(event, StreamPaused)]
    (adopted,) = [event for event in events if isinstance(event, StreamAdopted)]
    end = events[-1]
    assert isinstance(end, StreamCancelled)
    assert end.by == "atlas"
    assert end.at_ms >= paused.at_ms + max_ms
    assert end.at_ms < adopted.at_ms + max_ms  # it does not begin anew
