"""Takes requests from the lanes, owns their streams, and sees each to its one end.

Design B3: claim, fold what history and kept controls say, stream, store the terminal event, and
only then ack. While a stream runs its request is marked in progress; a router that dies stops
marking, and the request comes to another one.
"""

import asyncio
import functools
import hashlib
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import structlog
from nats.aio.msg import Msg
from opentelemetry.trace import Span

from atlas import door, subjects, telemetry
from atlas.bus import Bus
from atlas.contracts.base import now_ms
from atlas.contracts.errors import (
    AtlasError,
    BudgetExceededError,
    FencedError,
    InvalidRequestError,
    ProviderStreamError,
)
from atlas.contracts.ids import is_id
from atlas.contracts.inference import ModelRequest
from atlas.contracts.streams import StreamControl, StreamEvent, StreamState, StreamStatus
from atlas.reading import Reading
from atlas.service import Events
from provider_router.configuration import Configuration, Routing
from provider_router.routing.choosing import Plan
from provider_router.streaming import observing
from provider_router.streaming.begun import said_by
from provider_router.streaming.continuing import step_of_adoption
from provider_router.streaming.controls import ENDS
from provider_router.streaming.delivery import Delivery, tell_jetstream
from provider_router.streaming.easing import Easing
from provider_router.streaming.gate import Gate, Interrupt
from provider_router.streaming.job import Job, asker_of
from provider_router.streaming.ledger import Ledger, ledger_of_history
from provider_router.streaming.media import Media
from provider_router.streaming.pausing import pause_limit
from provider_router.streaming.peers import Peers
from provider_router.streaming.progress import paused_at_ms, ran_ms
from provider_router.streaming.refusals import LetterNotKeptError, Refusals, failed_by
from provider_router.streaming.session import Providers, Session
from provider_router.streaming.spending import Spendings
from provider_router.streaming.spoken import spoken
from provider_router.streaming.store import Claim, StreamAddress, StreamStore
from provider_router.streaming.window import PublishWindow
from provider_router.streaming.write_errors import MAY_PASS, OwnershipLostError, StreamOverError
from provider_router.streaming.writer import StreamWriter

OUTCOMES = ("completed", "failed", "cancelled")
_LATER_S = 1.0
"""When a request that somebody else works on is offered again."""

_ROUTER_DIED = ProviderStreamError(
    "the router of this stream died after content was streamed, and fallback.on_failure is `fail`"
)

log = structlog.get_logger("atlas.supervisor")


@dataclass(frozen=True, slots=True)
class _Past:
    """What an adopted stream has behind it; of a new one nothing."""

    reading: Reading
    history: list[StreamEvent]
    before: dict[str, str]
    """The trace context of the router that had it."""


