"""What was said, as the conventions put it onto a span: only where somebody switched that on.

Bounded: the newest comes first, and what has no room is cut or left out. Files are named by kind,
never copied.
"""

import json
from collections.abc import Iterable

from atlas.contracts.base import JsonObject
from atlas.contracts.inference import (
    Message,
    ModelRequest,
    Part,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from atlas.contracts.streams import StreamCompleted
from atlas.reading import Reading
from atlas.telemetry import names

_MOST_CHARACTERS = 32_768
"""Of the messages of a request, of its system prompt, and of the answer; each."""
_AROUND = 64
"""What a part takes besides its text."""


def spoken(request: ModelRequest, reading: Reading) -> dict[str, str]:
    """The attributes of the span of a chat."""
    found = {
        names.INPUT_MESSAGES: json.dumps(_messages(request.messages), ensure_ascii=False),
        names.OUTPUT_MESSAGES: json.dumps(_answer(reading), ensure_ascii=False),
    }
    if request.system_prompt:
        said = [{"type": "text", "content": _Room().take(request.system_prompt)}]
        found[names.SYSTEM_INSTRUCTIONS] = json.dumps(said, ensure_ascii=False)
    return found


class _Room:
    """How many characters may still be said."""

    def __init__(self) -> None:
        self._left = _MOST_CHARACTERS

    def enter(self) -> bool:
        """Whether there is room for one more part; what surrounds it takes some."""
        self._left = max(0, self._left - _AROUND)
        return self._left > 0

    def take(self, text: str) -> str:
        """As much of a text as there is room for."""
        kept = text[: self._left]
        self._left -= len(kept)
        return kept if len(kept) == len(text) else f"{kept}… ({len(text) - len(kept)} more)"


def _messages(messages: Iterable[Message]) -> list[JsonObject]:
    room = _Room()
    told: list[JsonObject] = []
    for message in reversed(list(messages)):
        parts = [_part(one, room) for one in reversed(message.parts()) if room.enter()]
        if not parts:
            break
        told.append({"role": message.role.value, "parts": parts[::-1]})
    return told[::-1]


def _part(part: Part, room: _Room) -> JsonObject:
    match part:
        case TextPart():
            return {"type": "text", "content": room.take(part.text)}
        case ToolCallPart():
            arguments = room.take(part.arguments)
            return {"type": "tool_call", "id": part.id, "name": part.name, "arguments": arguments}
        case ToolResultPart():
            response = room.take(part.content)
            return {"type": "tool_call_response", "id": part.tool_call_id, "response": response}
        case _:
            return {"type": part.type}


def _answer(reading: Reading) -> list[JsonObject]:
    room = _Room()
    parts: list[JsonObject] = []
    if reading.reasoning:
        parts.append({"type": "reasoning", "content": room.take(reading.reasoning)})
    if reading.text:
        parts.append({"type": "text", "content": room.take(reading.text)})
    for call in reading.tool_calls:
        if not room.enter():
            break
        arguments = room.take(call.arguments)
        parts.append(
            {"type": "tool_call", "id": call.id, "name": call.name, "arguments": arguments}
        )
    end = reading.terminal
    finish = end.finish_reason.value if isinstance(end, StreamCompleted) else "error"
    return [{"role": "assistant", "parts": parts, "finish_reason": finish}]
