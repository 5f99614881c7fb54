"""What one JetStream stream carries, and what more servers or streams change.

`python -m benchmarks.scale` writes events as long as Atlas's into the stream `ATLAS_STREAMS`, with
its republished subjects, on one server and on a cluster of three on loopback, in turns: as routers
do (published, with an answer awaited every so often), with an answer for each (as the log of a task
needs), and spread over several streams, which is the plan for growing past one. Then it reads the
log of one subject among all the others. All servers and the client share the machine.
"""

import argparse
import asyncio
import contextlib
import itertools
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import uvloop
from nats.errors import Error as NatsError
from nats.js.api import RePublish, StreamConfig

from atlas import subjects
from atlas.bus import Bus
from atlas.embedded import cluster
from atlas.nats_settings import NatsSettings
from atlas.settings import TopologySettings
from atlas.topology import Topology
from benchmarks.results import conditions, save

_EVENT = b"x" * 250
"""About as long as a `content.delta` of some words is."""
_UNANSWERED = 251
"""One event in so many wants an answer, and two answers may be missing; odd, so that of several
streams each has its turn."""
_TENANT = "bench"
_SUBJECTS = 1_000
"""Streams at a time, each with a subject of its own."""
_READS = 50
_SETTLE_S = 30.0
_ANSWER_S = 30.0


@dataclass(slots=True)
class Figures:
    """What the rounds of one way of storing gave."""

    joined: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    answer_ms: list[float] = field(default_factory=list)
    spread: list[float] = field(default_factory=list)
    read_ms: list[float] = field(default_factory=list)
    event_bytes: list[float] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    """Of each round: sent without asking for an answer, and dropped without a word."""

    def row(self, name: str) -> str:
        """A line of the table."""
        middles = [
            statistics.median(one)
            for one in (self.joined, self.answered, self.answer_ms, self.spread, self.read_ms)
        ]
        joined, answered, answer_ms, spread, read_ms = middles
        return (
            f"| {name} | {joined:,.0f} | {answered:,.0f} | {answer_ms:.2f} | {spread:,.0f} "
            f"| {read_ms:.1f} | {statistics.median(self.event_bytes):,.0f} "
            f"| {sum(self.lost):,} |"
        )


@asynccontextmanager
async def _connected(servers: int) -> AsyncIterator[Bus]:
    async with AsyncExitStack() as undo:
        directory = Path(undo.enter_context(tempfile.TemporaryDirectory()))
        processes = cluster(directory, servers)
        for one in processes:
            undo.push_async_callback(one.stop)
        await asyncio.gather(*(one.start() for one in processes))
        bus = await Bus.connect(NatsSettings(url=",".join(one.url for one in processes)), "bench")
        undo.push_async_callback(bus.close)
        async with asyncio.timeout(_SETTLE_S):
            while True:
                with contextlib.suppress(NatsError, TimeoutError):
                    await bus.jetstream.account_info()
                    break
                await asyncio.sleep(0.1)
        yield bus


def _assets(replicas: int, parts: int) -> list[StreamConfig]:
    """`ATLAS_STREAMS` as it is, or cut in parts by a token before the subject's end."""
    topology = Topology(TopologySettings(replicas=replicas))
    (whole,) = (one for one in topology.streams() if one.name == subjects.STREAMS)
    if parts == 1:
        return [whole]
    return [
        replace(
            whole,
            name=f"PART_{part}",
            subjects=[f"part{part}.>"],
            republish=RePublish(src=f"part{part}.>", dest=f"shown{part}.>"),
        )
        for part in range(parts)
    ]


def _names(parts: int) -> Callable[[int], str]:
    if parts == 1:
        whole = [subjects.stream_write(_TENANT, f"s{number}") for number in range(_SUBJECTS)]
        return lambda number: whole[number % _SUBJECTS]
    cut = [f"part{number % parts}.s{number}" for number in range(_SUBJECTS)]
    return lambda number: cut[number % _SUBJECTS]


