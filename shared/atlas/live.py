"""Live messages of one subject, held for one reader, and the short way by which they come.

In nats-py's own queue a message costs the parsing of its five headers, letter by letter, and a
task, a timer and a UUID when it is read: 25 µs, measured. Here its bytes go from the parser into a
deque, and the reader is woken once for all that came together. What a slow reader leaves lying is
bounded by bytes: beyond the bound messages are dropped, and `is_missing` says so. So only what
can be read again from history may be read through it.
"""

import asyncio
import contextlib
from collections import deque
from typing import Protocol, Self

import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error

from atlas.contracts.errors import ConnectionFailedError
from atlas.nats_client import NatsClient

BOUND_BYTES = 8 * 2**20
"""Held for a slow reader; a message is counted with what it costs beside its own bytes."""

_OVERHEAD_BYTES = 64

log = structlog.get_logger("atlas.live")


class Reader(Protocol):
    """Who takes messages as the parser finds them."""

    def hold(self, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        """Take a message; must not block."""
        ...

    def wake(self) -> None:
        """Look again: the connection was closed."""
        ...


class LiveClient(NatsClient):
    """A client with a short way for messages, past the queue of their subscription.

    `_process_msg` is what nats-py's parser calls for each message. Were it renamed, messages would
    come by the subscription's callback: slower, and the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lives: dict[int, Reader] = {}
        """Who gets the bytes, by the id of the subscription."""

    async def lay(self, subject: str, reader: Reader) -> Subscription:
        """Subscribe; what the server sends from now on goes to `reader`."""

        async def heard(message: Msg) -> None:
            """What comes before the short way is laid, while `subscribe` still sends."""
            reader.hold(message.subject.encode(), message.reply.encode(), message.data, None)

        subscription = await self.subscribe(subject, cb=heard)
        self.lives[subscription._id] = reader  # noqa: SLF001 - nats-py has no other name
        return subscription

    async def lift(self, subscription: Subscription) -> None:
        """Give a subscription back that was laid."""
        self.lives.pop(subscription._id, None)  # noqa: SLF001 - as above
        with contextlib.suppress(Error):  # the connection is gone, and it with it
            await subscription.unsubscribe()

    def wake(self) -> None:
        """Let every reader that waits look again: the connection was closed."""
        for live in self.lives.values():
            live.wake()

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        live = self.lives.get(sid)
        if live is None:
            await super()._process_msg(sid, subject, reply, data, headers)
        else:
            live.hold(subject, reply, data, headers)


class Live:
    """A subscription; made by `Bus.listen`, given back by `close`."""

    def __init__(self, nats: LiveClient, subject: str, bound_bytes: int) -> None:
        self._nats = nats
        self._subject = subject
        self._bound_bytes = bound_bytes
        self._held: deque[bytes] = deque()
        self._held_bytes = 0
        self._came = asyncio.Event()
        self._subscription: Subscription | None = None
        self._is_told = False
        self.is_missing = False
        """Whether something was dropped; whoever reads on from history sets it back."""

    @classmethod
    async def open(cls, nats: LiveClient, subject: str, bound_bytes: int) -> Self:
        """Subscribe; what the server sends from now on is held."""
        live = cls(nats, subject, bound_bytes)
        live._subscription = await nats.lay(subject, live)
        return live

    def hold(self, _subject: bytes, _reply: bytes, data: bytes, _headers: bytes | None) -> None:
        """Keep a message for the reader, or drop it where there is no room."""
        size = len(data) + _OVERHEAD_BYTES
        if self._held and self._held_bytes + size > self._bound_bytes:
            self._drop()
            return
        self._held.append(data)
        self._held_bytes += size
        self._came.set()

    def _drop(self) -> None:
        self.is_missing = True
        if not self._is_told:  # once, and not for every message that follows
            self._is_told = True
            log.info("slow_reader", subject=self._subject, action="healing from history")

    def take(self) -> bytes | None:
        """The next message, or None when none is held."""
        if not self._held:
            return None
        data = self._held.popleft()
        self._held_bytes -= len(data) + _OVERHEAD_BYTES
        return data

    async def wait(self, timeout_s: float) -> bool:
        """Wait until something is held; False when nothing came in time.

        Raises:
            ConnectionFailedError: The connection was closed.
        """
        if not self._held and not self._nats.is_closed:
            self._came.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._came.wait()
        if not self._held and self._nats.is_closed:
            raise ConnectionFailedError(f"{self._subject}: the connection to NATS was closed")
        return bool(self._held)

    def wake(self) -> None:
        """Let the reader look again, if it waits."""
        self._came.set()

    async def close(self) -> None:
        """Give the subscription back."""
        if self._subscription is not None:
            await self._nats.lift(self._subscription)
            self._subscription = None
