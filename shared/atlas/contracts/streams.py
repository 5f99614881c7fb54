"""The life of a stream on the wire (contract A3)."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter
from pydantic.json_schema import SkipJsonSchema

from atlas.contracts.base import Contract, Count, EpochMs, Unknown, UserInput, types_of
from atlas.contracts.errors import ErrorInfo
from atlas.contracts.ids import StreamId
from atlas.contracts.inference import Cost, FinishReason, StreamMetrics, Usage

type NextStep = Literal["restart", "continue"]


class StreamAccepted(Contract):
    """A stream was accepted: where to watch and where to control it."""

    stream_id: StreamId
    chunk_subject: str
    control_subject: str


class _StreamEvent(Contract):
    stream_id: StreamId
    seq: int = Field(ge=1, description="1, 2, 3 … within the stream.")
    epoch: int = Field(ge=0, description="Which ownership wrote it; rises, with gaps.")
    at_ms: EpochMs


class StreamStarted(_StreamEvent):
    """An attempt begins."""

    type: Literal["stream.started"] = "stream.started"
    provider: str
    model: str
    attempt: int = Field(ge=1)
    reason: str = Field(description="Why this provider and model.")


class TextDelta(_StreamEvent):
    """More of the answer's text."""

    type: Literal["text.delta"] = "text.delta"
    text: str


class ReasoningDelta(_StreamEvent):
    """More of the model's reasoning."""

    type: Literal["reasoning.delta"] = "reasoning.delta"
    text: str


class ToolCallDelta(_StreamEvent):
    """More of a tool call; `id` and `name` come with its first event."""

    type: Literal["tool_call.delta"] = "tool_call.delta"
    index: Count
    id: str | None = None
    name: str | None = None
    arguments: str = Field(default="", description="The next piece of the JSON text.")


class StreamPaused(_StreamEvent):
    """The stream stands still; the provider is held by its own backpressure."""

    type: Literal["stream.paused"] = "stream.paused"
    by: str | None = None
    reason: str | None = None


class StreamResumed(_StreamEvent):
    """The stream flows again."""

    type: Literal["stream.resumed"] = "stream.resumed"
    by: str | None = None
    reason: str | None = None


class AttemptFailed(_StreamEvent):
    """An attempt failed; `next` says what becomes of its text."""

    type: Literal["attempt.failed"] = "attempt.failed"
    attempt: int = Field(ge=1)
    provider: str
    error: ErrorInfo
    next: NextStep | None = Field(
        default=None,
        description="`restart`: drop this attempt's text. `continue`: keep it. None: the end.",
    )


class StreamAdopted(_StreamEvent):
    """A new router took over; forget what older epochs wrote above `from_seq`."""

    type: Literal["stream.adopted"] = "stream.adopted"
    from_seq: Count
    from_epoch: Count = Field(
        description="The epoch of the event at `from_seq`, 0 when there is none: a watcher whose "
        "event is of another one missed an adoption and asks history."
    )
    attempt: int = Field(ge=1, description="The attempt that comes next.")
    next: NextStep | None = None


class StreamCompleted(_StreamEvent):
    """The end: the answer is whole."""

    type: Literal["stream.completed"] = "stream.completed"
    finish_reason: FinishReason
    usage: Usage
    cost: Cost
    metrics: StreamMetrics
    events: int = Field(ge=1, description="How many events the stream has, this one included.")
    text_length: Count = Field(description="Unicode code points of the final text.")
    text_sha256: str = Field(description="SHA-256 of the final text as UTF-8, hexadecimal.")


class StreamFailed(_StreamEvent):
    """The end: there is no answer, for this reason."""

    type: Literal["stream.failed"] = "stream.failed"
    error: ErrorInfo
    usage: Usage
    cost: Cost


class StreamCancelled(_StreamEvent):
    """The end: somebody cancelled."""

    type: Literal["stream.cancelled"] = "stream.cancelled"
    by: str | None = None
    reason: str | None = None
    usage: Usage
    cost: Cost


KnownStreamEvent = Annotated[
    StreamStarted
    | TextDelta
    | ReasoningDelta
    | ToolCallDelta
    | StreamPaused
    | StreamResumed
    | AttemptFailed
    | StreamAdopted
    | StreamCompleted
    | StreamFailed
    | StreamCancelled,
    Field(discriminator="type"),
]


class UnknownStreamEvent(_StreamEvent, Unknown):
    """An event of a type that a newer router writes. It has its place and says nothing."""

    known = types_of(KnownStreamEvent)


type StreamEvent = Annotated[
    KnownStreamEvent | SkipJsonSchema[UnknownStreamEvent], Field(union_mode="left_to_right")
]
type TerminalStreamEvent = StreamCompleted | StreamFailed | StreamCancelled

STREAM_EVENT: TypeAdapter[StreamEvent] = TypeAdapter(StreamEvent)
"""Reads and writes one stream event."""


class StreamState(StrEnum):
    """Where a stream is: `queued → initializing → active ⇄ paused`, then one of the ends."""

    QUEUED = "queued"
    INITIALIZING = "initializing"
    ACTIVE = "active"
    PAUSED = "paused"
    ADOPTING = "adopting"
    COMPLETED = "completed"
    ERROR = "error"
    CANCELLED = "cancelled"
    NOT_FOUND = "not_found"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing follows."""
        return self in (StreamState.COMPLETED, StreamState.ERROR, StreamState.CANCELLED)


class ControlAction(StrEnum):
    """What anyone may ask of a stream."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


class StreamControl(UserInput):
    """Asks a stream to pause, resume or cancel. `by` is what the sender claims, not proof."""

    action: ControlAction
    reason: str | None = Field(default=None, max_length=1024)
    by: str | None = Field(default=None, max_length=256)


class StreamStatus(Contract):
    """The answer to a control: the resulting state."""

    stream_id: StreamId
    state: StreamState
    seq: Count = Field(default=0, description="The last event written so far.")
    error: ErrorInfo | None = None


class HistoryRequest(UserInput):
    """Asks for the stored events of a stream, from `from_seq` on."""

    stream_id: StreamId
    from_seq: int = Field(default=1, ge=1)
    limit: int = Field(default=1000, ge=1, le=10_000)


class HistoryReply(Contract):
    """A page of a stream's history, in stored order.

    Events of older epochs stand in it as they were stored: fold it by the reading rule.
    `next_seq` is the `from_seq` of the next page, None when this is the last one.
    """

    events: list[StreamEvent]
    state: StreamState
    next_seq: int | None = None


class AnswerFault(StrEnum):
    """Why an answer was of no use."""

    MALFORMED = "malformed"
    """No JSON, or not as its schema asks."""
    EMPTY = "empty"
    REFUSED = "refused"
    WRONG = "wrong"


class StreamFeedback(UserInput):
    """Says that the answer of a completed stream was of no use."""

    stream_id: StreamId
    fault: AnswerFault
    reason: str | None = Field(default=None, max_length=1024)


class FeedbackTaken(Contract):
    """It counts against the model that answered, for this tenant and lately; once for a stream."""

    stream_id: StreamId
    model: str = Field(description="`provider/name`.")


class Ownership(Contract):
    """Which router writes a stream. `epoch` rises with every take-over."""

    epoch: int = Field(ge=0)
    router: str
    at_ms: EpochMs
    request_seq: int | None = Field(
        default=None, description="Sequence of its request in ATLAS_REQUESTS."
    )
    request_sha256: str | None = Field(
        default=None, description="Of the request's body, to tell a repeat from a conflict."
    )
    deleted: bool = Field(
        default=False, description="Nobody's any more: it was deleted, and nobody may claim it."
    )
