"""The pen of an owned stream: it numbers events, publishes them and survives NATS going away.

Deltas go out unacknowledged through the publish window; `stream.started`, `stream.adopted` and the
terminal event are fenced by the ownership and awaited (design B3). What is not yet known to be
stored stays in an outbox. When the connection is lost the writer takes a new ownership, says
`stream.adopted` from the last event that history holds without a gap, and writes the outbox again
under the new epoch: what the lost connection delivered late is then ignored by the reading rule.
"""

import asyncio
from collections import deque

import structlog

from atlas.bus import Bus
from atlas.contracts.base import now_ms
from atlas.contracts.errors import (
    AtlasError,
    ConnectionFailedError,
    FencedError,
    NoResponderError,
    RequestTimeoutError,
    StoreRefusedError,
)
from atlas.contracts.streams import NextStep, StreamAdopted, StreamEvent
from atlas.reading import Reading
from provider_router.streaming.encoding import Content, encode_content
from provider_router.streaming.making import MakeEvent
from provider_router.streaming.store import Claim, StreamAddress, StreamStore
from provider_router.streaming.window import PublishWindow

_RETRY_S = 0.2
_OUTAGE_S = 300.0
"""How long a stream waits for NATS before it is given up."""

_MAY_PASS = (RequestTimeoutError, ConnectionFailedError, NoResponderError, StoreRefusedError)
"""What a server says, or fails to say, while it goes down, comes up, or has no room."""

log = structlog.get_logger("atlas.writer")


class OwnershipLostError(FencedError):
    """Another router owns the stream; say nothing more on its behalf."""

    code = "ownership_lost"


class StreamOverError(AtlasError):
    """The stream has its terminal event already."""

    code = "stream_over"


class HistoryLostError(StoreRefusedError):
    """History lacks events that were known to be stored; the attempt begins anew."""

    code = "history_lost"


