"""A durable pull consumer: read in fetches (`Bus.pull`), or by a standing request (`Bus.flow`)."""

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog
from nats.aio.msg import Msg
from nats.errors import Error
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.errors import APIError

from atlas import wire
from atlas.inbox import Inbox
from atlas.live import LiveClient

_RETRY_S = 0.25
_STANDING_S = 2.0
_LATE_S = 0.5
_OVER = ("404", "408")
"""Statuses of a request whose time is over; any other says that something is wrong."""

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


@dataclass(slots=True)
class Flow:
    """A standing request: messages come as they are stored, a bounded number before they are taken.

    nats-py's fetch of many holds the first of them back until it has all or its time is over.
    """

    nats: LiveClient
    inbox: Inbox
    subject: str
    """Where the server takes the requests."""
    reconnects: Callable[[], int]
    wait_connected: Callable[[], Awaitable[None]]
    bound: int
    """Messages that may have come without being taken."""
    _left: int = 0
    _until: float = 0.0
    _asked_after: int = field(default=-1)
    """After how many reconnects it was asked: a server forgets requests with their connection."""

    async def take(self, *, wait_s: float = 1.0) -> list[Msg]:
        """All that came, as soon as there is one; empty when there is none within `wait_s`."""
        came: list[Msg] = []
        try:
            await self._stand()
            came = [await self.inbox.next(wait_s), *await self.inbox.take()]
        except (NatsTimeoutError, TimeoutError):
            pass
        except Error as error:
            await self._rest(str(error) or type(error).__name__)
        messages = [msg for msg in came if wire.status(msg.headers) is None]
        self._left -= len(messages)
        for msg in came:
            if (status := wire.status(msg.headers)) is not None:
                self._left = 0
                if status not in _OVER and not messages:
                    await self._rest(status)
        return messages

    async def _stand(self) -> None:
        """Ask, when the last request is filled, over or forgotten."""
        is_known = self._asked_after == self.reconnects() and time.monotonic() < self._until
        if self._left > 0 and is_known:
            return
        self._asked_after = self.reconnects()
        self._until = time.monotonic() + _STANDING_S + _LATE_S
        self._left = self.bound
        question = {"batch": self.bound, "expires": int(_STANDING_S * 1e9)}
        await self.nats.publish(
            self.subject, json.dumps(question).encode(), reply=self.inbox.subject
        )

    async def _rest(self, why: str) -> None:
        log.debug("flow_interrupted", error=why)
        await self.wait_connected()
        await asyncio.sleep(_RETRY_S)

    async def close(self) -> None:
        """End the request, then hand back what came and was not taken: it shall not come again."""
        with contextlib.suppress(Error):  # already gone
            await self.inbox.close()
            for msg in await self.inbox.take():
                if wire.status(msg.headers) is None:
                    await msg.nak()
