"""Anthropic's message stream: typed events to deltas.

Only `tool_use` blocks are tool calls of ours. What the provider's servers call and answer
themselves (`server_tool_use`, `mcp_tool_use` and their results) is not streamed: a watcher could
neither run such a call nor answer it, and its outcome is in the text that follows.
"""

from collections.abc import Callable

import msgspec

from atlas.contracts.inference import FinishReason, Usage
from provider_router.providers.base import (
    Delta,
    Finished,
    Reasoning,
    Text,
    ToolCall,
    UsageReport,
)
from provider_router.providers.decoding import EventDecoder
from provider_router.providers.errors import Origin, told_error
from provider_router.providers.refusals import read_stream_error

_FINISH = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.CONTENT_FILTER,
}


class _Typed(msgspec.Struct, gc=False):
    type: str


class _OutputDetails(msgspec.Struct, gc=False):
    thinking_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None


class _Message(msgspec.Struct, gc=False):
    usage: _Usage | None = None


class _MessageStart(msgspec.Struct, gc=False):
    message: _Message


class _Block(msgspec.Struct, gc=False):
    type: str
    id: str | None = None
    name: str | None = None
    text: str | None = None
    thinking: str | None = None
    input: msgspec.Raw = msgspec.Raw(b"{}")


class _BlockStart(msgspec.Struct, gc=False):
    index: int
    content_block: _Block


class _BlockDelta(msgspec.Struct, gc=False):
    type: str
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None


class _BlockDeltaEvent(msgspec.Struct, gc=False):
    index: int
    delta: _BlockDelta


class _BlockStop(msgspec.Struct, gc=False):
    index: int


class _MessageDelta(msgspec.Struct, gc=False):
    stop_reason: str | None = None


class _MessageDeltaEvent(msgspec.Struct, gc=False):
    delta: _MessageDelta
    usage: _Usage | None = None


_TYPED = msgspec.json.Decoder(_Typed)
_MESSAGE_START = msgspec.json.Decoder(_MessageStart)
_BLOCK_START = msgspec.json.Decoder(_BlockStart)
_BLOCK_DELTA = msgspec.json.Decoder(_BlockDeltaEvent)
_BLOCK_STOP = msgspec.json.Decoder(_BlockStop)
_MESSAGE_DELTA = msgspec.json.Decoder(_MessageDeltaEvent)


class _Call:
    """A tool call that is being written, and the arguments it began with."""

    __slots__ = ("has_arguments", "index", "initial")

    def __init__(self, index: int, initial: str) -> None:
        self.index = index
        self.initial = initial
        self.has_arguments = False


class MessagesDecoder(EventDecoder):
    """Decodes the body of `POST /v1/messages` with `stream: true`."""

    def __init__(self, origin: Origin) -> None:
        super().__init__(origin)
        self._counted = _Usage()
        self._calls: dict[int, _Call] = {}
        self._stop_reason: str | None = None
        self._handlers: dict[bytes, Callable[[bytes, list[Delta]], None]] = {
            b"content_block_delta": self._block_delta,
            b"content_block_start": self._block_start,
            b"content_block_stop": self._block_stop,
            b"message_start": self._message_start,
            b"message_delta": self._message_delta,
            b"message_stop": self._message_stop,
            b"error": self._error,
        }

    def _take(self, event: bytes, data: bytes, deltas: list[Delta]) -> None:
        # The event's name spares reading the type first; a proxy may have dropped the name.
        handler = self._handlers.get(event or _TYPED.decode(data).type.encode())
        if handler is not None:
            handler(data, deltas)

    def _block_delta(self, data: bytes, deltas: list[Delta]) -> None:
        event = _BLOCK_DELTA.decode(data)
        delta = event.delta
        if delta.type == "text_delta":
            if delta.text:
                deltas.append(Text(delta.text))
        elif delta.type == "thinking_delta":
            if delta.thinking:
                deltas.append(Reasoning(delta.thinking))
        elif delta.type == "input_json_delta" and delta.partial_json:
            call = self._calls.get(event.index)
            if call is not None:
                call.has_arguments = True
                deltas.append(ToolCall(call.index, arguments=delta.partial_json))

    def _block_start(self, data: bytes, deltas: list[Delta]) -> None:
        event = _BLOCK_START.decode(data)
        block = event.content_block
        if block.type == "tool_use":
            call = _Call(len(self._calls), bytes(block.input).decode())
            self._calls[event.index] = call
            deltas.append(ToolCall(call.index, block.id, block.name))
        elif block.type == "text" and block.text:
            deltas.append(Text(block.text))
        elif block.type == "thinking" and block.thinking:
            deltas.append(Reasoning(block.thinking))

    def _block_stop(self, data: bytes, deltas: list[Delta]) -> None:
        # A call without arguments streams none; what its block began with is then all of them.
        call = self._calls.get(_BLOCK_STOP.decode(data).index)
        if call is not None and not call.has_arguments:
            call.has_arguments = True
            deltas.append(ToolCall(call.index, arguments=call.initial))

    def _message_start(self, data: bytes, deltas: list[Delta]) -> None:
        self._count(_MESSAGE_START.decode(data).message.usage, deltas)

    def _message_delta(self, data: bytes, deltas: list[Delta]) -> None:
        event = _MESSAGE_DELTA.decode(data)
        self._stop_reason = event.delta.stop_reason or self._stop_reason
        self._count(event.usage, deltas)

    def _message_stop(self, data: bytes, deltas: list[Delta]) -> None:
        _TYPED.decode(data)  # an event that was cut is no end
        deltas.append(Finished(_FINISH.get(self._stop_reason or "", FinishReason.OTHER)))
        self.is_done = True

    def _error(self, data: bytes, _deltas: list[Delta]) -> None:
        raise told_error(self._origin, read_stream_error(msgspec.json.decode(data)))

    def _count(self, usage: _Usage | None, deltas: list[Delta]) -> None:
        """Figures are cumulative; one that is absent keeps what was told before."""
        if usage is None:
            return
        for field in _Usage.__struct_fields__:
            if (value := getattr(usage, field)) is not None:
                setattr(self._counted, field, value)
        deltas.append(UsageReport(_usage(self._counted)))


def _usage(counted: _Usage) -> Usage:
    """Ours, in which the input includes what was read from and written to the cache."""
    cached = counted.cache_read_input_tokens or 0
    written = counted.cache_creation_input_tokens or 0
    details = counted.output_tokens_details
    return Usage(
        input_tokens=(counted.input_tokens or 0) + cached + written,
        output_tokens=counted.output_tokens or 0,
        reasoning_tokens=(details.thinking_tokens or 0) if details else 0,
        cached_input_tokens=cached,
        cache_write_tokens=written,
    )
