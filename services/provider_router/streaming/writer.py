"""The pen of an owned stream: it numbers events, publishes them and survives NATS going away.

Deltas go out unacknowledged through the publish window; the first event under a claim, an attempt's
start and the end are fenced by the ownership and awaited (design B3). What history was not seen to
hold stays in an outbox: it is asked every so many events, before a fenced one, and when JetStream
dropped something. Where it lacks something, or the connection was lost, the writer takes a new
ownership, says `stream.adopted` from the last event that history holds without a gap, and writes
the outbox again under the new epoch: what comes late under the old one is ignored by the rule.
"""

import asyncio

import structlog

from atlas.contracts.base import now_ms
from atlas.contracts.errors import (
    ConnectionFailedError,
    FencedError,
    StoreRefusedError,
)
from atlas.contracts.flow import MOST_UNSTORED_BYTES, BufferOptions
from atlas.contracts.streams import (
    NextStep,
    StreamAdopted,
    StreamCancelled,
    StreamCompleted,
    StreamEvent,
    StreamFailed,
    TerminalStreamEvent,
)
from atlas.reading import Reading, Verdict
from provider_router.streaming.encoding import Content
from provider_router.streaming.evidence import Evidence, is_same
from provider_router.streaming.held import Held
from provider_router.streaming.making import MakeEvent
from provider_router.streaming.outage import Outage
from provider_router.streaming.outbox import Item, Outbox, encoded
from provider_router.streaming.store import Claim, StreamAddress, StreamStore
from provider_router.streaming.window import PublishWindow
from provider_router.streaming.write_errors import (
    MAY_PASS,
    HistoryLostError,
    OwnershipLostError,
    StreamOverError,
)

_RETRY_S = 0.2
_UNPROVEN, _MOST_UNPROVEN = 512, 2_048
"""So many events are held until history is asked for them: from the first number on when all are
answered, so that one question will do; at the second in any case."""
_REPAIRS = 10
"""So often what JetStream drops is written again, before an event that must come after it."""

