"""Live events and history, joined into one order without gap or duplicate (contract A2, A3).

Subscribe first, ask history for what came before, then fold both in the order in which they came.
What the fold finds missing is asked for from history, a bounded number of times: what history
lacks too is an error, never joined over. What is held for a slow reader is bounded; beyond it live
messages are lost, and found in history.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from atlas.bus import Bus
from atlas.contracts.errors import (
    AtlasError,
    ConnectionFailedError,
    NoResponderError,
    NotFoundError,
    OverloadedError,
    RequestTimeoutError,
    StreamGapError,
)
from atlas.live import BOUND_BYTES, Live
from atlas.reading import Verdict

SILENCE_S = 120.0
"""Nothing live and no answer from history for so long is an error."""

_QUIET_S = 2.0
"""After so long without an event history is asked: the last one may be lost in a reconnect."""

_QUIETEST_S = 10.0
_RETRY_S = 0.5
_GAP_TRIES = 6
_GAP_WAIT_S = 0.05
"""Before the first repeated question; doubled each time. A republished message may be ahead of
what the server's readers see by a moment."""

_UNHEARD = (RequestTimeoutError, NoResponderError, ConnectionFailedError, OverloadedError)


@dataclass(frozen=True, slots=True)
class Page[E]:
    """A page of history; `next_position` is None on the last one."""

    events: Sequence[E]
    next_position: int | None
    is_ended: bool
    """Whether what is followed has ended, as the service says."""


class Source[E](Protocol):
    """What can be followed: a stream or a task's log, with the fold of what was read so far."""

    @property
    def what(self) -> str:
        """Its name in messages, such as `stream 0199…`."""
        ...

    @property
    def subject(self) -> str:
        """Where its events are live."""
        ...

    @property
    def position(self) -> int:
        """The position that comes next."""
        ...

    @property
    def is_finished(self) -> bool:
        """Whether the fold has taken the last event."""
        ...

    def take(self, event: E) -> Verdict:
        """Fold one event."""
        ...

    def decode(self, data: bytes) -> E:
        """Read one live message."""
        ...

    async def page(self, position: int) -> Page[E]:
        """Ask the service for history from a position on."""
        ...


