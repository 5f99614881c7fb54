"""Where a durable door puts what it could not take: kept with the reason, never just dropped."""

import base64

from nats.aio.msg import Msg

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.base import now_ms
from atlas.contracts.errors import ErrorInfo
from atlas.contracts.events import DeadLetter

_OVERHEAD_BYTES = 16 * 1024
"""What the letter needs besides its payload and its error."""


async def bury(  # noqa: PLR0917 - what, where it came from, and why
    bus: Bus, msg: Msg, kind: str, tenant: str, id_: str, error: ErrorInfo
) -> None:
    """Keep a JetStream message as a dead letter; a payload that does not fit is cut, and says so.

    The same message is kept once, also when whoever buried it died before it acknowledged it.

    Raises:
        AtlasError: It could not be stored; the message must not be acked.
    """
    room_bytes = bus.max_payload_bytes - _OVERHEAD_BYTES - len(error.to_json())
    room = max(0, room_bytes * 3 // 4)  # base64
    letter = DeadLetter(
        kind=kind,
        id=id_,
        subject=msg.subject,
        at_ms=now_ms(),
        error=error,
        payload_base64=base64.b64encode(msg.data[:room]).decode(),
        truncated=len(msg.data) > room,
    )
    place = msg.metadata
    await bus.store(
        subjects.dead(tenant, kind, id_),
        letter.to_json(),
        msg_id=f"{place.stream}:{place.sequence.stream}",
    )