class StreamWriter:
    """Writes one stream for as long as its claim stands."""

    def __init__(
        self,
        store: StreamStore,
        window: PublishWindow,
        address: StreamAddress,
        claim: Claim,
        reading: Reading,
    ) -> None:
        self._store = store
        self._window = window
        self._address = address
        self._subject = address.write
        self._claim = claim
        self._lock = asyncio.Lock()
        self._outbox: deque[tuple[int, int, Content | MakeEvent]] = deque()
        self._losses = window.losses
        self._confirmed = reading.seq
        self._in_history = reading.seq
        self._trouble_since_s: float | None = None
        self.seq = reading.seq
        self.attempt = reading.attempt

    @property
    def epoch(self) -> int:
        """The epoch it writes under."""
        return self._claim.ownership.epoch

    def at_rest(self) -> asyncio.Lock:
        """Held, nothing of this stream is on its way into NATS."""
        return self._lock

    async def content(self, contents: list[Content]) -> None:
        """Publish content events, one each, without waiting for storage."""
        async with self._lock:
            for one in contents:
                await self._send(one)

    async def event(self, make: MakeEvent) -> None:
        """Publish any other event that needs no fence, without waiting for storage."""
        async with self._lock:
            await self._send(make)

    async def fenced(self, make: MakeEvent) -> StreamEvent:
        """Store an event while the claim stands, and wait until it is there.

        Raises:
            OwnershipLostError: The stream belongs to another router.
            StreamOverError: The stream has ended.
        """
        async with self._lock:
            while True:
                await self._heal()
                tried = self.seq + 1
                event = make(self._address.stream_id, tried, self.epoch)
                try:
                    await self._store.append_fenced(self._address, self._claim, event)
                except FencedError as error:
                    raise self._lost() from error
                except _MAY_PASS as error:
                    await self._wait_for_nats(error)
                    self._losses = -1  # stored or not? history tells
                    await self._heal()
                    if self._in_history >= tried:
                        return event
                    continue
                self._trouble_since_s = None
                self.seq = self._confirmed = tried
                self._outbox.clear()
                return event

    async def adopt(self, attempt: int, next_step: NextStep | None) -> None:
        """Say that the stream has a new owner and that attempt number `attempt` comes next."""

        def adopted(stream_id: str, seq: int, epoch: int) -> StreamEvent:
            return StreamAdopted(
                stream_id=stream_id,
                seq=seq,
                epoch=epoch,
                at_ms=now_ms(),
                from_seq=seq - 1,
                attempt=attempt,
                next=next_step,
            )

        await self.fenced(adopted)

    async def _send(self, item: Content | MakeEvent) -> None:
        while True:
            await self._heal()
            try:
                await self._put(item)
            except ConnectionFailedError as error:
                await self._wait_for_nats(error)
            else:
                return

    async def _put(self, item: Content | MakeEvent) -> None:
        seq = self.seq + 1
        number = await self._publish(seq, item)
        self.seq = seq
        outbox, stored = self._outbox, self._window.stored
        if self._losses == self._window.losses:
            while outbox and outbox[0][0] <= stored:
                self._confirmed = outbox.popleft()[1]
        outbox.append((number, seq, item))

    async def _publish(self, seq: int, item: Content | MakeEvent) -> int:
        if callable(item):
            data = item(self._address.stream_id, seq, self.epoch).to_json()
        else:
            data = encode_content(self._address.stream_id, seq, self.epoch, item)
        return await self._window.publish(self._subject, data)

    async def _heal(self) -> None:
        """Write again what the window lost; cheap when nothing was."""
        while self._losses != self._window.losses:
            losses = self._window.losses
            try:
                await self._bus.wait_connected(_OUTAGE_S)
                reading = await self._take_again()
                is_lost = reading.seq < self._confirmed
                if is_lost:
                    self._outbox.clear()
                if reading.seq or self._outbox:
                    await self._write_again(reading.seq, "restart" if is_lost else "continue")
            except OwnershipLostError:
                raise
            except _MAY_PASS as error:
                await self._wait_for_nats(error)
                continue
            self._losses, self._trouble_since_s = losses, None
            if is_lost:
                raise HistoryLostError(
                    f"history of stream {self._address.stream_id} lacks events that were stored; "
                    "has the NATS server lost its disk?"
                )

    async def _take_again(self) -> Reading:
        try:
            self._claim = await self._store.claim(
                self._address,
                self._claim,
                request_seq=self._claim.ownership.request_seq,
                request_sha256=self._claim.ownership.request_sha256,
            )
        except FencedError as error:
            raise self._lost() from error
        reading = await self._store.reading(self._address)
        self._in_history = reading.seq
        if reading.terminal is not None:
            raise StreamOverError(f"stream {self._address.stream_id} has ended")
        return reading

    async def _write_again(self, from_seq: int, step: NextStep) -> None:
        """Adopt the stream anew and publish the outbox after what history holds.

        The outbox is numbered before anything is sent, so that whatever fails here, the next try
        finds each event with the seq under which it may have been stored.
        """
        items = [item for _, seq, item in self._outbox if seq > from_seq]
        adopted_seq = from_seq + 1
        self._outbox = deque(
            (self._window.sent, adopted_seq + place, item)
            for place, item in enumerate(items, start=1)
        )
        self._confirmed, self.seq = from_seq, adopted_seq + len(items)
        adopted = StreamAdopted(
            stream_id=self._address.stream_id,
            seq=adopted_seq,
            epoch=self.epoch,
            at_ms=now_ms(),
            from_seq=from_seq,
            attempt=max(self.attempt, 1),
            next=step,
        )
        try:
            await self._store.append_fenced(self._address, self._claim, adopted)
        except FencedError as error:
            raise self._lost() from error
        sent = [(await self._publish(seq, item), seq, item) for _, seq, item in self._outbox]
        self._outbox = deque(sent)
        log.info("stream_written_again", stream=self._address.stream_id, events=len(items))

    def _lost(self) -> OwnershipLostError:
        return OwnershipLostError(
            f"stream {self._address.stream_id} belongs to another router by now"
        )

    async def _wait_for_nats(self, error: AtlasError) -> None:
        """Wait before another try.

        Raises:
            AtlasError: `error`, once the trouble has lasted too long.
        """
        now_s = asyncio.get_running_loop().time()
        if self._trouble_since_s is None:
            self._trouble_since_s = now_s
            log.info("waiting_for_nats", stream=self._address.stream_id, error=error.message)
        elif now_s - self._trouble_since_s > _OUTAGE_S:
            raise error
        await asyncio.sleep(_RETRY_S)
        await self._bus.wait_connected(_OUTAGE_S)

    @property
    def _bus(self) -> Bus:
        return self._store.bus