log = structlog.get_logger("atlas.writer")


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
        self._outbox = Outbox(reading.seq)
        self._most_bytes = MOST_UNSTORED_BYTES
        self._held: Held | None = None
        self._losses = window.losses
        self._refusals = window.refusals
        self._evidence = Evidence(store, window, address, is_heir=bool(reading.seq))
        self._read_epoch = reading.epoch
        self._step: NextStep | None = "continue"
        self._is_adopted = False
        self._unsure: StreamEvent | None = None
        self._is_unsure_stored = False
        self._is_history_lost = False
        self._outage = Outage(store.bus, address.stream_id)
        self.seq = reading.seq
        self.attempt = reading.attempt
        self.terminal: TerminalStreamEvent | None = reading.terminal
        """How the stream ended, once it did."""

    @property
    def epoch(self) -> int:
        """The epoch it writes under."""
        return self._claim.ownership.epoch

    def at_rest(self) -> asyncio.Lock:
        """Held, nothing of this stream is on its way into NATS."""
        return self._lock

    def buffer(self, options: BufferOptions) -> None:
        """Cut content into events, and bound what is not known to be stored, as a request asks."""
        self._most_bytes = options.max_unstored_bytes
        if options.coalesce not in {"adaptive", "off"}:
            self._held = Held(options, self._send, self._lock)

    async def content(self, contents: list[Content]) -> None:
        """Publish content events, one each unless the request has them joined.

        Returns when the stream may read on: it waits for storage only where too much is not known
        to be stored.

        Raises:
            HistoryLostError: What this attempt wrote before is gone.
        """
        async with self._lock:
            if self._held is not None:
                contents = self._held.take(contents)
            for one in contents:
                await self._send(one)
            self._check_history()
        if self._outbox.size_bytes > self._most_bytes:
            await self._until_stored()

    async def event(self, make: MakeEvent) -> None:
        """Publish any other event; the first one under a claim is fenced and awaited.

        Such events are rare and often followed by a rest, so nothing is left to be proven then.
        """
        async with self._lock:
            if self._held is not None:
                await self._held.release()
            if self._evidence.has_begun:
                await self._send(make)
                await self._is_proven()
            else:
                await self._fence(make)

    async def fenced(self, make: MakeEvent, *, keeps_text: bool = False) -> StreamEvent:
        """Store an event while the claim stands, and wait until it is there.

        Args:
            make: Makes the event.
            keeps_text: Whether the event speaks for the text before it, which must be there then.

        Raises:
            OwnershipLostError: The stream belongs to another router.
            StreamOverError: The stream has ended.
            HistoryLostError: The text that the event speaks for is gone.
        """
        async with self._lock:
            if self._held is not None:
                await self._held.release()
                if keeps_text:
                    self._held.check()
            return await self._fence(make, keeps_text=keeps_text)

    async def _fence(self, make: MakeEvent, *, keeps_text: bool = False) -> StreamEvent:
        self._check_open()
        try:
            return await self._store_fenced(make, keeps_text=keeps_text)
        finally:
            self._unsure, self._is_unsure_stored = None, False

    async def _store_fenced(self, make: MakeEvent, *, keeps_text: bool) -> StreamEvent:
        while True:
            await self._settle()
            if keeps_text:
                self._check_history()
            self._is_history_lost = False  # what keeps no text begins one
            tried = self.seq + 1
            event = self._unsure = make(self._address.stream_id, tried, self.epoch)
            try:
                stored_seq = await self._store.append_fenced(self._address, self._claim, event)
            except FencedError as error:
                raise self._lost() from error
            except StoreRefusedError as error:
                await self._outage.rest(error)
                continue
            except MAY_PASS as error:
                await self._outage.rest(error)
                self._losses = -1  # stored or not? history tells
                await self._heal()
                if self._is_unsure_stored:
                    return event
                continue
            self._outage.over()
            self.seq = tried
            self._outbox.clear(tried)
            self._evidence.begin(stored_seq, tried)
            self._ended_by(event)
            return event

    async def adopt(self, attempt: int, step: NextStep | None) -> None:
        """Say that the stream has a new owner and that attempt number `attempt` comes next.

        Raises:
            OwnershipLostError: The stream belongs to another router.
            StreamOverError: The stream has ended.
        """
        async with self._lock:
            self._check_open()
            self.attempt, self._step, self._is_adopted = attempt, step, True
            try:
                await self._write_again(self.seq)
            except MAY_PASS as error:
                await self._outage.rest(error)
                self._losses = -1
                await self._heal()

    async def close(self) -> None:
        """Write nothing more: the stream has ended, or goes on elsewhere."""
        if self._held is not None:
            await self._held.close()

    async def _until_stored(self) -> None:
        """Wait until little enough is not known to be stored; a loss is for the next to heal."""
        while self._outbox.size_bytes > self._most_bytes and not self._may_have_lost:
            if self._window.passed < self._outbox.last_number:
                await self._window.news()
                continue
            async with self._lock:
                await self._is_proven()

    async def _send(self, item: Item) -> None:
        self._check_open()
        while True:
            await self._heal()
            try:
                await self._put(item)
            except ConnectionFailedError as error:
                await self._outage.rest(error)
            else:
                return

    async def _put(self, item: Item) -> None:
        """Publish one item. The per-chunk path."""
        outbox, window = self._outbox, self._window
        if len(outbox) >= _UNPROVEN and (
            window.passed >= outbox.last_number or len(outbox) >= _MOST_UNPROVEN
        ):
            await self._is_proven()
        seq = self.seq + 1
        data = encoded(item, self._address.stream_id, seq, self.epoch)
        asks = outbox.size_bytes + len(data) > self._most_bytes
        number = await window.publish(self._subject, data, asks=asks)
        self.seq = seq
        outbox.add(number, seq, len(data), item)

    @property
    def _may_have_lost(self) -> bool:
        """Whether something was lost or dropped since this stream looked."""
        window = self._window
        return self._losses != window.losses or self._refusals != window.refusals

    async def _settle(self) -> None:
        """Heal until history was seen to hold all that was written."""
        for repairs in range(_REPAIRS):
            if repairs > 1:
                await asyncio.sleep(_RETRY_S)
            await self._heal()
            if await self._is_proven(is_exact=True):
                return
        raise HistoryLostError(
            f"stream {self._address.stream_id} loses what is written; is its NATS server overrun?"
        )

    async def _is_proven(self, *, is_exact: bool = False) -> bool:
        """Let go of the outbox if history holds it; if it does not, the next word heals."""
        if not self._outbox:
            return True
        try:
            is_stored = await self._evidence.holds(
                self.epoch, self.seq, self._outbox.last_number, is_exact=is_exact
            )
        except MAY_PASS as error:
            await self._outage.rest(error)
            is_stored = False
        if is_stored:
            self._outbox.clear(self.seq)
        else:
            self._losses = -1
        return is_stored

    async def _heal(self) -> None:
        """Write again what is lost; cheap when nothing was.

        What a pass finds out (lost history, an event that was stored after all) stays known when
        the pass itself fails and is repeated.
        """
        while self._may_have_lost:
            losses, refusals = self._window.losses, self._window.refusals
            if self._losses == losses and await self._is_proven():
                self._refusals = refusals  # what was dropped was others'
                continue
            try:
                await self._outage.until_back()
                reading = await self._take_again()
                if reading.terminal is not None:
                    self._over(reading.terminal)
                else:
                    await self._continue_from(reading)
            except MAY_PASS as error:
                await self._outage.rest(error)
                continue
            self._losses, self._refusals = losses, refusals
            self._outage.over()

    async def _continue_from(self, reading: Reading) -> None:
        self._read_epoch = reading.epoch
        if reading.seq < self._outbox.confirmed:
            self._is_history_lost = True
            self._outbox.clear(reading.seq)
            log.error("history_lost", stream=self._address.stream_id, has=reading.seq)
            if self._step is not None:
                self._step = "restart"
        if reading.seq or self._outbox or self._is_adopted:
            await self._write_again(reading.seq)

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
        self._evidence.claim_again()
        reading = Reading()
        self._is_unsure_stored = False
        async for event in self._store.history(self._address):
            if reading.take(event) is Verdict.TAKEN and is_same(event, self._unsure):
                self._is_unsure_stored = True
        return reading

    def _over(self, terminal: TerminalStreamEvent) -> None:
        """The stream has ended: by the event whose acknowledgement was lost, or not by us."""
        if not is_same(terminal, self._unsure):
            raise StreamOverError(f"stream {self._address.stream_id} has ended")
        self.seq = terminal.seq
        self._outbox.clear(terminal.seq)
        self._ended_by(terminal)

    async def _write_again(self, from_seq: int) -> None:
        """Adopt the stream anew and publish the outbox after what history holds.

        The outbox is numbered before anything is sent, so that whatever fails here, the next try
        finds each event with the seq under which it may have been stored.
        """
        self._outbox = self._outbox.again(from_seq, self._window.sent)
        adopted_seq = from_seq + 1
        self.seq = adopted_seq + len(self._outbox)
        adopted = StreamAdopted(
            stream_id=self._address.stream_id,
            seq=adopted_seq,
            epoch=self.epoch,
            at_ms=now_ms(),
            from_seq=from_seq,
            from_epoch=self._read_epoch if from_seq else 0,
            attempt=max(self.attempt, 1),
            next=self._step,
        )
        try:
            stored_seq = await self._store.append_fenced(self._address, self._claim, adopted)
        except FencedError as error:
            raise self._lost() from error
        self._evidence.begin(stored_seq, adopted_seq)
        self._step = "continue"
        self._outbox.confirmed = adopted_seq
        sent = Outbox(adopted_seq)
        for seq, item in self._outbox:
            data = encoded(item, self._address.stream_id, seq, self.epoch)
            number = await self._window.publish(self._subject, data, asks=True)
            sent.add(number, seq, len(data), item)
        self._outbox = sent
        log.info("stream_written_again", stream=self._address.stream_id, events=len(sent))

    def _check_open(self) -> None:
        if self.terminal is not None:
            raise StreamOverError(f"stream {self._address.stream_id} has ended")

    def _check_history(self) -> None:
        if self._is_history_lost:
            self._is_history_lost = False
            raise HistoryLostError(
                f"history of stream {self._address.stream_id} lacks events that were stored; "
                "has the NATS server lost its disk?"
            )

    def _ended_by(self, event: StreamEvent) -> None:
        if isinstance(event, StreamCompleted | StreamFailed | StreamCancelled):
            self.terminal = event

    def _lost(self) -> OwnershipLostError:
        return OwnershipLostError(
            f"stream {self._address.stream_id} belongs to another router by now"
        )
