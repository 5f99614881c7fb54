"""Many slow streams at once, as people have them: `python -m benchmarks.crowd`.

A thousand streams of fifty chunks a second each go through one router, and the same streams are
read directly by bare aiohttp, in the same run. Every chunk carries the time at which the provider
sent it. Told are the delays of the chunks on either way, what the way through Atlas adds, whether
every stream was complete without a gap, and what a paused stream holds of the router's memory.
All processes share the machine: provider, nats-server, router, and the reader, which is one too.
The reader's garbage collector is as calm as a router's (`atlas.service`): with Python's settings
it stops a process of a thousand streams for a third of a second now and then.
"""

import argparse
import asyncio
import gc
import json
import statistics
import subprocess
import tempfile
import time
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import uvloop

from atlas.bus import Bus
from atlas.client import Atlas
from atlas.contracts.inference import StreamMetrics
from atlas.embedded import NatsProcess, Services
from atlas.nats_settings import NatsSettings
from atlas.settings import Settings
from benchmarks.measured_router import COLLECTED, FIGURES
from benchmarks.measuring import BODY
from benchmarks.paced_upstream import STAMP_CHARACTERS, serving
from benchmarks.results import conditions, save

_PROVIDER = "bench"
_WARM_STREAMS = 50
_PAUSED_CHUNKS = 1_000_000
"""More than a paused stream's provider may ever send."""

type Delays = array[float]
"""Of chunks, from the provider's hand to the reader's, in milliseconds."""
type ReadOne = Callable[[Delays], AsyncIterator[None]]


def _note(text: str, delays: Delays) -> int:
    """Note the delay of every chunk in a piece of text; gives how many there were."""
    now_us = time.time_ns() // 1_000
    count = len(text) // STAMP_CHARACTERS
    for at in range(0, count * STAMP_CHARACTERS, STAMP_CHARACTERS):
        delays.append((now_us - int(text[at : at + STAMP_CHARACTERS])) / 1_000)
    return count


@dataclass(frozen=True, slots=True)
class Way:
    """How the streams went one way."""

    p50_ms: float
    p99_ms: float
    chunks_per_s: float
    complete: int

    @classmethod
    def of(cls, counts: list[int], delays: Delays, expected: int, took_s: float) -> "Way":
        """From how many chunks each stream brought, and their delays."""
        cuts = statistics.quantiles(delays, n=100)
        complete = sum(count == expected for count in counts)
        return cls(cuts[49], cuts[98], len(delays) / took_s, complete)


def provider_environment(upstream: str) -> dict[str, str]:
    """What makes a router take thousands of streams, of the upstream alone."""
    provider = {"kind": "openai", "base_url": upstream, "api": "chat", "max_connections": 4_000}
    return {
        "ATLAS_PROVIDERS": json.dumps({_PROVIDER: provider}),
        "ATLAS_ROUTER__MAX_STREAMS": "4000",
    }


@asynccontextmanager
async def a_router(upstream: str, folder: Path) -> AsyncIterator[tuple[Atlas, Bus]]:
    """A router that tells what it holds, a client of it, and a connection beside."""
    nats = NatsProcess(folder / "nats")
    await nats.start()
    services = Services(nats.url, subprocess.DEVNULL, provider_environment(upstream))
    try:
        await services.start(["benchmarks.measured_router"])
        bus = await Bus.connect(NatsSettings(url=nats.url), "crowd")
        async with Atlas.connect(nats.url, settings=Settings()) as atlas:
            yield atlas, bus
        await bus.close()
    finally:
        await services.stop()
        await nats.stop()


async def through_atlas(
    atlas: Atlas, streams: int, chunks: int, ramp_s: float = 0.0
) -> tuple[Way, list[StreamMetrics]]:
    """Every stream to its end; a gap would raise."""
    delays: Delays = array("d")
    metrics: list[StreamMetrics] = []

    async def one(number: int) -> int:
        await asyncio.sleep(number * ramp_s / streams)
        count = 0
        async with atlas.stream("Hello", model=f"{_PROVIDER}/m") as stream:
            async for piece in stream:
                count += _note(piece, delays)
            if stream.metrics is not None:
                metrics.append(stream.metrics)
        return count

    began_s = time.perf_counter()
    counts = await asyncio.gather(*(one(number) for number in range(streams)))
    return Way.of(counts, delays, chunks, time.perf_counter() - began_s), metrics


