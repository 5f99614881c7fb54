"""What a run of chaos will do: a pure function of its seed.

The plan says when which stream is asked for, how its provider behaves, who watches and controls
it, and which faults strike meanwhile. What it hits is a matter of timing and varies; what is true
at the end does not.
"""

import random
from dataclasses import dataclass
from typing import Literal

from tests.chaos.faults import Fault, Kind, lasting_s
from tests.chaos.shared import FEW, SHORT_S, Control, perhaps_cancelled

ROUTERS = 2

type Temper = Literal["sound", "breaks", "hopeless", "proud"]
"""How a stream fares by its provider: well; broken so many times; always; or once, which the
request asks not to be healed (`on_failure: fail`)."""

_LONG_S = 50.0
_NEVER = 1_000
_TEMPERS: dict[Temper, int] = {"sound": 6, "breaks": 5, "hopeless": 1, "proud": 1}


@dataclass(frozen=True, slots=True)
class Visit:
    """A watcher's stay: it comes after a while, and leaves after so many events."""

    after_s: float
    events: int | None
    """None: it stays to the end."""
    goes_on: bool
    """Whether it asks for what follows the last event it saw, or for everything again."""


@dataclass(frozen=True, slots=True)
class PlannedStream:
    """One stream: what is asked, what its provider does, and who looks on."""

    stream_id: str
    at_s: float
    door: Literal["durable", "api"]
    words: int
    pace_s: float
    temper: Temper
    breaks: tuple[int, ...]
    """After so many words the provider breaks its first attempts; later ones are whole."""
    coalesce: Literal["off", "adaptive"]
    controls: tuple[Control, ...]
    watchers: tuple[tuple[Visit, ...], ...]

    @property
    def text(self) -> str:
        """The whole answer; nothing of it is in another stream's, and no two words are the same."""
        return "".join(self.pieces)

    @property
    def pieces(self) -> list[str]:
        """The answer as its provider cuts it."""
        return [f"{self.stream_id}.{number} " for number in range(self.words)]

    def break_after(self, attempt: int) -> int | None:
        """After so many words the provider breaks an attempt, counted from 0; None: it does not."""
        return self.breaks[attempt] if attempt < len(self.breaks) else None


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a run does."""

    seed: int
    streams: tuple[PlannedStream, ...]
    faults: tuple[Fault, ...]


def plan_of(seed: int, streams: int) -> Plan:
    """The plan of a seed."""
    dice = random.Random(f"{seed} {streams}")
    length_s = SHORT_S if streams <= FEW else _LONG_S
    return Plan(
        seed,
        tuple(_stream(dice, f"s{seed}-{number}", length_s) for number in range(streams)),
        tuple(sorted(_faults(dice, length_s), key=lambda fault: fault.at_s)),
    )


def _stream(dice: random.Random, stream_id: str, length_s: float) -> PlannedStream:
    words = dice.randint(20, 90)
    temper: Temper = dice.choices(list(_TEMPERS), list(_TEMPERS.values()))[0]
    breaks = {
        "sound": (),
        "breaks": tuple(dice.randrange(words) for _ in range(dice.randint(1, 2))),
        "hopeless": tuple(dice.randrange(words) for _ in range(_NEVER)),
        "proud": (dice.randrange(1, words),) * _NEVER,
    }[temper]
    return PlannedStream(
        stream_id=stream_id,
        at_s=dice.uniform(0, 0.85 * length_s),
        door=dice.choice(["durable", "api"]),
        words=words,
        pace_s=dice.uniform(0.01, 0.08),
        temper=temper,
        breaks=breaks,
        coalesce=dice.choice(["off", "adaptive"]),
        controls=tuple(_controls(dice)),
        watchers=tuple(tuple(_visits(dice)) for _ in range(dice.randint(1, 3))),
    )


def _controls(dice: random.Random) -> list[Control]:
    """Nothing for half of the streams; else pauses that end, and perhaps a cancel."""
    controls: list[Control] = []
    for _ in range(dice.choice([0, 0, 0, 1, 1, 2])):
        controls.append(Control(dice.uniform(0, 2), "pause"))
        controls.append(Control(dice.uniform(0, 1.5), "resume"))
    return perhaps_cancelled(dice, controls, 0.12)


def _visits(dice: random.Random) -> list[Visit]:
    stays = [
        Visit(dice.uniform(0, 2), dice.randint(1, 40), goes_on=dice.random() < 0.5)
        for _ in range(dice.choice([0, 0, 1, 2]))
    ]
    return [*stays, Visit(dice.uniform(0, 3), None, goes_on=dice.random() < 0.5)]


def _faults(dice: random.Random, length_s: float) -> list[Fault]:
    """Each kind at least once, both routers stopped, and about one fault in two seconds."""
    kinds: list[Kind] = ["kill", "stop", "kill nats", "break providers"]
    kinds += dice.choices(kinds, [4, 4, 1, 2], k=max(0, int(length_s / 2) - len(kinds)))
    faults = [
        Fault(dice.uniform(1, length_s), kind, dice.randrange(ROUTERS), lasting_s(kind, dice))
        for kind in kinds
    ]
    both = [
        Fault((router + 1) * length_s / (ROUTERS + 1), "stop", router, 3.0)
        for router in range(ROUTERS)
    ]
    return faults + both
