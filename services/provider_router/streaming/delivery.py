"""A request off its lane, while its stream runs here."""

from collections.abc import Awaitable
from dataclasses import dataclass, field

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from provider_router.streaming.gate import Gate
from provider_router.streaming.ledger import Ledger
from provider_router.streaming.store import StreamAddress
from provider_router.streaming.writer import StreamWriter

log = structlog.get_logger("atlas.supervisor")


@dataclass(slots=True)
class Delivery:
    """A request off its lane. `msg` is its newest delivery."""

    msg: Msg
    address: StreamAddress
    seq: int
    sha256: str
    gate: Gate
    ledger: Ledger = field(default_factory=Ledger)
    """What the stream used so far, its dead routers included."""
    writer: StreamWriter | None = None
    """From the moment on at which the stream is owned."""


async def tell_jetstream(call: Awaitable[None]) -> None:
    """Ack, nak or mark a message; where NATS is away nobody hears it, and the ack wait decides."""
    try:
        await call
    except NatsError as error:  # NATS is away: the ack wait brings the request back
        log.debug("jetstream_not_told", error=type(error).__name__)
