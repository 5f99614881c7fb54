"""Following one stream to its end, whatever connection breaks in between.

It folds what JetStream stored, in the stored order: live messages as long as each names the one
before it, and a read of the history where one is missing or nothing came for a while.
"""

import asyncio
import time
from collections.abc import Mapping

from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.errors import ProviderTimeoutError, StreamGapError
from atlas.contracts.streams import STREAM_EVENT, StreamState
from atlas.reading import Reading, Verdict

_POLL_S = 2.0
"""After so much quiet history is looked at: a message may have been lost in a reconnect."""
_PENDING = 8_192
_UNHURRIED = (StreamState.QUEUED, StreamState.PAUSED)
"""States in which silence is in order: no router is free, or somebody paused."""


class StreamFollower:
    """One stream as far as it was followed. Open it, follow it `to_end`, close it."""

    def __init__(self, bus: Bus, tenant: str, stream_id: str) -> None:
        self._bus = bus
        self._chunks = subjects.stream_chunk(tenant, stream_id)
        self._history = subjects.stream_write(tenant, stream_id)
        self._stream_id = stream_id
        self._last_stored = 0
        self._sub: Subscription | None = None
        self.reading = Reading()

    async def open(self) -> None:
        """Listen, then read what is there already."""
        self._sub = await self._bus.open(self._chunks, pending=_PENDING)
        await self._catch_up()

    async def close(self) -> None:
        """Stop listening."""
        if self._sub is not None:
            try:
                await self._sub.unsubscribe()
            except NatsError:  # the connection is closed, and the subscription with it
                self._sub = None

    async def to_end(self, silence_s: float) -> Reading:
        """The stream after its terminal event.

        Raises:
            ProviderTimeoutError: An active stream fell silent for `silence_s`.
            StreamGapError: A part of it is lost.
        """
        heard_at = time.monotonic()
        while self.reading.terminal is None:
            before = (self.reading.epoch, self.reading.seq)
            await self._step(min(_POLL_S, silence_s / 3))
            is_moving = (self.reading.epoch, self.reading.seq) != before
            if is_moving or self.reading.state in _UNHURRIED:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > silence_s:
                raise ProviderTimeoutError(
                    f"stream {self._stream_id!r} fell silent for {silence_s:g} s after event "
                    f"{self.reading.seq}"
                )
        if not self.reading.is_whole():
            raise StreamGapError(
                f"the text of stream {self._stream_id!r} is not what its last event says it is"
            )
        return self.reading

    async def _step(self, wait_s: float) -> None:
        assert self._sub is not None  # noqa: S101 - `open` comes first
        try:
            msg = await self._sub.next_msg(timeout=wait_s)
        except (NatsTimeoutError, TimeoutError):
            await self._catch_up()
            return
        except NatsError:  # the connection is gone; history has the rest once it is back
            await self._bus.wait_connected(timeout_s=60)
            await asyncio.sleep(_POLL_S)
            await self._catch_up()
            return
        stored, before = place(msg.headers or {})
        if stored <= self._last_stored:
            return
        if before == self._last_stored:
            self._take(msg.data, stored)
        else:
            await self._catch_up()

    async def _catch_up(self) -> None:
        history = self._bus.read(subjects.STREAMS, self._history, from_seq=self._last_stored + 1)
        async for entry in history:
            self._take(entry.data, entry.seq)

    def _take(self, data: bytes, stored: int) -> None:
        self._last_stored = stored
        if self.reading.take(STREAM_EVENT.validate_json(data)) is Verdict.GAP:
            raise StreamGapError(
                f"stream {self._stream_id!r}: events from {self.reading.next_seq} on are missing "
                "in its history too"
            )


def place(headers: Mapping[str, str]) -> tuple[int, int]:
    """Where a republished message stands in its stream, and which one stands before it."""
    return int(headers.get("Nats-Sequence", 0)), int(headers.get("Nats-Last-Sequence", -1))
