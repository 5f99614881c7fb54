"""What ten thousand streams leave behind: `python -m benchmarks.leaks`.

A real router in a process of its own meets real HTTP. Two streams in three are carried to their
end; of the others half are cancelled by their reader, with content and without, and half lose
their provider in the middle, with a fallback and without. What the router holds is asked before,
during and after: open sockets, tasks, objects that the garbage collector knows, and memory.
"""

import argparse
import asyncio
import json
import os
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from atlas.bus import Bus
from atlas.client import Atlas
from atlas.contracts.errors import AtlasError, ProviderError, WorkCancelledError
from atlas.embedded import NatsProcess, Services
from atlas.nats_settings import NatsSettings
from atlas.settings import Settings
from benchmarks import faulty_upstream
from benchmarks.faulty_upstream import BREAKS, ENDLESS, MUTE, WHOLE
from benchmarks.measured_router import COLLECTED, FIGURES

_FLAKY = "flaky"
"""A group whose first member breaks and whose second answers."""
_ROUND = 12
_KINDS = {0: ENDLESS, 3: BREAKS, 6: MUTE, 9: _FLAKY}
"""Of every round; its other streams are answered."""
_CANCELLED, _FAILED, _COMPLETED = "cancelled", "failed", "completed"
_ENDS = {ENDLESS: _CANCELLED, MUTE: _CANCELLED, BREAKS: _FAILED}
_FIRST = 24
"""Answered one by one before anything breaks, so that the provider has a good name."""
_SAMPLE_S = 0.2
_SETTLE_S = 60.0
"""Longer than a pool keeps an idle connection."""


@dataclass(frozen=True, slots=True)
class Held:
    """What the router holds."""

    sockets: int
    files: int
    tasks: int
    objects: int
    rss_bytes: int

    def most(self, other: "Held") -> "Held":
        """The greater of each figure."""
        return Held(*(max(getattr(self, one), getattr(other, one)) for one in self.__slots__))


@dataclass(frozen=True)
class Report:
    """Before, at most, and after; and how it went."""

    before: Held
    peak: Held
    after: Held
    streams: int
    duration_s: float
    ends: Counter[str]

    @property
    def streams_per_s(self) -> float:
        """How many ended in a second."""
        return self.streams / self.duration_s


class _Load:
    """Reads streams of a router, and asks what it holds."""

    def __init__(self, atlas: Atlas, bus: Bus) -> None:
        self._atlas = atlas
        self._bus = bus

    async def held(self, how: bytes = COLLECTED) -> Held:
        """What the router holds now."""
        answer = await self._bus.ask(FIGURES, how, {}, 30.0)
        return Held(**json.loads(answer.data))

    async def settled(self, than: Held) -> Held:
        """What it holds once it has let go of everything, or when that takes too long."""
        deadline_s = time.monotonic() + _SETTLE_S
        while True:
            held = await self.held()
            is_back = held.sockets <= than.sockets and held.tasks <= than.tasks
            if is_back or time.monotonic() > deadline_s:
                return held
            await asyncio.sleep(_SAMPLE_S)

    async def read(self, count: int, concurrency: int) -> Counter[str]:
        """Read so many streams to their ends; gives how many ended how."""
        ends: Counter[str] = Counter()
        numbers = iter(range(count))

        async def reader() -> None:
            for number in numbers:
                kind = _KINDS.get(number % _ROUND, WHOLE)
                ends[await self._one(kind)] += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(reader())
        return ends

    async def read_whole(self, count: int) -> None:
        """Read so many answers, one by one."""
        for _ in range(count):
            await self._one(WHOLE)

    async def _one(self, kind: str) -> str:
        model = kind if kind == _FLAKY else f"acme/{kind}"
        fallback = {"on_failure": "fail"} if kind == BREAKS else {}
        async with self._atlas.stream("Hello", model=model, fallback=fallback) as stream:
            if kind in {ENDLESS, MUTE}:
                async with aclosing(stream.events()) as events:
                    async for event in events:
                        if event.type == "text.delta" or kind == MUTE:
                            break
                await stream.cancel()
            try:
                await stream.result()
            except WorkCancelledError:
                return _CANCELLED
            except ProviderError:
                return _FAILED
        return _COMPLETED

    async def sample(self, peak: list[Held]) -> None:
        """Keep the greatest figures, until cancelled."""
        while True:
            peak[0] = peak[0].most(await self.held(b""))
            await asyncio.sleep(_SAMPLE_S)


