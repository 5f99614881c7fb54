"""What the messages of a first token cost by themselves: `python -m benchmarks.bare_messages`.

A client stores a request on files; a router pulls it, claims the stream and looks for controls at
once, calls the provider, stores `stream.started` meanwhile, and publishes content, which JetStream
stores and republishes to the client. These are the messages of Atlas, sent by nats-py and aiohttp
alone: nothing is checked, counted, traced or decoded. What Atlas adds to the first token of a
provider cannot be less than this on the same machine.
"""

import argparse
import asyncio
import multiprocessing
import statistics
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import aiohttp
import nats
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.api import RePublish, RetentionPolicy, StreamConfig

from atlas.embedded import NatsProcess
from benchmarks.measuring import BODY
from benchmarks.upstream import serving

_CONTENT, _END = b"x" * 150, b"e" * 400
"""As long as the events are, and told apart by their first letter."""
_EVENT = b"{}" * 100
_WARM = 20
_NONE_YET = {"Nats-Expected-Last-Subject-Sequence": "0"}


async def _carry(bus: Client, session: aiohttp.ClientSession, upstream: str, msg: Msg) -> None:
    name = msg.subject.partition(".")[2]
    control = await bus.subscribe(f"control.{name}", cb=_ignore)
    asked = b'{"last_by_subj":"control.%s"}' % name.encode()
    await asyncio.gather(
        bus.request(f"owner.{name}", _EVENT, headers=_NONE_YET),
        bus.request("$JS.API.DIRECT.GET.CONTROL", asked),
    )
    async with asyncio.TaskGroup() as group:
        started = group.create_task(bus.request(f"write.{name}", _EVENT))
        async with session.post(f"{upstream}/chat/completions", data=BODY) as response:
            async for _ in response.content.iter_any():
                await started
                await bus.publish(f"write.{name}", _CONTENT)
    await bus.request(f"write.{name}", _END)
    await msg.ack()
    await control.unsubscribe()


async def _ignore(_: Msg) -> None:
    """A control that nobody sends."""


async def _route(url: str, upstream: str) -> None:
    bus = await nats.connect(url)
    pull = await bus.jetstream().pull_subscribe("request.*", durable="router", stream="REQUEST")
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        while True:
            with suppress(NatsTimeoutError):
                (msg,) = await pull.fetch(1, timeout=1.0)
                group.create_task(_carry(bus, session, upstream, msg))


def _router(url: str, upstream: str) -> None:
    uvloop.run(_route(url, upstream))


async def _first_ms(bus: Client, name: str) -> float:
    events: asyncio.Queue[bytes] = asyncio.Queue()

    async def came(msg: Msg) -> None:
        events.put_nowait(msg.data)

    began_s = time.perf_counter()
    watching = await bus.subscribe(f"chunk.{name}", cb=came)
    stored = asyncio.create_task(bus.request(f"request.{name}", BODY, timeout=30.0))
    while not (await events.get()).startswith(_CONTENT[:1]):
        pass
    first_ms = (time.perf_counter() - began_s) * 1000
    while not (await events.get()).startswith(_END[:1]):
        pass
    await stored
    await watching.unsubscribe()
    return first_ms


async def _direct_ms(session: aiohttp.ClientSession, upstream: str) -> float:
    began_s, first_ms = time.perf_counter(), 0.0
    async with session.post(f"{upstream}/chat/completions", data=BODY) as response:
        async for _ in response.content.iter_any():
            first_ms = first_ms or (time.perf_counter() - began_s) * 1000
    return first_ms


async def measure(answers: int) -> tuple[list[float], list[float]]:
    """The time to the first token of so many answers in ms, by bare messages and directly."""
    with tempfile.TemporaryDirectory() as name, serving(5, 5.0) as upstream:
        server = NatsProcess(Path(name))
        await server.start()
        bus = await nats.connect(server.url)
        stream = bus.jetstream().add_stream
        queue = RetentionPolicy.WORK_QUEUE
        shown = RePublish(src="write.*", dest="chunk.{{wildcard(1)}}")
        await stream(StreamConfig(name="REQUEST", subjects=["request.*"], retention=queue))
        await stream(StreamConfig(name="CONTROL", subjects=["control.*"], allow_direct=True))
        await stream(StreamConfig(name="STREAM", subjects=["owner.*", "write.*"], republish=shown))
        spawn = multiprocessing.get_context("spawn")
        router = spawn.Process(target=_router, args=(server.url, upstream), daemon=True)
        router.start()
        try:
            messages = [await _first_ms(bus, str(number)) for number in range(answers + _WARM)]
            async with aiohttp.ClientSession() as session:
                direct = [await _direct_ms(session, upstream) for _ in range(answers + _WARM)]
        finally:
            router.terminate()
            router.join()
            await bus.close()
            await server.stop()
    return messages[_WARM:], direct[_WARM:]


def main() -> None:
    """Print what the messages add."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=300)
    messages, direct = map(statistics.median, uvloop.run(measure(parser.parse_args().answers)))
    print(
        f"first token, p50: {messages:.2f} ms by bare messages, {direct:.2f} ms directly; "
        f"added {messages - direct:.2f} ms"
    )


if __name__ == "__main__":
    main()
