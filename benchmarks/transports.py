"""Which HTTP client streams best: `python -m benchmarks.transports`.

Every client reads the same streams from the same upstream, a process of its own, in rounds that
take turns. A row gives chunks a second, the time to the first token (median and 95th percentile)
and the CPU time that this process spent on a chunk; the last column is the ratio to the SDK's
default. The first row only counts bytes: what it reaches is what upstream and sockets can do.
"""

import argparse
import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx2
import openai
import uvloop

from atlas.contracts.inference import ModelRequest
from atlas.provider_settings import ProviderSettings
from benchmarks.measuring import (
    BODY,
    CONNECTIONS,
    MARK,
    Client,
    Counts,
    Figures,
    bare_aiohttp,
    measure,
)
from benchmarks.upstream import serving
from provider_router.providers.base import ModelCall, Text
from provider_router.providers.openai.adapter import OpenAIAdapter


class _Counting(asyncio.Protocol):
    def __init__(self) -> None:
        self.reads: asyncio.Queue[bytes] = asyncio.Queue()

    def data_received(self, data: bytes) -> None:
        self.reads.put_nowait(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the end, however
        self.reads.put_nowait(b"")


@asynccontextmanager
async def sockets(url: str) -> AsyncIterator[Callable[[], Counts]]:
    """No HTTP client: bytes from a socket, counted."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 0
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    loop = asyncio.get_running_loop()

    async def stream() -> Counts:
        transport, protocol = await loop.create_connection(_Counting, host, port)
        transport.write(head % len(BODY) + BODY)
        data = b"-"
        while data and b"[DONE]" not in data:
            data = await protocol.reads.get()
            yield data.count(MARK)
        transport.close()

    yield stream


def _sdk(url: str, http_client: httpx2.AsyncClient) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0, http_client=http_client)


def _limits() -> httpx2.Limits:
    return httpx2.Limits(max_connections=CONNECTIONS)


@asynccontextmanager
async def sdk_parsed(url: str) -> AsyncIterator[Callable[[], Counts]]:
    """The SDK as it comes, its own parsing of chunks included."""
    async with _sdk(url, openai.DefaultAsyncHttpxClient(limits=_limits())) as client:

        async def stream() -> Counts:
            answer = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "Hello"}], stream=True
            )
            async for chunk in answer:
                yield 1 if chunk.choices[0].delta.content else 0

        yield stream


def _raw(http_client: Callable[[], httpx2.AsyncClient]) -> Client:
    @asynccontextmanager
    async def opened(url: str) -> AsyncIterator[Callable[[], Counts]]:
        async with _sdk(url, http_client()) as client:

            async def stream() -> Counts:
                async with client.chat.completions.with_streaming_response.create(
                    model="m", messages=[{"role": "user", "content": "Hello"}], stream=True
                ) as response:
                    async for data in response.http_response.aiter_bytes():
                        yield data.count(MARK)

            yield stream

    return opened


@asynccontextmanager
async def adapter(url: str) -> AsyncIterator[Callable[[], Counts]]:
    """Our adapter, its decoding included."""
    ours = OpenAIAdapter("bench", ProviderSettings(kind="openai", base_url=url, api="chat"))
    request = ModelRequest.model_validate({"messages": [{"role": "user", "content": "Hello"}]})

    async def stream() -> Counts:
        async with ours.stream(ModelCall("m", request)) as batches:
            async for batch in batches:
                yield sum(isinstance(delta, Text) for delta in batch)

    try:
        yield stream
    finally:
        await ours.close()


CLIENTS: dict[str, Client] = {
    "sockets, counted": sockets,
    "SDK httpx2, SDK's chunks": sdk_parsed,
    "SDK httpx2, bytes": _raw(lambda: openai.DefaultAsyncHttpxClient(limits=_limits())),
    "SDK aiohttp, bytes": _raw(lambda: openai.DefaultAioHttpClient(limits=_limits())),
    "bare aiohttp, bytes": bare_aiohttp,
    "our adapter, deltas": adapter,
}
_PEER = "SDK httpx2, bytes"


def main() -> None:
    """Print a table for each number of streams."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 50, 500])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chunks", type=int, default=20_000, help="in all, for each round")
    parser.add_argument("--pace-ms", type=float, default=0.0, help="rest between two chunks")
    asked = parser.parse_args()
    print(f"{os.cpu_count()} cores; upstream in a process of its own; {asked.rounds} rounds")
    for streams in asked.streams:
        each = max(20, asked.chunks // streams)
        figures = {name: Figures() for name in CLIENTS}
        with serving(each, asked.pace_ms) as url:
            for _ in range(asked.rounds):
                for name, client in CLIENTS.items():
                    uvloop.run(measure(client, url, streams, each, figures[name]))
        print(f"\n{streams} streams of {each} chunks, {asked.pace_ms:g} ms between chunks\n")
        print("| client | chunks/s | first token ms | p95 | CPU µs a chunk | ratio |")
        print("|---|---|---|---|---|---|")
        for name, one in figures.items():
            print(one.row(name, figures[_PEER]))


if __name__ == "__main__":
    main()
