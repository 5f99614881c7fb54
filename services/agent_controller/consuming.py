"""A durable consumer, shared by all controllers: takes what comes, acknowledges what was done.

What it does with messages it is given (`submissions`, `reports`), and that is to stand in a log
before it returns. What fails because of NATS is handed back after a moment.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Hashable

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from atlas.contracts.errors import AtlasError, OverloadedError
from atlas.finishing import finish
from atlas.pull import Flow

AHEAD = 256
"""Messages that may come before they are handled."""

_HAND_BACK_S = 1.0
_IN_HAND = 256
"""Messages that are handled, or wait for others of their name."""

type Handle = Callable[[list[Msg]], Awaitable[None]]
"""Does what messages say that belong together."""
type Name = Callable[[Msg], Hashable]
"""What a message is about: those about the same are handled one after the other, in their order,
and all that came meanwhile together."""

log = structlog.get_logger("agent_controller.consuming")


class Consumer:
    """One durable consumer: takes while there is room, and owns what it started."""

    def __init__(self, flow: Flow, handle: Handle, name: Name) -> None:
        self._flow = flow
        self._handle = handle
        self._name = name
        self._stopping = asyncio.Event()
        self._room = asyncio.Semaphore(_IN_HAND)
        self._waiting: dict[Hashable, list[Msg]] = {}
        """What came while earlier messages of that name are handled."""
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Take until `drain`."""
        while not self._stopping.is_set():
            for msg in await self._flow.take():
                await self._room.acquire()
                name = self._name(msg)
                if name in self._waiting:
                    self._waiting[name].append(msg)
                    continue
                self._waiting[name] = [msg]
                task = asyncio.create_task(self._see_to(name))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new and finish what was taken; the rest is delivered elsewhere."""
        self._stopping.set()
        await self._flow.close()
        await finish(self._running, timeout_s)

    async def _see_to(self, name: Hashable) -> None:
        """Handle what came of a name until nothing more is there."""
        try:
            while messages := self._waiting[name]:
                self._waiting[name] = []
                await self._guarded(messages)
                for _ in messages:
                    self._room.release()
        finally:
            del self._waiting[name]

    async def _guarded(self, messages: list[Msg]) -> None:
        try:
            await self._handle(messages)
            for msg in messages:
                await msg.ack()
        except OverloadedError as error:
            log.debug("waits", subject=messages[0].subject, error=error.message)
            await _hand_back(messages, (error.retry_after_ms or 0) / 1000)
        except (AtlasError, NatsError, TimeoutError) as error:
            log.warning("handed_back", subject=messages[0].subject, error=str(error))
            await _hand_back(messages)
        except Exception:
            log.exception("failed_inside", subject=messages[0].subject)
            await _hand_back(messages)


async def _hand_back(messages: list[Msg], delay_s: float = _HAND_BACK_S) -> None:
    with contextlib.suppress(NatsError):  # NATS is away: redelivered after the ack wait
        for msg in messages:
            await msg.nak(delay=max(delay_s, _HAND_BACK_S))