class Follower[E]:
    """Reads a source to its end: `open`, then `next` until it gives None, then `close`.

    Args:
        bus: The connection.
        source: What to follow.
        is_own: It was just asked for here, so that a service may not know it yet.
        is_new: Nobody can have written to it before `open`; history need not be asked first.
        silence_s: How long nothing may be heard, live or from history.
    """

    def __init__(
        self,
        bus: Bus,
        source: Source[E],
        *,
        is_own: bool = False,
        is_new: bool = False,
        silence_s: float = SILENCE_S,
    ) -> None:
        self._bus = bus
        self._source = source
        self._is_own = is_own
        self._silence_s = silence_s
        self._live: Live | None = None
        self._unfolded: deque[E] = deque()
        self._page: Page[E] | None = None
        self._ask: int | None = None if is_new else 1
        self._is_precaution = False
        """Whether history is asked only because it was quiet."""
        self._held: E | None = None
        self._tries = 0
        self._quiet_s = _QUIET_S
        self._heard_at = time.monotonic()

    async def open(self, *, bound_bytes: int = BOUND_BYTES) -> None:
        """Subscribe; what is published from now on will be read.

        A request for what is new goes out behind the subscription on the same connection, and what
        a cluster's other server might miss is a gap that heals: only others wait for the server.
        """
        self._live = await self._bus.listen(self._source.subject, bound_bytes=bound_bytes)
        if self._ask is not None:
            await self._bus.flush()
        self._heard_at = time.monotonic()

    async def close(self) -> None:
        """Give the subscription back."""
        if self._live is not None:
            await self._live.close()
            self._live = None

    @property
    def is_open(self) -> bool:
        """Whether it is between `open` and `close`."""
        return self._live is not None

    async def next(self) -> E | None:
        """The next event that counts, or None after the last. May be cancelled and called again.

        Raises:
            StreamGapError: Events are missing, also in history.
            NotFoundError: There is nothing of that id.
            RequestTimeoutError: Nothing was heard for `silence_s`.
            ConnectionFailedError: The connection was closed.
        """
        while not self._source.is_finished:
            if self._unfolded:
                event = await self._fold_known(self._unfolded.popleft())
            elif self._page is not None:
                event = await self._end_page(self._page)
            elif self._ask is not None and self._is_precaution:
                event = await self._read_either(self._ask)
            elif self._ask is not None:
                event = await self._read_history(self._ask)
            else:
                event = await self._read_live(self._quiet_s)
            if event is not None:
                self._tries = 0
                return event
        return None

    async def _read_live(self, wait_s: float) -> E | None:
        live = self._live
        if live is None:
            raise AtlasError(f"{self._source.what} is not open; read it inside `async with`")
        data = live.take()
        if data is None:
            if live.is_missing:  # the last that came may be among what was dropped
                live.is_missing = False
                self._ask = self._ask or self._source.position
            elif not await live.wait(wait_s):
                self._quiet_s = min(self._quiet_s * 2, _QUIETEST_S)
                self._is_precaution = self._ask is None
                self._ask = self._ask or self._source.position
            return None
        self._heard_at = time.monotonic()
        self._quiet_s = _QUIET_S
        event = self._source.decode(data)
        verdict = self._source.take(event)
        if verdict is Verdict.GAP:
            self._held = event
            self._ask = self._source.position
        elif verdict is Verdict.TAKEN:
            self._ask = None
            return event
        return None

    async def _read_either(self, position: int) -> E | None:
        """Ask history, and go on with what comes live before it has answered."""
        live = self._live
        if live is None:
            return await self._read_history(position)
        self._is_precaution = False
        asking = asyncio.create_task(self._read_history(position))
        coming = asyncio.create_task(live.wait(self._silence_s))
        try:
            await asyncio.wait({asking, coming}, return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                return asking.result()
            coming.result()
        finally:
            asking.cancel()
            coming.cancel()
            await asyncio.wait({asking, coming})
        self._ask = None
        return None

    async def _read_history(self, position: int) -> E | None:
        """Ask for a page; a live event comes back where nobody answers but one was heard."""
        try:
            page = await self._source.page(position)
        except NotFoundError as error:
            if not self._is_own:
                raise
            return await self._unheard(error)
        except _UNHEARD as error:
            return await self._unheard(error)
        if page.next_position == position:
            raise AtlasError(f"{self._source.what}: its history does not go on at {position}")
        self._heard_at = time.monotonic()
        self._unfolded.extend(page.events)
        self._page = page
        return None

    async def _fold_known(self, event: E) -> E | None:
        """Fold an event of the page, not before it is wanted: the fold is what was given."""
        verdict = self._source.take(event)
        if verdict is Verdict.GAP:
            self._unfolded.clear()
            self._page = None
            await self._ask_again()
        return event if verdict is Verdict.TAKEN else None

    async def _end_page(self, page: Page[E]) -> E | None:
        """After the last page what was held back, or an end that was told, must fit."""
        self._page = None
        self._ask = page.next_position
        if self._ask is not None:
            return None
        held, self._held = self._held, None
        verdict = Verdict.IGNORED if held is None else self._source.take(held)
        if verdict is Verdict.TAKEN:
            return held
        if verdict is Verdict.GAP:
            self._held = held
        if verdict is Verdict.GAP or page.is_ended:
            await self._ask_again()
        return None

    async def _ask_again(self) -> None:
        """Ask from the gap on, and in every second try from the beginning.

        An adoption goes back in the order of positions, so that it may stand before the gap.
        """
        self._tries += 1
        if self._tries > _GAP_TRIES:
            raise StreamGapError(
                f"{self._source.what}: what comes at {self._source.position} is missing, in its "
                "history too; it was lost or is older than what the server keeps "
                "(topology.replay_hours, topology.max_bytes)"
            )
        self._ask = 1 if self._tries % 2 == 0 else self._source.position
        await asyncio.sleep(_GAP_WAIT_S * 2 ** (self._tries - 1))

    async def _unheard(self, error: AtlasError) -> E | None:
        """History did not answer: live events may still come meanwhile."""
        silent_s = time.monotonic() - self._heard_at
        if silent_s > self._silence_s:
            raise RequestTimeoutError(
                f"{self._source.what}: nothing came and nobody answered for {silent_s:.0f} s "
                f"({error.message}); what was accepted is kept: start the services "
                "(`atlas up`) and watch it again"
            ) from error
        return await self._read_live(_RETRY_S)
