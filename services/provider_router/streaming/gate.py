"""The gate between a provider and its stream: pause, resume and cancel as they happen.

It folds controls (pure, in `controls`) at the moment they are heard, has what they did written
into the stream, answers who asked, and interrupts the attempt when the stream must end or leave
this router. A control takes effect at once, also while a write waits for NATS; its answer waits
for the write, but never longer than a moment.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Literal

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from atlas import door, subjects
from atlas.contracts.base import Contract
from atlas.contracts.errors import AtlasError, InvalidTransitionError
from atlas.contracts.streams import (
    ControlAction,
    StreamControl,
    StreamState,
    StreamStatus,
)
from atlas.finishing import finish
from atlas.wire import outgoing_headers
from provider_router.streaming import making
from provider_router.streaming.controls import ControlState, check_terminal, fold
from provider_router.streaming.making import MakeEvent
from provider_router.streaming.pausing import PauseLimit, PauseTimer
from provider_router.streaming.write_errors import OwnershipLostError, StreamOverError
from provider_router.streaming.writer import StreamWriter

_WAITING_CONTROLS = 256
_ANSWER_S = 0.6
"""What an answer waits for the stream to show the control; contract A3 allows a second in all."""

type Keep = Callable[[StreamControl], Coroutine[None, None, None]]

log = structlog.get_logger("atlas.gate")


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Why an attempt must stop now."""

    kind: Literal["cancelled", "lost", "hand_over", "budget"]
    control: StreamControl | None = None


