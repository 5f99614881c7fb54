"""Stored publishes at wire speed, without silent loss (design B3).

JetStream drops what exceeds its ingest buffer (10,000 messages by default, of all publishers
together) and tells only a publisher that asks. So every so many messages one publish asks for its
acknowledgement, and the messages sent but not known to be stored are bounded for the whole router.
A late acknowledgement slows the pumps, and they slow the providers. All publishes of a router take
one connection into one JetStream stream, so an acknowledgement comes after everything sent before
was stored, or dropped.

How much JetStream takes nobody tells, nor how many others publish. So a refused message halves the
bound, and acknowledgements widen it again, one each (as TCP does); and while more than half of the
bound is unanswered every message asks, so that where much is dropped some of it is told. That
*nothing* was dropped only history can tell: a stream asks it before it says so (`writer`).
"""

import asyncio

import structlog
from nats.aio.msg import Msg

from atlas.bus import Bus
from atlas.contracts.errors import StoreRefusedError
from atlas.wire import read_ack

_ASK_EVERY = 64
_ASK_AFTER_S = 0.05
_LEAST_BOUND = 16
_ANSWER_S = 10.0
"""A full window whose acknowledgements take longer counts as lost; streams then look it up."""

log = structlog.get_logger("atlas.window")


class PublishWindow:
    """Counts what was sent and what was answered; numbers rise over all streams."""

    def __init__(self, bus: Bus, bound: int) -> None:
        self._bus = bus
        self._widest = self._bound = bound
        self._inbox = bus.nats.new_inbox()
        self._room = asyncio.Event()
        self._room.set()
        self._news = asyncio.Event()
        self._last_ask_s = 0.0
        self._narrowed_at = 0
        self.sent = 0
        self.passed = 0
        """Up to this number all was stored or dropped."""
        self.losses = 0
        """Rises when the connection was lost, and what was on the way with it."""
        self.refusals = 0
        """Rises when a message was dropped, and others may be; streams then ask history."""

    async def open(self) -> None:
        """Start listening for acknowledgements."""
        await self._bus.subscribe(f"{self._inbox}.*", self._answered)
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
        while not self._room.is_set():
            await self._wait(self._room)
        self.sent = number = self.sent + 1
        waiting = number - self.passed
        now_s = asyncio.get_running_loop().time()
        if (
            number % _ASK_EVERY
            and now_s - self._last_ask_s < _ASK_AFTER_S
            and waiting <= self._bound // 2
            and not asks
        ):
            await self._bus.publish(subject, data)
            return number
        self._last_ask_s = now_s
        if waiting >= self._bound:  # its own answer opens it again
            self._room.clear()
        await self._bus.publish(subject, data, reply=f"{self._inbox}.{number}")
        return number

    async def news(self) -> None:
        """Wait until more is known to be stored, or something is lost."""
        await self._wait(self._news)

    async def _wait(self, event: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(_ANSWER_S):
                await event.wait()
        except TimeoutError:
            log.warning("store_silent", unanswered=self.sent - self.passed)
            self._lost()

    async def _answered(self, msg: Msg) -> None:
        number = int(msg.subject.rpartition(".")[2])
        try:
            read_ack(msg.subject, msg.data)
        except StoreRefusedError:
            self._narrow(number)
            self._room.set()  # for one that asks again; this answer overtook others
            self._tell_news()
            return
        self._bound = min(self._bound + 1, self._widest)
        self.passed = max(self.passed, number)
        if self.sent - self.passed < self._bound:
            self._room.set()
        self._tell_news()

    def _narrow(self, number: int) -> None:
        """Send less at a time, halved once for all that was on the way together."""
        self.refusals += 1
        if number > self._narrowed_at:
            self._narrowed_at = self.sent
            self._bound = max(self._bound // 2, _LEAST_BOUND)
            log.warning("store_overrun", number=number, window=self._bound)

    def _lost(self) -> None:
        """The connection is gone and with it what was on the way."""
        self.losses += 1
        self.passed = self.sent
        self._room.set()
        self._tell_news()

    def _tell_news(self) -> None:
        """Wake those who wait now; who comes later waits for the next."""
        self._news.set()
        self._news.clear()
