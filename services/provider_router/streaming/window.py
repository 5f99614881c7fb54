"""Stored publishes at wire speed, without silent loss (design B3).

JetStream drops what exceeds its ingest buffer (10,000 messages by default) and tells only a
publisher that asks. So every so many messages one publish asks for its acknowledgement, and the
messages sent but not known to be stored are bounded for the whole router. A late acknowledgement
slows the pumps, and they slow the providers. All publishes of a router take one connection into
one JetStream stream, so an acknowledgement speaks for everything sent before it.
"""

import asyncio
from collections import deque

import structlog
from nats.aio.msg import Msg

from atlas.bus import Bus
from atlas.contracts.errors import StoreRefusedError
from atlas.wire import read_ack

_ASK_EVERY = 64
_ASK_AFTER_S = 0.05
_ANSWER_S = 10.0
"""A full window whose acknowledgements take longer counts as lost; streams then look it up."""

log = structlog.get_logger("atlas.window")


class PublishWindow:
    """Counts what was sent and what is known to be stored; numbers rise over all streams."""

    def __init__(self, bus: Bus, bound: int) -> None:
        self._bus = bus
        self._bound = bound
        self._inbox = bus.nats.new_inbox()
        self._asked: deque[int] = deque()
        self._room = asyncio.Event()
        self._room.set()
        self._news = asyncio.Event()
        self._last_ask_s = 0.0
        self.sent = 0
        self.stored = 0
        self.losses = 0
        """Rises when something sent may be lost; streams then check what history holds."""

    async def open(self) -> None:
        """Start listening for acknowledgements."""
        await self._bus.subscribe(f"{self._inbox}.*", self._acknowledged)
        self._bus.on_disconnect(self._lost)

    async def publish(self, subject: str, data: bytes, *, asks: bool = False) -> int:
        """Send one message; gives its number. Waits while the window is full.

        Args:
            subject: Where it is stored.
            data: What is stored.
            asks: Whether somebody waits until it is.

        Raises:
            ConnectionFailedError: NATS is away and its buffer is full.
        """
        if not self._room.is_set():
            await self._wait(self._room)
        self.sent = number = self.sent + 1
        now_s = asyncio.get_running_loop().time()
        if number % _ASK_EVERY and now_s - self._last_ask_s < _ASK_AFTER_S and not asks:
            await self._bus.publish(subject, data)
        else:
            self._last_ask_s = now_s
            self._asked.append(number)
            await self._bus.publish(subject, data, reply=f"{self._inbox}.{number}")
        if number - self.stored >= self._bound:
            self._room.clear()
        return number

    async def news(self) -> None:
        """Wait until more is known to be stored, or something is lost."""
        await self._wait(self._news)

    async def _wait(self, event: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(_ANSWER_S):
                await event.wait()
        except TimeoutError:
            log.warning("store_silent", unanswered=self.sent - self.stored)
            self._lost()

    async def _acknowledged(self, msg: Msg) -> None:
        number = int(msg.subject.rpartition(".")[2])
        try:
            read_ack(msg.subject, msg.data)
        except StoreRefusedError:
            self.losses += 1
        self.stored = max(self.stored, number)
        while self._asked and self._asked[0] <= number:
            self._asked.popleft()
        if self.sent - self.stored < self._bound:
            self._room.set()
        self._tell_news()

    def _lost(self) -> None:
        """The connection is gone and with it what was on the way."""
        self.losses += 1
        self._asked.clear()
        self.stored = self.sent
        self._room.set()
        self._tell_news()

    def _tell_news(self) -> None:
        """Wake those who wait now; who comes later waits for the next."""
        self._news.set()
        self._news.clear()
