"""Connections of adapters: silences, cuts, what is held back, and when they are closed."""

import asyncio
import socket

import pytest
from tests.support.provider_server import Reply, serving

from atlas.contracts.errors import (
    ProviderConnectionError,
    ProviderOverloadedError,
    ProviderStreamError,
    ProviderTimeoutError,
)
from provider_router.providers.base import Text

from .collected import call, stream
from .dialects import BODIES, CHAT, KINDS, TEXT


def first_words(kind: str) -> bytes:
    """A body that goes on to the end of the first line with text, and no further."""
    body = BODIES[kind]
    return body[: body.index(b"\n", body.index("Grüße".encode()))] + b"\n\n"


@KINDS
async def test_a_connection_that_nobody_accepts_times_out(kind, adapters):
    with socket.socket() as full:
        # A backlog of none, filled by one: the next connection gets no answer.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        with socket.create_connection(address):
            adapter = adapters(kind, f"http://127.0.0.1:{address[1]}", connect_timeout_ms=150)
            assert (await stream(adapter, call())).error is ProviderTimeoutError


@KINDS
async def test_a_request_that_was_read_and_gets_no_headers_has_a_first_token_timeout(
    kind, adapters
):
    async with serving(Reply(BODIES[kind], headers_after_s=30)) as server:
        adapter = adapters(kind, server.url, first_token_timeout_ms=150)
        with pytest.raises(ProviderTimeoutError, match="no content within 150 ms") as late:
            async with adapter.stream(call()):
                pytest.fail("entering raises")
        await asyncio.wait_for(server.disconnected.wait(), 2)
        assert [one.method for one in server.requests] == ["POST"]
    assert late.value.provider
    assert late.value.message.startswith(f"{late.value.provider} ")
    assert late.value.details == {"first_token_timeout_ms": 150}
    assert late.value.was_sent


async def test_keep_alives_are_no_first_token(adapters):
    body = b": still here\n\n" * 100
    cuts = tuple(range(0, len(body), 14))
    async with serving(Reply(body, cuts=cuts, pause_s=0.02)) as server:
        adapter = adapters("openai", server.url, first_token_timeout_ms=150)
        assert (await stream(adapter, call())).error is ProviderTimeoutError


@KINDS
async def test_a_silence_after_content_is_a_timeout(kind, adapters):
    async with serving(Reply(first_words(kind), then_silent=True)) as server:
        collected = await stream(adapters(kind, server.url, idle_timeout_ms=150), call())
        await asyncio.wait_for(server.disconnected.wait(), 2)
    assert collected.error is ProviderTimeoutError
    assert collected.text


async def test_a_silence_while_nobody_reads_does_not_count(adapters):
    begun = len(first_words("openai"))
    async with serving(Reply(BODIES["openai"], cuts=(begun,), pause_s=0.3)) as server:
        adapter = adapters("openai", server.url, idle_timeout_ms=200, first_token_timeout_ms=200)
        async with adapter.stream(call()) as batches:
            await asyncio.sleep(0.25)
            await anext(batches)
            await asyncio.sleep(0.25)
            assert [batch async for batch in batches]


@KINDS
async def test_a_connection_cut_in_the_middle_keeps_what_came(kind, adapters):
    words = first_words(kind)
    async with serving(Reply(words + b"more", break_at=len(words))) as server:
        collected = await stream(adapters(kind, server.url), call())
    assert collected.error in (ProviderConnectionError, ProviderStreamError)
    assert collected.text
    assert collected.finish is None


@KINDS
async def test_a_clean_http_end_before_the_answers_end_is_a_stream_error(kind, adapters):
    async with serving(Reply(first_words(kind))) as server:
        collected = await stream(adapters(kind, server.url), call())
    assert collected.error is ProviderStreamError
    assert collected.text


async def test_an_overload_inside_the_stream_comes_after_what_was_read(adapters):
    told = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":""}}'
    async with serving(Reply(first_words("anthropic") + b"\n" + told + b"\n\n")) as server:
        collected = await stream(adapters("anthropic", server.url), call())
    assert (collected.text, collected.error) == (TEXT, ProviderOverloadedError)


@KINDS
async def test_leaving_early_closes_the_connection_at_once(kind, adapters):
    async with serving(Reply(first_words(kind), then_silent=True)) as server:
        async with adapters(kind, server.url).stream(call()) as batches:
            await anext(batches)
        await asyncio.wait_for(server.disconnected.wait(), 2)


@KINDS
async def test_a_cancelled_read_closes_the_connection_at_once(kind, adapters):
    async with serving(Reply(first_words(kind), then_silent=True)) as server:
        reading = asyncio.Event()

        async def read() -> None:
            async with adapters(kind, server.url).stream(call()) as batches:
                async for _ in batches:
                    reading.set()

        task = asyncio.create_task(read())
        await asyncio.wait_for(reading.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.disconnected.wait(), 2)


@KINDS
async def test_a_cancelled_call_without_an_answer_closes_the_connection_at_once(kind, adapters):
    async with serving(Reply(BODIES[kind], headers_after_s=30)) as server:
        task = asyncio.create_task(stream(adapters(kind, server.url), call()))
        await asyncio.wait_for(server.asked.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.disconnected.wait(), 2)


@KINDS
async def test_who_does_not_read_holds_the_provider_back(kind, adapters):
    words = first_words(kind).strip().rpartition(b"\n")[2].strip() + b"\n\n"
    filler = words * (65_536 // len(words))
    async with serving(Reply(filler, is_endless=True)) as server:
        async with adapters(kind, server.url).stream(call()) as batches:
            assert all(isinstance(delta, Text) for delta in await anext(batches))
            await asyncio.wait_for(server.stalled.wait(), 20)
            held = server.written_bytes
            async for _ in batches:
                if server.written_bytes > held:
                    break
        await asyncio.wait_for(server.disconnected.wait(), 5)


async def test_what_comes_while_a_connection_is_held_comes_in_one_read_and_frees_it(adapters):
    body = BODIES["openai"]
    begun = len(first_words("openai"))
    cuts = tuple(range(begun, len(body), 40))
    async with serving(Reply(body, cuts=cuts, pause_s=0.005)) as server:
        adapter = adapters("openai", server.url)
        async with adapter.stream(call()) as batches:
            before = await anext(batches)
            async with asyncio.timeout(20):
                with batches.held():
                    await server.written.wait()
            rest = [batch async for batch in batches]
        again = await stream(adapter, call())
    deltas = [delta for batch in (before, *rest) for delta in batch]
    assert "".join(delta.text for delta in deltas if isinstance(delta, Text)) == CHAT.text
    assert len(rest) <= 2  # what had come before it was held, and one read
    assert again == CHAT
    assert len(server.connections) == 1


@KINDS
async def test_a_connection_is_used_again_after_a_whole_answer(kind, adapters):
    async with serving(Reply(BODIES[kind])) as server:
        adapter = adapters(kind, server.url)
        for _ in range(3):
            assert (await stream(adapter, call())).finish is not None
    assert len(server.connections) == 1


async def test_a_whole_answer_does_not_wait_for_the_connections_end(adapters):
    async with serving(Reply(BODIES["openai"], then_silent=True)) as server:
        async with asyncio.timeout(2):
            assert await stream(adapters("openai", server.url), call()) == CHAT
