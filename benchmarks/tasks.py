"""How fast tasks are carried, and how soon after a crash: `python -m benchmarks.tasks`.

One controller process, one worker process that does nothing (`idle_worker`), nats-server on files,
and a submitter here, which submits through the durable door and reads the logs; all share the
machine. Told are subtasks and tasks a second, the time from submitting a fan-out to its terminal
event, how long a killed controller's tasks stand still, and when a new controller is ready beside
finished tasks in the log.

Beside it, in the same run, DBOS with a PostgreSQL of its own carries as many queued workflows that
do nothing (`make bench-peers` installs DBOS; where one of them is missing, the report says so).
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from nats.aio.msg import Msg

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.ids import new_id
from atlas.contracts.tasks import PlannedSubtask, TaskRequest
from atlas.embedded import NatsProcess, Services
from atlas.nats_settings import NatsSettings
from benchmarks.extras import cpu_s
from benchmarks.idle_worker import CAPABILITY, SILENT
from benchmarks.postgres import PostgresMissingError, postgres
from benchmarks.results import conditions, save

PEER = Path(__file__).parent / ".peers" / "dbos" / "bin" / "python"
_CONTROLLER = "agent_controller"
_WORKER = "benchmarks.idle_worker"
_WARM_TASKS = 20
_WIDE = 10
_AT_ONCE = 64
_TASK_S = 120.0
_PEER_S = 600.0
_ENDS = (b"task.completed", b"task.failed", b"task.cancelled")
_CONFIRM_EVERY = 500
"""Log entries that are written unanswered before one is awaited: JetStream drops what is more
than it can take in."""


def a_request(wide: int) -> bytes:
    """A task of so many subtasks side by side."""
    plan = [
        PlannedSubtask(id=f"s{number}", capability=CAPABILITY, instruction="Do nothing.")
        for number in range(wide)
    ]
    return TaskRequest(goal="Measure", plan=plan).to_json()


@dataclass(slots=True)
class Submitter:
    """Submits tasks and hears of their ends."""

    bus: Bus
    tenant: str = subjects.DEFAULT_TENANT
    events: int = 0
    _wanted: int = 0
    _reached: asyncio.Event = field(default_factory=asyncio.Event)
    _waiting: dict[str, asyncio.Future[bytes]] = field(default_factory=dict)

    async def listen(self) -> None:
        """Hear the logs of all tasks."""
        await self.bus.subscribe(subjects.task_log(self.tenant, "*"), self._hear, pending=10**6)
        await self.bus.flush()

    async def _hear(self, msg: Msg) -> None:
        self.events += 1
        if self.events >= self._wanted:
            self._reached.set()
        waiting = self._waiting.get(subjects.parse(msg.subject).id)
        if waiting is None or waiting.done():
            return
        if any(end in msg.data for end in _ENDS) and json.loads(msg.data)["type"].encode() in _ENDS:
            waiting.set_result(msg.data)

    async def hear(self, more: int) -> None:
        """Wait until so many more entries of logs were heard."""
        self._wanted = self.events + more
        self._reached.clear()
        async with asyncio.timeout(_TASK_S):
            await self._reached.wait()

    async def run(self, request: bytes) -> float:
        """One task from its submission to its end; gives the milliseconds."""
        task_id = new_id()
        self._waiting[task_id] = asyncio.get_running_loop().create_future()
        began_s = time.perf_counter()
        try:
            await self.bus.store(subjects.task_submit(self.tenant, task_id), request)
            async with asyncio.timeout(_TASK_S):
                end = json.loads(await self._waiting[task_id])
        finally:
            del self._waiting[task_id]
        if end["type"] != "task.completed":
            raise RuntimeError(f"task {task_id} did not complete: {end}")
        return (time.perf_counter() - began_s) * 1000

    async def many(self, tasks: int, wide: int, at_once: int) -> float:
        """So many tasks, at most `at_once` at a time; gives the seconds that all took."""
        room, request = asyncio.Semaphore(at_once), a_request(wide)

        async def one() -> None:
            async with room:
                await self.run(request)

        began_s = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(tasks)))
        return time.perf_counter() - began_s


@dataclass(frozen=True, slots=True)
class Stage:
    """What runs: a server, a controller, a worker, and a submitter."""

    services: Services
    submitter: Submitter

    @property
    def controller_pid(self) -> int:
        """Of the controller that runs now."""
        return next(one.pid for one in self.services.running if one.name == _CONTROLLER)

    async def restart(self) -> float:
        """SIGKILL the controller and start another at once; gives the seconds to its readiness."""
        began_s = time.perf_counter()
        await self.services.kill(self.controller_pid)
        await self.services.start([_CONTROLLER])
        return time.perf_counter() - began_s


@asynccontextmanager
async def a_stage(folder: Path, *, is_silent: bool = False) -> AsyncIterator[Stage]:
    """Start everything, warm it up, stop it."""
    nats = NatsProcess(folder)
    await nats.start()
    services = Services(nats.url, subprocess.DEVNULL, {SILENT: "1"} if is_silent else {})
    try:
        await services.start([_CONTROLLER, _WORKER])
        bus = await Bus.connect(NatsSettings(url=nats.url), "submitter")
        stage = Stage(services, Submitter(bus))
        await stage.submitter.listen()
        await stage.submitter.many(_WARM_TASKS, _WIDE, _AT_ONCE)
        yield stage
        await bus.close()
    finally:
        await services.stop()
        await nats.stop()


@dataclass(frozen=True, slots=True)
class Rates:
    """How much goes through."""

    subtasks_per_s: float
    tasks_per_s: float
    cpu_ms: float
    """Of the controller, for a subtask of those with nine others."""

    @classmethod
    async def of(cls, stage: Stage, subtasks: int) -> "Rates":
        """Of tasks with ten subtasks each, and of tasks with one."""
        tasks = subtasks // _WIDE
        before_s = cpu_s(stage.controller_pid)
        wide_s = await stage.submitter.many(tasks, _WIDE, _AT_ONCE)
        spent_s = cpu_s(stage.controller_pid) - before_s
        single_s = await stage.submitter.many(tasks, 1, _AT_ONCE)
        per_subtask_ms = spent_s / tasks / _WIDE * 1000
        return cls(tasks * _WIDE / wide_s, tasks / single_s, per_subtask_ms)


async def fan_outs(submitter: Submitter, wide: int, rounds: int) -> list[float]:
    """Fan-outs one after the other, in milliseconds."""
    request = a_request(wide)
    return [await submitter.run(request) for _ in range(rounds)]


@dataclass(frozen=True, slots=True)
class Recovery:
    """A controller was killed among tasks, and another started at once."""

    ready_s: float
    moving_s: float
    """Until the first new entry in a log."""
    completed_s: float
    """Until every task that was underway was done."""

    @classmethod
    async def of(cls, stage: Stage, tasks: int) -> "Recovery":
        """Kill it while tasks of a hundred subtasks are half done."""
        submitter, wide = stage.submitter, 100
        running = asyncio.create_task(submitter.many(tasks, wide, tasks))
        await submitter.hear(tasks * wide)  # of about three times as many
        killed_s = time.perf_counter()
        await stage.services.kill(stage.controller_pid)
        await asyncio.sleep(0.1)  # what the dead one had stored is heard
        starting = asyncio.create_task(stage.services.start([_CONTROLLER]))
        await submitter.hear(1)
        moving_s = time.perf_counter() - killed_s
        await starting
        ready_s = time.perf_counter() - killed_s
        await running
        return cls(ready_s, moving_s, time.perf_counter() - killed_s)


async def fill(bus: Bus, tasks: int) -> None:
    """Put so many finished tasks into the log: copies of the last one, under other ids."""
    stream = await bus.jetstream.stream_info(subjects.TASKS)
    last = await bus.jetstream.get_msg(subjects.TASKS, seq=stream.state.last_seq)
    source = str(last.subject)
    entries = [stored.data async for stored in bus.read(subjects.TASKS, source)]
    place, written = subjects.parse(source), 0
    for _ in range(tasks):
        own = new_id()
        subject = subjects.task_write(place.tenant, own)
        for entry in entries:
            data, written = entry.replace(place.id.encode(), own.encode()), written + 1
            if written % _CONFIRM_EVERY and written < tasks * len(entries):
                await bus.publish(subject, data)
            else:
                await bus.store(subject, data)
    found = (await bus.jetstream.stream_info(subjects.TASKS)).state.messages
    if found < stream.state.messages + written:
        raise RuntimeError(f"{written} entries were written, and the log has {found}")


async def readiness(folder: Path, tasks: int) -> tuple[float, float]:
    """Seconds from a kill to a new controller that is ready: beside few tasks, and beside many."""
    async with a_stage(folder) as stage:
        few_s = await stage.restart()
        await stage.submitter.run(a_request(1))
        await fill(stage.submitter.bus, tasks)
        many_s = await stage.restart()
        await stage.submitter.run(a_request(1))  # it is as good as it says
        return few_s, many_s


@dataclass(frozen=True, slots=True)
class Asked:
    """How much is measured."""

    subtasks: int
    rounds: int
    finished: int
    queued: int


@dataclass(frozen=True, slots=True)
class Peer:
    """What DBOS told of one way to run it."""

    title: str
    queued_per_s: float
    subtasks_per_s: float
    tasks_per_s: float
    fan_out_ms: list[float]

    @classmethod
    def of(cls, title: str, options: tuple[str, ...], poll_s: float, asked: Asked) -> "Peer":
        """Measure it on a new PostgreSQL.

        Raises:
            PostgresMissingError: There is none.
        """
        script = Path(__file__).parent / "dbos_peer.py"
        with postgres(*options) as url:
            numbers = [str(one) for one in (poll_s, asked.queued, _WIDE, asked.rounds)]
            said = subprocess.run(  # noqa: S603 - what make bench-peers installed
                [PEER, script, url, *numbers], capture_output=True, check=False, timeout=_PEER_S
            )
        told = [line for line in said.stdout.splitlines() if line.startswith(b"{")]
        if not told:
            raise RuntimeError(f"DBOS told no figures: {said.stderr.decode()[-500:]}")
        return cls(title, **json.loads(told[-1]))


def peers(asked: Asked, atlas: Rates) -> list[str]:
    """Rows of DBOS and what Atlas is to them; a line that says why where there are none."""
    if not PEER.exists():
        return ["\nDBOS is not installed here (`make bench-peers`)."]
    ways: list[tuple[str, tuple[str, ...], float]] = [
        ("DBOS, as it comes", (), 1.0),
        ("DBOS, looks for work every 10 ms", (), 0.01),
        ("the same, commits not awaited", ("synchronous_commit=off",), 0.01),
    ]
    try:
        found = [Peer.of(*way, asked) for way in ways]
    except PostgresMissingError as error:
        return [f"\nDBOS was not measured: {error}."]
    rows = [
        f"| {one.title} | {one.subtasks_per_s:,.0f} | {one.tasks_per_s:,.0f} "
        f"| {statistics.median(one.fan_out_ms):,.1f} |  |"
        for one in found
    ]
    told = "; ".join(
        f"{one.title}: {atlas.subtasks_per_s / one.subtasks_per_s:.1f} times as many subtasks, "
        f"and its bare queue, with no workflow that waits, {one.queued_per_s:,.0f} a second "
        f"({atlas.subtasks_per_s / one.queued_per_s:.1f})"
        for one in found
    )
    return [*rows, f"\nAtlas beside {told}."]


async def measure(asked: Asked, folder: Path) -> str:
    """Measure Atlas, then DBOS; gives the report."""
    lines = [
        "| | subtasks/s | tasks/s | fan-out of 10, p50 ms | controller's CPU ms a subtask |",
        "|---|---:|---:|---:|---:|",
    ]
    waits: dict[int, list[float]] = {}
    async with a_stage(folder / "atlas") as stage:
        rates = await Rates.of(stage, asked.subtasks)
        for wide, rounds in ((10, asked.rounds), (100, asked.rounds // 3), (1000, 3)):
            waits[wide] = await fan_outs(stage.submitter, wide, rounds)
        recovery = await Recovery.of(stage, 20)
    async with a_stage(folder / "silent", is_silent=True) as stage:
        silent = await Rates.of(stage, asked.subtasks)
        ten = await fan_outs(stage.submitter, 10, asked.rounds)
    for title, one, wait in (
        ("Atlas", rates, waits[10]),
        ("Atlas, starts not reported", silent, ten),
    ):
        lines.append(
            f"| {title} | {one.subtasks_per_s:,.0f} | {one.tasks_per_s:,.0f} "
            f"| {statistics.median(wait):,.1f} | {one.cpu_ms:.2f} |"
        )
    lines += await asyncio.to_thread(peers, asked, rates)
    told = ", ".join(
        f"{wide:,}: {statistics.median(wait):,.1f} ms ({len(wait)} rounds)"
        for wide, wait in waits.items()
    )
    lines.append(f"\nFrom submitting a fan-out to its terminal event, p50: {told}.")
    lines.append(
        f"\nAfter `kill -9` of the only controller, another started at once: ready after "
        f"{recovery.ready_s:.2f} s, the first new entry in a log after {recovery.moving_s:.2f} s, "
        f"all 20 tasks of 100 subtasks, half done at the kill, complete after "
        f"{recovery.completed_s:.2f} s."
    )
    few_s, many_s = await readiness(folder / "finished", asked.finished)
    lines.append(
        f"\nA new controller is ready {many_s:.2f} s after the kill with {asked.finished:,} "
        f"finished tasks in the log, {few_s:.2f} s with twenty."
    )
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subtasks", type=int, default=2_000, help="of each throughput figure")
    parser.add_argument("--rounds", type=int, default=15, help="of a fan-out of 10")
    parser.add_argument("--finished", type=int, default=2_000, help="tasks in the log")
    parser.add_argument("--queued", type=int, default=500, help="DBOS's workflows")
    parser.add_argument("--save", action="store_true", help="write results/tasks.md")
    given = parser.parse_args()
    asked = Asked(given.subtasks, given.rounds, given.finished, given.queued)
    with tempfile.TemporaryDirectory() as name:
        report = uvloop.run(measure(asked, Path(name)))
    print(report)
    if given.save:
        where = conditions(f"python -m benchmarks.tasks {' '.join(sys.argv[1:])}")
        save("tasks", f"# Tasks\n\n{where}\n\n{report}")


if __name__ == "__main__":
    main()
