"""The router's doors: `api.generate`, `api.stream.history`, `api.providers`, and control."""

import asyncio
import hashlib
from dataclasses import dataclass, field

import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError

from atlas import door, subjects
from atlas.bus import Bus
from atlas.contracts.base import Contract, now_ms
from atlas.contracts.catalogue import ProviderInfo, ProvidersReply, ProvidersRequest
from atlas.contracts.errors import (
    AtlasError,
    ConflictError,
    InvalidTransitionError,
    NotFoundError,
    RequestTimeoutError,
    WorkCancelledError,
    error_from,
)
from atlas.contracts.ids import is_id, new_id
from atlas.contracts.inference import EmbedRequest, EmbedResponse, GenerateRequest, ModelResponse
from atlas.contracts.streams import (
    STREAM_EVENT,
    HistoryReply,
    HistoryRequest,
    StreamAccepted,
    StreamAdopted,
    StreamControl,
    StreamEvent,
    StreamFailed,
    StreamState,
    StreamStatus,
)
from atlas.finishing import finish
from atlas.provider_settings import ProviderSettings
from atlas.reading import Reading, Verdict
from atlas.service import Call, Doors
from atlas.wire import outgoing_headers, passed_on
from provider_router.configuration import Configuration
from provider_router.embedding import Embedder, estimated, texts_of
from provider_router.routing.circuit_record import FOREVER_MS
from provider_router.routing.provider_accounts import Account
from provider_router.streaming.controls import ENDS, check_terminal
from provider_router.streaming.job import asker_of
from provider_router.streaming.peers import Peers
from provider_router.streaming.spending import Spendings
from provider_router.streaming.store import Claim, StreamAddress, StreamStore
from provider_router.streaming.supervisor import Supervisor

_ANSWER_S = 600.0
"""The longest a caller of `api.generate` is kept waiting; the stream itself goes on."""
_LOOK_AGAIN_S = 2.0
"""After so long a silence history is asked whether something was missed."""
_OWNER_ANSWERS_S = 0.6
"""After so long another router answers a control; contract A3 promises an answer in a second."""
_CONCURRENT_ANSWERS = 256
_HISTORY_BYTES_SHARE = 0.8
"""How much of a message a page of history may fill."""

log = structlog.get_logger("atlas.handlers")


