"""Examples of a stream's events and doors."""

from atlas.contracts.base import Contract
from atlas.contracts.deleting import StreamDelete, StreamDeleted
from atlas.contracts.inference import FinishReason
from atlas.contracts.streams import (
    AnswerFault,
    AttemptFailed,
    ControlAction,
    FeedbackTaken,
    HistoryReply,
    HistoryRequest,
    Ownership,
    ReasoningDelta,
    StreamAccepted,
    StreamAdopted,
    StreamCancelled,
    StreamCompleted,
    StreamControl,
    StreamFailed,
    StreamFeedback,
    StreamPaused,
    StreamResumed,
    StreamStarted,
    StreamState,
    StreamStatus,
    TextDelta,
    ToolCallDelta,
)

from .errors_and_events import AT_MS, ERROR
from .inference import COST, METRICS, USAGE

ID = "story-1"
SHA256 = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"

STARTED = StreamStarted(
    stream_id=ID,
    seq=1,
    epoch=AT_MS,
    at_ms=AT_MS,
    provider="openai",
    model="gpt-5",
    attempt=1,
    reason="asked for by name",
)
DELTA = TextDelta(stream_id=ID, seq=2, epoch=AT_MS, at_ms=AT_MS, text="Es war einmal … 🐉")

STREAMS: dict[str, Contract] = {
    "StreamAccepted": StreamAccepted(
        stream_id=ID,
        chunk_subject="atlas.default.stream.story-1.chunk",
        control_subject="atlas.default.stream.story-1.control",
    ),
    "StreamStarted": STARTED,
    "TextDelta": DELTA,
    "ReasoningDelta": ReasoningDelta(
        stream_id=ID, seq=3, epoch=AT_MS, at_ms=AT_MS, text="A dragon first."
    ),
    "ToolCallDelta": ToolCallDelta(
        stream_id=ID,
        seq=4,
        epoch=AT_MS,
        at_ms=AT_MS,
        index=0,
        id="call_1",
        name="weather",
        arguments='{"ci',
    ),
    "StreamPaused": StreamPaused(
        stream_id=ID, seq=5, epoch=AT_MS, at_ms=AT_MS, by="ada", reason="lunch"
    ),
    "StreamResumed": StreamResumed(
        stream_id=ID, seq=6, epoch=AT_MS, at_ms=AT_MS, by="ada", reason="back"
    ),
    "AttemptFailed": AttemptFailed(
        stream_id=ID,
        seq=7,
        epoch=AT_MS,
        at_ms=AT_MS,
        attempt=1,
        provider="openai",
        error=ERROR,
        next="restart",
    ),
    "StreamAdopted": StreamAdopted(
        stream_id=ID,
        seq=8,
        epoch=AT_MS + 9_000,
        at_ms=AT_MS + 9_000,
        from_seq=7,
        from_epoch=AT_MS,
        attempt=2,
        next="continue",
    ),
    "StreamCompleted": StreamCompleted(
        stream_id=ID,
        seq=9,
        epoch=AT_MS + 9_000,
        at_ms=AT_MS + 9_500,
        finish_reason=FinishReason.STOP,
        usage=USAGE,
        cost=COST,
        metrics=METRICS,
        events=9,
        text_length=11,
        text_sha256=SHA256,
    ),
    "StreamFailed": StreamFailed(
        stream_id=ID, seq=9, epoch=AT_MS, at_ms=AT_MS, error=ERROR, usage=USAGE, cost=COST
    ),
    "StreamCancelled": StreamCancelled(
        stream_id=ID,
        seq=9,
        epoch=AT_MS,
        at_ms=AT_MS,
        by="ada",
        reason="enough",
        usage=USAGE,
        cost=COST,
    ),
    "StreamFeedback": StreamFeedback(
        stream_id="story-1", fault=AnswerFault.MALFORMED, reason="$: 'n' is a required property"
    ),
    "FeedbackTaken": FeedbackTaken(stream_id="story-1", model="openai/gpt-5"),
    "StreamDelete": StreamDelete(stream_id=ID),
    "StreamDeleted": StreamDeleted(stream_id=ID, messages=42),
    "StreamControl": StreamControl(action=ControlAction.PAUSE, reason="lunch", by="ada"),
    "StreamStatus": StreamStatus(stream_id=ID, state=StreamState.ERROR, seq=9, error=ERROR),
    "HistoryRequest": HistoryRequest(stream_id=ID, from_seq=3, limit=100),
    "HistoryReply": HistoryReply(events=[STARTED, DELTA], state=StreamState.ACTIVE, next_seq=3),
    "Ownership": Ownership(
        epoch=AT_MS, router="router-1", at_ms=AT_MS, request_seq=17, request_sha256=SHA256
    ),
}
