"""A stream as its history tells it, folded by a few lines that share nothing with `atlas.reading`.

So a mistake there does not judge itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.support.router import TERMINAL

type Event = Mapping[str, object]


@dataclass(slots=True)
class Told:
    """A stream as its history tells it."""

    counting: list[Event] = field(default_factory=list)
    text: str = ""
    problems: list[str] = field(default_factory=list)
    void: int = 0
    """Events that do not count: of an older epoch, after a gap, or after the end."""

    @property
    def terminal(self) -> Event | None:
        """Its end, or None."""
        last = self.counting[-1] if self.counting else {}
        return last if last.get("type") in TERMINAL else None


def told_by(stored: Sequence[Event]) -> Told:
    """Fold stored events as contract A3 says; a gap is one unless an adoption makes it void."""
    told = Told()
    epoch, gap = 0, ""
    for event in stored:
        mine, seq = _number(event, "epoch"), _number(event, "seq")
        if told.terminal is not None or mine < epoch:
            told.void += 1
            continue
        if event["type"] == "stream.adopted" and mine > epoch:
            kept, gap = _number(event, "from_seq"), ""
            told.void += len(told.counting[kept:])
            told.counting = told.counting[:kept]
        elif told.counting and mine > epoch:
            told.problems.append(f"epoch {mine} begins at seq {seq} without an adoption")
        epoch = mine
        if seq > len(told.counting) + 1:
            gap = gap or f"seq {seq} comes after {len(told.counting)} in epoch {mine}"
            told.void += 1
            continue
        if seq <= len(told.counting):
            told.problems.append(f"seq {seq} comes twice in epoch {mine}")
        told.counting.append(event)
    if gap:
        told.problems.append(gap)
    told.text = _text(told.counting)
    return told


def _text(counting: Sequence[Event]) -> str:
    text = ""
    for event in counting:
        if event["type"] == "text.delta":
            text += str(event["text"])
        elif event.get("next") == "restart":
            text = ""
    return text


def _number(event: Event, name: str) -> int:
    value = event[name]
    assert isinstance(value, int)
    return value
