"""The gate between a provider and its stream: pause, resume and cancel as they happen.

It folds controls (pure, in `controls`), writes what they did into the stream, answers who asked,
and interrupts the attempt when the stream must end or leave this router.
"""

import asyncio
from dataclasses import dataclass
from typing import Literal

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from atlas import door
from atlas.contracts.base import Contract
from atlas.contracts.errors import AtlasError, InvalidTransitionError
from atlas.contracts.streams import (
    StreamControl,
    StreamState,
    StreamStatus,
)
from atlas.wire import outgoing_headers
from provider_router.streaming import making
from provider_router.streaming.controls import ControlState, check_terminal, fold
from provider_router.streaming.writer import OwnershipLostError, StreamOverError, StreamWriter

_WAITING_CONTROLS = 256

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
        self._messages: asyncio.Queue[Msg] = asyncio.Queue(_WAITING_CONTROLS)
        self._state = ControlState()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._paused_since_s: float | None = None
        self._paused_s = 0.0
        self.interrupt: asyncio.Future[Interrupt] = asyncio.get_running_loop().create_future()
        self.stream_state = StreamState.INITIALIZING
        """Without pauses: initializing, active, or how the stream ended."""

    @property
    def state(self) -> StreamState:
        """What a control is answered."""
        if self.stream_state.is_terminal or not self._state.is_paused:
            return self.stream_state
        return StreamState.PAUSED

    @property
    def paused_ms(self) -> int:
        """Time spent paused so far."""
        running = 0.0
        if self._paused_since_s is not None:
            running = asyncio.get_running_loop().time() - self._paused_since_s
        return int((self._paused_s + running) * 1000)

    async def hear(self, msg: Msg) -> None:
        """Take a control message off the wire; `serve` answers it."""
        try:
            self._messages.put_nowait(msg)
        except asyncio.QueueFull:  # it stands in ATLAS_CONTROL, and its sender asks again
            log.warning("controls_flood", stream=self._stream_id)

    async def passage(self) -> None:
        """Wait while the stream is paused."""
        if not self._flowing.is_set():
            await self._flowing.wait()

    def stop(self, interrupt: Interrupt) -> None:
        """Interrupt the attempt; the first reason counts."""
        if not self.interrupt.done():
            self.interrupt.set_result(interrupt)

    async def fold_kept(self, kept: list[StreamControl], writer: StreamWriter) -> None:
        """Apply what was asked before this router owned the stream."""
        state = fold(kept)
        if state.cancelled is not None:
            self._state = state
            self.stop(Interrupt("cancelled", state.cancelled))
        elif state.is_paused:
            last_pause = [control for control in kept if control.action == "pause"][-1]
            await self._pause(last_pause, writer)

    async def serve(self, writer: StreamWriter) -> None:
        """Answer controls, one after the other, until cancelled."""
        while True:
            msg = await self._messages.get()
            await _reply(msg, await self._handle(msg, writer))

    async def answer_rest(self, seq: int) -> None:
        """Answer what still waits, once the stream has ended."""
        while not self._messages.empty():
            msg = self._messages.get_nowait()
            await _reply(msg, self._after_the_end(msg, seq))

    async def _handle(self, msg: Msg, writer: StreamWriter) -> Contract:
        try:
            control = door.read(StreamControl, msg.data, msg.headers)
            if self.stream_state.is_terminal:
                return self._after_the_end(msg, writer.seq)
            await self._apply(control, writer)
        except InvalidTransitionError as error:
            return self._status(writer.seq, error)
        except (OwnershipLostError, StreamOverError):
            self.stop(Interrupt("lost"))
            return self._status(writer.seq)
        except AtlasError as error:
            return error.to_reply()
        return self._status(writer.seq)

    def _after_the_end(self, msg: Msg, seq: int) -> Contract:
        try:
            check_terminal(self.stream_state, door.read(StreamControl, msg.data, msg.headers))
        except InvalidTransitionError as error:
            return self._status(seq, error)
        except AtlasError as error:
            return error.to_reply()
        return self._status(seq)

    def _status(self, seq: int, error: AtlasError | None = None) -> StreamStatus:
        state = self.state
        if self._state.cancelled is not None and not self.stream_state.is_terminal:
            state = StreamState.CANCELLED
        return StreamStatus(
            stream_id=self._stream_id,
            state=state,
            seq=seq,
            error=error.to_info() if error else None,
        )

    async def _apply(self, control: StreamControl, writer: StreamWriter) -> None:
        before, after = self._state, self._state.after(control)
        if after.cancelled is not None:
            self._state = after
            self.stop(Interrupt("cancelled", after.cancelled))
        elif after.is_paused and not before.is_paused:
            await self._pause(control, writer)
        elif before.is_paused and not after.is_paused:
            await self._resume(control, writer)

    async def _pause(self, control: StreamControl, writer: StreamWriter) -> None:
        self._state = ControlState(is_paused=True)
        self._flowing.clear()
        self._paused_since_s = asyncio.get_running_loop().time()
        await writer.event(making.paused(control))

    async def _resume(self, control: StreamControl, writer: StreamWriter) -> None:
        self._state = ControlState()
        if self._paused_since_s is not None:
            self._paused_s += asyncio.get_running_loop().time() - self._paused_since_s
            self._paused_since_s = None
        await writer.event(making.resumed(control))
        self._flowing.set()


async def _reply(msg: Msg, answer: Contract) -> None:
    if not msg.reply:
        return
    try:
        await msg._client.publish(  # noqa: SLF001 - nats-py's respond() takes no headers
            msg.reply, answer.to_json(), headers=outgoing_headers()
        )
    except NatsError as error:
        log.debug("answer_not_sent", error=type(error).__name__)
