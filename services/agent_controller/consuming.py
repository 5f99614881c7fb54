"""A durable consumer, shared by all controllers: fetches, and acknowledges what was done.

What it does with messages it is given (`submissions`, `reports`), and that is to stand in a log
before it returns. What fails because of NATS is handed back after a moment.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from atlas.contracts.errors import AtlasError
from atlas.finishing import finish
from atlas.pull import Pull

_BATCH = 256
_WAIT_S = 1.0
_AT_ONCE_S = 0.002
_BACKLOG_WAIT_S = 0.02
_HAND_BACK_S = 1.0
_CONCURRENT = 64

type Handle = Callable[[list[Msg]], Awaitable[None]]
"""Does what messages say that belong together."""
type Group = Callable[[Sequence[Msg]], list[list[Msg]]]
"""Puts messages together that are handled together, in their order."""

log = structlog.get_logger("agent_controller.consuming")


def singly(messages: Sequence[Msg]) -> list[list[Msg]]:
    """Every message by itself."""
    return [[msg] for msg in messages]


class Consumer:
    """One durable consumer: fetches while there is room, and owns what it started."""

    def __init__(self, pull: Pull, handle: Handle, group: Group = singly) -> None:
        self._pull = pull
        self._handle = handle
        self._group = group
        self._stopping = asyncio.Event()
        self._room = asyncio.Semaphore(_CONCURRENT)
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Fetch until `drain`."""
        while not self._stopping.is_set():
            for group in self._group(await self._fetch()):
                await self._room.acquire()
                task = asyncio.create_task(self._guarded(group))
                self._running.add(task)
                task.add_done_callback(self._done)
        await self._pull.close()

    async def _fetch(self) -> list[Msg]:
        """One message as soon as it comes; all that wait when there seems to be a backlog.

        A fetch of many may hold back the first of them until its time is over (nats-py asks for a
        full batch), so it gets little time, and only when a message was there at once.
        """
        began = time.monotonic()
        messages = await self._pull.fetch(1, wait_s=_WAIT_S)
        if messages and time.monotonic() - began < _AT_ONCE_S:
            messages += await self._pull.fetch(_BATCH, wait_s=_BACKLOG_WAIT_S)
        return messages

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new and finish what was taken; the rest is delivered elsewhere."""
        self._stopping.set()
        await finish(self._running, timeout_s)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._room.release()

    async def _guarded(self, messages: list[Msg]) -> None:
        try:
            await self._handle(messages)
            for msg in messages:
                await msg.ack()
        except (AtlasError, NatsError, TimeoutError) as error:
            log.warning("handed_back", subject=messages[0].subject, error=str(error))
            await _hand_back(messages)
        except Exception:
            log.exception("failed_inside", subject=messages[0].subject)
            await _hand_back(messages)


async def _hand_back(messages: list[Msg]) -> None:
    with contextlib.suppress(NatsError):  # NATS is away: redelivered after the ack wait
        for msg in messages:
            await msg.nak(delay=_HAND_BACK_S)