class Gate:
    """The controls of one stream while this router owns it."""

    def __init__(self, stream_id: str) -> None:
        self._stream_id = stream_id
        self._early: list[Msg] = []
        self._writer: StreamWriter | None = None
        self._state = ControlState()
        self._heard = 0
        self._is_closed = False
        self._tasks: set[asyncio.Task[object]] = set()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._paused_since_s: float | None = None
        self._paused_s = 0.0
        self._pause_timer = PauseTimer(self._end_pause)
        self._keep: Keep | None = None
        self.pauses = 0
        """How often the stream was paused here."""
        self.interrupt: asyncio.Future[Interrupt] = asyncio.get_running_loop().create_future()
        self.stream_state = StreamState.INITIALIZING
        """Without pauses: initializing, active, or how the stream ended."""

    @property
    def state(self) -> StreamState:
        """What a control is answered. A stream is not cancelled before its end says so.

        Its last word may be on its way, and a router that dies now leaves the cancel to the next.
        """
        if self.stream_state.is_terminal:
            return self.stream_state
        return StreamState.PAUSED if self._state.is_paused else self.stream_state

    @property
    def is_flowing(self) -> bool:
        """Whether `passage` returns at once."""
        return self._flowing.is_set()

    @property
    def paused_ms(self) -> int:
        """Time spent paused so far."""
        running = 0.0
        if self._paused_since_s is not None:
            running = asyncio.get_running_loop().time() - self._paused_since_s
        return int((self._paused_s + running) * 1000)

    async def passage(self) -> None:
        """Wait while the stream is paused."""
        if not self._flowing.is_set():
            await self._flowing.wait()

    def stop(self, interrupt: Interrupt) -> None:
        """Interrupt the attempt; the first reason counts."""
        if not self.interrupt.done():
            self.interrupt.set_result(interrupt)

    async def hear(self, msg: Msg) -> None:
        """Take a control off the wire."""
        self._heard += 1
        if self._is_closed:
            return  # the routers' queue group answers for a stream without an owner
        if self._writer is not None:
            self._take(msg, self._writer)
        elif len(self._early) < _WAITING_CONTROLS:
            self._early.append(msg)
        else:  # it stands in ATLAS_CONTROL, and its sender asks again
            log.warning("controls_flood", stream=self._stream_id)

    async def open(
        self,
        writer: StreamWriter,
        kept: Awaitable[list[StreamControl]],
        limit: PauseLimit | None,
        keep: Keep,
    ) -> None:
        """Apply what was asked before this router owned the stream; from now on apply at once.

        Args:
            writer: The stream's pen.
            kept: The controls that were kept, read once this router heard new ones.
            limit: How long a pause may last.
            keep: Keeps a control that the gate gave itself, in its order with all others.
        """
        self._fold(await kept, writer)
        self._writer = writer
        early, self._early = self._early, []
        for msg in early:
            self._take(msg, writer)
        self._keep = keep
        self._pause_timer.limit(limit)

    async def fold_kept(
        self, kept: Callable[[], Awaitable[list[StreamControl]]], writer: StreamWriter
    ) -> None:
        """Come to the state that the kept controls say: after a reconnect, nobody heard some."""
        while True:
            heard = self._heard
            controls = await kept()
            if heard == self._heard:
                break
        self._fold(controls, writer)

    def _fold(self, controls: list[StreamControl], writer: StreamWriter) -> None:
        state = fold(controls)
        if self._state.cancelled is not None:
            return
        if state.cancelled is not None:
            self._apply(state.cancelled, writer)
            return
        last = [one for one in controls if one.action is not ControlAction.CANCEL]
        if last and state.is_paused != self._state.is_paused:
            self._apply(last[-1], writer)

    async def close(self, seq: int) -> None:
        """Answer what still waits, once the stream has ended or left."""
        if not self._ended.done():
            self._ended.set_result(None)
        self._is_closed = True
        self._pause_timer.stop()
        early, self._early = self._early, []
        if self.stream_state.is_terminal:  # else its next router answers
            for msg in early:
                await _reply(msg, self._after_the_end(msg, seq))
        await finish(set(self._tasks), _ANSWER_S)

    def continue_paused(self, since_ms: int | None) -> None:
        """The stream was paused when its last router left it; nothing flows until it is resumed."""
        self._hold()
        self._pause_timer.start(since_ms)

    def _end_pause(self, control: StreamControl) -> None:
        """The pause has lasted for as long as it may."""
        if self._writer is None or self._keep is None or self._is_closed:
            return
        log.info("pause_too_long", stream=self._stream_id, then=control.action.value)
        self._apply(control, self._writer)
        if control.action is ControlAction.RESUME:  # else the kept pause would hold it again
            self._own(asyncio.create_task(self._keep(control)))

    def _take(self, msg: Msg, writer: StreamWriter) -> None:
        try:
            if self.stream_state.is_terminal:
                self._answer(msg, self._after_the_end(msg, writer.seq))
                return
            control = door.read(StreamControl, msg.data, msg.headers)
            written = self._apply(control, writer)
        except InvalidTransitionError as error:
            self._answer(msg, self.status(writer.seq, error))
        except AtlasError as error:
            self._answer(msg, error.to_reply())
        else:
            self._answer_when(msg, written, writer)

    def _apply(self, control: StreamControl, writer: StreamWriter) -> asyncio.Task[bool] | None:
        """Let a control take effect; gives the task that writes it, if it changed anything.

        Raises:
            InvalidTransitionError: The state does not allow it.
        """
        before, after = self._state, self._state.after(control)
        self._state = after
        if after.cancelled is not None:
            self._pause_timer.stop()
            self.stop(Interrupt("cancelled", after.cancelled))
        elif after.is_paused and not before.is_paused:
            self._hold()
            self._pause_timer.start()
            return self._write(making.paused(control), writer)
        elif before.is_paused and not after.is_paused:
            self._pause_timer.stop()
            return self._write(making.resumed(control), writer, then=self._let_flow)
        return None

    def _hold(self) -> None:
        self._state = ControlState(is_paused=True)
        self.pauses += 1
        self._flowing.clear()
        if self._paused_since_s is None:
            self._paused_since_s = asyncio.get_running_loop().time()

    def _let_flow(self) -> None:
        if self._state.is_paused:
            return  # paused again before the resume was written
        if self._paused_since_s is not None:
            self._paused_s += asyncio.get_running_loop().time() - self._paused_since_s
            self._paused_since_s = None
        self._flowing.set()

    def _write(
        self, make: MakeEvent, writer: StreamWriter, *, then: Callable[[], None] | None = None
    ) -> asyncio.Task[bool]:
        """Write an event in the order in which the controls came; the writer's lock is fair."""

        async def write() -> bool:
            try:
                await writer.event(make)
            except (OwnershipLostError, StreamOverError):
                self.stop(Interrupt("lost"))
                return False
            except AtlasError as error:  # the attempt meets the same and decides
                log.warning("control_not_written", stream=self._stream_id, error=error.message)
                return False
            finally:
                if then is not None:
                    then()
            return True

        return self._own(asyncio.create_task(write()))

    def _answer_when(
        self, msg: Msg, written: asyncio.Task[bool] | None, writer: StreamWriter
    ) -> None:
        """Answer once the stream shows what was done: the written event, or its end."""

        async def answer() -> None:
            if written is not None:
                await asyncio.wait({written}, timeout=_ANSWER_S)
            elif self._state.cancelled is not None:
                await asyncio.wait({self._ended}, timeout=_ANSWER_S)
            is_shown = written is not None and written.done() and written.result()
            if self.stream_state.is_terminal and not is_shown:
                await _reply(msg, self._after_the_end(msg, writer.seq))
            else:
                await _reply(msg, self.status(writer.seq))

        self._own(asyncio.create_task(answer()))

    def _answer(self, msg: Msg, answer: Contract) -> None:
        self._own(asyncio.create_task(_reply(msg, answer)))

    def _own[T: (None, bool)](self, task: asyncio.Task[T]) -> asyncio.Task[T]:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _after_the_end(self, msg: Msg, seq: int) -> Contract:
        try:
            control = door.read(StreamControl, msg.data, msg.headers)
            if self.stream_state.is_terminal:
                check_terminal(self.stream_state, control)
        except InvalidTransitionError as error:
            return self.status(seq, error)
        except AtlasError as error:
            return error.to_reply()
        return self.status(seq)

    def status(self, seq: int, error: AtlasError | None = None) -> StreamStatus:
        """What a control is answered."""
        return StreamStatus(
            stream_id=self._stream_id,
            state=self.state,
            seq=seq,
            error=error.to_info() if error else None,
        )


async def _reply(msg: Msg, answer: Contract) -> None:
    if not subjects.is_inbox(msg.reply):
        return
    try:
        await msg._client.publish(  # noqa: SLF001 - nats-py's respond() takes no headers
            msg.reply, answer.to_json(), headers=outgoing_headers()
        )
    except NatsError as error:
        log.debug("answer_not_sent", error=type(error).__name__)
