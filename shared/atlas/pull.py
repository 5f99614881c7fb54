"""A durable pull consumer, read in fetches. Made by `Bus.pull`."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog
from nats.aio.msg import Msg
from nats.errors import Error
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.errors import APIError

_RETRY_S = 0.25

log = structlog.get_logger("atlas.bus")


class Pull:
    """A durable pull consumer: take messages, then `ack`, `nak` or `in_progress` each."""

    def __init__(
        self,
        sub: JetStreamContext.PullSubscription,
        wait_connected: Callable[[], Awaitable[None]],
    ) -> None:
        self._sub = sub
        self._wait_connected = wait_connected

    async def fetch(self, batch: int = 1, *, wait_s: float = 1.0) -> list[Msg]:
        """Up to `batch` messages; empty when none came within `wait_s`.

        Let a fetch run to its end instead of cancelling it: the server may already have sent a
        message, which would then be redelivered only after the ack wait.
        """
        try:
            return await self._sub.fetch(batch, timeout=wait_s)
        except (NatsTimeoutError, TimeoutError):
            return []
        except (APIError, Error) as error:
            log.debug("fetch_failed", error=str(error) or type(error).__name__)
            await self._wait_connected()
            await asyncio.sleep(_RETRY_S)
            return []

    async def close(self) -> None:
        """Give the subscription back; the durable consumer stays."""
        with contextlib.suppress(Error, ValueError):  # already gone with its connection
            await self._sub.unsubscribe()
