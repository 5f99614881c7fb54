"""Hears the workers' health, tells who is gone, and knows what a model may plan with.

`worker.gone` is for whoever watches. Work goes to another worker because its message is delivered
again, not because of it.

Whoever starts hears first what was said before it listened: no model is asked for a plan, and no
plan is read, as if there were the built-in capabilities only.
"""

import contextlib
from collections.abc import Callable, Mapping

import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from pydantic import ValidationError

from agent_controller.roll import Roll, read_offers
from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.base import now_ms
from atlas.contracts.errors import AtlasError
from atlas.contracts.events import Event, Offer
from atlas.service import Events
from atlas.wire import Stored

_LOOK_MS = 1_000
_WORKERS = subjects.events_of("*", "agent_worker", "service.health")
_OTHERS = (
    subjects.events_of("*", "agent_controller", "service.health"),
    subjects.events_of("*", "*", "worker.gone"),
)

type Hear = Callable[[str, bytes, int], None]
"""Takes an event by its subject, its bytes and when it was said."""

log = structlog.get_logger("agent_controller.presence")


class Presence:
    """Keeps the roll and tells who is gone."""

    def __init__(self, bus: Bus, events: Events, roll: Roll, *, settle_ms: int) -> None:
        self._bus = bus
        self._events = events
        self._roll = roll
        self._settle_ms = settle_ms
        self._listening_since_ms: int | None = None

    def offers(self) -> Mapping[str, Offer]:
        """What the workers that are there can do, as they say."""
        return self._roll.offers

    def is_missing(self, capability: str) -> bool:
        """Whether no worker announces a capability; whoever just began to listen cannot say."""
        since_ms = self._listening_since_ms
        if since_ms is None or now_ms() - since_ms < self._settle_ms:
            return False
        return not self._roll.announces(capability)

    async def listen(self) -> Subscription:
        """Begin to hear, with what was said lately; gives what `run` hears the workers by."""
        health = await self._bus.open(_WORKERS)
        for subject in _OTHERS:
            await self._bus.subscribe(subject, self._hear_other)
        await self._bus.flush()
        self._listening_since_ms = now_ms()
        try:
            await self._catch_up()
        except AtlasError as error:  # then the roll fills within a few beats
            log.warning("roll_not_read", error=error.message)
        return health

    async def _catch_up(self) -> None:
        """Hear what was said within the time that a worker may be silent."""
        since_ms = now_ms() - self._roll.silence_ms
        hearing: dict[str, Hear] = {
            _WORKERS: self._hear_worker,
            **dict.fromkeys(_OTHERS, self._hear),
        }
        said: list[tuple[Stored, Hear]] = []
        for subject, hear in hearing.items():
            lately = self._bus.read(subjects.EVENTS, subject, from_ms=since_ms)
            said += [(stored, hear) async for stored in lately]
        for stored, hear in sorted(said, key=lambda one: one[0].seq):
            hear(stored.subject, stored.data, stored.at_ms)

    async def run(self, health: Subscription) -> None:
        """Until cancelled; `health` is what `listen` gave."""
        look_at_ms = now_ms()
        while True:
            with contextlib.suppress(TimeoutError):
                msg = await health.next_msg(timeout=_LOOK_MS / 1000)
                self._hear_worker(msg.subject, msg.data, now_ms())
            if not self._bus.is_connected:
                self._roll.excuse(now_ms())
                self._listening_since_ms = now_ms()
            elif now_ms() >= look_at_ms:
                look_at_ms = now_ms() + _LOOK_MS
                await self._tell()

    async def _tell(self) -> None:
        for one in self._roll.silent(now_ms()):
            tenant, instance = one.worker
            data: dict[str, object] = {
                "worker": instance,
                "last_seen_ms": one.seen_ms,
                "reason": "silent",
            }
            await self._events.emit("worker.gone", data, tenant=tenant)

    def _hear_worker(self, subject: str, data: bytes, at_ms: int) -> None:
        if (event := _read(data)) is None:
            return
        instance, state = event.data.get("instance"), event.data.get("state")
        if isinstance(instance, str) and isinstance(state, str):
            worker = (subjects.parse(subject).tenant, instance)
            self._roll.hear(worker, state, at_ms, read_offers(event.data))

    async def _hear_other(self, msg: Msg) -> None:
        self._hear(msg.subject, msg.data, now_ms())

    def _hear(self, subject: str, data: bytes, at_ms: int) -> None:
        if (event := _read(data)) is None:
            return
        match event.type, event.data:
            case "service.health", {"instance": str(instance), "state": str(state)}:
                self._roll.hear_controller(instance, state, at_ms)
            case "worker.gone", {"worker": str(instance)}:
                self._roll.is_told((subjects.parse(subject).tenant, instance))
            case _:
                pass


def _read(data: bytes) -> Event | None:
    """An event, or None: anyone may publish there."""
    try:
        return Event.from_json(data)
    except ValidationError:
        return None
