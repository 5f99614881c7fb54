"""Events of the Responses API to deltas.

Tool calls are the functions (and custom tools) of the request; what the provider runs itself (web
search, code interpreter, MCP) is not streamed, for the reason given in `anthropic.decoder`.
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

_CALLS = ("function_call", "custom_tool_call")
_INCOMPLETE = {
    "max_output_tokens": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
}


class _Typed(msgspec.Struct, gc=False):
    type: str


class _TextDelta(msgspec.Struct, gc=False):
    delta: str


class _SummaryPart(msgspec.Struct, gc=False):
    summary_index: int = 0


class _Item(msgspec.Struct, gc=False):
    type: str
    call_id: str | None = None
    name: str | None = None


class _ItemAdded(msgspec.Struct, gc=False):
    output_index: int
    item: _Item


class _CallDelta(msgspec.Struct, gc=False):
    output_index: int
    delta: str


class _CallDone(msgspec.Struct, gc=False):
    output_index: int
    arguments: str | None = None
    input: str | None = None


class _InputDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class _Incomplete(msgspec.Struct, gc=False):
    reason: str | None = None


class _Response(msgspec.Struct, gc=False):
    usage: _Usage | None = None
    error: object = None
    incomplete_details: _Incomplete | None = None


class _ResponseEvent(msgspec.Struct, gc=False):
    response: _Response


_TYPED = msgspec.json.Decoder(_Typed)
_TEXT = msgspec.json.Decoder(_TextDelta)
_SUMMARY_PART = msgspec.json.Decoder(_SummaryPart)
_ITEM_ADDED = msgspec.json.Decoder(_ItemAdded)
_CALL_DELTA = msgspec.json.Decoder(_CallDelta)
_CALL_DONE = msgspec.json.Decoder(_CallDone)
_RESPONSE = msgspec.json.Decoder(_ResponseEvent)


class ResponsesDecoder(EventDecoder):
    """Decodes the body of `POST /responses` with `stream: true`, or of one that is resumed."""

    def __init__(self, origin: Origin) -> None:
        super().__init__(origin)
        self._calls: dict[int, int] = {}
        self._begun: set[int] = set()
        self._has_refused = False
        self._handlers: dict[bytes, Callable[[bytes, list[Delta]], None]] = {
            b"response.output_text.delta": self._text,
            b"response.refusal.delta": self._refusal,
            b"response.reasoning_summary_part.added": self._summary_part,
            b"response.reasoning_summary_text.delta": self._reasoning,
            b"response.reasoning_text.delta": self._reasoning,
            b"response.output_item.added": self._item_added,
            b"response.function_call_arguments.delta": self._call_delta,
            b"response.custom_tool_call_input.delta": self._call_delta,
            b"response.function_call_arguments.done": self._call_done,
            b"response.custom_tool_call_input.done": self._call_done,
            b"response.completed": self._completed,
            b"response.incomplete": self._incomplete,
            b"response.failed": self._failed,
            b"error": self._error,
        }

    def _take(self, event: bytes, data: bytes, deltas: list[Delta]) -> None:
        handler = self._handlers.get(event or _TYPED.decode(data).type.encode())
        if handler is not None:
            handler(data, deltas)

    def _text(self, data: bytes, deltas: list[Delta]) -> None:
        if text := _TEXT.decode(data).delta:
            deltas.append(Text(text))

    def _refusal(self, data: bytes, deltas: list[Delta]) -> None:
        self._has_refused = True
        self._text(data, deltas)

    def _reasoning(self, data: bytes, deltas: list[Delta]) -> None:
        if text := _TEXT.decode(data).delta:
            deltas.append(Reasoning(text))

    def _summary_part(self, data: bytes, deltas: list[Delta]) -> None:
        """Parts of a summary are paragraphs, and nothing in their texts separates them."""
        if _SUMMARY_PART.decode(data).summary_index:
            deltas.append(Reasoning("\n\n"))

    def _item_added(self, data: bytes, deltas: list[Delta]) -> None:
        event = _ITEM_ADDED.decode(data)
        item = event.item
        if item.type in _CALLS:
            index = self._calls[event.output_index] = len(self._calls)
            deltas.append(ToolCall(index, item.call_id, item.name))

    def _call_delta(self, data: bytes, deltas: list[Delta]) -> None:
        event = _CALL_DELTA.decode(data)
        index = self._calls.get(event.output_index)
        if index is not None and event.delta:
            self._begun.add(index)
            deltas.append(ToolCall(index, arguments=event.delta))

    def _call_done(self, data: bytes, deltas: list[Delta]) -> None:
        """The arguments again as a whole; needed only when none of them was streamed."""
        event = _CALL_DONE.decode(data)
        index = self._calls.get(event.output_index)
        arguments = event.arguments or event.input
        if index is not None and index not in self._begun and arguments:
            self._begun.add(index)
            deltas.append(ToolCall(index, arguments=arguments))

    def _completed(self, data: bytes, deltas: list[Delta]) -> None:
        _count(_RESPONSE.decode(data).response, deltas)
        reason = FinishReason.STOP
        if self._calls:
            reason = FinishReason.TOOL_CALLS
        elif self._has_refused:
            reason = FinishReason.CONTENT_FILTER
        deltas.append(Finished(reason))
        self.is_done = True

    def _incomplete(self, data: bytes, deltas: list[Delta]) -> None:
        response = _RESPONSE.decode(data).response
        _count(response, deltas)
        details = response.incomplete_details or _Incomplete()
        deltas.append(Finished(_INCOMPLETE.get(details.reason or "", FinishReason.OTHER)))
        self.is_done = True

    def _failed(self, data: bytes, deltas: list[Delta]) -> None:
        response = _RESPONSE.decode(data).response
        _count(response, deltas)
        self._raise(response.error)

    def _error(self, data: bytes, _deltas: list[Delta]) -> None:
        self._raise(msgspec.json.decode(data))

    def _raise(self, error: object) -> None:
        raise told_error(self._origin, read_stream_error(error))


def _count(response: _Response, deltas: list[Delta]) -> None:
    usage = response.usage
    if usage is None:
        return
    details = usage.input_tokens_details or _InputDetails()
    output = usage.output_tokens_details or _OutputDetails()
    deltas.append(
        UsageReport(
            Usage(
                input_tokens=usage.input_tokens or 0,
                output_tokens=usage.output_tokens or 0,
                reasoning_tokens=output.reasoning_tokens or 0,
                cached_input_tokens=details.cached_tokens or 0,
                cache_write_tokens=details.cache_write_tokens or 0,
            )
        )
    )
