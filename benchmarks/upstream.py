"""A provider that is never the bottleneck: a process of its own that streams ready-made bytes."""

import asyncio
import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import uvloop

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_START_S = 60.0


def chunked(body: bytes) -> bytes:
    """A body as one chunk of a chunked response."""
    return b"%x\r\n%s\r\n" % (len(body), body)


WORDS = tuple(
    chunked(
        b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",'
        b'"choices":[{"index":0,"delta":{"content":" word%d~"},"finish_reason":null}]}\n\n' % number
    )
    for number in range(10)
)
"""In turn; LiteLLM takes a hundred chunks of the same text for a model that went mad."""
WORD = WORDS[0]
END = (
    chunked(
        b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",'
        b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    )
    + chunked(b"data: [DONE]\n\n")
    + b"0\r\n\r\n"
)


@contextmanager
def in_a_process(run: Callable[..., None], *asked: float) -> Iterator[str]:
    """The URL of an upstream: `run` tells its port over the connection that it gets first."""
    ours, theirs = multiprocessing.Pipe()
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=run, args=(theirs, *asked), daemon=True)
    process.start()
    try:
        if not ours.poll(_START_S):
            raise TimeoutError(f"the upstream did not start within {_START_S:g} s")
        yield f"http://127.0.0.1:{ours.recv()}/v1"
    finally:
        process.terminate()
        process.join()


@contextmanager
def serving(chunks: int, pace_ms: float) -> Iterator[str]:
    """The URL of an upstream that answers every request with so many chunks, one a write.

    Args:
        chunks: How many words an answer has.
        pace_ms: The rest between two of them; 0: one in each turn of the server's loop.
    """
    with in_a_process(_run, chunks, pace_ms) as url:
        yield url


def _run(told: Connection, chunks: int, pace_ms: float) -> None:
    uvloop.run(_serve(told, chunks, pace_ms / 1000))


async def _serve(told: Connection, chunks: int, pace_s: float) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await _request(reader):
                writer.write(HEAD)
                for number in range(chunks):
                    writer.write(WORDS[number % len(WORDS)])
                    await writer.drain()
                    await asyncio.sleep(pace_s)
                writer.write(END)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=4_096)
    told.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def _request(reader: asyncio.StreamReader) -> bool:
    """Read one request to its end; tells whether there was one."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            await reader.readexactly(int(value))
    return bool(head)
