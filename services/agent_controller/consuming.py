"""A durable consumer, shared by all controllers: takes what comes, acknowledges what was done.

What it does with messages it is given (`submissions`, `reports`), and that is to stand in a log
before it returns. What fails because of NATS is handed back after a moment.

What waits for others of its name has a bound for all names together, and no name may have more of
it than it leaves free: however many are slow, there is room for what is about another one. What is
too much of a slow one is put off: handed back, to come again about when there is room for it.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from atlas.contracts.errors import AtlasError, OverloadedError
from atlas.finishing import finish
from atlas.pull import Flow

AHEAD = 256
"""Messages that may come before they are handled."""

_HAND_BACK_S = 1.0
_IN_HAND = 512
"""Messages that are handled, or wait for others of their name; of a single name half of it."""
_SLOW_S = 1.0
"""A name that is handled for so long and has too much waiting holds up the others no more."""
_LONGEST_S = 10.0
"""How long a message is put off at most."""

type Handle = Callable[[list[Msg]], Awaitable[None]]
"""Does what messages say that belong together."""
type Name = Callable[[Msg], Hashable]
"""What a message is about: those about the same are handled one after the other, in their order
but for those that were put off, and all that came meanwhile together."""

log = structlog.get_logger("agent_controller.consuming")


@dataclass(slots=True)
class _Line:
    """What there is of a name."""

    began_s: float
    """Since when what is handled now is handled."""
    waiting: list[Msg] = field(default_factory=list)
    """What came while earlier messages are handled."""
    in_hand: int = 0
    """What is handled, and what waits."""
    put_off: int = 0
    """Since then."""
    is_slow: bool = False


class Consumer:
    """One durable consumer: takes while there is room, and owns what it started."""

    def __init__(self, flow: Flow, handle: Handle, name: Name) -> None:
        self._flow = flow
        self._handle = handle
        self._name = name
        self._stopping = asyncio.Event()
        self._free = _IN_HAND
        self._freed = asyncio.Event()
        self._lines: dict[Hashable, _Line] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Take until `drain`."""
        while not self._stopping.is_set():
            for msg in await self._flow.take():
                await self._admit(self._name(msg), msg)

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new and finish what was taken; the rest is delivered elsewhere."""
        self._stopping.set()
        await self._flow.close()
        await finish(self._running, timeout_s)

    async def _admit(self, name: Hashable, msg: Msg) -> None:
        """Let it be handled, or put it off; waits for room, and a moment for a quick name."""
        while not self._has_room(line := self._lines.get(name)):
            wait_s = None
            if line is not None:
                wait_s = line.began_s + _SLOW_S - time.monotonic()
                line.is_slow = line.is_slow or wait_s <= 0
                if line.is_slow:
                    await _put_off(msg, line)
                    return
            await self._until_freed(wait_s)
        if line is None:
            line = self._lines[name] = _Line(began_s=time.monotonic())
            task = asyncio.create_task(self._see_to(name, line))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        line.waiting.append(msg)
        line.in_hand += 1
        self._free -= 1

    def _has_room(self, line: _Line | None) -> bool:
        return self._free > (line.in_hand if line is not None else 0)

    async def _until_freed(self, timeout_s: float | None) -> None:
        self._freed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._freed.wait()

    async def _see_to(self, name: Hashable, line: _Line) -> None:
        """Handle what came of a name until nothing more is there."""
        try:
            while messages := line.waiting:
                line.waiting, line.began_s, line.put_off = [], time.monotonic(), 0
                await self._guarded(messages)
                line.in_hand -= len(messages)
                self._free += len(messages)
                self._freed.set()
        finally:
            del self._lines[name]

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


async def _put_off(msg: Msg, line: _Line) -> None:
    """Let it come again when there may be room: of a full line at once no more than it can take.

    What is handled now may take as long again as it took so far.
    """
    turns = 1 + line.put_off // (_IN_HAND // 2)
    line.put_off += 1
    handled_s = max(_SLOW_S, time.monotonic() - line.began_s)
    with contextlib.suppress(NatsError):  # NATS is away: redelivered after the ack wait
        await msg.nak(delay=min(handled_s * turns, _LONGEST_S))


async def _hand_back(messages: list[Msg], delay_s: float = _HAND_BACK_S) -> None:
    with contextlib.suppress(NatsError):  # NATS is away: redelivered after the ack wait
        for msg in messages:
            await msg.nak(delay=max(delay_s, _HAND_BACK_S))