async def _joined(bus: Bus, name: Callable[[int], str], events: int) -> float:
    """Events a second, as routers write them."""
    began_s = time.perf_counter()
    waiting: list[asyncio.Task[object]] = []
    async with asyncio.TaskGroup() as group:
        for number in range(events):
            if number % _UNANSWERED or not number:
                await bus.nats.publish(name(number), _EVENT)
                continue
            waiting.append(group.create_task(_answer(bus, name(number))))
            if len(waiting) > 1:
                await waiting.pop(0)
    await _answer(bus, name(0))
    return events / (time.perf_counter() - began_s)


async def _stored(bus: Bus, assets: list[StreamConfig]) -> tuple[int, int]:
    """How many events the streams hold, and in how many bytes."""
    states = [(await bus.jetstream.stream_info(str(one.name))).state for one in assets]
    return sum(one.messages for one in states), sum(one.bytes for one in states)


async def _answer(bus: Bus, subject: str) -> None:
    await bus.nats.request(subject, _EVENT, timeout=_ANSWER_S)


async def _answered(bus: Bus, name: Callable[[int], str], events: int) -> tuple[float, float]:
    """Events a second with an answer each, 64 at a time; and how long one alone takes, in ms."""
    numbers = iter(range(events))

    async def writer() -> None:
        for number in numbers:
            await _answer(bus, name(number))

    began_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(64):
            group.create_task(writer())
    rate = events / (time.perf_counter() - began_s)
    alone: list[float] = []
    for number in range(200):
        before_s = time.perf_counter()
        await _answer(bus, name(number))
        alone.append((time.perf_counter() - before_s) * 1000)
    return rate, statistics.median(alone)


async def _measure(servers: int, parts: int, events: int, into: Figures) -> None:
    """One round on servers of its own."""
    async with _connected(servers) as bus:
        name = _names(1)
        into.joined.append(await _round(bus, _assets(servers, 1), name, events, into))
        rate, alone_ms = await _answered(bus, name, events // 4)
        into.answered.append(rate)
        into.answer_ms.append(alone_ms)
        for number in itertools.islice(itertools.count(1, 7), _READS):
            began_s = time.perf_counter()
            async for _ in bus.read(subjects.STREAMS, name(number)):
                pass
            into.read_ms.append((time.perf_counter() - began_s) * 1000)
        await bus.jetstream.delete_stream(subjects.STREAMS)
        cut = _assets(servers, parts)
        into.spread.append(await _round(bus, cut, _names(parts), events, into))


async def _round(
    bus: Bus, assets: list[StreamConfig], name: Callable[[int], str], events: int, into: Figures
) -> float:
    """Events a second into new streams, and how many of them did not arrive there."""
    for one in assets:
        await bus.jetstream.add_stream(one)
    for number in range(len(assets)):
        await _answer(bus, name(number))  # a new stream of a cluster chooses who leads it
    rate = await _joined(bus, name, events)
    held, held_bytes = await _stored(bus, assets)
    into.lost.append(len(assets) + events + 1 - held)
    into.event_bytes.append(held_bytes / held)
    return rate


async def run(events: int, rounds: int, parts: int) -> str:
    """The report."""
    figures = {1: Figures(), 3: Figures()}
    for _ in range(rounds):
        for servers, into in figures.items():
            await _measure(servers, parts, events, into)
    rows = [
        figures[1].row("one server"),
        figures[3].row("three servers, three replicas"),
    ]
    head = (
        f"| | events/s | answered/s | one answer, ms | events/s over {parts} streams "
        "| a subject read, ms | bytes an event | dropped |\n"
        "|---|---:|---:|---:|---:|---:|---:|---:|"
    )
    return "\n".join([head, *rows])


def main() -> None:
    """Print the report; with `--save` keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", type=int, default=4, help="streams that share the events")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/scale.md")
    options = parser.parse_args()
    report = uvloop.run(run(options.events, options.rounds, options.parts))
    print(report)
    if options.save:
        command = (
            f"python -m benchmarks.scale --events {options.events} --rounds {options.rounds} "
            f"--parts {options.parts} --save"
        )
        save(
            "scale",
            f"# One stream, a cluster, several streams\n\n{conditions(command)}\n\n{report}",
        )


if __name__ == "__main__":
    main()
