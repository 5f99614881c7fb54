"""Pools of connections: warmed, bounded, reused, and empty again after whatever happened."""

import asyncio
import re
import socket
from collections import Counter

import pytest
from tests.support.provider_server import Reply, refusal, serving

from atlas.contracts.errors import ProviderError, ProviderRateLimitError

from .collected import KEY, call, stream
from .dialects import BODIES, KINDS

STREAMS = 300


@KINDS
async def test_a_warmed_connection_serves_the_first_call(kind, adapters):
    async with serving(Reply(BODIES[kind])) as server:
        adapter = adapters(kind, server.url)
        await adapter.warm()
        assert (await stream(adapter, call())).finish is not None
        assert [KEY in str(headers) for headers in server.warmed_with] == [False]
    assert len(server.connections) == 1


@KINDS
async def test_a_provider_that_cannot_be_warmed_is_no_failure(kind, adapters):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    await adapters(kind, url).warm()


async def test_a_provider_that_is_silent_does_not_hold_up_warming(adapters):
    async with serving(Reply(headers_after_s=30)) as server:
        async with asyncio.timeout(5):
            await adapters("openai", server.url, connect_timeout_ms=100).warm()


async def test_no_more_connections_are_opened_than_allowed(adapters):
    async with serving(Reply(BODIES["openai"], headers_after_s=0.01)) as server:
        adapter = adapters("openai", server.url, max_connections=5)
        answers = await asyncio.gather(*(stream(adapter, call()) for _ in range(50)))
        assert all(one.finish for one in answers)
    assert len(server.connections) == 5


@KINDS
async def test_the_headers_of_an_accepted_call_are_there_before_its_content(kind, adapters):
    headers = {"X-RateLimit-Remaining-Requests": "41"}
    async with (
        serving(Reply(BODIES[kind], headers=headers)) as server,
        adapters(kind, server.url).stream(call()) as accepted,
    ):
        assert accepted.headers["x-ratelimit-remaining-requests"] == "41"


@KINDS
async def test_the_headers_of_a_refusal_stay_with_its_error_and_off_the_wire(kind, adapters):
    limits = {"X-RateLimit-Reset-Tokens": "6m0s"}
    async with serving(refusal(429, {"error": "slow down"}, limits)) as server:
        with pytest.raises(ProviderRateLimitError) as raised:
            async with adapters(kind, server.url).stream(call()):
                pytest.fail("entering raises")
    assert raised.value.headers["x-ratelimit-reset-tokens"] == "6m0s"
    assert "6m0s" not in raised.value.to_info().model_dump_json()


@KINDS
async def test_a_refused_connection_goes_back_into_the_pool(kind, adapters):
    async with serving(refusal(500, {"error": {"message": "x"}})) as server:
        adapter = adapters(kind, server.url)
        for _ in range(3):
            await stream(adapter, call())
    assert len(server.connections) == 1


class CountingServer:
    """Answers by the name of the model: `whole`, `broken` in the middle, or `silent` after a word.

    `open` is how many of its sockets are open.
    """

    def __init__(self) -> None:
        self.open = 0
        self.url = ""
        self._changed = asyncio.Condition()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer what comes over one connection, until it is closed from either side."""
        await self._count(1)
        try:
            while (body := await _request(reader)) is not None:
                if not await self._answer(body, writer):
                    break
            if not reader.at_eof() and b'"silent"' in (body or b""):
                await reader.read()
        except ConnectionError:
            pass  # reset by the client
        finally:
            writer.close()
            await self._count(-1)

    async def settled(self, most: int) -> None:
        """Wait until no more than so many sockets are open."""
        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(lambda: self.open <= most), 10)

    async def _count(self, change: int) -> None:
        async with self._changed:
            self.open += change
            self._changed.notify_all()

    async def _answer(self, body: bytes, writer: asyncio.StreamWriter) -> bool:
        """Tells whether the connection may be used again."""
        words = BODIES["openai"] if b'"whole"' in body else FIRST_WORDS
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"%x\r\n%s\r\n" % (len(words), words))
        if b'"whole"' in body:
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        return b'"whole"' in body


FIRST_WORDS = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'


async def _request(reader: asyncio.StreamReader) -> bytes | None:
    """The body of the next request, or None when there is none."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return await reader.readexactly(int(length[1])) if length else b""


async def test_streams_that_are_cancelled_or_broken_leave_no_socket_and_no_task(adapters):
    counting = CountingServer()
    server = await asyncio.start_server(counting.serve, "127.0.0.1", 0, backlog=STREAMS)
    adapter = adapters("openai", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    async with server:
        before = len(asyncio.all_tasks())
        begun = asyncio.Semaphore(0)

        async def one(model: str) -> str:
            try:
                async with adapter.stream(call(model)) as batches:
                    async for _ in batches:
                        begun.release()
            except ProviderError as error:
                return error.code
            return "whole"

        models = ["whole", "broken", "silent"] * (STREAMS // 3)
        tasks = [asyncio.create_task(one(model)) for model in models]
        others = [task for task, model in zip(tasks, models, strict=True) if model != "silent"]
        await asyncio.gather(*others)
        silent = [task for task in tasks if task not in others]
        for _ in range(STREAMS):
            await begun.acquire()
        for task in silent:
            task.cancel()
        await asyncio.wait(silent)
        ends = Counter("cancelled" if task.cancelled() else task.result() for task in tasks)
        third = STREAMS // 3
        assert ends == {"whole": third, "provider_connection": third, "cancelled": third}

        await counting.settled(third)  # what is left waits in the pool for the next call
        await adapter.close()
        await counting.settled(0)
        assert len(asyncio.all_tasks()) <= before
