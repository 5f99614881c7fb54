"""How a stream's own events are made: each function gives a maker for the writer to number.

An event gets its seq and epoch when it is written, and another pair when it is written again.
"""

from collections.abc import Callable

from atlas.contracts.base import now_ms
from atlas.contracts.errors import ErrorInfo
from atlas.contracts.inference import Cost, FinishReason, StreamMetrics, Usage
from atlas.contracts.streams import (
    AttemptFailed,
    NextStep,
    StreamCancelled,
    StreamCompleted,
    StreamControl,
    StreamEvent,
    StreamFailed,
    StreamPaused,
    StreamResumed,
    StreamStarted,
)
from provider_router.routing.choosing import Candidate

type MakeEvent = Callable[[str, int, int], StreamEvent]
"""Builds an event from its stream id, seq and epoch."""


def started(candidate: Candidate, attempt: int) -> MakeEvent:
    """An attempt begins."""
    return lambda stream_id, seq, epoch: StreamStarted(
        stream_id=stream_id,
        seq=seq,
        epoch=epoch,
        at_ms=now_ms(),
        provider=candidate.provider,
        model=candidate.full_name,
        attempt=attempt,
        reason=candidate.reason,
    )


def paused(control: StreamControl) -> MakeEvent:
    """Somebody paused."""
    return _controlled(StreamPaused, control)


def resumed(control: StreamControl) -> MakeEvent:
    """Somebody resumed."""
    return _controlled(StreamResumed, control)


def _controlled(kind: type[StreamPaused | StreamResumed], control: StreamControl) -> MakeEvent:
    return lambda stream_id, seq, epoch: kind(
        stream_id=stream_id,
        seq=seq,
        epoch=epoch,
        at_ms=now_ms(),
        by=control.by,
        reason=control.reason,
    )


def attempt_failed(
    candidate: Candidate, attempt: int, error: ErrorInfo, step: NextStep | None
) -> MakeEvent:
    """An attempt failed after content."""
    return lambda stream_id, seq, epoch: AttemptFailed(
        stream_id=stream_id,
        seq=seq,
        epoch=epoch,
        at_ms=now_ms(),
        attempt=attempt,
        provider=candidate.provider,
        error=error,
        next=step,
    )


def completed(
    finish: FinishReason,
    usage: Usage,
    cost: Cost,
    metrics: StreamMetrics,
    text: tuple[int, str],
) -> MakeEvent:
    """The answer is whole; `text` is its length and SHA-256."""
    return lambda stream_id, seq, epoch: StreamCompleted(
        stream_id=stream_id,
        seq=seq,
        epoch=epoch,
        at_ms=now_ms(),
        finish_reason=finish,
        usage=usage,
        cost=cost,
        metrics=metrics,
        events=seq,
        text_length=text[0],
        text_sha256=text[1],
    )


def failed(error: ErrorInfo, usage: Usage, cost: Cost) -> MakeEvent:
    """There is no answer."""
    return lambda stream_id, seq, epoch: StreamFailed(
        stream_id=stream_id,
        seq=seq,
        epoch=epoch,
        at_ms=now_ms(),
        error=error,
        usage=usage,
        cost=cost,
    )


def cancelled(control: StreamControl | None, usage: Usage, cost: Cost) -> MakeEvent:
    """Somebody cancelled."""
    return lambda stream_id, seq, epoch: StreamCancelled(
        stream_id=stream_id,
        seq=seq,
        epoch=epoch,
        at_ms=now_ms(),
        by=control.by if control else None,
        reason=control.reason if control else None,
        usage=usage,
        cost=cost,
    )
