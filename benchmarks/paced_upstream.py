"""A provider that sends to many streams at a pace, each chunk with the time at which it left.

A process of its own. Streams are spread over the slices of the pace, so that the load is even; a
stream whose reader holds it (TCP backpressure) misses its turns and goes on when it is let.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import cast

import uvloop

from benchmarks.upstream import END, HEAD, chunked, in_a_process

STAMP_CHARACTERS = 17
"""A chunk's text: microseconds since 1970 in 16 digits, and a space."""
_SLICES = 10
_CHUNK = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":"%016d "},"finish_reason":null}]}\n\n'
)


@contextmanager
def serving(chunks: int, per_s: float) -> Iterator[str]:
    """The URL of an upstream that answers every request with so many chunks, so many a second."""
    with in_a_process(_run, chunks, per_s) as url:
        yield url


class _Stream(asyncio.Protocol):
    """One connection: a request, its chunks in turn, the next request."""

    def __init__(self, slices: list[set["_Stream"]], chunks: int) -> None:
        self._slices = slices
        self._chunks = chunks
        self._left = 0
        self._head = b""
        self._is_held = False
        self._transport: asyncio.Transport | None = None
        self._slice: set[_Stream] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._head += data
        head, found, body = self._head.partition(b"\r\n\r\n")
        if not found or len(body) < _content_length(head):
            return
        self._head = b""
        self._left = self._chunks
        if self._transport is not None:
            self._transport.write(HEAD)
        self._slice = min(self._slices, key=len)
        self._slice.add(self)

    def send(self, chunk: bytes) -> None:
        """Send one more, and the end after the last."""
        if self._is_held or self._transport is None:
            return
        self._left -= 1
        self._transport.write(chunk if self._left else chunk + END)
        if not self._left:
            self._leave()

    def pause_writing(self) -> None:
        self._is_held = True

    def resume_writing(self) -> None:
        self._is_held = False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - however it ends
        self._transport = None
        self._leave()

    def _leave(self) -> None:
        if self._slice is not None:
            self._slice.discard(self)
            self._slice = None


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _run(told: Connection, chunks: int, per_s: float) -> None:
    uvloop.run(_serve(told, chunks, per_s))


async def _serve(told: Connection, chunks: int, per_s: float) -> None:
    loop = asyncio.get_running_loop()
    slices: list[set[_Stream]] = [set() for _ in range(_SLICES)]
    server = await loop.create_server(
        lambda: _Stream(slices, chunks), "127.0.0.1", 0, backlog=4_096
    )
    told.send(server.sockets[0].getsockname()[1])
    rest_s = 1 / per_s / _SLICES
    turn, due = 0, loop.time()
    while True:
        chunk = chunked(_CHUNK % (time.time_ns() // 1_000))
        for stream in tuple(slices[turn % _SLICES]):
            stream.send(chunk)
        turn, due = turn + 1, due + rest_s
        await asyncio.sleep(max(0.0, due - loop.time()))