async def directly(upstream: str, streams: int, chunks: int, ramp_s: float) -> Way:
    """The same by bare aiohttp, which looks for the stamps and parses nothing else."""
    delays: Delays = array("d")
    mark = b'"content":"'

    async def one(session: aiohttp.ClientSession, number: int) -> int:
        await asyncio.sleep(number * ramp_s / streams)
        count, rest = 0, b""
        async with session.post(f"{upstream}/chat/completions", data=BODY) as response:
            async for data in response.content.iter_any():
                *whole, rest = (rest + data).split(b"\n\n")
                for event in whole:
                    _, found, text = event.partition(mark)
                    if found:
                        count += _note(text[:STAMP_CHARACTERS].decode(), delays)
        return count

    connector = aiohttp.TCPConnector(limit=4_000)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        began_s = time.perf_counter()
        counts = await asyncio.gather(*(one(session, number) for number in range(streams)))
        return Way.of(counts, delays, chunks, time.perf_counter() - began_s)


async def _rss_bytes(bus: Bus) -> int:
    answer = await bus.ask(FIGURES, COLLECTED, {}, 30.0)
    return int(json.loads(answer.data)["rss_bytes"])


async def paused_bytes(atlas: Atlas, bus: Bus, streams: int) -> float:
    """What the router's memory grows by, for each stream that is paused."""

    async def begin_and_pause(number: int) -> None:
        await asyncio.sleep(number / 200)  # two hundred a second begin
        stream = atlas.stream("Hello", model=f"{_PROVIDER}/m")
        async with stream:
            async for _ in stream:
                break
            await stream.pause()
        paused.append(stream.stream_id)

    paused: list[str] = []
    before = await _rss_bytes(bus)
    await asyncio.gather(*(begin_and_pause(number) for number in range(streams)))
    await asyncio.sleep(2.0)  # what is underway when a pause is answered arrives
    grown = await _rss_bytes(bus) - before
    await asyncio.gather(*(atlas.control_stream(one, "cancel") for one in paused))
    return grown / streams


async def measure(streams: int, per_s: float, seconds: float, ramp_s: float) -> str:
    """Measure; gives the report."""
    chunks = int(per_s * seconds)
    gc.freeze()
    gc.set_threshold(20_000, 50, 1_000)
    with tempfile.TemporaryDirectory() as name:
        with serving(chunks, per_s) as upstream:
            direct = await directly(upstream, streams, chunks, ramp_s)
            gc.collect()
            async with a_router(upstream, Path(name) / "flow") as (atlas, _):
                await through_atlas(atlas, _WARM_STREAMS, chunks)
                way, metrics = await through_atlas(atlas, streams, chunks, ramp_s)
        lines = [
            "| way | complete | chunks/s | delay p50 ms | p99 ms |",
            "|---|---:|---:|---:|---:|",
        ]
        for title, one in (("bare aiohttp, direct", direct), ("Atlas", way)):
            lines.append(
                f"| {title} | {one.complete} of {streams} | {one.chunks_per_s:,.0f} "
                f"| {one.p50_ms:,.1f} | {one.p99_ms:,.1f} |"
            )
        added = way.p99_ms - direct.p99_ms
        attempts = sum(one.attempts for one in metrics)
        lines.append(
            f"\nAdded at p99: {added:,.1f} ms; {attempts} attempts, {len(metrics)} streams."
        )
        with serving(_PAUSED_CHUNKS, per_s) as upstream:
            async with a_router(upstream, Path(name) / "paused") as (atlas, bus):
                await paused_bytes(atlas, bus, _WARM_STREAMS)
                held = await paused_bytes(atlas, bus, streams)
        lines.append(f"A paused stream holds {held / 1024:,.1f} KiB of the router's memory.")
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--per-s", type=float, default=50.0, help="chunks a second of each")
    parser.add_argument("--seconds", type=float, default=30.0, help="that a stream lasts")
    parser.add_argument("--ramp", type=float, default=20.0, help="seconds until all have begun")
    parser.add_argument("--save", action="store_true", help="write results/crowd.md")
    asked = parser.parse_args()
    what = (
        f"{asked.streams} streams of {asked.per_s:g} chunks a second for {asked.seconds:g} s each, "
        f"all begun after {asked.ramp:g} s:\n\n"
    )
    report = what + uvloop.run(measure(asked.streams, asked.per_s, asked.seconds, asked.ramp))
    print(report)
    if asked.save:
        where = conditions("python -m benchmarks.crowd --save")
        save("crowd", f"# Many slow streams at once\n\n{where}\n\n{report}")


if __name__ == "__main__":
    main()