class Supervisor:
    """All streams of this router."""

    def __init__(  # noqa: PLR0917 - what it is composed of
        self,
        bus: Bus,
        store: StreamStore,
        window: PublishWindow,
        peers: Peers,
        configuration: Configuration,
        spendings: Spendings,
        easing: Easing,
        media: Media,
        events: Events,
    ) -> None:
        self._bus = bus
        self._store = store
        self._window = window
        self._peers = peers
        self._configuration = configuration
        self._spendings = spendings
        self._easing = easing
        self._media = media
        self._events = events
        self._refusals = Refusals(bus, events)
        self._running: dict[StreamAddress, Delivery] = {}
        self.ended: Counter[str] = Counter()
        """How many streams ended here, by `OUTCOMES`."""

    @property
    def running(self) -> int:
        """How many streams this router owns now."""
        return len(self._running)

    def owns(self, address: StreamAddress) -> bool:
        """Whether the stream runs here."""
        return address in self._running

    def status(self, address: StreamAddress) -> StreamStatus | None:
        """Where a stream that runs here is; None while its controls are being read."""
        delivery = self._running.get(address)
        if delivery is None or delivery.writer is None:
            return None
        return delivery.gate.status(delivery.writer.seq)

    def hand_over_all(self) -> None:
        """Let every stream go; other routers adopt them."""
        for delivery in list(self._running.values()):
            delivery.gate.stop(Interrupt("hand_over"))

    async def heed_kept_controls(self) -> None:
        """After a reconnect, heed the controls that nobody could hear. Runs until cancelled."""
        back = asyncio.Event()
        self._bus.on_reconnect(back.set)
        while True:
            await back.wait()
            back.clear()
            for delivery in list(self._running.values()):
                if delivery.writer is None:
                    continue  # it reads them when it opens its gate
                kept = functools.partial(self._store.controls, delivery.address)
                try:
                    await delivery.gate.fold_kept(kept, delivery.writer)
                except AtlasError as error:
                    log.warning("controls_not_read", error=error.message)
                    back.set()
                    await asyncio.sleep(_LATER_S)
                    break

    async def mark_in_progress(self, every_s: float) -> None:
        """Keep the requests of running streams from being delivered again. Runs until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            for delivery in list(self._running.values()):
                await tell_jetstream(delivery.msg.in_progress())

    async def carry(self, msg: Msg) -> None:
        """Carry one delivered request to its end, or leave it to whom it belongs to."""
        parsed = subjects.parse(msg.subject)
        address = StreamAddress(parsed.tenant, parsed.id)
        if not (is_id(parsed.id) and is_id(parsed.tenant)):
            await self._refusals.name(msg, address)
            return
        seq = msg.metadata.sequence.stream
        if (running := self._running.get(address)) is not None:
            if running.seq == seq:
                running.msg = msg  # delivered again to ourselves: a mark came too late
            else:
                await self._refusals.repeat(running.sha256, msg, address)
            return
        delivery = Delivery(
            msg, address, seq, hashlib.sha256(msg.data).hexdigest(), Gate(address.stream_id)
        )
        self._running[address] = delivery
        try:
            await self._own(delivery)
        except OwnershipLostError:
            log.info("stream_lost", stream=address.stream_id)
            await self._store.erase_late_words(address)
        except AtlasError as error:
            log.warning("stream_left", stream=address.stream_id, error=error.message)
            await tell_jetstream(delivery.msg.nak(delay=_LATER_S))
        finally:
            del self._running[address]

    async def _own(self, delivery: Delivery) -> None:
        """Claim the stream if it is to be claimed, and run it.

        The claim and the question for kept controls leave together, and the request is read while
        they are on their way: a stream's first token waits for all of them.
        """
        address = delivery.address
        control = await self._bus.subscribe(address.control, delivery.gate.hear)
        kept = _begun(self._store.controls(address))
        claiming = _begun(self._claim(delivery))
        try:
            await asyncio.sleep(0)  # they leave now
            request = self._read(delivery.msg)
            claim, is_adoption = await claiming
            if claim is None:
                return
            end = await self._run(delivery, claim, kept, request, is_adoption=is_adoption)
        except FencedError:
            await tell_jetstream(delivery.msg.nak(delay=_LATER_S))
            return
        finally:
            claiming.cancel()
            kept.cancel()
            await asyncio.gather(claiming, kept, return_exceptions=True)
            await control.unsubscribe()
        if end:
            await tell_jetstream(delivery.msg.ack())

    async def _claim(self, delivery: Delivery) -> tuple[Claim | None, bool]:
        """Own the stream, if it is to be owned; and whether somebody owned it before.

        Raises:
            FencedError: Somebody else was first.
        """
        address, seq, sha256 = delivery.address, delivery.seq, delivery.sha256
        if delivery.msg.metadata.num_delivered == 1:  # most are new: one round trip, not two
            claim = await self._store.claim_new(address, request_seq=seq, request_sha256=sha256)
            if claim is not None:
                return claim, False
        previous = await self._store.owner(address)
        if previous is not None and not await self._may_claim(previous, delivery):
            return None, True
        claim = await self._store.claim(address, previous, request_seq=seq, request_sha256=sha256)
        return claim, previous is not None

    async def _may_claim(self, previous: Claim, delivery: Delivery) -> bool:
        """Whether this delivery is to take the stream from its previous owner."""
        owner = previous.ownership
        if owner.deleted:
            await self._refusals.deleted(delivery.msg, delivery.address)
            return False
        if owner.request_sha256 not in (None, delivery.sha256):
            await self._refusals.conflict(delivery.msg, delivery.address)
            return False
        if (await self._store.reading(delivery.address)).terminal is not None:
            await tell_jetstream(delivery.msg.ack())
            return False
        if owner.router != self._store.router and self._peers.is_alive(owner.router):
            await tell_jetstream(delivery.msg.nak(delay=_LATER_S))
            return False
        return True

    async def _run(
        self,
        delivery: Delivery,
        claim: Claim,
        kept: asyncio.Task[list[StreamControl]],
        request: ModelRequest | AtlasError,
        *,
        is_adoption: bool,
    ) -> bool:
        """Run an owned stream; tells whether it has ended, so that its request may be acked."""
        address, gate = delivery.address, delivery.gate
        history, before = await self._store.past(address) if is_adoption else ([], {})
        reading = Reading()
        for event in history:
            reading.take(event)
        writer = StreamWriter(self._store, self._window, address, claim, reading)
        seq = reading.seq
        try:
            past = _Past(reading, history, before)
            end = await self._stream(delivery, request, writer, kept, past)
        except StreamOverError:
            return True
        except (OwnershipLostError, LetterNotKeptError, *MAY_PASS):
            raise
        except Exception as error:  # exactly one end, whatever happens
            log.exception("stream_failed_inside", stream=address.stream_id)
            end = await self._failed_inside(writer, delivery.ledger, error)
        finally:
            seq = writer.seq
            if writer.terminal is not None:
                gate.stream_state = ENDS[writer.terminal.type]
            delivery.writer = None
            await writer.close()
            await gate.close(seq)
        if end is None:
            if gate.interrupt.result().kind != "lost":
                await tell_jetstream(delivery.msg.nak())
            return False
        self.ended[end.type.removeprefix("stream.")] += 1
        return True

    async def _stream(
        self,
        delivery: Delivery,
        request: ModelRequest | AtlasError,
        writer: StreamWriter,
        kept: asyncio.Task[list[StreamControl]],
        past: _Past,
    ) -> StreamEvent | None:
        address, reading, history = delivery.address, past.reading, past.history
        if isinstance(request, AtlasError):
            if history:
                await writer.adopt(reading.attempt + 1, "restart")
            return await self._refusals.reject(delivery, writer, request)
        pricing = self._configuration.current.catalogue.pricing
        delivery.ledger = ledger_of_history(history, request, pricing)
        with self._configuration.lease() as routing:
            plan, said = _planned(address.tenant, request, routing), None
            if history:  # a router that claimed it and died before its first word left nothing
                step = step_of_adoption(reading, request, plan, routing.adapters)
                await writer.adopt(reading.attempt + 1, step)
                if step is None:
                    return await writer.fenced(failed_by(_ROUTER_DIED, delivery.ledger))
                if step == "continue":  # as far as history reached when the adoption stood
                    said = said_by((await self._store.reading(address)).content)
            if isinstance(plan, AtlasError):
                return await self._refusals.reject(delivery, writer, plan)
            gate = delivery.gate
            if reading.state is StreamState.PAUSED:
                gate.continue_paused(paused_at_ms(history))
            keep = functools.partial(self._store.keep_control, address)
            await gate.open(writer, kept, pause_limit(request.buffer), keep)
            delivery.writer = writer
            ran = ran_ms(history, now_ms())
            headers = delivery.msg.headers or {}
            job = Job(address, request, plan, headers, said, past.before, ran)
            providers = Providers(
                routing.adapters,
                routing.timeouts_s,
                self._configuration.board,
                routing.settings.router.max_attempts,
                self._easing,
            )
            try:
                async with self._media.into(job, delivery) as whole:
                    return await self._spend(delivery, writer, whole, providers)
            except InvalidRequestError as error:
                return await self._refusals.reject(delivery, writer, error)

    async def _spend(
        self, delivery: Delivery, writer: StreamWriter, job: Job, providers: Providers
    ) -> StreamEvent | None:
        """Run a session within the budgets that it shares."""
        try:
            spending = await self._spendings.open(job, writer.epoch, delivery.ledger)
        except BudgetExceededError as error:
            return await self._refusals.for_budget(delivery, writer, error)
        session = Session(job, writer, delivery.gate, providers, self._events, spending)
        try:
            with observing.chat(job) as span:
                end = await session.run()
                observing.annotate(span, end, delivery.ledger, session.progress.current)
                if end is not None:
                    await self._capture(span, job)
        finally:
            await spending.settle()
        if end is not None:
            self._spendings.count(job, delivery.ledger)
            observing.measure(
                job.plan.candidates[0],
                end,
                delivery.ledger,
                session.progress,
                delivery.gate.paused_ms,
                self._configuration.current.catalogue.knows,
            )
        return end

    async def _capture(self, span: Span, job: Job) -> None:
        """Put what was said onto the span, where that is switched on."""
        if not (span.is_recording() and telemetry.captures_content()):
            return
        try:
            span.set_attributes(spoken(job.request, await self._store.reading(job.address)))
        except AtlasError as error:
            log.warning("content_not_captured", error=error.message)

    @staticmethod
    def _read(msg: Msg) -> ModelRequest | AtlasError:
        try:
            return door.read(ModelRequest, msg.data, msg.headers)
        except AtlasError as error:
            return error

    @staticmethod
    async def _failed_inside(writer: StreamWriter, ledger: Ledger, error: Exception) -> StreamEvent:
        if writer.terminal is not None:
            return writer.terminal
        if not isinstance(error, AtlasError):
            error = AtlasError("the router failed inside; its log has the cause")
        return await writer.fenced(failed_by(error, ledger))


def _begun[T](work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task that has run as far as it goes without waiting."""
    return asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)


def _planned(tenant: str, request: ModelRequest, routing: Routing) -> Plan | AtlasError:
    """Who is to answer, or why nobody can."""
    try:
        return routing.chooser.plan(routing.catalogue.choice(request), asker_of(tenant, request))
    except AtlasError as error:
        return error
