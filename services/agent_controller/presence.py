"""Which workers are there, as their health events tell; one that dies says nothing itself.

`worker.gone` is for whoever watches. Nothing is decided by it: work goes to another worker because
its message is delivered again. Every controller tells what it saw, so the event may come twice.
"""

import contextlib
from dataclasses import dataclass, field

from pydantic import ValidationError

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.base import now_ms
from atlas.contracts.events import Event
from atlas.service import Events

_SOURCE = "agent_worker"
_SILENCE_MS = 5_000
_LOOK_MS = 1_000
_MOST_WORKERS = 100_000

type Worker = tuple[str, str]
"""A tenant and an instance."""


@dataclass(slots=True)
class Roll:
    """When each worker was last heard of."""

    _seen_ms: dict[Worker, int] = field(default_factory=dict)

    def hear(self, worker: Worker, state: str, at_ms: int) -> None:
        """A worker said how it is; one that has stopped is off the roll, and said so itself."""
        if state in {"draining", "stopped"}:
            self._seen_ms.pop(worker, None)
        elif worker in self._seen_ms or len(self._seen_ms) < _MOST_WORKERS:
            self._seen_ms[worker] = at_ms

    def silent(self, at_ms: int) -> list[tuple[Worker, int]]:
        """The workers that fell silent, with when they were last heard; they leave the roll."""
        gone = [
            (worker, seen_ms)
            for worker, seen_ms in self._seen_ms.items()
            if at_ms - seen_ms > _SILENCE_MS
        ]
        for worker, _ in gone:
            del self._seen_ms[worker]
        return gone


class Presence:
    """Keeps the roll and tells who is gone."""

    def __init__(self, bus: Bus, events: Events) -> None:
        self._bus = bus
        self._events = events
        self._roll = Roll()

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
            self._roll.hear((subjects.parse(subject).tenant, instance), state, now_ms())
