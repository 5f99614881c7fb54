"""nats-py's client, but for what it gets wrong at the moment at which a connection breaks.

Between the break and the client's notice of it a subscribe or publish writes into a transport that
is closed by then, and whoever called gets asyncio's AttributeError or uvloop's RuntimeError
(nats-py 2.16, `Client._flush_pending`). What was to be written is kept, and so is the subscription:
the reconnect, which is on its way, sends both.
"""

import asyncio

import structlog
from nats.aio.client import Client

log = structlog.get_logger("atlas.bus")


class NatsClient(Client):
    """A client whose calls do not break with its connection."""

    async def _flush_pending(self, force_flush: bool = False) -> object:
        try:
            return await super()._flush_pending(force_flush)
        except (AttributeError, RuntimeError, OSError) as error:
            log.debug("nats_broke", error=str(error))
            written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            written.set_result(None)
            return written
