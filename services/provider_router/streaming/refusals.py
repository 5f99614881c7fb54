"""What is refused, and how its sender hears of it: nothing is dropped silently (contract A2)."""

import hashlib

import structlog
from nats.aio.msg import Msg

from atlas.bus import Bus
from atlas.contracts.errors import (
    AtlasError,
    BudgetExceededError,
    ConflictError,
    ErrorInfo,
    InvalidRequestError,
)
from atlas.contracts.ids import ID_PATTERN, derived_id
from atlas.contracts.streams import StreamEvent
from atlas.dead_letters import bury
from atlas.service import Events
from provider_router.streaming import making, telling
from provider_router.streaming.delivery import Delivery, tell_jetstream
from provider_router.streaming.ledger import Ledger
from provider_router.streaming.making import MakeEvent
from provider_router.streaming.store import StreamAddress
from provider_router.streaming.writer import StreamWriter

log = structlog.get_logger("atlas.refusals")


class LetterNotKeptError(AtlasError):
    """A dead letter could not be stored: the request stays in its lane and is offered again."""


class Refusals:
    """Refuses requests off their lanes."""

    def __init__(self, bus: Bus, events: Events) -> None:
        self._bus = bus
        self._events = events

    async def reject(
        self, delivery: Delivery, writer: StreamWriter, error: AtlasError
    ) -> StreamEvent:
        """A durable door never drops silently: dead letter, event, and a failed stream."""
        address, info = delivery.address, error.to_info()
        try:
            await bury(self._bus, delivery.msg, "request", address.tenant, address.stream_id, info)
        except AtlasError as failure:
            raise LetterNotKeptError(failure.message) from failure
        await self._tell(address, info)
        return await writer.fenced(failed_by(error, delivery.ledger))

    async def name(self, msg: Msg, address: StreamAddress) -> None:
        """No stream can have this name, so there is none to fail."""
        info = InvalidRequestError(
            f"subject: {msg.subject!r} holds a stream_id or tenant that is no id ({ID_PATTERN})"
        ).to_info()
        await bury(self._bus, msg, "request", "default", derived_id(msg.subject), info)
        await self._events.emit(
            "request.rejected", {"subject": msg.subject, "error": info.model_dump(mode="json")}
        )
        await tell_jetstream(msg.ack())
        log.warning("request_refused", subject=msg.subject, stream=address.stream_id)

    async def repeat(self, sha256: str, msg: Msg, address: StreamAddress) -> None:
        """The same id came twice: the same body is the same request, another one a conflict."""
        if hashlib.sha256(msg.data).hexdigest() == sha256:
            await tell_jetstream(msg.ack())
        else:
            await self.conflict(msg, address)

    async def conflict(self, msg: Msg, address: StreamAddress) -> None:
        """The id is taken by another request; the stream that it names is not touched."""
        info = ConflictError(
            f"stream {address.stream_id} exists with another request; use a new stream_id"
        ).to_info()
        await bury(self._bus, msg, "request", address.tenant, address.stream_id, info)
        await self._tell(address, info)
        await tell_jetstream(msg.ack())

    async def deleted(self, msg: Msg, address: StreamAddress) -> None:
        """The id is used up. No letter: a late delivery would bring back what was deleted."""
        told = f"stream {address.stream_id} was deleted; use a new stream_id"
        info = ConflictError(told).to_info()
        await self._tell(address, info)
        await tell_jetstream(msg.ack())

    async def for_budget(
        self, delivery: Delivery, writer: StreamWriter, error: BudgetExceededError
    ) -> StreamEvent:
        """Too little is left to start with: the stream fails, and says when to try again."""
        address = delivery.address
        end = await writer.fenced(failed_by(error, delivery.ledger))
        for type_, data in (
            (end.type, telling.ending(end, delivery.ledger)),
            ("budget.exceeded", error.details or {}),
        ):
            told = {"stream_id": address.stream_id, **data}
            await self._events.emit(type_, told, tenant=address.tenant)
        return end

    async def _tell(self, address: StreamAddress, info: ErrorInfo) -> None:
        await self._events.emit(
            "request.rejected",
            {
                "stream_id": address.stream_id,
                "error": info.model_dump(mode="json", exclude_none=True),
            },
            tenant=address.tenant,
        )


def failed_by(error: AtlasError, ledger: Ledger) -> MakeEvent:
    """The end of a stream that an error kept from its answer."""
    return making.failed(error.to_info(), ledger.usage(), ledger.cost())
