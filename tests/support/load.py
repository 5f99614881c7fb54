"""Streams and tasks at a steady pace, each accepted once, and what became of them."""

import asyncio
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from atlas import subjects
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.contracts.errors import NoResponderError
from atlas.contracts.ids import new_id
from tests.support.router import TERMINAL

_EVERY_S = 0.2
_TASK_EVERY = 4
"""Streams asked for between two tasks."""
_TASK_ENDS = {"task.completed", "task.failed", "task.cancelled"}


@dataclass
class Load:
    """What was asked for, and how it ended for whoever asked."""

    atlas: Atlas
    streams: Counter[str] = field(default_factory=Counter)
    tasks: Counter[str] = field(default_factory=Counter)
    texts: set[str] = field(default_factory=set)
    task_ids: set[str] = field(default_factory=set)
    streams_in_flight: int = 0
    tasks_in_flight: int = 0
    refused: int = 0
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, group: asyncio.TaskGroup) -> None:
        """Ask until it is cancelled; what was asked for goes on in the group."""
        for number in itertools.count():
            group.create_task(self._stream())
            if number % _TASK_EVERY == 0:
                group.create_task(self._task())
            await asyncio.sleep(_EVERY_S)

    async def _accepted[Asked](self, ask: Callable[[], Awaitable[Asked]]) -> Asked:
        """Ask until it is accepted: a NATS server that starts has stored nothing, and says so."""
        while True:
            try:
                return await ask()
            except NoResponderError:
                self.refused += 1
                await asyncio.sleep(_EVERY_S)

    async def _stream(self) -> None:
        self.streams_in_flight += 1
        own = new_id()
        async with AsyncExitStack() as stack:
            stream = await self._accepted(
                lambda: stack.enter_async_context(
                    self.atlas.stream("Tell me of the sea", stream_id=own)
                )
            )
            answer = await stream.result()
        self.streams_in_flight -= 1
        self.streams[answer.finish_reason] += 1
        self.texts.add(answer.content)

    async def _task(self) -> None:
        self.tasks_in_flight += 1
        own = new_id()
        task = await self._accepted(
            lambda: self.atlas.submit("Compare three lakes", pattern="parallel", task_id=own)
        )
        self.task_ids.add(task.task_id)
        self.begun.set()
        self.tasks[(await task.result()).type] += 1
        self.tasks_in_flight -= 1


@asynccontextmanager
async def under_load(atlas: Atlas) -> AsyncIterator[Load]:
    """Load while the block runs; what was asked for by then has ended after it."""
    load = Load(atlas)
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(load.ask(group))
        await load.begun.wait()
        yield load
        asking.cancel()


@dataclass(frozen=True, slots=True)
class Stored:
    """What NATS holds of every stream and task."""

    stream_ends: dict[str, list[str]]
    task_ends: dict[str, list[str]]
    results: Counter[tuple[str, str]]
    """How often the result of a subtask was taken."""
    types: Counter[str]

    def wrong(self, load: Load) -> list[str]:
        """What was lost, or done twice."""
        found = [
            f"{id_} has the ends {ends}"
            for id_, ends in {**self.stream_ends, **self.task_ends}.items()
            if len(ends) != 1
        ]
        found += [
            f"task {task_id} ended with {self.task_ends.get(task_id)}"
            for task_id in load.task_ids
            if self.task_ends.get(task_id) != ["task.completed"]
        ]
        found += [
            f"the result of subtask {subtask_id} of task {task_id} was taken {count} times"
            for (task_id, subtask_id), count in self.results.items()
            if count > 1
        ]
        return found


async def stored(bus: Bus) -> Stored:
    """Read all of it."""
    stream_ends: dict[str, list[str]] = defaultdict(list)
    task_ends: dict[str, list[str]] = defaultdict(list)
    results: Counter[tuple[str, str]] = Counter()
    types: Counter[str] = Counter()
    async for one in bus.read(subjects.STREAMS, subjects.STREAM_WRITE_ALL):
        event = json.loads(one.data)
        types[event["type"]] += 1
        ends = stream_ends[event["stream_id"]]
        if event["type"] in TERMINAL:
            ends.append(event["type"])
    async for one in bus.read(subjects.TASKS, subjects.TASK_WRITE_ALL):
        entry = json.loads(one.data)
        types[entry["type"]] += 1
        ends = task_ends[entry["task_id"]]
        if entry["type"] in _TASK_ENDS:
            ends.append(entry["type"])
        if entry["type"] == "subtask.succeeded":
            results[entry["task_id"], entry["subtask_id"]] += 1
    return Stored(stream_ends, task_ends, results, types)
