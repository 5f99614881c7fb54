"""Streams and tasks that go on while a test does something to those who carry them."""

import asyncio
import itertools
from collections import Counter
from dataclasses import dataclass, field

from atlas.client import Atlas

_EVERY_S = 0.2


@dataclass
class Load:
    """Streams and tasks, one of each every so often, asked for once and never again."""

    atlas: Atlas
    stream_states: Counter[str] = field(default_factory=Counter)
    task_states: Counter[str] = field(default_factory=Counter)
    texts: set[str] = field(default_factory=set)
    at_work: int = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Until it is told to stop, and all that was asked for has ended."""
        async with asyncio.TaskGroup() as group:
            for number in itertools.count():
                if stop.is_set():
                    return
                group.create_task(self._stream())
                if number % 4 == 0:
                    group.create_task(self._task())
                await asyncio.sleep(_EVERY_S)

    async def _stream(self) -> None:
        self.at_work += 1
        async with self.atlas.stream("Tell me of the sea") as stream:
            answer = await stream.result()
        self.at_work -= 1
        self.stream_states[answer.finish_reason] += 1
        self.texts.add(answer.content)

    async def _task(self) -> None:
        self.at_work += 1
        task = await self.atlas.submit("Compare three lakes", pattern="parallel")
        self.task_states[(await task.result()).type] += 1
        self.at_work -= 1
