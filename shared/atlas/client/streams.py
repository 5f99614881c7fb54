"""A stream as its user sees it: text as it comes, every event, the whole answer, and control.

What a restart does to text (contract A3, fallback). `async for text in stream` gives pieces as they
come. When an attempt's text is dropped, the new attempt is compared with what was already given:
what both have in common is not given again, so that an attempt that says the same (or more) just
goes on. Where it says something else, one piece comes with `restart` set, and it holds the whole
text so far: everything given before it is void. So, always, the pieces from the last `restart` on
are the final text, and nothing is given twice. With `final_only` nothing is given before it is
final. `events()` gives every event, and `result()` the final answer.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from atlas import subjects
from atlas.bus import Bus
from atlas.client.doors import CONTROL_S, Request, cancelled, send_control
from atlas.client.following import Follower, Page
from atlas.contracts.errors import (
    AtlasError,
    InvalidTransitionError,
    NotFoundError,
    StreamGapError,
    error_from,
)
from atlas.contracts.inference import ModelResponse, StreamMetrics
from atlas.contracts.streams import (
    STREAM_EVENT,
    ControlAction,
    HistoryReply,
    HistoryRequest,
    StreamAdopted,
    StreamCancelled,
    StreamCompleted,
    StreamControl,
    StreamEvent,
    StreamFailed,
    StreamState,
    StreamStatus,
    TextDelta,
)
from atlas.reading import Reading, Verdict

_HISTORY_S = 3.0
_PAGE = 10_000
"""The router cuts a page to what a message holds."""


class Piece(str):
    """A piece of text. `restart` says that the pieces before it are void."""

    __slots__ = ("restart",)
    restart: bool

    def __new__(cls, text: str, *, restart: bool = False) -> Self:
        """A piece that follows the ones before it, unless `restart`."""
        piece = super().__new__(cls, text)
        piece.restart = restart
        return piece


class StreamSource:
    """A stream as a `Source`: its subject, its history, and the reading rule."""

    def __init__(self, bus: Bus, tenant: str, stream_id: str) -> None:
        self._bus = bus
        self._tenant = tenant
        self._stream_id = stream_id
        self.reading = Reading()

    @property
    def what(self) -> str:
        """Its name in messages."""
        return f"stream {self._stream_id}"

    @property
    def subject(self) -> str:
        """Its chunk subject."""
        return subjects.stream_chunk(self._tenant, self._stream_id)

    @property
    def position(self) -> int:
        """The `seq` that comes next."""
        return self.reading.next_seq

    @property
    def is_finished(self) -> bool:
        """Whether its terminal event was read."""
        return self.reading.terminal is not None

    def take(self, event: StreamEvent) -> Verdict:
        """Fold one event by the reading rule."""
        return self.reading.take(event)

    def decode(self, data: bytes) -> StreamEvent:
        """Read one chunk."""
        try:
            return STREAM_EVENT.validate_json(data)
        except ValidationError as error:
            raise AtlasError(
                f"{self.subject}: not a StreamEvent; is the router of another version?"
            ) from error

    async def page(self, position: int) -> Page[StreamEvent]:
        """A page of history, from any router."""
        reply = await self._bus.request(
            subjects.api(self._tenant, "stream.history"),
            HistoryRequest(stream_id=self._stream_id, from_seq=position, limit=_PAGE),
            HistoryReply,
            timeout_s=_HISTORY_S,
        )
        if reply.state is StreamState.NOT_FOUND:
            raise NotFoundError(f"there is no stream {self._stream_id}")
        return Page(reply.events, reply.next_seq, reply.state.is_terminal)


class Stream:
    """A stream, opened with `async with`; made by `Atlas.stream` and `Atlas.watch_stream`.

    One reader at a time: `async for`, `events()` and `result()` share one position. For a second,
    independent reader take a second `Atlas.watch_stream`.
    """

    def __init__(
        self,
        bus: Bus,
        tenant: str,
        stream_id: str,
        *,
        request: Request | None = None,
        from_seq: int = 1,
        final_only: bool = False,
        cancel_on_exit: bool = False,
        silence_s: float,
    ) -> None:
        self.stream_id = stream_id
        self._bus = bus
        self._tenant = tenant
        self._request = request
        self._from_seq = from_seq
        self._is_passing = from_seq <= 1
        self._final_only = final_only
        self._cancel_on_exit = cancel_on_exit
        self._source = StreamSource(bus, tenant, stream_id)
        self._follower = Follower(
            bus,
            self._source,
            is_own=request is not None,
            is_new=request is not None and request.is_new,
            silence_s=silence_s,
        )
        self._is_read = False
        self._given: list[str] = []
        self._restarts = 0

    @property
    def reading(self) -> Reading:
        """The stream as far as it was read: text, reasoning, tool calls, attempt."""
        return self._source.reading

    @property
    def state(self) -> StreamState:
        """Where the stream is, as far as it was read."""
        return self.reading.state

    @property
    def metrics(self) -> StreamMetrics | None:
        """How it went; None before it is completed."""
        terminal = self.reading.terminal
        return terminal.metrics if isinstance(terminal, StreamCompleted) else None

    async def __aenter__(self) -> Self:
        """Subscribe, then ask for the stream where this is not only a watcher.

        Raises:
            NoResponderError: The server has no Atlas assets yet: no service ever ran on it.
            AtlasError: The request could not be stored.
        """
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self._follower.close)
            await self._follower.open()
            if self._request is not None:
                await self._request.send(self._bus, self._tenant, self.stream_id)
            undo.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._follower.close()
        if not self._cancel_on_exit or self._source.is_finished:
            return
        try:
            async with asyncio.timeout(CONTROL_S):
                await self.cancel("the caller left")
        except InvalidTransitionError:
            return  # it ended meanwhile
        except (AtlasError, TimeoutError) as failure:
            if error is None:
                raise
            error.add_note(f"stream {self.stream_id} could not be cancelled: {failure}")

    async def events(self) -> AsyncGenerator[StreamEvent]:
        """Every event that counts, in order, also those of attempts that were dropped later.

        With `from_seq` the first is that event, or an adoption that voids what was before it.

        Raises:
            StreamGapError: Events are missing, also in history.
            NotFoundError: There is no such stream.
            RequestTimeoutError: No event and no router for too long.
        """
        while (event := await self._next()) is not None:
            if self._passes(event):
                yield event

    async def _next(self) -> StreamEvent | None:
        if self._is_read:
            raise AtlasError(
                f"stream {self.stream_id} is being read already; "
                "use atlas.watch_stream for a second reader"
            )
        self._is_read = True
        try:
            return await self._follower.next()
        finally:
            self._is_read = False

    def _passes(self, event: StreamEvent) -> bool:
        """Whether a reader that begins at `from_seq` has to see the event."""
        if not self._is_passing:
            voids = isinstance(event, StreamAdopted) and event.from_seq < self._from_seq - 1
            self._is_passing = voids or event.seq >= self._from_seq
        return self._is_passing

    async def __aiter__(self) -> AsyncGenerator[Piece]:
        """Pieces of the answer's text; see the rule at the top of this module.

        Raises:
            AtlasError: The stream failed, was cancelled, or cannot be read.
        """
        while (event := await self._next()) is not None:
            if not self._passes(event):
                self._given, self._restarts = [self.reading.text], self.reading.restarts
            elif isinstance(event, TextDelta) and not self._final_only:
                piece = self._new_text(event)
                if piece is not None:
                    yield piece
        response = self._response()
        rest = self._beyond(response.content)
        if rest is not None:
            yield rest

    def _new_text(self, event: TextDelta) -> Piece | None:
        if self.reading.restarts == self._restarts:
            self._given.append(event.text)
            return Piece(event.text)
        return self._beyond(self.reading.text)

    def _beyond(self, text: str) -> Piece | None:
        """What of `text` was not given yet; all of it, with `restart`, where it says otherwise."""
        given = "".join(self._given)
        if text == given:
            self._restarts = self.reading.restarts
            return None
        if given.startswith(text) and not self._source.is_finished:
            return None  # still saying again what was given
        self._restarts = self.reading.restarts
        self._given = [text]
        if text.startswith(given):
            return Piece(text[len(given) :])
        return Piece(text, restart=True)

    async def result(self) -> ModelResponse:
        """Read to the end and give the whole answer.

        Raises:
            AtlasError: Why the stream failed, as the class that its error names.
            WorkCancelledError: Somebody cancelled it.
            StreamGapError: A part is lost.
        """
        while await self._next() is not None:
            pass
        return self._response()

    def _response(self) -> ModelResponse:
        match self.reading.terminal:
            case StreamFailed(error=error):
                raise error_from(error)
            case StreamCancelled(by=by, reason=reason):
                raise cancelled(f"stream {self.stream_id}", by, reason)
            case StreamCompleted() as completed:
                return self._whole(completed)
            case None:
                raise AtlasError(f"stream {self.stream_id} was not read to its end")

    def _whole(self, completed: StreamCompleted) -> ModelResponse:
        reading = self.reading
        whole = reading.response(self.stream_id)
        if whole is None or not reading.is_whole():
            raise StreamGapError(
                f"stream {self.stream_id}: its text is not the {completed.text_length} characters "
                f"that were written, but {len(reading.text)}"
            )
        return whole

    async def pause(self, reason: str | None = None) -> StreamStatus:
        """Hold the stream; the provider waits. Raises `InvalidTransitionError` after its end."""
        return await self._control(ControlAction.PAUSE, reason)

    async def resume(self, reason: str | None = None) -> StreamStatus:
        """Let it flow again. Raises `InvalidTransitionError` after its end."""
        return await self._control(ControlAction.RESUME, reason)

    async def cancel(self, reason: str | None = None) -> StreamStatus:
        """End it for good. Raises `InvalidTransitionError` where it completed or failed."""
        return await self._control(ControlAction.CANCEL, reason)

    async def _control(self, action: ControlAction, reason: str | None) -> StreamStatus:
        control = StreamControl(action=action, reason=reason)
        return await send_control(self._bus, self._tenant, self.stream_id, control)
