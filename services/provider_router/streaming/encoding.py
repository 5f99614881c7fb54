"""Stream events as bytes, fast: what the per-chunk path pays.

The shapes are those of `atlas.contracts.streams`; a test holds the two against each other. Reading
a pydantic model takes 5 µs and writing one 4 µs, a msgspec struct 0.3 µs.
"""

from typing import Literal

import msgspec

from atlas.contracts.base import now_ms
from provider_router.providers.base import Reasoning, Text, ToolCall

type Content = Text | Reasoning | ToolCall


class _Event(msgspec.Struct, omit_defaults=True):
    stream_id: str
    seq: int
    epoch: int
    at_ms: int
    type: str


class _TextEvent(_Event):
    text: str


class _ToolCallEvent(msgspec.Struct):
    stream_id: str
    seq: int
    epoch: int
    at_ms: int
    type: Literal["tool_call.delta"]
    index: int
    id: str | None
    name: str | None
    arguments: str


_encoder = msgspec.json.Encoder()


def encode_content(stream_id: str, seq: int, epoch: int, content: Content) -> bytes:
    """One content event as JSON."""
    at_ms = now_ms()
    match content:
        case Text(text):
            event = _TextEvent(stream_id, seq, epoch, at_ms, "text.delta", text)
        case Reasoning(text):
            event = _TextEvent(stream_id, seq, epoch, at_ms, "reasoning.delta", text)
        case ToolCall(index, id_, name, arguments):
            return _encoder.encode(
                _ToolCallEvent(
                    stream_id, seq, epoch, at_ms, "tool_call.delta", index, id_, name, arguments
                )
            )
    return _encoder.encode(event)


def coalesce(batch: list[Content]) -> list[Content]:
    """Join neighbours of one kind: many provider chunks that were read at once become one event."""
    if len(batch) == 1:
        return batch
    joined: list[Content] = []
    run: list[str] = []
    last: Content | None = None
    for content in batch:
        if last is not None and _joins(last, content):
            run.append(_payload(content))
            continue
        if last is not None:
            joined.append(_with_payload(last, run))
        last, run = content, [_payload(content)]
    if last is not None:
        joined.append(_with_payload(last, run))
    return joined


def _joins(first: Content, then: Content) -> bool:
    if isinstance(first, ToolCall) and isinstance(then, ToolCall):
        return first.index == then.index and then.id is None and then.name is None
    return type(first) is type(then)


def _payload(content: Content) -> str:
    return content.arguments if isinstance(content, ToolCall) else content.text


def _with_payload(content: Content, run: list[str]) -> Content:
    if len(run) == 1:
        return content
    payload = "".join(run)
    match content:
        case Text():
            return Text(payload)
        case Reasoning():
            return Reasoning(payload)
        case ToolCall(index, id_, name, _):
            return ToolCall(index, id_, name, payload)
