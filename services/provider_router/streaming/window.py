"""Stored publishes at wire speed, without silent loss (design B3).

JetStream drops what exceeds its ingest buffer (10,000 messages by default, of all publishers
together) and tells only a publisher that asks. So every so many messages one publish asks for its
acknowledgement, and the messages sent but not known to be stored are bounded for the whole router.
A late acknowledgement slows the pumps, and they slow the providers. All publishes of a router take
one connection into one JetStream stream, so an acknowledgement comes after everything sent before
was stored, or dropped.

How much JetStream takes nobody tells, nor how many others publish. So a refused message halves the
bound, and acknowledgements widen it again, one each (as TCP does); and while more than half of the
bound is unanswered many more ask, of a narrow window all, so that where much is dropped some of it
is told. That
*nothing* was dropped only history can tell: a stream asks it before it says so (`writer`).
"""

import asyncio
from collections import deque

import structlog
from nats.aio.msg import Msg

from atlas.bus import Bus
from atlas.contracts.errors import StoreRefusedError
from atlas.wire import read_ack

_ASK_EVERY = 64
_ASKS_A_FULL_WINDOW = 128
"""So many of a full window ask, once half of it is unanswered."""
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
        self._queue: deque[asyncio.Future[None]] = deque()
        """Who waits for room, in the order of coming, so that no stream starves."""
        self._granted = 0
        """Of those the ones that have room, and did not use it yet."""
        self._extra = 0
        """Room beyond the bound: for one that asks again after a refusal."""
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
        if self._queue or not self._has_room:
            await self._turn()
        self.sent = number = self.sent + 1
        waiting = number - self.passed
        now_s = asyncio.get_running_loop().time()
        every = _ASK_EVERY
        if waiting > self._bound // 2:
            every = max(1, self._bound // _ASKS_A_FULL_WINDOW)
        is_last = waiting >= self._bound  # its own answer makes room again
        if number % every and now_s - self._last_ask_s < _ASK_AFTER_S and not (asks or is_last):
            await self._bus.publish(subject, data)
            return number
        self._last_ask_s = now_s
        await self._bus.publish(subject, data, reply=f"{self._inbox}.{number}")
        return number

    async def news(self) -> None:
        """Wait until more is known to be stored, or something is lost."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self._news.wait()
        except TimeoutError:
            self._silent()

    @property
    def _has_room(self) -> bool:
        return self.sent + self._granted - self.passed < self._bound + self._extra

    async def _turn(self) -> None:
        """Wait for room, behind those who came before."""
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            async with asyncio.timeout(_ANSWER_S):
                await turn
        except TimeoutError:
            self._silent()
        except asyncio.CancelledError:
            if not turn.cancelled():  # called already: another may come
                self._granted -= 1
                self._let_in()
            raise
        else:
            self._granted -= 1

    def _let_in(self) -> None:
        """Call as many of those who wait as there is room for."""
        while self._queue and self._has_room:
            turn = self._queue.popleft()
            if not turn.done():
                self._granted += 1
                turn.set_result(None)

    def _silent(self) -> None:
        log.warning("store_silent", unanswered=self.sent - self.passed)
        self._lost()

    async def _answered(self, msg: Msg) -> None:
        number = int(msg.subject.rpartition(".")[2])
        try:
            read_ack(msg.subject, msg.data)
        except StoreRefusedError:
            self._narrow(number)  # this answer overtook others: let one ask again
            self._extra = max(0, self.sent + self._granted - self.passed - self._bound + 1)
        else:
            self._bound, self._extra = min(self._bound + 1, self._widest), 0
            self.passed = max(self.passed, number)
        self._let_in()
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
        self._let_in()
        self._tell_news()

    def _tell_news(self) -> None:
        """Wake those who wait now; who comes later waits for the next."""
        self._news.set()
        self._news.clear()
