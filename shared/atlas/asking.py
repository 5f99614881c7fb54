"""Questions and their answers over one connection.

As nats-py's `request`, with one inbox for all; but a question is a number, a future and a timer,
and its answer goes from the parser to whoever waits, past a queue and a task. That halves what a
stored publish costs its sender.
"""

import asyncio
import itertools

from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

from atlas.live import LiveClient

_NOBODY = b"NATS/1.0 503"

type _Waiting = asyncio.Future[tuple[bytes, bytes | None]]


class Questions:
    """Asks over a connection."""

    def __init__(self, nats: LiveClient) -> None:
        self._nats = nats
        self._waiting: dict[bytes, _Waiting] = {}
        self._numbers = itertools.count(1)
        self._prefix = ""
        self._laying = asyncio.Lock()

    def hold(self, subject: bytes, _reply: bytes, data: bytes, headers: bytes | None) -> None:
        """Give an answer to whoever waits for it; a late one, or a second, to nobody."""
        waiting = self._waiting.get(subject)
        if waiting is not None and not waiting.done():
            waiting.set_result((data, headers))

    def wake(self) -> None:
        """Nothing: whoever waits for an answer hears by its own deadline."""

    async def ask(
        self, subject: str, data: bytes, headers: dict[str, str] | None, timeout_s: float
    ) -> Msg:
        """The first answer.

        Raises:
            NatsTimeoutError: There was none in time.
            NoRespondersError: Nobody listens there.
            nats.errors.Error: The question could not be sent.
        """
        if not self._prefix:
            await self._lay()
        inbox = f"{self._prefix}{next(self._numbers)}"
        key = inbox.encode()
        loop = asyncio.get_running_loop()
        waiting: _Waiting = loop.create_future()
        self._waiting[key] = waiting
        timer = loop.call_later(timeout_s, _give_up, waiting)
        try:
            await self._nats.publish(subject, data, reply=inbox, headers=headers)
            answer, raw = await waiting
        finally:
            timer.cancel()
            del self._waiting[key]
        if raw is not None and raw.startswith(_NOBODY):
            raise NoRespondersError
        found = await self._nats._process_headers(raw)  # noqa: SLF001 - nats-py's only reader
        return Msg(self._nats, subject=inbox, data=answer, headers=found)

    async def _lay(self) -> None:
        async with self._laying:
            if not self._prefix:
                prefix = f"{self._nats.new_inbox()}."
                await self._nats.lay(f"{prefix}*", self)
                self._prefix = prefix


def _give_up(waiting: _Waiting) -> None:
    if not waiting.done():
        waiting.set_exception(NatsTimeoutError())
