"""What runs of streams and of tasks have in common: controls, and what is told of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SHOWN = 40
"""Lines of what went wrong; one cause makes many."""


@dataclass(frozen=True, slots=True)
class Control:
    """A control, so long after its stream or task was asked for or after the control before it."""

    after_s: float
    action: str


def report(
    happened: Sequence[str], counted: Mapping[str, int], wrong: Sequence[str], log: Path, again: str
) -> str:
    """What happened in a run, what was counted, what went wrong, and how to do it again."""
    lines = [
        *happened,
        *(f"{count:6d}  {what}" for what, count in sorted(counted.items())),
        *wrong[:_SHOWN],
        f"{len(wrong)} violations; the services' log: {log}",
        f"again: make chaos {again}",
    ]
    return "\n".join(lines)
