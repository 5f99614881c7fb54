"""What must be true after a run of chaos, whatever it hit."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.chaos.plan import PlannedStream
from tests.support.folding import Event, Told, told_by
from tests.support.router import TERMINAL


@dataclass(frozen=True, slots=True)
class Seen:
    """How a stream ended for one watcher."""

    text: str
    terminal: Event | None
    error: str | None = None
    """What went wrong with the watching itself."""


@dataclass(slots=True)
class Outcome:
    """What a run left."""

    stored: dict[str, list[Event]] = field(default_factory=dict)
    live: dict[str, list[Event]] = field(default_factory=dict)
    """What somebody heard who only listened, and asked for nothing that was missed."""
    seen: dict[str, list[Seen]] = field(default_factory=dict)
    answers: dict[str, list[str]] = field(default_factory=dict)
    """The states with which controls were answered."""
    happened: list[str] = field(default_factory=list)
    """The faults, as they struck."""
    unended: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """What broke the run itself."""
    open_answers: int = 0
    """Of the provider, when every stream had ended."""
    queued_requests: int = 0


def violations(stream: PlannedStream, outcome: Outcome) -> Iterator[str]:
    """What is not as promised: of history, of the watchers, of the end, of answered controls."""
    stored = outcome.stored[stream.stream_id]
    told = told_by(stored)
    yield from told.problems
    rest = iter(stored)
    if not all(event in rest for event in outcome.live.get(stream.stream_id, [])):
        yield "what was live is not what is stored, in its order"
    ends = [event["type"] for event in stored if event["type"] in TERMINAL]
    if len(ends) != 1:
        yield f"{len(ends)} terminal events are stored: {ends}"
    for number, one in enumerate(outcome.seen.get(stream.stream_id, [])):
        if one.error is not None:
            yield f"watcher {number} failed: {one.error}"
        elif (one.text, one.terminal) != (told.text, told.terminal):
            yield (
                f"watcher {number} read {one.text[-60:]!r} and {one.terminal}, "
                f"history tells {told.text[-60:]!r} and {told.terminal}"
            )
    if told.terminal is not None:
        yield from _of_the_end(
            stream, told, told.terminal, outcome.answers.get(stream.stream_id, [])
        )


def _of_the_end(
    stream: PlannedStream, told: Told, end: Event, answers: Sequence[str]
) -> Iterator[str]:
    kind = str(end["type"])
    if kind not in _allowed(stream):
        yield f"a {stream.temper} stream ended with {kind}: {end.get('error')}"
    if "cancelled" in answers and kind != "stream.cancelled":
        yield f"a cancel was answered with `cancelled`, and the end is {kind}"
    if kind == "stream.completed":
        if told.text != stream.text:
            yield f"the text is not the provider's: {told.text[:60]!r} … {told.text[-60:]!r}"
        sha256 = hashlib.sha256(told.text.encode()).hexdigest()
        if (end["text_length"], end["text_sha256"]) != (len(told.text), sha256):
            yield "text_length or text_sha256 is not that of the text"
        if end["events"] != len(told.counting):
            yield f"the end tells of {end['events']} events, {len(told.counting)} count"


def _allowed(stream: PlannedStream) -> set[str]:
    """How a stream may end; a killed router ends one that wants no second attempt."""
    ends = {"hopeless": {"stream.failed"}, "proud": {"stream.failed"}}.get(
        stream.temper, {"stream.completed"}
    )
    if any(control.action == "cancel" for control in stream.controls):
        ends = ends | {"stream.cancelled"}
    return ends


def tally(stored: Mapping[str, Sequence[Event]]) -> Counter[str]:
    """What happened in a run, so that one sees what it has shown."""
    happened: Counter[str] = Counter()
    for events in stored.values():
        happened.update(str(event["type"]) for event in events)
        happened["void events"] += told_by(events).void
    return happened
