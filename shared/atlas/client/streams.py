"""A stream as its user sees it: one way of reading for each wish.

- `async for text in stream`: text as it comes. After a restart one piece comes with `restart` set;
  `pieces` has the rule.
- `await stream.result()`: the final answer and nothing that was dropped on the way to it.
- `events()`: everything, also what was dropped later.
- `on_state=`, `on_text=`: functions that are called while one of the three above reads.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from atlas import subjects
from atlas.bus import Bus
from atlas.client.callbacks import Callbacks
from atlas.client.doors import CONTROL_S, Request, cancelled, send_control
from atlas.client.following import Follower
from atlas.client.pieces import Piece, Pieces
from atlas.client.requests import body
from atlas.client.source import StreamSource
from atlas.contracts.errors import (
    AtlasError,
    InvalidRequestError,
    InvalidTransitionError,
    StreamGapError,
    error_from,
)
from atlas.contracts.inference import ModelResponse, StreamMetrics
from atlas.contracts.streams import (
    ControlAction,
    FeedbackTaken,
    StreamAdopted,
    StreamCancelled,
    StreamCompleted,
    StreamControl,
    StreamEvent,
    StreamFailed,
    StreamFeedback,
    StreamState,
    StreamStatus,
)
from atlas.reading import Reading


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
        callbacks: Callbacks,
        from_seq: int = 0,
        cancel_on_exit: bool = False,
        silence_s: float,
    ) -> None:
        if from_seq < 0:
            raise InvalidRequestError(f"from_seq: {from_seq} is below 0; events begin with seq 1")
        self.stream_id = stream_id
        self._bus = bus
        self._tenant = tenant
        self._request = request
        self._from_seq = from_seq
        self._is_passing = from_seq <= 1
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
        self._callbacks = callbacks
        self._untold: StreamEvent | None = None
        self._pieces = Pieces(self.reading)

    @property
    def reading(self) -> Reading:
        """The stream as far as it was read: text, reasoning, tool calls, attempt."""
        return self._source.reading

    @property
    def state(self) -> StreamState:
        """Where the stream is, as far as it was read."""
        return self.reading.state

    @property
    def metrics(self) -> StreamMetrics:
        """How it goes, as far as it was read; once completed the router's own figures."""
        return self.reading.metrics

    async def __aenter__(self) -> Self:
        """Subscribe, then ask for the stream where this is not only a watcher.

        Raises:
            NoResponderError: Nothing was stored; the server starts, or no service ever ran on it.
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
            return await (self._told() if self._callbacks else self._follower.next())
        finally:
            self._is_read = False

    async def _told(self) -> StreamEvent | None:
        """The next event, after its callbacks; one that raised does not take the event away."""
        event = self._untold
        if event is None:
            event = await self._follower.next()
            if event is None:
                return None
            self._untold = event
            self._callbacks.take(event, self.reading, passes=self._passes(event))
        await self._callbacks.run(f"event {event.seq} of stream {self.stream_id}")
        self._untold = None
        return event

    def _passes(self, event: StreamEvent) -> bool:
        """Whether a reader that begins at `from_seq` has to see the event."""
        if not self._is_passing:
            voids = isinstance(event, StreamAdopted) and event.from_seq < self._from_seq - 1
            self._is_passing = voids or event.seq >= self._from_seq
        return self._is_passing

    async def __aiter__(self) -> AsyncGenerator[Piece]:
        """Pieces of the answer's text as they come; `Piece.restart` voids those before it.

        Raises:
            AtlasError: The stream failed, was cancelled, or cannot be read.
        """
        while (event := await self._next()) is not None:
            if not self._passes(event):
                self._pieces.skip(event)
            elif (piece := self._pieces.of(event)) is not None:
                yield piece
        self._response()

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

    async def pause(self, reason: str | None = None, by: str | None = None) -> StreamStatus:
        """Hold the stream; the provider waits. Raises `InvalidTransitionError` after its end."""
        return await self._control(ControlAction.PAUSE, reason, by)

    async def resume(self, reason: str | None = None, by: str | None = None) -> StreamStatus:
        """Let it flow again. Raises `InvalidTransitionError` after its end."""
        return await self._control(ControlAction.RESUME, reason, by)

    async def cancel(self, reason: str | None = None, by: str | None = None) -> StreamStatus:
        """End it for good. Raises `InvalidTransitionError` where it completed or failed."""
        return await self._control(ControlAction.CANCEL, reason, by)

    async def blame(self, fault: str, reason: str | None = None) -> FeedbackTaken:
        """Say that its answer was of no use: `malformed`, `empty`, `refused` or `wrong`.

        The strategy `adaptive` then chooses the model that gave it less often, for this tenant and
        this kind of request.

        Raises:
            InvalidRequestError: There is no such fault.
            InvalidTransitionError: It is not completed.
            NotFoundError: There is no such stream.
        """
        said = {"stream_id": self.stream_id, "fault": fault, "reason": reason}
        feedback, _ = body(StreamFeedback, said)
        door = subjects.api(self._tenant, "stream.feedback")
        return await self._bus.request(door, feedback, FeedbackTaken, timeout_s=CONTROL_S)

    async def _control(
        self, action: ControlAction, reason: str | None, by: str | None
    ) -> StreamStatus:
        control, _ = body(StreamControl, {"action": action, "reason": reason, "by": by})
        return await send_control(self._bus, self._tenant, self.stream_id, control)
