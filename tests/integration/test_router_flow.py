"""How a stream is cut into events, and how much of it waits when NATS is slow."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from atlas.client.streams import Stream
from atlas.contracts.streams import AttemptFailed, StreamEvent, StreamPaused, TextDelta
from provider_router.streaming import window
from tests.support.provider_server import ProviderServer, Reply, serving
from tests.support.router import Stack, chat, chat_chunk, chat_cuts, provider, stack, stopped
from tests.support.waiting import eventually, standing_still

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "acme/some-model"
WORDS = [f"word {number}, " + ("\n" if number % 7 == 6 else "") for number in range(60)]
TEXT = "".join(WORDS)
BOUND_BYTES = 64 * 2**10
ONE_READ_BYTES = 512 * 2**10
"""More than one read of a connection brings, as events."""
LONG = [f"{number:05d} " + "0123456789abcde " * 1_000 for number in range(1_500)]
"""24 MB: more than all buffers between a provider, a router and NATS hold."""


@dataclass(frozen=True)
class Rig:
    """A router with one provider."""

    stack: Stack
    server: ProviderServer

    async def texts(self, reply: Reply, **buffer: Any) -> list[str]:
        """The text of each event of an answer."""
        self.server.reply = reply
        async with asyncio.timeout(30):
            async with self.stack.atlas.stream("Hello", model=MODEL, buffer=buffer) as stream:
                response = await stream.result()
        assert stream.reading.is_whole()
        assert response.content == TEXT
        return texts_of(await self.stack.stored(stream.stream_id))

    def unstored_bytes(self) -> int:
        """What the router holds that is not known to be stored."""
        running = self.stack.router.supervisor._running.values()
        return sum(one.writer._outbox.size_bytes for one in running if one.writer is not None)

    def is_holding(self) -> bool:
        """Whether the router holds text back, to join it with what follows."""
        writers = [one.writer for one in self.stack.router.supervisor._running.values()]
        held = [one._held for one in writers if one is not None]
        return any(one is not None and one._joiner._held for one in held)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory):
    async with serving(Reply()) as server:
        providers = {"acme": provider("openai", server.url, api="chat")}
        async with stack(tmp_path_factory.mktemp("router"), providers) as running:
            yield Rig(running, server)


def texts_of(events: list[StreamEvent]) -> list[str]:
    return [event.text for event in events if isinstance(event, TextDelta)]


async def read_until(stream: Stream, text: str) -> None:
    async for _ in stream.events():
        if stream.reading.text == text:
            return


SLOWLY = Reply(chat(WORDS), cuts=chat_cuts(WORDS), pause_s=0.005)


async def test_events_by_delimiter_are_lines_however_the_provider_cut_them(rig: Rig):
    texts = await rig.texts(SLOWLY, coalesce="delimiter", coalesce_delimiters=["\n"])
    assert texts == TEXT.splitlines(keepends=True)


async def test_events_by_size_have_the_size_that_was_asked_for_but_the_last(rig: Rig):
    texts = await rig.texts(SLOWLY, coalesce="size", coalesce_chars=100)
    assert all(100 <= len(text) < 100 + max(map(len, WORDS)) for text in texts[:-1])
    assert len(texts[-1]) < 100 + max(map(len, WORDS))


async def test_events_by_time_are_fewer_than_the_chunks_and_need_no_next_chunk(rig: Rig):
    rig.server.reply = Reply(
        b"".join(map(chat_chunk, WORDS)), cuts=chat_cuts(WORDS), pause_s=0.005, then_silent=True
    )
    buffer = {"coalesce": "time", "coalesce_ms": 60}
    async with asyncio.timeout(30):
        async with rig.stack.atlas.stream(
            "Hello", model=MODEL, buffer=buffer, cancel_on_exit=True
        ) as stream:
            await read_until(stream, TEXT)  # the provider says no more
            texts = texts_of(await rig.stack.stored(stream.stream_id))
    assert "".join(texts) == TEXT
    assert len(texts) < len(WORDS) / 2


async def test_what_is_held_leaves_before_a_pause_is_told(rig: Rig):
    rig.server.asked.clear()
    rig.server.reply = Reply(chat_chunk("never ending"), then_silent=True)
    buffer = {"coalesce": "size", "coalesce_chars": 1_000}
    async with asyncio.timeout(30):
        async with rig.stack.atlas.stream(
            "Hello", model=MODEL, buffer=buffer, cancel_on_exit=True
        ) as stream:
            await rig.server.asked.wait()
            await eventually(rig.is_holding)
            assert texts_of(await rig.stack.stored(stream.stream_id)) == []
            await stream.pause()
            await read_until(stream, "never ending")
            events = await rig.stack.stored(stream.stream_id)
    assert [type(event) for event in events[-2:]] == [TextDelta, StreamPaused]


async def test_what_is_held_leaves_before_a_failed_attempt_is_told(rig: Rig):
    rig.server.reply = Reply(chat_chunk("broken"), break_at=len(chat_chunk("broken")))
    buffer = {"coalesce": "delimiter", "coalesce_delimiters": ["\n"]}
    async with asyncio.timeout(30):
        async with rig.stack.atlas.stream("Hello", model=MODEL, buffer=buffer) as stream:
            async for event in stream.events():
                if isinstance(event, AttemptFailed):
                    rig.server.reply = Reply(chat(["whole"]))
    kinds = [event.type for event in await rig.stack.stored(stream.stream_id)]
    assert kinds[: kinds.index("attempt.failed") + 1][-2:] == ["text.delta", "attempt.failed"]
    assert (stream.reading.text, stream.reading.is_whole()) == ("whole", True)


async def test_the_metrics_of_a_stream_tell_its_bytes_and_gaps_and_no_pause_is_a_gap(rig: Rig):
    words = ["grüezi "] * 40
    rig.server.reply = Reply(chat(words), cuts=chat_cuts(words), pause_s=0.02)
    async with asyncio.timeout(30):
        async with rig.stack.atlas.stream("Hello", model=MODEL) as stream:
            await anext(aiter(stream))
            await stream.pause()
            await asyncio.sleep(1.5)  # time itself is what is tested
            await stream.resume()
            metrics = (await stream.result()).metrics
    assert metrics.bytes == len("".join(words).encode())
    assert metrics.gap_p50_ms is not None
    assert metrics.gap_p99_ms is not None
    assert metrics.gap_p50_ms <= metrics.gap_p99_ms < 1_500 <= metrics.paused_ms


@pytest.mark.parametrize(
    "answer_s", [pytest.param(10.0, id="short"), pytest.param(0.5, id="taken for lost")]
)
async def test_a_nats_that_takes_nothing_holds_the_provider_and_loses_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, answer_s: float
):
    monkeypatch.setattr(window, "_ANSWER_S", answer_s)
    rig.server.reply = Reply(chat(LONG), cuts=chat_cuts(LONG))
    rig.server.written_bytes = 0
    seqs: list[int] = []
    async with asyncio.timeout(90):
        async with rig.stack.atlas.stream(
            "Hello", model=MODEL, buffer={"max_unstored_bytes": BOUND_BYTES}
        ) as stream:
            events = stream.events()
            while len(seqs) < 10:
                seqs.append((await anext(events)).seq)
            with stopped(rig.stack.nats):
                written = await standing_still(lambda: rig.server.written_bytes)
                most = 0
                for _ in range(100):
                    await asyncio.sleep(0.01)
                    most = max(most, rig.unstored_bytes())
                assert rig.server.written_bytes == written < len(rig.server.reply.body)
                assert BOUND_BYTES < most < BOUND_BYTES + ONE_READ_BYTES
            async for event in events:
                seqs = [*(seq for seq in seqs if seq < event.seq), event.seq]
    assert stream.reading.is_whole()
    assert stream.reading.text == "".join(LONG)
    assert seqs == list(range(1, len(seqs) + 1))
    kinds = [event.type for event in await rig.stack.stored(stream.stream_id)]
    if answer_s > 1:  # else it depends on what the router was asking when the server stopped
        assert "stream.adopted" not in kinds
