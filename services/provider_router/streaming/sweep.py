"""Finds streams that nobody will end, and ends them with an error.

A stream ends because its request stays in a lane until then: whoever owns the stream may die, the
request comes to another router. A request that was purged, or that NATS lost with its disk, comes
to nobody, and its stream would have no end. So ownerships are read in the background, and a stream
without an end whose owner fell silent is looked up in the lanes.

Of all routers the one with the least name does it; two at once are told apart by the claim.
"""

import asyncio
import random
import sys
from contextlib import aclosing

import structlog
from nats.errors import Error as NatsError
from pydantic import ValidationError

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.errors import AtlasError, ErrorCategory, FencedError
from atlas.contracts.streams import Ownership
from atlas.reading import Reading
from atlas.service import Events
from provider_router.configuration import Configuration
from provider_router.streaming import making, telling
from provider_router.streaming.controls import fold
from provider_router.streaming.ledger import ledger_of_events
from provider_router.streaming.peers import Peers
from provider_router.streaming.store import Claim, StreamAddress, StreamStore
from provider_router.streaming.window import PublishWindow
from provider_router.streaming.write_errors import OwnershipLostError, StreamOverError
from provider_router.streaming.writer import StreamWriter

_REST_S = 0.005
"""After each look, so that a day of streams is looked through without anybody noticing."""
_LOOK_AGAIN_S = 60.0
"""So often it is asked whether the stream of an owner who is well has ended."""
_REMEMBERED = 50_000
"""Streams of a time; what came later is looked at when some of them have ended."""

log = structlog.get_logger("atlas.sweep")


class RequestLostError(AtlasError):
    """The stream's router died, and its request is in no lane any more."""

    code = "request_lost"
    category = ErrorCategory.INTERNAL
    retryable = True


_LOST = RequestLostError(
    "the router of this stream died, and its request is no longer in ATLAS_REQUESTS, so that no "
    "other router can answer it: it was purged, or lost with a disk; ask again under a new id"
)


class Sweep:
    """Looks through the streams of silent owners."""

    def __init__(  # noqa: PLR0917 - what it is composed of
        self,
        bus: Bus,
        store: StreamStore,
        window: PublishWindow,
        peers: Peers,
        configuration: Configuration,
        events: Events,
    ) -> None:
        self._bus = bus
        self._store = store
        self._window = window
        self._peers = peers
        self._configuration = configuration
        self._events = events
        self._from_seq = 1
        self._open: dict[str, tuple[str, float]] = {}
        """Ownerships whose stream is not known to have ended: who has it, and since when."""

    async def run(self, every_s: float) -> None:
        """Sweep again and again, until cancelled."""
        while True:
            await asyncio.sleep(every_s * random.uniform(0.5, 1.5))  # noqa: S311 - a rhythm
            if not self._peers.is_first():
                continue
            try:
                await self.once()
            except (AtlasError, NatsError, ValidationError) as error:
                log.info("not_swept", error=str(error) or type(error).__name__)

    async def once(self) -> None:
        """Look at what was claimed since the last sweep, and again at what had no end then.

        Raises:
            AtlasError, NatsError: NATS did not answer; the next sweep goes on from here.
            ValidationError: Somebody else writes into the ownerships.
        """
        await self._read_owners()
        now_s = asyncio.get_running_loop().time()
        for subject, (router, seen_s) in list(self._open.items()):
            if not self._peers.is_alive(router) or now_s - seen_s > _LOOK_AGAIN_S:
                await self._look(subject)
                await asyncio.sleep(_REST_S)

    async def _read_owners(self) -> None:
        state = (await self._bus.jetstream.stream_info(subjects.STREAMS)).state
        if state.last_seq < self._from_seq - 1:  # the server lost its disk, and began anew
            self._from_seq = 1
        now_s = asyncio.get_running_loop().time()
        owners = self._bus.read(
            subjects.STREAMS, subjects.STREAM_OWNER_ALL, from_seq=self._from_seq
        )
        async with aclosing(owners):
            async for stored in owners:
                ownership = Ownership.from_json(stored.data)
                self._from_seq = stored.seq + 1
                if ownership.deleted:
                    self._open.pop(stored.subject, None)
                    continue
                self._open[stored.subject] = sys.intern(ownership.router), now_s
                if len(self._open) >= _REMEMBERED:
                    return

    async def _look(self, subject: str) -> None:
        """Forget the stream if it has ended; end it if nobody else will."""
        parsed = subjects.parse(subject)
        address = StreamAddress(parsed.tenant, parsed.id)
        owner = await self._store.owner(address)
        if owner is None or owner.ownership.deleted or await self._has_ended(address):
            del self._open[subject]
            return
        router = owner.ownership.router
        if self._peers.is_alive(router) or await self._store.queued_request(address) is not None:
            self._open[subject] = router, asyncio.get_running_loop().time()
        else:
            await self._end(address, owner)
            del self._open[subject]

    async def _has_ended(self, address: StreamAddress) -> bool:
        last = await self._store.last_event(address)
        if last is None:
            return False
        is_end = last.type in {"stream.completed", "stream.failed", "stream.cancelled"}
        return is_end or (await self._store.reading(address)).terminal is not None

    async def _end(self, address: StreamAddress, owner: Claim) -> None:
        """Own the stream and end it, unless somebody else does or did."""
        try:
            claim = await self._store.claim(
                address, owner, request_seq=None, request_sha256=owner.ownership.request_sha256
            )
            history = [event async for event in self._store.history(address)]
            reading = Reading()
            for event in history:
                reading.take(event)
            writer = StreamWriter(self._store, self._window, address, claim, reading)
            if history:
                await writer.adopt(reading.attempt + 1, None)
            ledger = ledger_of_events(history, 0, self._configuration.pricing)
            usage, cost = ledger.usage(), ledger.cost()
            cancel = fold(await self._store.controls(address)).cancelled
            end = await writer.fenced(
                making.cancelled(cancel, usage, cost)
                if cancel
                else making.failed(_LOST.to_info(), usage, cost)
            )
        except (FencedError, OwnershipLostError, StreamOverError):
            return  # it has an owner who is well, or its end
        log.warning("request_lost", stream=address.stream_id)
        told = {"stream_id": address.stream_id, **telling.ending(end, ledger)}
        await self._events.emit(end.type, told, tenant=address.tenant)
