"""What runs of streams and of tasks have in common: controls, and what is told of a run."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

FEW = 60
"""Up to so many streams or tasks a run is short."""
SHORT_S = 11.0
_SHOWN = 40
"""Lines of what went wrong; one cause makes many."""


@dataclass(frozen=True, slots=True)
class Control:
    """A control, so long after its stream or task was asked for or after the control before it."""

    after_s: float
    action: str


def perhaps_cancelled(
    dice: random.Random, controls: Sequence[Control], chance: float
) -> list[Control]:
    """These pauses that end, and perhaps a cancel after them."""
    if dice.random() >= chance:
        return [*controls]
    if controls and dice.random() < 0.5:
        controls = controls[:-1]  # it is cancelled while paused
    return [*controls, Control(dice.uniform(0, 2), "cancel")]


def report(
    capsys: pytest.CaptureFixture[str],
    *,
    happened: Sequence[str],
    counted: Mapping[str, int],
    wrong: Sequence[str],
    log: Path,
    again: str,
) -> str:
    """Print what happened in a run, what was counted, what went wrong, and how to do it again."""
    lines = [
        *happened,
        *(f"{count:6d}  {what}" for what, count in sorted(counted.items())),
        *wrong[:_SHOWN],
        f"{len(wrong)} violations; the services' log: {log}",
        f"again: make chaos {again}",
    ]
    told = "\n".join(lines)
    with capsys.disabled():
        print(f"\n{told}")  # noqa: T201 - worth a look also when all went well
    return told
