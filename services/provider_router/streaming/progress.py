"""What a stream has so far, and the metrics that its end tells."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from atlas.contracts.inference import FinishReason, StreamMetrics
from atlas.contracts.streams import StreamEvent, StreamPaused, StreamResumed
from provider_router.streaming.gaps import Gaps
from provider_router.streaming.ledger import AttemptUsage, TextDigest


def _now_s() -> float:
    return asyncio.get_running_loop().time()


@dataclass(slots=True)
class Progress:
    """What a stream has so far."""

    attempt: int = 0
    told: int = 0
    """The attempt that `stream.started` told last."""
    current: AttemptUsage | None = None
    """Of that attempt."""
    chunks: int = 0
    bytes: int = 0
    """Of all content, as UTF-8."""
    gaps: Gaps = field(default_factory=Gaps)
    has_content: bool = False
    began_s: float = field(default_factory=_now_s)
    first_token_s: float | None = None
    finish: FinishReason | None = None
    digest: TextDigest = field(default_factory=TextDigest)

    @property
    def elapsed_s(self) -> float:
        """How long this router has worked on it, pauses included."""
        return _now_s() - self.began_s

    def running_ms(self, paused_ms: int) -> int:
        """How long this router has worked on it, pauses left out."""
        return int(self.elapsed_s * 1000) - paused_ms

    def content_came(self) -> None:
        """The attempt that is told has content."""
        self.has_content = True
        if self.first_token_s is None:
            self.first_token_s = self.elapsed_s

    def metrics(self, paused_ms: int) -> StreamMetrics:
        """How it went."""
        duration_s, first_s = self.elapsed_s, self.first_token_s
        flowing_s = duration_s - paused_ms / 1000 - (first_s or 0.0)
        tokens = self.current.usage().output_tokens if self.current else 0
        return StreamMetrics(
            time_to_first_token_ms=None if first_s is None else int(first_s * 1000),
            duration_ms=int(duration_s * 1000),
            paused_ms=paused_ms,
            chunks=self.chunks,
            bytes=self.bytes,
            gap_p50_ms=self.gaps.percentile_ms(0.50),
            gap_p99_ms=self.gaps.percentile_ms(0.99),
            tokens_per_second=round(tokens / flowing_s, 1) if flowing_s > 0 else 0.0,
            attempts=self.attempt,
        )


def ran_ms(history: Iterable[StreamEvent], now_ms: int) -> int:
    """How long a stream has run until now by its stored events, pauses left out."""
    total_ms, since_ms, is_paused = 0, None, False
    for event in history:
        if isinstance(event, StreamPaused):
            is_paused = True
            if since_ms is not None:
                total_ms, since_ms = total_ms + event.at_ms - since_ms, None
        elif since_ms is None and (isinstance(event, StreamResumed) or not is_paused):
            since_ms, is_paused = event.at_ms, False
    return max(0, total_ms if since_ms is None else total_ms + now_ms - since_ms)


def paused_at_ms(history: Iterable[StreamEvent]) -> int | None:
    """When the pause began that a stream is in by its stored events; None when it is in none."""
    since_ms = None
    for event in history:
        if isinstance(event, StreamPaused):
            since_ms = event.at_ms if since_ms is None else since_ms
        elif isinstance(event, StreamResumed):
            since_ms = None
    return since_ms
