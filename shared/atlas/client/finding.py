"""What `atlas doctor` says of one thing that it looked at. Pure."""

from collections.abc import Iterable
from typing import Literal

from atlas.contracts.base import Contract

type Level = Literal["ok", "warning", "problem"]

_WORST_FIRST: tuple[Level, ...] = ("problem", "warning", "ok")
_SECOND_MS, _MINUTE_MS, _HOUR_MS = 1_000, 60_000, 3_600_000


class Finding(Contract):
    """One thing that was looked at."""

    check: str
    level: Level
    message: str
    """What was found, and what to do where something is wrong."""


def ok(check: str, message: str) -> Finding:
    """It is as it should be."""
    return Finding(check=check, level="ok", message=message)


def warning(check: str, message: str) -> Finding:
    """Work goes on, and somebody should look."""
    return Finding(check=check, level="warning", message=message)


def problem(check: str, message: str) -> Finding:
    """Something does not work, or soon will not."""
    return Finding(check=check, level="problem", message=message)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """By severity; those of one level in the order in which they were looked at."""
    return sorted(findings, key=lambda one: _WORST_FIRST.index(one.level))


def span(span_ms: float) -> str:
    """A length of time as a person says it: `1.5 s`, `12 min`, `30 h`."""
    if span_ms >= _HOUR_MS:
        return f"{span_ms / _HOUR_MS:.0f} h"
    if span_ms >= _MINUTE_MS:
        return f"{span_ms / _MINUTE_MS:.0f} min"
    return f"{span_ms / _SECOND_MS:.1f} s"
