"""Content that waits to become an event, and the alarm that ends its waiting.

Only streams whose request asks for joining by time, size or delimiter have one. It shares the lock
of its writer: what is due is published between two writes, never within one.
"""

import asyncio
from collections.abc import Awaitable, Callable

from atlas.contracts.errors import AtlasError
from atlas.contracts.flow import BufferOptions
from provider_router.streaming.encoding import Content
from provider_router.streaming.joining import Joiner

type Publish = Callable[[Content], Awaitable[None]]


class Held:
    """What a stream holds back. But for `close`, call it with the writer's lock."""

    def __init__(self, options: BufferOptions, publish: Publish, lock: asyncio.Lock) -> None:
        self._joiner = Joiner(options)
        self._publish = publish
        self._lock = lock
        self._alarm: asyncio.TimerHandle | None = None
        self._releasing: asyncio.Task[None] | None = None
        self._failure: AtlasError | None = None

    def take(self, contents: list[Content]) -> list[Content]:
        """Take content; gives the events that are complete.

        Raises:
            AtlasError: What was due before could not be published.
        """
        self.check()
        events = self._joiner.add(contents, asyncio.get_running_loop().time())
        self._set_alarm()
        return events

    async def release(self) -> None:
        """Publish what is held."""
        for one in self._joiner.flush():
            await self._publish(one)

    def check(self) -> None:
        """Raise what the release of something due met."""
        if self._failure is not None:
            raise self._failure

    async def close(self) -> None:
        """Drop what is held: the stream has ended, or goes on elsewhere."""
        async with self._lock:
            self._joiner.flush()
            if self._alarm is not None:
                self._alarm.cancel()
        if self._releasing is not None:
            await self._releasing

    def _set_alarm(self) -> None:
        """Have what is held released when it is due, unless an earlier alarm looks after it."""
        if self._joiner.due_s is not None and self._alarm is None:
            loop = asyncio.get_running_loop()
            self._alarm = loop.call_at(self._joiner.due_s, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._releasing = asyncio.create_task(self._release_due())

    async def _release_due(self) -> None:
        try:
            async with self._lock:
                due_s = self._joiner.due_s
                if due_s is not None and due_s <= asyncio.get_running_loop().time():
                    await self.release()
                self._set_alarm()
        except AtlasError as error:  # the next write meets it, and decides
            self._failure = error
