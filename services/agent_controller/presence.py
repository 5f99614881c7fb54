"""Which workers are there, as their health events tell; one that dies says nothing itself.

`worker.gone` is for whoever watches. Work goes to another worker because its message is delivered
again, not because of it. Every controller tells what it saw, so the event may come twice. What the
workers say that they can do is what a model may plan with.
"""

import contextlib
from dataclasses import dataclass, field

from pydantic import ValidationError

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.base import now_ms
from atlas.contracts.events import Event
from atlas.contracts.ids import is_id
from atlas.service import Events

_SOURCE = "agent_worker"
_SILENCE_MS = 5_000
_LOOK_MS = 1_000
_MOST_WORKERS = 100_000
_MOST_CAPABILITIES = 100
"""Of one worker, and in all: they stand in what a model is asked for."""

type Worker = tuple[str, str]
"""A tenant and an instance."""


@dataclass(slots=True)
class Roll:
    """When each worker was last heard of, and what it can do."""

    _seen_ms: dict[Worker, int] = field(default_factory=dict)
    _can: dict[Worker, frozenset[str]] = field(default_factory=dict)

    @property
    def capabilities(self) -> frozenset[str]:
        """What the workers on the roll can do, by name the first hundred."""
        # Workers of a kind say the same, and a deployment has few kinds.
        every = set().union(*set(self._can.values()))
        return frozenset(sorted(every)[:_MOST_CAPABILITIES])

    def hear(
        self, worker: Worker, state: str, at_ms: int, capabilities: frozenset[str] = frozenset()
    ) -> None:
        """A worker said how it is; one that has stopped is off the roll, and said so itself."""
        if state in {"draining", "stopped"}:
            self._forget(worker)
        elif worker in self._seen_ms or len(self._seen_ms) < _MOST_WORKERS:
            self._seen_ms[worker] = at_ms
            self._can[worker] = capabilities

    def silent(self, at_ms: int) -> list[tuple[Worker, int]]:
        """The workers that fell silent, with when they were last heard; they leave the roll."""
        gone = [
            (worker, seen_ms)
            for worker, seen_ms in self._seen_ms.items()
            if at_ms - seen_ms > _SILENCE_MS
        ]
        for worker, _ in gone:
            self._forget(worker)
        return gone

    def _forget(self, worker: Worker) -> None:
        self._seen_ms.pop(worker, None)
        self._can.pop(worker, None)


class Presence:
    """Keeps the roll and tells who is gone."""

    def __init__(self, bus: Bus, events: Events) -> None:
        self._bus = bus
        self._events = events
        self._roll = Roll()

    def capabilities(self) -> frozenset[str]:
        """What the workers that are there can do, as they say."""
        return self._roll.capabilities

    async def run(self) -> None:
        """Until cancelled."""
        health = subjects.events_of("*", _SOURCE, "service.health")
        sub = await self._bus.open(health)
        look_at_ms = now_ms() + _LOOK_MS
        while True:
            with contextlib.suppress(TimeoutError):
                msg = await sub.next_msg(timeout=_LOOK_MS / 1000)
                self._hear(msg.subject, msg.data)
            if not self._bus.is_connected:
                self._roll = Roll()  # while NATS is away everybody is silent
            elif now_ms() >= look_at_ms:
                look_at_ms = now_ms() + _LOOK_MS
                await self._tell()

    async def _tell(self) -> None:
        for (tenant, instance), seen_ms in self._roll.silent(now_ms()):
            data: dict[str, object] = {
                "worker": instance,
                "last_seen_ms": seen_ms,
                "reason": "silent",
            }
            await self._events.emit("worker.gone", data, tenant=tenant)

    def _hear(self, subject: str, data: bytes) -> None:
        try:
            event = Event.model_validate_json(data)
        except ValidationError:
            return  # anyone may publish there; it is no worker
        instance, state = event.data.get("instance"), event.data.get("state")
        if isinstance(instance, str) and isinstance(state, str):
            worker = (subjects.parse(subject).tenant, instance)
            self._roll.hear(worker, state, now_ms(), _names(event.data.get("capabilities")))


def _names(said: object) -> frozenset[str]:
    """The capabilities that somebody announced; what is none is passed over."""
    told = said[:_MOST_CAPABILITIES] if isinstance(said, list) else []
    return frozenset(one for one in told if isinstance(one, str) and is_id(one))
