"""Messages of one subject for one reader, all of them: answers of JetStream that were asked for.

nats-py makes a task, a timer and a UUID for each message that is read from its own queue. Here
they go from the parser into a deque, and what came together is taken together. How many can come
is bounded by what was asked for, so nothing is dropped.
"""

import asyncio
import contextlib
from collections import deque
from typing import Self

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import ConnectionClosedError
from nats.errors import TimeoutError as NatsTimeoutError

from atlas.live import LiveClient

type _Raw = tuple[bytes, bytes, bytes, bytes | None]
"""Subject, reply, data and headers, as the parser found them."""


class Inbox:
    """A subscription; made by `Inbox.open`, given back by `close`."""

    def __init__(self, nats: LiveClient, subject: str) -> None:
        self._nats = nats
        self.subject = subject
        self._held: deque[_Raw] = deque()
        self._came = asyncio.Event()
        self._subscription: Subscription | None = None

    @classmethod
    async def open(cls, nats: LiveClient) -> Self:
        """Subscribe to a subject of its own, to which answers may be sent."""
        inbox = cls(nats, nats.new_inbox())
        inbox._subscription = await nats.lay(inbox.subject, inbox)
        return inbox

    def __len__(self) -> int:
        """How many messages came and were not taken."""
        return len(self._held)

    def hold(self, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        """Keep a message for the reader."""
        self._held.append((subject, reply, data, headers))
        self._came.set()

    def wake(self) -> None:
        """Let the reader look again, if it waits."""
        self._came.set()

    async def next(self, timeout_s: float) -> Msg:
        """The next message.

        Raises:
            NatsTimeoutError: None came in time.
            ConnectionClosedError: The connection was closed.
        """
        if not self._held and not self._nats.is_closed:
            self._came.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._came.wait()
        if not self._held:
            raise ConnectionClosedError if self._nats.is_closed else NatsTimeoutError
        return await self._message(self._held.popleft())

    async def take(self) -> list[Msg]:
        """All that came."""
        return [await self._message(self._held.popleft()) for _ in range(len(self._held))]

    async def _message(self, raw: _Raw) -> Msg:
        """As nats-py makes it, with its own reading of headers and of statuses among them."""
        subject, reply, data, headers = raw
        return Msg(
            self._nats,
            subject=subject.decode(),
            reply=reply.decode(),
            data=data,
            headers=await self._nats._process_headers(headers),  # noqa: SLF001 - nats-py's only reader
        )

    async def close(self) -> None:
        """Give the subscription back."""
        if self._subscription is not None:
            await self._nats.lift(self._subscription)
            self._subscription = None
