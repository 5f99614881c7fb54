"""Taking work: one message at a time, the most urgent first, and only for a free hand.

Now and then one that is less urgent goes first (`turns`), so that none waits for ever.

Every capability and priority has a durable consumer. A worker asks one of them without waiting;
which ones are worth asking it hears from the work's own subjects, as a hint, and once a second it
asks them all, because a hint may be lost and a redelivery gives none.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Collection

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from atlas import subjects, topology
from atlas.bus import Bus
from atlas.contracts.tasks import Priority
from atlas.inbox import Inbox
from atlas.settings import TopologySettings
from atlas.turns import precedence

_POLL_S = 1.0
_FETCH_S = 2.0
_HINTS = 1_024
_HINT_FRESH_S = 0.06
"""A hint may come before the server has stored its work: so long it is worth asking again."""
_HINT_PAUSE_S = 0.02
_MESSAGE_HEADER = "Status"

type Queue = tuple[Priority, str]
"""A priority and a capability."""


class WorkQueue:
    """The work of some capabilities."""

    def __init__(self, bus: Bus, settings: TopologySettings, capabilities: list[str]) -> None:
        self._bus = bus
        self._settings = settings
        self._queues: list[Queue] = [
            (priority, capability) for priority in Priority for capability in capabilities
        ]
        self._worth_asking: dict[Queue, None] = {}
        self._hinted_at: dict[Queue, float] = {}
        self._hint = asyncio.Event()
        self._turn = 0
        self._polled_at = 0.0
        self._made_after = -1
        """After how many reconnects the consumers were made sure of."""
        self._subs: list[Subscription] = []
        self._answers: Inbox | None = None

    async def open(self) -> None:
        """Make the consumers that are missing, and listen for hints."""
        await self._make_consumers()
        for capability in sorted({capability for _, capability in self._queues}):
            subject = subjects.capability_work(capability, "*")
            self._subs.append(await self._bus.subscribe(subject, self._hinted, pending=_HINTS))
        await self._bus.flush()

    async def _make_consumers(self) -> None:
        """Make those that are missing: a server that came back empty, or another one, has none."""
        reconnects = self._bus.reconnects
        for priority, capability in self._queues:
            await topology.ensure_work_consumer(self._bus, self._settings, capability, priority)
        self._made_after = reconnects

    async def close(self) -> None:
        """Stop listening."""
        for sub in self._subs:
            with contextlib.suppress(NatsError):  # the connection is closed already
                await sub.unsubscribe()
        if self._answers is not None:
            await self._answers.close()

    def ask_again(self, capability: str) -> None:
        """Work of a capability may be taken again, as far as its worker is concerned."""
        self._worth_asking.update({one: None for one in self._queues if one[1] == capability})
        self._hint.set()

    async def take(self, without: Collection[str] = ()) -> Msg | None:
        """The next message, or None after a while without any.

        Args:
            without: Capabilities of which there is enough at work.

        Raises:
            NatsError: After a reconnect the consumers could not be made sure of; try again.
        """
        if self._made_after != self._bus.reconnects:
            await self._make_consumers()
        if time.monotonic() - self._polled_at > _POLL_S:
            self._polled_at = time.monotonic()
            self._worth_asking.update(dict.fromkeys(self._queues))
        self._hint.clear()
        while worth := [one for one in self._worth_asking if one[1] not in without]:
            queue = min(worth, key=lambda one: precedence(self._turn).index(one[0]))
            del self._worth_asking[queue]
            msg = await self._ask(queue)
            if msg is not None:
                self._turn += 1
                self._worth_asking[queue] = None  # there may be more; others have their turn first
                return msg
        fresh = time.monotonic() - _HINT_FRESH_S
        early = [
            queue for queue, at in self._hinted_at.items() if at > fresh and queue[1] not in without
        ]
        if early:
            await asyncio.sleep(_HINT_PAUSE_S)
            self._worth_asking.update(dict.fromkeys(early))
            return None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_POLL_S):
                await self._hint.wait()
        return None

    async def _hinted(self, msg: Msg) -> None:
        _, _, _, capability, priority = msg.subject.split(".")
        if priority in set(Priority):
            queue = (Priority(priority), capability)
            self._worth_asking[queue] = None
            self._hinted_at[queue] = time.monotonic()
            self._hint.set()

    async def _ask(self, queue: Queue) -> Msg | None:
        priority, capability = queue
        consumer = subjects.work_consumer(capability, priority)
        subject = subjects.jetstream("CONSUMER.MSG.NEXT", subjects.WORK, consumer)
        request = json.dumps({"batch": 1, "no_wait": True}).encode()
        answers = self._answers or await Inbox.open(self._bus.nats)
        try:
            self._answers = answers
            await self._bus.publish(subject, request, reply=answers.subject)
            msg = await answers.next(_FETCH_S)
        except (NatsError, TimeoutError):
            # NATS is away, and the next poll asks again. A late answer must not wait for that: to
            # an inbox that nobody reads any more it is work of a dead worker, and goes elsewhere.
            self._answers = None
            await answers.close()
            await self._bus.wait_connected()
            return None
        return None if _MESSAGE_HEADER in (msg.headers or {}) else msg
