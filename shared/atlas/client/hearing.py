"""What the services tell, over a connection."""

from collections.abc import AsyncGenerator

from nats.errors import ConnectionClosedError
from nats.errors import TimeoutError as NatsTimeoutError

from atlas.bus import Bus
from atlas.contracts.errors import ConnectionFailedError
from atlas.contracts.events import Event
from atlas.wire import read_event

_QUEUE = 1_000
_WAIT_S = 30.0


async def heard(bus: Bus, subject: str) -> AsyncGenerator[Event]:
    """Events from now on, without end; see `Atlas.events`."""
    live = await bus.open(subject, pending=_QUEUE)
    try:
        while True:
            try:
                message = await live.next_msg(timeout=_WAIT_S)
            except (NatsTimeoutError, TimeoutError):
                continue
            except ConnectionClosedError as error:
                raise ConnectionFailedError("the connection to NATS was closed") from error
            yield read_event(message.subject, message.data)
    finally:
        await live.unsubscribe()
