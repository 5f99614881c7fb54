"""What else may cost: more watchers of a stream, and tracing. `python -m benchmarks.extras`.

One flood after another goes through one router: with one watcher and with many (plain
subscriptions, which the NATS server serves), and with spans exported to a collector that takes
them, or not. Told are the router's CPU time for a chunk, and chunks a second.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import uvloop

from atlas import subjects
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.contracts.ids import new_id
from atlas.embedded import NatsProcess, Services
from atlas.nats_settings import NatsSettings
from atlas.settings import Settings
from benchmarks.crowd import provider_environment
from benchmarks.results import conditions, save
from benchmarks.upstream import serving

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_MODEL = "bench/m"


class _Sink(BaseHTTPRequestHandler):
    """A collector that takes every export and keeps none."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def a_collector() -> Iterator[str]:
    """Where spans may go."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


@asynccontextmanager
async def a_router(
    upstream: str, folder: Path, collector: str | None
) -> AsyncIterator[tuple[Atlas, Bus, int]]:
    """A router, a client, a connection for watchers, and the router's pid."""
    nats = NatsProcess(folder)
    await nats.start()
    environment = provider_environment(upstream)
    if collector is not None:
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector
    services = Services(nats.url, subprocess.DEVNULL, environment)
    try:
        (router,) = await services.start(["provider_router"])
        bus = await Bus.connect(NatsSettings(url=nats.url), "watchers")
        async with Atlas.connect(nats.url, settings=Settings()) as atlas:
            yield atlas, bus, router.pid
        await bus.close()
    finally:
        await services.stop()
        await nats.stop()


def cpu_s(pid: int) -> float:
    """The CPU time of a process so far (Linux)."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / _TICKS_PER_S


async def flood(atlas: Atlas, streams: int) -> float:
    """Read so many streams at a time to their ends; gives the seconds that it took."""

    async def one() -> None:
        async with atlas.stream("Hello", model=_MODEL, buffer={"coalesce": "off"}) as stream:
            await stream.result()

    began_s = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(streams)))
    return time.perf_counter() - began_s


async def watched(atlas: Atlas, bus: Bus, pid: int, watchers: int, chunks: int) -> float:
    """The router's CPU µs for a chunk of a stream that so many watch."""
    heard = 0

    async def hear(_: object) -> None:
        nonlocal heard
        heard += 1

    stream_id = new_id()
    subject = subjects.stream_chunk(atlas.tenant, stream_id)
    watching = [await bus.subscribe(subject, hear, pending=10**6) for _ in range(watchers - 1)]
    await bus.flush()
    before_s = cpu_s(pid)
    buffer = {"coalesce": "size", "coalesce_chars": 500}
    async with atlas.stream("Hello", model=_MODEL, stream_id=stream_id, buffer=buffer) as stream:
        await stream.result()
    spent_s = cpu_s(pid) - before_s
    for one in watching:
        await one.unsubscribe()
    if watchers > 1 and not heard:
        raise RuntimeError("the watchers heard nothing")
    return spent_s / chunks * 1e6


async def measure(chunks: int, rounds: int, watchers: int) -> str:
    """Measure, in turns; gives the report."""
    with tempfile.TemporaryDirectory() as name, a_collector() as collector:
        folder = Path(name)
        with serving(chunks, 0.0) as upstream:
            alone, together = [], []
            async with a_router(upstream, folder / "watchers", None) as (atlas, bus, pid):
                await watched(atlas, bus, pid, 1, chunks)
                for _ in range(rounds):
                    alone.append(await watched(atlas, bus, pid, 1, chunks))
                    together.append(await watched(atlas, bus, pid, watchers, chunks))
        few = chunks // 50
        with serving(few, 0.0) as upstream:
            silent, traced = [], []
            async with (
                a_router(upstream, folder / "silent", None) as (plain, _, _),
                a_router(upstream, folder / "traced", collector) as (spans, _, _),
            ):
                for atlas in (plain, spans):
                    await flood(atlas, 50)
                for _ in range(rounds):
                    silent.append(50 * few / await flood(plain, 50))
                    traced.append(50 * few / await flood(spans, 50))
    one, many = statistics.median(alone), statistics.median(together)
    off, on = statistics.median(silent), statistics.median(traced)
    return (
        "| | | | ratio |\n|---|---:|---:|---:|\n"
        f"| router's CPU µs a chunk, 1 watcher and {watchers} | {one:.2f} | {many:.2f} "
        f"| {many / one:.2f} |\n"
        f"| chunks/s of 50 streams, tracing off and on | {off:,.0f} | {on:,.0f} | {on / off:.2f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--watchers", type=int, default=50)
    parser.add_argument("--save", action="store_true", help="write results/extras.md")
    asked = parser.parse_args()
    report = uvloop.run(measure(asked.chunks, asked.rounds, asked.watchers))
    print(report)
    if asked.save:
        where = conditions("python -m benchmarks.extras --save")
        save("extras", f"# Watchers and tracing\n\n{where}\n\n{report}")


if __name__ == "__main__":
    main()
