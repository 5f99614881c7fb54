"""What a stream is in JetStream: ownership, events, kept controls, queued requests.

Stateless: every call says which stream it means. Watchers see only what is stored here, because
the server republishes it (contract A2, "Live is history").
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog
from pydantic import ValidationError

from atlas import subjects, wire
from atlas.bus import Bus
from atlas.contracts.base import now_ms
from atlas.contracts.errors import AtlasError, FencedError, RequestTimeoutError
from atlas.contracts.streams import STREAM_EVENT, Ownership, StreamControl, StreamEvent
from atlas.erasing import purge
from atlas.reading import Reading
from atlas.wire import Stored

log = structlog.get_logger("atlas.store")


@dataclass(frozen=True, slots=True)
class StreamAddress:
    """Which stream of which tenant."""

    tenant: str
    stream_id: str

    @property
    def owner(self) -> str:
        """Where it is claimed."""
        return subjects.stream_owner(self.tenant, self.stream_id)

    @property
    def write(self) -> str:
        """Where its events are stored."""
        return subjects.stream_write(self.tenant, self.stream_id)

    @property
    def control(self) -> str:
        """Where it is controlled."""
        return subjects.stream_control(self.tenant, self.stream_id)


@dataclass(frozen=True, slots=True)
class Claim:
    """An ownership that stands in the stream: what fences this router's words."""

    ownership: Ownership
    seq: int