@asynccontextmanager
async def _load(directory: Path, url: str) -> AsyncIterator[_Load]:
    acme = {"kind": "openai", "api": "chat", "base_url": url, "models": [WHOLE, BREAKS]}
    environment = {
        "ATLAS_PROVIDERS": json.dumps({"acme": acme}),
        "ATLAS_GROUPS": json.dumps({_FLAKY: {"members": [f"acme/{BREAKS}", f"acme/{WHOLE}"]}}),
        "ATLAS_ROUTER__CIRCUIT__FAILURE_RATE": "1",
    }
    nats = NatsProcess(directory)
    await nats.start()
    services = Services(nats.url, subprocess.DEVNULL, environment)
    try:
        await services.start(["benchmarks.measured_router"])
        bus = await Bus.connect(NatsSettings(url=nats.url), "leaks")
        async with Atlas.connect(nats.url, settings=Settings()) as atlas:
            yield _Load(atlas, bus)
        await bus.close()
    finally:
        await services.stop()
        await nats.stop()


async def measure(directory: Path, streams: int, concurrency: int, idle_s: float) -> Report:
    """Read streams and tell what they left behind.

    Args:
        directory: Where NATS keeps them.
        streams: How many; a tenth as many go before, so that pools and caches are there.
        concurrency: How many at a time.
        idle_s: When the provider closes an idle connection.

    Raises:
        AtlasError: A stream did not end as it had to.
    """
    with faulty_upstream.serving(idle_s) as url:
        async with _load(directory, url) as load:
            fresh = await load.held()
            await load.read_whole(_FIRST)
            await load.read(max(streams // 10, 2 * concurrency), concurrency)
            before = await load.settled(fresh)
            peak = [before]
            sampling = asyncio.create_task(load.sample(peak))
            began_s = time.perf_counter()
            ends = await load.read(streams, concurrency)
            duration_s = time.perf_counter() - began_s
            sampling.cancel()
            after = await load.settled(before)
    report = Report(before, peak[0], after, streams, duration_s, ends)
    expected = Counter(
        _ENDS.get(_KINDS.get(number % _ROUND, WHOLE), _COMPLETED) for number in range(streams)
    )
    if ends != expected:
        raise AtlasError(f"streams ended as {dict(ends)}, not as {dict(expected)}")
    return report


def table(report: Report) -> str:
    """The report, for a person."""
    columns = (report.before, report.peak, report.after)
    lines = ["| held by the router | before | peak | after |", "|---|---:|---:|---:|"]
    for name in ("sockets", "files", "tasks", "objects"):
        figures = " | ".join(f"{getattr(one, name):,}" for one in columns)
        lines.append(f"| {name} | {figures} |")
    rss = " | ".join(f"{one.rss_bytes / 2**20:,.1f}" for one in columns)
    return "\n".join([*lines, f"| RSS, MiB | {rss} |"])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--idle-s", type=float, default=300.0, help="of the provider's connections")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        report = asyncio.run(
            measure(Path(directory), asked.streams, asked.concurrency, asked.idle_s)
        )
    ends = ", ".join(f"{count:,} {end}" for end, count in sorted(report.ends.items()))
    print(f"{os.cpu_count()} cores; {asked.concurrency} streams at a time")
    print(f"{report.streams:,} streams ({ends}): {report.streams_per_s:,.0f} streams/s\n")
    print(table(report))


if __name__ == "__main__":
    main()
