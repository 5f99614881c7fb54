"""The reading rule (contract A3) as a pure fold: stream events in, the stream as it stands out.

Watchers, routers that adopt a stream and tests all fold with this class. Events are given in the
order in which they came, live or from history; the fold says what each of them was.
"""

import hashlib
from dataclasses import dataclass, field
from enum import Enum, auto

from atlas.contracts.inference import ModelResponse, StreamMetrics, ToolCall
from atlas.contracts.streams import (
    AttemptFailed,
    ReasoningDelta,
    StreamAdopted,
    StreamCancelled,
    StreamCompleted,
    StreamEvent,
    StreamFailed,
    StreamPaused,
    StreamResumed,
    StreamStarted,
    StreamState,
    TerminalStreamEvent,
    TextDelta,
    ToolCallDelta,
)


class Verdict(Enum):
    """What an event was to the fold."""

    TAKEN = auto()
    """It came next and counts."""
    IGNORED = auto()
    """A duplicate, of an older epoch, or after the end."""
    GAP = auto()
    """Events before it are missing; fold history from `next_seq`, then this one again."""


@dataclass(slots=True)
class Reading:
    """A stream as far as it was read."""

    seq: int = 0
    epoch: int = 0
    state: StreamState = StreamState.QUEUED
    attempt: int = 0
    started: StreamStarted | None = None
    terminal: TerminalStreamEvent | None = None
    restarts: int = 0
    """How often text was dropped; what was shown before that is void."""
    controls: list[StreamPaused | StreamResumed] = field(default_factory=list)
    """Who paused and resumed it, and why."""
    _began_at_ms: int | None = None
    _heard_at_ms: int = 0
    _epochs: list[tuple[int, int]] = field(default_factory=list)
    """From which seq on which epoch wrote."""
    _content: list[TextDelta | ReasoningDelta | ToolCallDelta] = field(default_factory=list)

    @property
    def next_seq(self) -> int:
        """The seq that comes next: where to ask history from."""
        return self.seq + 1

    @property
    def content(self) -> list[TextDelta | ReasoningDelta | ToolCallDelta]:
        """The content that counts so far, in its order."""
        return list(self._content)

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(one.text for one in self._content if isinstance(one, TextDelta))

    @property
    def reasoning(self) -> str:
        """The reasoning so far."""
        return "".join(one.text for one in self._content if isinstance(one, ReasoningDelta))

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The calls so far, by index; arguments may still be growing."""
        calls: dict[int, ToolCall] = {}
        for one in self._content:
            if isinstance(one, ToolCallDelta):
                have = calls.get(one.index) or ToolCall(
                    index=one.index, id="", name="", arguments=""
                )
                calls[one.index] = ToolCall(
                    index=one.index,
                    id=one.id or have.id,
                    name=one.name or have.name,
                    arguments=have.arguments + one.arguments,
                )
        return [calls[index] for index in sorted(calls)]

    def response(self, stream_id: str) -> ModelResponse | None:
        """The whole answer once it is completed; None before, and after any other end."""
        if self.started is None or not isinstance(self.terminal, StreamCompleted):
            return None
        return ModelResponse(
            stream_id=stream_id,
            content=self.text,
            reasoning=self.reasoning or None,
            tool_calls=self.tool_calls,
            model=self.started.model,
            provider=self.started.provider,
            finish_reason=self.terminal.finish_reason,
            usage=self.terminal.usage,
            cost=self.terminal.cost,
            metrics=self.terminal.metrics,
        )

    @property
    def metrics(self) -> StreamMetrics:
        """How it went, as the router says once it is completed; before, what the events tell.

        Then times count from the first event, `chunks` are events of the text that counts, and
        `bytes`, gaps and `tokens_per_second` are not known.
        """
        if isinstance(self.terminal, StreamCompleted):
            return self.terminal.metrics
        began_at_ms = self._began_at_ms or self._heard_at_ms
        first = self._content[0] if self._content else None
        return StreamMetrics(
            time_to_first_token_ms=max(0, first.at_ms - began_at_ms) if first else None,
            duration_ms=max(0, self._heard_at_ms - began_at_ms),
            paused_ms=self._paused_ms(),
            chunks=len(self._content),
            attempts=self.attempt,
        )

    def _paused_ms(self) -> int:
        total, paused_at_ms = 0, None
        for one in self.controls:
            if isinstance(one, StreamPaused):
                paused_at_ms = paused_at_ms or one.at_ms
            elif paused_at_ms is not None:
                total, paused_at_ms = total + one.at_ms - paused_at_ms, None
        return max(0, total if paused_at_ms is None else total + self._heard_at_ms - paused_at_ms)

    @property
    def has_content(self) -> bool:
        """Whether anything of the answer is there."""
        return bool(self._content)

    def is_whole(self) -> bool:
        """Whether a completed text is what its terminal event says it is; vacuously true before."""
        if not isinstance(self.terminal, StreamCompleted):
            return True
        return text_digest(self.text) == (self.terminal.text_length, self.terminal.text_sha256)

    def take(self, event: StreamEvent) -> Verdict:
        """Fold one event, in the order in which it came."""
        if self.terminal is not None:
            return Verdict.IGNORED
        if isinstance(event, StreamAdopted) and event.epoch > self.epoch:
            return self._adopt(event)
        if event.epoch < self.epoch or (event.epoch == self.epoch and event.seq <= self.seq):
            return Verdict.IGNORED
        is_first = self.seq == 0 and event.seq == 1
        if not is_first and (event.epoch > self.epoch or event.seq > self.next_seq):
            return Verdict.GAP
        if is_first:
            self._epochs = [(event.seq, event.epoch)]
        self._apply(event)
        return Verdict.TAKEN

    def _adopt(self, event: StreamAdopted) -> Verdict:
        if self.seq < event.from_seq or self._epoch_at(event.from_seq) != event.from_epoch:
            return (
                Verdict.GAP
            )  # the second: an adoption was missed, and a late word of its victim taken
        before = len(self._content)
        self._content = [one for one in self._content if one.seq <= event.from_seq]
        self.controls = [one for one in self.controls if one.seq <= event.from_seq]
        if len(self._content) < before:
            self.restarts += 1
        if event.next == "restart":
            self._restart()
        self._epochs = [one for one in self._epochs if one[0] <= event.from_seq]
        self._epochs.append((event.seq, event.epoch))
        self.seq, self.epoch, self.attempt = event.seq, event.epoch, event.attempt
        self._heard_at_ms = event.at_ms
        return Verdict.TAKEN

    def _epoch_at(self, seq: int) -> int:
        """The epoch of the event with that seq; 0 before the first."""
        return max((epoch for first, epoch in self._epochs if first <= seq), default=0)

    def _apply(self, event: StreamEvent) -> None:  # noqa: C901 - one line for each type of event
        self.seq, self.epoch, self._heard_at_ms = event.seq, event.epoch, event.at_ms
        match event:
            case StreamStarted():
                self.started, self.attempt = event, event.attempt
                self._began_at_ms = self._began_at_ms or event.at_ms
                if self.state is StreamState.QUEUED:
                    self.state = StreamState.INITIALIZING
            case TextDelta() | ReasoningDelta() | ToolCallDelta():
                self._content.append(event)
                if self.state is StreamState.INITIALIZING:
                    self.state = StreamState.ACTIVE
            case StreamPaused():
                self.state = StreamState.PAUSED
                self.controls.append(event)
            case StreamResumed():
                self.controls.append(event)
                self.state = StreamState.ACTIVE if self._content else StreamState.INITIALIZING
            case AttemptFailed():
                if event.next == "restart":
                    self._restart()
            case StreamCompleted():
                self.terminal, self.state = event, StreamState.COMPLETED
            case StreamFailed():
                self.terminal, self.state = event, StreamState.ERROR
            case StreamCancelled():
                self.terminal, self.state = event, StreamState.CANCELLED
            case _:
                pass

    def _restart(self) -> None:
        if self._content:
            self.restarts += 1
        self._content = []


def text_digest(text: str) -> tuple[int, str]:
    """Length in code points and SHA-256 of a text, as `stream.completed` states them."""
    return len(text), hashlib.sha256(text.encode()).hexdigest()