class StreamStore:
    """Reads and writes streams in JetStream."""

    def __init__(self, bus: Bus, router: str) -> None:
        self.bus = bus
        self.router = router

    async def owner(self, address: StreamAddress) -> Claim | None:
        """Who owns the stream, or None when nobody ever did."""
        stored = await self.bus.last(subjects.STREAMS, address.owner)
        if stored is None:
            return None
        return Claim(Ownership.from_json(stored.data), stored.seq)

    async def claim(
        self,
        address: StreamAddress,
        previous: Claim | None,
        *,
        request_seq: int | None,
        request_sha256: str | None,
    ) -> Claim:
        """Take ownership after `previous`.

        Raises:
            FencedError: Somebody else was first.
            RequestTimeoutError: No answer, and the claim does not stand; try again.
        """
        epoch = max(previous.ownership.epoch + 1, now_ms()) if previous else now_ms()
        ownership = Ownership(
            epoch=epoch,
            router=self.router,
            at_ms=now_ms(),
            request_seq=request_seq,
            request_sha256=request_sha256,
        )
        try:
            seq = await self.bus.store(
                address.owner, ownership.to_json(), expected_last=previous.seq if previous else 0
            )
        except (FencedError, RequestTimeoutError) as error:
            standing = await self.owner(address)
            if standing is not None and standing.ownership == ownership:
                return standing  # stored, and only its acknowledgement was lost
            if isinstance(error, FencedError) and self._is_own(standing, previous):
                return await self.claim(
                    address, standing, request_seq=request_seq, request_sha256=request_sha256
                )
            raise
        return Claim(ownership, seq)

    async def claim_new(
        self, address: StreamAddress, *, request_seq: int, request_sha256: str
    ) -> Claim | None:
        """Take ownership of a stream that nobody ever owned; None when somebody did.

        Raises:
            RequestTimeoutError: No answer; the claim may or may not stand.
        """
        ownership = Ownership(
            epoch=now_ms(),
            router=self.router,
            at_ms=now_ms(),
            request_seq=request_seq,
            request_sha256=request_sha256,
        )
        try:
            seq = await self.bus.store(address.owner, ownership.to_json(), expected_last=0)
        except FencedError:
            return None
        return Claim(ownership, seq)

    async def delete(self, address: StreamAddress, owner: Claim) -> None:
        """Take a stream from everybody: from then on no router claims it, none may end it.

        Raises:
            FencedError: Somebody claimed it meanwhile.
        """
        nobody = Ownership(
            epoch=max(owner.ownership.epoch + 1, now_ms()),
            router=self.router,
            at_ms=now_ms(),
            deleted=True,
        )
        await self.bus.store(address.owner, nobody.to_json(), expected_last=owner.seq)

    async def erase(self, address: StreamAddress) -> int:
        """Remove all that is stored of a deleted stream but that it is; gives how many messages."""
        tenant, stream_id = address.tenant, address.stream_id
        content = [
            *(
                (subjects.REQUESTS, subjects.stream_request(tenant, stream_id, lane))
                for lane in subjects.LANES
            ),
            (subjects.STREAMS, address.write),
            (subjects.CONTROL, address.control),
            (subjects.DEAD, subjects.dead(tenant, "request", stream_id)),
        ]
        removed = [await purge(self.bus, stream, subject) for stream, subject in content]
        return sum(removed) + await purge(self.bus, subjects.STREAMS, address.owner, keep=1)

    async def erase_late_words(self, address: StreamAddress) -> None:
        """Remove what a router wrote that did not know that the stream was deleted."""
        try:
            owner = await self.owner(address)
            if owner is not None and owner.ownership.deleted:
                await purge(self.bus, subjects.STREAMS, address.write)
        except AtlasError as error:
            log.warning("late_words_kept", stream=address.stream_id, error=error.message)

    def _is_own(self, standing: Claim | None, previous: Claim | None) -> bool:
        """Whether a claim that came in between is an earlier one of ours, stored unnoticed."""
        return (
            standing is not None
            and standing.ownership.router == self.router
            and (previous is None or standing.seq > previous.seq)
        )

    async def append_fenced(self, address: StreamAddress, claim: Claim, event: StreamEvent) -> int:
        """Store one event, if `claim` still stands; gives its sequence in JetStream.

        Raises:
            FencedError: Somebody else owns the stream by now.
            RequestTimeoutError: No answer; it may or may not be stored.
        """
        return await self.bus.store(
            address.write, event.to_json(), expected_last=claim.seq, expected_of=address.owner
        )

    async def last_event(self, address: StreamAddress) -> StreamEvent | None:
        """The event stored last, whether or not it counts; None when there is none."""
        stored = await self.bus.last(subjects.STREAMS, address.write)
        return None if stored is None else read_event(stored)

    async def count(self, address: StreamAddress, from_seq: int) -> int:
        """How many events are stored from a JetStream sequence on, whether or not they count."""
        return await self.bus.count(subjects.STREAMS, address.write, from_seq=from_seq)

    async def history(self, address: StreamAddress) -> AsyncIterator[StreamEvent]:
        """All stored events, in stored order."""
        async for stored in self.bus.read(subjects.STREAMS, address.write):
            yield read_event(stored)

    async def past(self, address: StreamAddress) -> tuple[list[StreamEvent], dict[str, str]]:
        """All stored events, and the trace context of the router that wrote the last of them."""
        events: list[StreamEvent] = []
        trace: dict[str, str] = {}
        async for stored in self.bus.read(subjects.STREAMS, address.write):
            events.append(read_event(stored))
            trace = wire.trace_of(stored.headers) or trace
        return events, trace

    async def reading(self, address: StreamAddress) -> Reading:
        """The stream as history shows it, folded by the reading rule."""
        reading = Reading()
        async for event in self.history(address):
            reading.take(event)
        return reading

    async def controls(self, address: StreamAddress) -> list[StreamControl]:
        """The controls kept for the stream, in their order; unreadable ones are left out.

        Whoever sent an unreadable one was told so by the router that heard it.
        """
        if await self.bus.last(subjects.CONTROL, address.control) is None:
            return []  # as mostly, and cheaper to ask than a page
        kept = []
        async for stored in self.bus.read(subjects.CONTROL, address.control):
            try:
                kept.append(StreamControl.from_json(stored.data))
            except ValidationError:
                continue
        return kept

    async def keep_control(self, address: StreamAddress, control: StreamControl) -> None:
        """Keep a control that nobody sent, so that it stands in its order with all others."""
        try:
            await self.bus.send(address.control, control)
        except AtlasError as error:  # the last kept one then counts, as after any lost control
            log.warning("control_not_kept", stream=address.stream_id, error=error.message)

    async def queued_request(self, address: StreamAddress) -> Stored | None:
        """The request that waits in a lane, or None."""
        for lane in subjects.LANES:
            subject = subjects.stream_request(address.tenant, address.stream_id, lane)
            if (stored := await self.bus.last(subjects.REQUESTS, subject)) is not None:
                return stored
        return None


def read_event(stored: Stored) -> StreamEvent:
    """Read one stored event.

    Raises:
        AtlasError: It is none; somebody else writes into the stream's subject.
    """
    try:
        return STREAM_EVENT.validate_json(stored.data)
    except ValidationError as error:
        raise AtlasError(
            f"{stored.subject} message {stored.seq} is no StreamEvent; "
            "only routers may publish there"
        ) from error
