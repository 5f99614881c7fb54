"""Hears the workers' health, tells who is gone, and knows what a model may plan with.

`worker.gone` is for whoever watches. Work goes to another worker because its message is delivered
again, not because of it.
"""

import contextlib
from collections.abc import Mapping

from nats.aio.msg import Msg
from pydantic import ValidationError

from agent_controller.roll import Roll, read_offers
from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.base import now_ms
from atlas.contracts.events import Event, Offer
from atlas.service import Events

_WORKER, _CONTROLLER = "agent_worker", "agent_controller"
_LOOK_MS = 1_000


class Presence:
    """Keeps the roll and tells who is gone."""

    def __init__(self, bus: Bus, events: Events, roll: Roll) -> None:
        self._bus = bus
        self._events = events
        self._roll = roll

    def offers(self) -> Mapping[str, Offer]:
        """What the workers that are there can do, as they say."""
        return self._roll.offers

    async def run(self) -> None:
        """Until cancelled."""
        health = await self._bus.open(subjects.events_of("*", _WORKER, "service.health"))
        for subject in (
            subjects.events_of("*", _CONTROLLER, "service.health"),
            subjects.events_of("*", "*", "worker.gone"),
        ):
            await self._bus.subscribe(subject, self._hear_other)
        look_at_ms = now_ms() + _LOOK_MS
        while True:
            with contextlib.suppress(TimeoutError):
                self._hear_worker(await health.next_msg(timeout=_LOOK_MS / 1000))
            if not self._bus.is_connected:
                self._roll.excuse(now_ms())
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

    def _hear_worker(self, msg: Msg) -> None:
        if (event := _read(msg)) is None:
            return
        instance, state = event.data.get("instance"), event.data.get("state")
        if isinstance(instance, str) and isinstance(state, str):
            worker = (subjects.parse(msg.subject).tenant, instance)
            self._roll.hear(worker, state, now_ms(), read_offers(event.data))

    async def _hear_other(self, msg: Msg) -> None:
        if (event := _read(msg)) is None:
            return
        match event.type, event.data:
            case "service.health", {"instance": str(instance), "state": str(state)}:
                self._roll.hear_controller(instance, state, now_ms())
            case "worker.gone", {"worker": str(instance)}:
                self._roll.is_told((subjects.parse(msg.subject).tenant, instance))
            case _:
                pass


def _read(msg: Msg) -> Event | None:
    """An event, or None: anyone may publish there."""
    try:
        return Event.model_validate_json(msg.data)
    except ValidationError:
        return None
