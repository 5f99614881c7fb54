"""Ollama's chat stream, one JSON object a line, to deltas.

Ollama sends each tool call whole and, in older versions, without an id. One is made of a prefix
that the caller gives, so that ids differ between the turns of a conversation.
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
from provider_router.providers.decoding import EventDecoder
from provider_router.providers.errors import Origin, told_error
from provider_router.providers.refusals import read_stream_error

_FINISH = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}


class _Function(msgspec.Struct, gc=False):
    name: str
    arguments: dict[str, object] = {}


class _Call(msgspec.Struct, gc=False):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct, gc=False):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Line(msgspec.Struct, gc=False):
    message: _Message | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    error: object = None


_LINE = msgspec.json.Decoder(_Line)


class LineParser:
    """Cuts a body into its lines; a line counts as an event without a name."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    @property
    def pending_bytes(self) -> int:
        """The size of the line that is not complete yet."""
        return self._size

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Take the next bytes; returns the completed lines that are not empty."""
        if b"\n" not in data:
            self._pieces.append(data)
            self._size += len(data)
            return []
        lines = b"".join([*self._pieces, data]).split(b"\n")
        rest = lines.pop()
        self._pieces, self._size = [rest], len(rest)
        return [(b"", line) for line in lines if line.strip()]

    def end(self) -> list[tuple[bytes, bytes]]:
        """The last line, when no line end follows it."""
        return self.feed(b"\n")


class OllamaDecoder(EventDecoder):
    """Decodes the body of `POST /api/chat` with `stream: true`."""

    def __init__(self, origin: Origin, call_id_prefix: str = "call") -> None:
        super().__init__(origin, LineParser())
        self._prefix = call_id_prefix
        self._calls = 0

    def _take(self, event: bytes, data: bytes, deltas: list[Delta]) -> None:
        del event  # lines have no names
        line = _LINE.decode(data)
        if line.message is not None:
            self._message(line.message, deltas)
        if line.error is not None:
            raise told_error(self._origin, read_stream_error({"error": line.error}))
        if line.done:
            deltas.append(
                UsageReport(
                    Usage(
                        input_tokens=line.prompt_eval_count or 0,
                        output_tokens=line.eval_count or 0,
                    )
                )
            )
            deltas.append(Finished(self._reason(line.done_reason)))
            self.is_done = True

    def _message(self, message: _Message, deltas: list[Delta]) -> None:
        if message.thinking:
            deltas.append(Reasoning(message.thinking))
        if message.content:
            deltas.append(Text(message.content))
        for call in message.tool_calls or ():
            index, self._calls = self._calls, self._calls + 1
            deltas.append(
                ToolCall(
                    index,
                    call.id or f"{self._prefix}_{index}",
                    call.function.name,
                    msgspec.json.encode(call.function.arguments).decode(),
                )
            )

    def _reason(self, told: str | None) -> FinishReason:
        reason = _FINISH.get(told or "stop", FinishReason.OTHER)
        if reason is FinishReason.STOP and self._calls:
            return FinishReason.TOOL_CALLS
        return reason
