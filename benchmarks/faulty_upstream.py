"""A provider, in a process of its own, whose models end their answers as their names say."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import uvloop

from benchmarks.upstream import END, HEAD, WORD, in_a_process

WHOLE, BREAKS, ENDLESS, MUTE = "whole", "breaks", "endless", "mute"
"""Answers; breaks the connection in the middle; begins and falls silent; says nothing at all."""
MODELS = (WHOLE, BREAKS, ENDLESS, MUTE)
_WORDS = 4
_PACE_S = 0.02
"""Between two words, so that streams overlap."""


@contextmanager
def serving(idle_s: float) -> Iterator[str]:
    """Its URL. It closes connections that were idle for so long."""
    with in_a_process(_run, idle_s) as url:
        yield url


def _run(told: Connection, idle_s: float) -> None:
    uvloop.run(_serve(told, idle_s))


async def _serve(told: Connection, idle_s: float) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while model := await _asked(reader, idle_s):
                await _answer(model, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            pass  # the client left, or came no more
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=4_096)
    told.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def _asked(reader: asyncio.StreamReader, idle_s: float) -> str:
    """The model of the next request; a request that only opens the connection names none."""
    async with asyncio.timeout(idle_s):
        head = await reader.readuntil(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            body = await reader.readexactly(int(value))
            return next(model for model in MODELS if f'"model":"{model}"'.encode() in body)
    return WHOLE


async def _answer(model: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD)
    for _ in range(0 if model == MUTE else _WORDS):
        writer.write(WORD)
        await writer.drain()
        await asyncio.sleep(_PACE_S)
        if writer.is_closing():  # uvloop would raise what is no ConnectionError
            raise ConnectionResetError
    if model == BREAKS:
        raise ConnectionAbortedError
    if model == WHOLE:
        writer.write(END)
        await writer.drain()
    else:
        await reader.read()  # until the client leaves
