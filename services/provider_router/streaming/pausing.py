"""How long one pause may last, and what then becomes of the stream."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from atlas.contracts.base import now_ms
from atlas.contracts.flow import BufferOptions
from atlas.contracts.streams import ControlAction, StreamControl

_BY = "atlas"


@dataclass(frozen=True, slots=True)
class PauseLimit:
    """The longest that one pause may last, and the control that then ends it."""

    max_ms: int
    action: ControlAction

    @property
    def control(self) -> StreamControl:
        """What the stream is told, as if somebody had asked for it."""
        reason = f"paused for {self.max_ms} ms, the longest that buffer.max_paused_ms allows"
        return StreamControl(action=self.action, by=_BY, reason=reason)


def pause_limit(options: BufferOptions) -> PauseLimit | None:
    """What a request says of it; None where a pause may last for as long as it takes."""
    if options.max_paused_ms is None:
        return None
    return PauseLimit(options.max_paused_ms, ControlAction(options.on_max_paused or "cancel"))


class PauseTimer:
    """Runs while a stream is paused; `limit` may be told while it runs."""

    def __init__(self, ends: Callable[[StreamControl], None]) -> None:
        self._ends = ends
        self._limit: PauseLimit | None = None
        self._since_ms: int | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, since_ms: int | None = None) -> None:
        """A pause begins, or began then by the clock of some router."""
        self._since_ms = now_ms() if since_ms is None else min(since_ms, now_ms())
        self._set()

    def limit(self, limit: PauseLimit | None) -> None:
        """Say how long a pause may last, once its end can be carried out."""
        self._limit = limit
        self._set()

    def stop(self) -> None:
        """The pause is over."""
        self._since_ms = None
        self._set()

    def _set(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._limit is not None and self._since_ms is not None:
            left_s = max(0, self._since_ms + self._limit.max_ms - now_ms()) / 1000
            self._timer = asyncio.get_running_loop().call_later(
                left_s, self._ring, self._limit, self._since_ms
            )

    def _ring(self, limit: PauseLimit, since_ms: int) -> None:
        self._timer = None
        if now_ms() < since_ms + limit.max_ms:  # a busy loop's timers are early
            self._set()
        else:
            self._ends(limit.control)
