"""Which workers are there, what they offer, and which controller tells who is gone. Pure.

A worker that stops says so itself. Of one that dies the controllers tell, and only one of them: the
first by name of those that are there, at once; each further one two seconds later than the one
before it, unless it heard by then that it was told. So it is told once, also when that controller
died with the worker. It may come twice where controllers do not hear each other, and not at all of
a worker that died while there was no controller.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from atlas.contracts.events import Offer
from atlas.contracts.ids import is_id

_LEAST_SILENCE_MS = 5_000
_BEATS = 3
_TURN_MS = 2_000
"""Twice the pause between two looks: whoever is asleep between them does not speak as well."""
_MOST_WORKERS = 100_000
_MOST_CONTROLLERS = 1_000
_MOST_CAPABILITIES = 100
"""Of one worker, and in all: they stand in what a model is asked for."""

type Worker = tuple[str, str]
"""A tenant and an instance."""

type Offers = frozenset[tuple[str, Offer]]
"""What a worker can do, by the names of capabilities."""


@dataclass(frozen=True, slots=True)
class Silent:
    """A worker that fell silent, and when it was last heard."""

    worker: Worker
    seen_ms: int


@dataclass(slots=True)
class Roll:
    """When each worker was last heard of, and what it can do."""

    me: str
    health_interval_ms: int = 1_000
    _seen_ms: dict[Worker, int] = field(default_factory=dict)
    _offers: dict[Worker, Offers] = field(default_factory=dict)
    _controllers_ms: dict[str, int] = field(default_factory=dict)
    _excused_ms: int = 0
    """While NATS was away, until then, nobody could be heard."""

    @property
    def offers(self) -> dict[str, Offer]:
        """What the workers on the roll can do, by name the first hundred; of each the best."""
        best: dict[str, Offer] = {}
        # Workers of a kind say the same, and a deployment has few kinds.
        for offers in set(self._offers.values()):
            for name, offer in offers:
                best[name] = max(best.get(name, offer), offer, key=_worth)
        return {name: best[name] for name in sorted(best)[:_MOST_CAPABILITIES]}

    def announces(self, capability: str) -> bool:
        """Whether a worker on the roll can do it."""
        return any(capability == name for said in self._offers.values() for name, _ in said)

    def hear(self, worker: Worker, state: str, at_ms: int, offers: Offers = frozenset()) -> None:
        """A worker said how it is. One that drains may die before it can say that it stopped."""
        if state == "stopped":
            self.is_told(worker)
        elif worker in self._seen_ms or len(self._seen_ms) < _MOST_WORKERS:
            self._seen_ms[worker] = at_ms
            self._offers[worker] = frozenset() if state == "draining" else offers

    def is_told(self, worker: Worker) -> None:
        """That it is gone was said, by itself or by a controller; it leaves the roll."""
        self._seen_ms.pop(worker, None)
        self._offers.pop(worker, None)

    def hear_controller(self, instance: str, state: str, at_ms: int) -> None:
        """A controller said how it is."""
        if state != "ready":
            self._controllers_ms.pop(instance, None)
        elif instance in self._controllers_ms or len(self._controllers_ms) < _MOST_CONTROLLERS:
            self._controllers_ms[instance] = at_ms

    def excuse(self, at_ms: int) -> None:
        """Nobody could be heard up to now; their silence counts from here."""
        self._excused_ms = at_ms

    def silent(self, at_ms: int) -> list[Silent]:
        """The workers whose end is ours to tell; they leave the roll.

        What they can do is not offered as soon as they are silent, whoever tells it.
        """
        patience_ms = self.silence_ms + self._turn(at_ms) * _TURN_MS
        for worker in [one for one in self._offers if self._silent_for(one, at_ms)]:
            del self._offers[worker]
        gone = [
            Silent(worker, seen_ms)
            for worker, seen_ms in self._seen_ms.items()
            if at_ms - max(seen_ms, self._excused_ms) > patience_ms
        ]
        for one in gone:
            self.is_told(one.worker)
        return gone

    @property
    def silence_ms(self) -> int:
        """A worker that is silent for longer is gone."""
        return max(_LEAST_SILENCE_MS, _BEATS * self.health_interval_ms)

    def _silent_for(self, worker: Worker, at_ms: int) -> bool:
        heard_ms = max(self._seen_ms[worker], self._excused_ms)
        return at_ms - heard_ms > self.silence_ms

    def _turn(self, at_ms: int) -> int:
        """How many controllers tell before this one."""
        since_ms = at_ms - self.silence_ms
        return sum(
            name < self.me and heard_ms >= since_ms
            for name, heard_ms in self._controllers_ms.items()
        )


def _worth(offer: Offer) -> tuple[int, str]:
    """The higher level goes first, then one that says what it does."""
    return offer.level.rank, offer.description or ""


def read_offers(data: Mapping[str, object]) -> Offers:
    """What a worker announced; what makes no sense is passed over.

    Names alone in `capabilities` are enough; `offers` may say more of some of them.
    """
    named, more = data.get("capabilities"), data.get("offers")
    told = named[:_MOST_CAPABILITIES] if isinstance(named, list) else []
    about = more if isinstance(more, dict) else {}
    return frozenset(
        (name, _offer(about.get(name))) for name in told if isinstance(name, str) and is_id(name)
    )


def _offer(said: object) -> Offer:
    try:
        return Offer() if said is None else Offer.model_validate(said)
    except ValidationError:
        return Offer()