@dataclass(frozen=True, slots=True)
class Handlers:
    """What stands behind the doors."""

    bus: Bus
    store: StreamStore
    configuration: Configuration
    supervisor: Supervisor
    peers: Peers
    spendings: Spendings
    _answering: set[asyncio.Task[object]] = field(default_factory=set)

    async def open(self, doors: Doors) -> None:
        """Open all doors."""
        await doors.open("generate", subjects.API_GENERATE_ALL, GenerateRequest, self.generate)
        await doors.open("embed", subjects.API_EMBED_ALL, EmbedRequest, self.embed)
        await doors.open(
            "stream-history", subjects.API_STREAM_HISTORY_ALL, HistoryRequest, self.history
        )
        await doors.open(
            "providers", subjects.API_PROVIDERS_ALL, ProvidersRequest, self.list_providers
        )
        await self.bus.subscribe(subjects.STREAM_CONTROL_ALL, self.control, queue=subjects.ROUTERS)

    async def generate(self, call: Call[GenerateRequest]) -> Contract:
        """Put the request through the durable door; answer with its address or its whole answer."""
        self.configuration.current.catalogue.choice(
            call.body
        )  # an unknown model is told here, before it is queued
        self.spendings.accounts.limits(
            call.tenant, call.headers
        )  # and so is a budget nobody can read
        address = StreamAddress(call.tenant, call.body.stream_id or new_id())
        body = call.body.model_request().model_dump_json(exclude_unset=True).encode()
        live = await self.bus.open(subjects.stream_chunk(address.tenant, address.stream_id))
        try:
            is_new = await self._submit(address, body, passed_on(call.headers))
            if call.body.stream:
                return StreamAccepted(
                    stream_id=address.stream_id,
                    chunk_subject=subjects.stream_chunk(address.tenant, address.stream_id),
                    control_subject=address.control,
                )
            known = Reading() if is_new else await self.store.reading(address)
            return await self._answer(address, live, known)
        finally:
            await live.unsubscribe()

    async def embed(self, call: Call[EmbedRequest]) -> EmbedResponse:
        """Turn texts into vectors."""
        with self.configuration.lease() as routing:
            candidates = routing.embeddings.candidates(call.body)
            embedder = Embedder(
                routing.adapters, routing.settings.router.max_attempts, self.configuration.board
            )
            room_bytes = self.bus.max_payload_bytes
            expected = estimated(texts_of(call.body))
            opening = self.spendings.open_bill(call.tenant, call.headers, candidates[0], expected)
            async with opening as bill:
                return await embedder.embed(call.body, candidates, bill, room_bytes=room_bytes)

    async def _submit(self, address: StreamAddress, body: bytes, headers: dict[str, str]) -> bool:
        """Store the request once; tells whether it is a new one.

        Raises:
            ConflictError: The id was used before with another body.
        """
        sha256 = hashlib.sha256(body).hexdigest()
        queued = await self.store.queued_request(address)
        owner = await self.store.owner(address)
        if owner is not None and owner.ownership.deleted:
            raise ConflictError(f"stream_id {address.stream_id!r} was deleted; use a new one")
        known = [hashlib.sha256(queued.data).hexdigest()] if queued else []
        known += [owner.ownership.request_sha256] if owner else []  # type: ignore[list-item]
        if any(one not in (None, sha256) for one in known):
            raise ConflictError(
                f"stream_id {address.stream_id!r} was used before with another request; "
                "use a new one, or none"
            )
        if known:
            return False
        await self.bus.store(
            subjects.stream_request(address.tenant, address.stream_id),
            body,
            msg_id=f"{address.tenant}:{address.stream_id}:{sha256}",
            headers=headers,
        )
        return True

    async def _answer(
        self, address: StreamAddress, live: Subscription, reading: Reading
    ) -> ModelResponse:
        """Watch the stream to its end and fold it into one answer, from what was read of it."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                while reading.terminal is None:
                    try:
                        msg = await live.next_msg(timeout=_LOOK_AGAIN_S)
                        verdict = reading.take(STREAM_EVENT.validate_json(msg.data))
                    except (NatsTimeoutError, TimeoutError):
                        verdict = Verdict.GAP
                    if verdict is Verdict.GAP:
                        async for event in self.store.history(address):
                            reading.take(event)
        except TimeoutError as error:
            raise RequestTimeoutError(
                f"stream {address.stream_id} had no end within {_ANSWER_S:g} s; it goes on: "
                "watch it, or ask with `stream: true`"
            ) from error
        return _response(address.stream_id, reading)

    async def history(self, call: Call[HistoryRequest]) -> HistoryReply:
        """A page of what counts in the stored order, by `seq`.

        What an adoption made void is left out, so that `seq` rises from page to page. Every
        `stream.adopted` stands on every page, for a watcher who read what is void by now.
        """
        address = StreamAddress(call.tenant, call.body.stream_id)
        reading = Reading()
        events: list[StreamEvent] = []
        async for event in self.store.history(address):
            if reading.take(event) is not Verdict.TAKEN:
                continue
            if isinstance(event, StreamAdopted):
                events = [one for one in events if one.seq <= event.from_seq]
            events.append(event)
        if not events and not await self._is_known(address):
            raise NotFoundError(
                f"no stream {call.body.stream_id!r} of tenant {call.tenant!r}; "
                "its history may be older than the replay window"
            )
        adoptions = [
            one for one in events if isinstance(one, StreamAdopted) and one.seq < call.body.from_seq
        ]
        wanted = [one for one in events if one.seq >= call.body.from_seq]
        page = self._page(wanted, call.body.limit)
        rest = wanted[len(page) :]
        return HistoryReply(
            events=[*adoptions, *page],
            state=reading.state,
            next_seq=rest[0].seq if rest else None,
        )

    def _page(self, events: list[StreamEvent], limit: int) -> list[StreamEvent]:
        """As many as may be asked for and fit a message; at least one."""
        room = int(self.bus.max_payload_bytes * _HISTORY_BYTES_SHARE)
        for count, event in enumerate(events[:limit]):
            room -= len(event.to_json())
            if room < 0:
                return events[: max(count, 1)]
        return events[:limit]

    async def _is_known(self, address: StreamAddress) -> bool:
        if (owner := await self.store.owner(address)) is not None:
            return not owner.ownership.deleted
        return await self.store.queued_request(address) is not None

    async def list_providers(self, call: Call[ProvidersRequest]) -> ProvidersReply:
        """Providers and models as this router sees them, and who would answer a request."""
        routing = self.configuration.current
        explanation = None
        if call.body.explain is not None:
            choice = routing.catalogue.choice(call.body.explain, explains=True)
            asker = asker_of(call.tenant, call.body.explain)
            explanation = routing.chooser.explain(choice, asker)
        spent = await self.spendings.told(call.tenant)
        return ProvidersReply(
            router=self.store.router,
            default_model=routing.catalogue.default_model,
            providers=[
                provider_info(self.configuration.board.of(name), settings)
                for name, settings in routing.settings.providers.items()
            ],
            models=routing.catalogue.models(),
            groups=routing.catalogue.groups(),
            budgets=spent and spent[0],
            usage=spent and spent[1],
            explanation=explanation,
        )

    async def control(self, msg: Msg) -> None:
        """Answer a control for a stream whose owner cannot: none, dead, or done with it."""
        if subjects.is_inbox(msg.reply) and len(self._answering) < _CONCURRENT_ANSWERS:
            task = asyncio.create_task(self._answer_control(msg))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def close(self) -> None:
        """Give the answers that are being looked up."""
        await finish(set(self._answering), _OWNER_ANSWERS_S)

    async def _answer_control(self, msg: Msg) -> None:
        try:
            answer: Contract | None = await self._control_answer(msg)
        except AtlasError as error:
            answer = error.to_reply()
        if answer is None:
            return
        try:
            await self.bus.publish(msg.reply, answer.to_json(), headers=outgoing_headers())
        except (AtlasError, NatsError) as error:
            log.debug("answer_not_sent", error=type(error).__name__)

    async def _control_answer(self, msg: Msg) -> Contract | None:
        parsed = subjects.parse(msg.subject)
        if not (is_id(parsed.id) and is_id(parsed.tenant)):
            raise NotFoundError(f"{parsed.id!r} is no stream id")
        address = StreamAddress(parsed.tenant, parsed.id)
        if self.supervisor.owns(address):
            await asyncio.sleep(_OWNER_ANSWERS_S)
            if self.supervisor.owns(address):
                # It came before the stream was subscribed to if it has no answer yet; then it was
                # read with the kept ones. Where it has one, nobody reads the second.
                return self.supervisor.status(address)
        control = door.read(StreamControl, msg.data, msg.headers)
        owner = await self.store.owner(address)
        if owner is None or owner.ownership.deleted:
            if owner is not None or await self.store.queued_request(address) is None:
                raise NotFoundError(f"no stream {parsed.id!r} of tenant {parsed.tenant!r}")
            return StreamStatus(stream_id=parsed.id, state=StreamState.QUEUED)
        seq, state = await self._standing(address, owner)
        if not state.is_terminal and self.peers.is_alive(owner.ownership.router):
            # Its owner answers, unless it died just now: then a second answer comes in time, and
            # where it did not, nobody reads the second one.
            await asyncio.sleep(_OWNER_ANSWERS_S)
            seq, state = await self._standing(address, owner)
        error = None
        if state.is_terminal:
            try:
                check_terminal(state, control)
            except InvalidTransitionError as refusal:
                error = refusal.to_info()
        return StreamStatus(stream_id=parsed.id, state=state, seq=seq, error=error)

    async def _standing(self, address: StreamAddress, owner: Claim) -> tuple[int, StreamState]:
        """How far a stream came that does not run here: its end, or that it is to be adopted."""
        last = await self.store.last_event(address)
        if last is not None and last.epoch != owner.ownership.epoch:  # the rule decides what counts
            reading = await self.store.reading(address)
            return reading.seq, reading.state if reading.terminal else StreamState.ADOPTING
        seq = last.seq if last is not None else 0
        return seq, ENDS.get(last.type if last is not None else "", StreamState.ADOPTING)


def provider_info(account: Account, settings: ProviderSettings) -> ProviderInfo:
    """An account as `api.providers` shows it."""
    now = now_ms()
    opening = account.circuit.opening
    overall = account.overall(now)
    return ProviderInfo(
        provider=account.name,
        kind=settings.kind,
        base_url=settings.base_url,
        health=account.health,
        circuit=account.circuit.state(now),
        open_until_ms=opening.until_ms if opening and opening.until_ms < FOREVER_MS else None,
        attempts=account.attempts,
        failures=account.failures,
        in_flight=account.in_flight,
        success_rate=None if overall.is_unknown else round(overall.success_rate, 3),
        time_to_first_token_ms=(
            round(overall.expected_first_token_ms(now)) if overall.first_token_ms.weight else None
        ),
        last_error=account.last_error,
        probed_at_ms=account.probing.at_ms,
        probe_error=account.probing.error and account.probing.error.code,
    )


def _response(stream_id: str, reading: Reading) -> ModelResponse:
    end: StreamEvent | None = reading.terminal
    if isinstance(end, StreamFailed):
        raise error_from(end.error)
    whole = reading.response(stream_id)
    if whole is None:
        raise WorkCancelledError(f"stream {stream_id} was cancelled")
    return whole
