"""Stream events as bytes, fast: what the per-chunk path pays.

The shapes are those of `atlas.contracts.streams`; a test holds the two against each other. Reading
a pydantic model takes 5 µs and writing one 4 µs, a msgspec struct 0.3 µs.
"""

from typing import Literal

import msgspec

from atlas.contracts.base import now_ms
from provider_router.providers.base import Reasoning, Text, ToolCall

type Content = Text | Reasoning | ToolCall


class _Event(msgspec.Struct, omit_defaults=True, gc=False):
    stream_id: str
    seq: int
    epoch: int
    at_ms: int
    type: str


class _TextEvent(_Event):
    text: str


class _ToolCallEvent(msgspec.Struct, gc=False):
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
    texts = [one.text for one in batch if type(one) is Text]
    if len(texts) == len(batch):  # as mostly
        return [Text("".join(texts))]
    joined: list[Content] = []
    run: list[Content] = []
    for content in batch:
        if run and not continues(run[-1], content):
            joined.append(join(run))
            run = []
        run.append(content)
    joined.append(join(run))
    return joined


def continues(last: Content, content: Content) -> bool:
    """Whether content is more of the same, so that both may stand in one event."""
    if isinstance(last, ToolCall) and isinstance(content, ToolCall):
        return last.index == content.index and content.id is None and content.name is None
    return type(last) is type(content)


def join(run: list[Content]) -> Content:
    """Content of which each continues the one before, as one."""
    return run[0] if len(run) == 1 else with_payload(run[0], "".join(map(payload, run)))


def payload(content: Content) -> str:
    """Its text, or the arguments of a call."""
    return content.arguments if isinstance(content, ToolCall) else content.text


def with_payload(content: Content, text: str) -> Content:
    """The same content with another text."""
    match content:
        case Text():
            return Text(text)
        case Reasoning():
            return Reasoning(text)
        case ToolCall(index, id_, name, _):
            return ToolCall(index, id_, name, text)
