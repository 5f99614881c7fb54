"""Chat Completions chunks to deltas, in the dialects of the compatible servers too.

Reasoning stands in `reasoning_content` (DeepSeek, vLLM, …), in `reasoning` (OpenRouter, Groq), or
in typed parts of `content` (Mistral). An error may stand inside the stream as a chunk of its own.
"""

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
from provider_router.providers.classification import Told
from provider_router.providers.decoding import EventDecoder
from provider_router.providers.errors import Origin, stream_error, told_error
from provider_router.providers.refusals import read_stream_error

_FINISH = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}
_DONE = b"[DONE]"


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | dict[str, object] | None = None


class _Call(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Part(msgspec.Struct, gc=False):
    type: str | None = None
    text: str | None = None
    thinking: str | list["_Part"] | None = None


class _Delta(msgspec.Struct, gc=False):
    content: str | list[_Part] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _InputDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    prompt_cache_hit_tokens: int | None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: object = None


_CHUNK = msgspec.json.Decoder(_Chunk)


class ChatDecoder(EventDecoder):
    """Decodes the body of `POST /chat/completions` with `stream: true`.

    The end is `[DONE]` after a finish reason. Servers that leave `[DONE]` out are believed when
    everything else that was asked for came: a finish reason and the usage. `Finished` is held
    until then, because some servers repeat a finish reason, or tell an error after it.
    """

    def __init__(self, origin: Origin) -> None:
        super().__init__(origin)
        self._calls: list[str | None] = []
        self._slots: dict[int, int] = {}
        self._finish: str | None = None
        self._has_refused = False
        self._has_usage = False

    def _take(self, event: bytes, data: bytes, deltas: list[Delta]) -> None:
        if data == _DONE:
            if self._finish is None:
                raise stream_error(self._origin, "the stream ended without a finish_reason")
            self._complete(deltas)
            return
        chunk = _CHUNK.decode(data)
        for choice in chunk.choices or ():
            if choice.index == 0:
                self._choice(choice, deltas)
        if chunk.usage is not None:
            self._has_usage = True
            deltas.append(UsageReport(_usage(chunk.usage)))
        if chunk.error is not None:
            raise told_error(self._origin, read_stream_error(chunk.error))
        if chunk.choices is None and chunk.usage is None:
            self._raise_if_bare_error(data)
        if event == b"error" or self._finish == "error":
            raise told_error(
                self._origin, Told("no further word", type="server_error", is_in_stream=True)
            )

    def _raise_if_bare_error(self, data: bytes) -> None:
        """Some servers (vLLM, Mistral) tell an error without an envelope."""
        value = msgspec.json.decode(data)
        if isinstance(value, dict) and value.get("object") == "error":
            raise told_error(self._origin, read_stream_error(value))

    def _end(self) -> list[Delta]:
        deltas: list[Delta] = []
        if self._finish is not None and self._has_usage:
            self._complete(deltas)
        return deltas

    def _complete(self, deltas: list[Delta]) -> None:
        reason = _FINISH.get(self._finish or "", FinishReason.OTHER)
        if self._has_refused and reason is FinishReason.STOP:
            reason = FinishReason.CONTENT_FILTER
        deltas.append(Finished(reason))
        self.is_done = True

    def _choice(self, choice: _Choice, deltas: list[Delta]) -> None:
        self._finish = choice.finish_reason or self._finish
        delta = choice.delta
        if delta is None:
            return
        # Some servers fill both fields with the same words.
        if reasoning := delta.reasoning_content or delta.reasoning:
            deltas.append(Reasoning(reasoning))
        if isinstance(delta.content, str):
            if delta.content:
                deltas.append(Text(delta.content))
        elif delta.content:
            for part in delta.content:
                _add_part(part, deltas)
        if delta.refusal:
            self._has_refused = True
            deltas.append(Text(delta.refusal))
        for call in delta.tool_calls or ():
            self._call(call, deltas)

    def _call(self, call: _Call, deltas: list[Delta]) -> None:
        function = call.function or _Function()
        arguments = function.arguments or ""
        if not isinstance(arguments, str):
            arguments = msgspec.json.encode(arguments).decode()
        slot = self._slot(call, function)
        if slot == len(self._calls):
            self._calls.append(call.id)
            deltas.append(ToolCall(slot, call.id, function.name, arguments))
        elif arguments:
            deltas.append(ToolCall(slot, arguments=arguments))

    def _slot(self, call: _Call, function: _Function) -> int:
        """Which call this is a piece of; the next free number when it begins a new one.

        Gemini's compatible endpoint gives no index, or 0 for every call, and tells them apart by
        their ids.
        """
        new = len(self._calls)
        known = self._slots.get(call.index) if call.index is not None else None
        if call.index is None and self._calls:
            known = new - 1
        begins = known is None or (
            call.id is not None and call.id != self._calls[known] and function.name is not None
        )
        if begins or known is None:
            if call.index is not None:
                self._slots[call.index] = new
            return new
        return known


def _add_part(part: _Part, deltas: list[Delta]) -> None:
    """A typed part of a content list: text, or thinking that holds text parts itself."""
    if part.type == "thinking":
        pieces = part.thinking or ""
        if not isinstance(pieces, str):
            pieces = "".join(piece.text or "" for piece in pieces)
        if pieces:
            deltas.append(Reasoning(pieces))
    elif part.text:
        deltas.append(Text(part.text))


def _usage(usage: _Usage) -> Usage:
    details = usage.prompt_tokens_details or _InputDetails()
    output = usage.completion_tokens_details or _OutputDetails()
    cached = details.cached_tokens
    if cached is None:
        cached = usage.prompt_cache_hit_tokens
    return Usage(
        input_tokens=usage.prompt_tokens or 0,
        output_tokens=usage.completion_tokens or 0,
        reasoning_tokens=output.reasoning_tokens or 0,
        cached_input_tokens=cached or 0,
        cache_write_tokens=details.cache_write_tokens or 0,
    )
