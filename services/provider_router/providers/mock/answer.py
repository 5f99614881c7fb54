"""What the mock answers to a request: pure, and the same for the same seed and request."""

import hashlib
from dataclasses import dataclass
from random import Random

import msgspec

from atlas.contracts.inference import (
    FinishReason,
    JsonObjectFormat,
    JsonSchemaFormat,
    ModelRequest,
    NamedTool,
    Role,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
    Usage,
)
from atlas.provider_settings import MockSettings
from provider_router.providers.base import Delta, Reasoning, Text, ToolCall
from provider_router.providers.errors import Origin, refused_here
from provider_router.providers.mock.schema import Example
from provider_router.providers.mock.text import keywords, pieces_of, prose, thoughts, tokens_of

_THINKING_TOKENS = {"minimal": 8, "low": 16, "medium": 32, "high": 64}
_CHARACTERS_PER_TOKEN = 4
_QUOTED = 80
"""Characters of a tool's result that stand in the answer."""
_SEEDED_BY = {
    "messages",
    "system_prompt",
    "tools",
    "tool_choice",
    "response_format",
    "reasoning",
    "temperature",
    "top_p",
}
"""What shapes the answer. Limits only cut it, and metadata must not control it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: one delta per chunk and token, then why it ended and what it used."""

    chunks: list[Delta]
    finish_reason: FinishReason
    usage: Usage


def answer_to(
    request: ModelRequest,
    mock: MockSettings,
    *,
    origin: Origin,
    is_continued: bool = False,
) -> Answer:
    """Make the answer, or the rest of the one that the last message begins.

    Reasoning comes when it is asked for, tool calls when one is required, or as many rounds of
    them as the settings say where tools are offered, JSON when a format wants it, and otherwise
    sentences with words of the last user message, after what tools answered.

    Raises:
        ProviderInvalidRequestError: The tool that must be called is not among the tools.
    """
    if is_continued:
        return _rest_of(request, mock, origin=origin)
    shaping = request.model_dump_json(include=_SEEDED_BY)
    digest = hashlib.sha256(f"{mock.seed}:{shaping}".encode()).digest()
    rng = Random(digest)  # noqa: S311 - repeatable on purpose
    words = keywords(_last_user_text(request))
    thinking: list[Delta] = []
    if request.reasoning is not None:
        tokens = _THINKING_TOKENS[request.reasoning.effort or "medium"]
        text = tokens_of(thoughts(rng, words, tokens))[: request.reasoning.max_tokens]
        thinking = [Reasoning(piece) for piece in text]
    tools = _tools_to_call(request, mock, rng, origin)
    if tools:
        calls = [_call(place, tool, rng, words) for place, tool in enumerate(tools)]
        said, reason = [piece for call in calls for piece in call], FinishReason.TOOL_CALLS
    else:
        said, reason = _said(request, rng, words, mock.tokens), FinishReason.STOP
    chunks = thinking + said
    if request.max_tokens is not None and len(chunks) > request.max_tokens:
        chunks, reason = chunks[: request.max_tokens], FinishReason.LENGTH
    usage = Usage(
        input_tokens=tokens_in(shaping),
        output_tokens=len(chunks),
        reasoning_tokens=sum(isinstance(chunk, Reasoning) for chunk in chunks),
    )
    return Answer(chunks, reason, usage)


def _rest_of(request: ModelRequest, mock: MockSettings, *, origin: Origin) -> Answer:
    """What is left of the answer after its beginning; all of it, where it began otherwise."""
    whole = request.model_copy(update={"messages": request.messages[:-1], "max_tokens": None})
    answer = answer_to(whole, mock, origin=origin)
    begun = "".join(
        part.text for part in request.messages[-1].parts() if isinstance(part, TextPart)
    )
    texts = [chunk.text for chunk in answer.chunks if isinstance(chunk, Text)]
    rest = "".join(texts).removeprefix(begun)
    chunks: list[Delta] = [Text(piece) for piece in tokens_of(rest)]
    reason = answer.finish_reason
    if request.max_tokens is not None and len(chunks) > request.max_tokens:
        chunks, reason = chunks[: request.max_tokens], FinishReason.LENGTH
    usage = Usage(
        input_tokens=answer.usage.input_tokens + tokens_in(begun), output_tokens=len(chunks)
    )
    return Answer(chunks, reason, usage)


def tokens_in(text: str) -> int:
    """How many tokens the mock counts in a text: at least one."""
    return max(1, len(text) // _CHARACTERS_PER_TOKEN)


def _last_user_text(request: ModelRequest) -> str:
    for message in reversed(request.messages):
        if message.role is Role.USER:
            return " ".join(part.text for part in message.parts() if isinstance(part, TextPart))
    return ""


def _said(request: ModelRequest, rng: Random, words: list[str], mean: int) -> list[Delta]:
    wanted = request.response_format
    if isinstance(wanted, JsonSchemaFormat):
        pieces = pieces_of(_json(Example(wanted.json_schema, rng, words).value()), rng)
    elif isinstance(wanted, JsonObjectFormat):
        value = {"answer": prose(rng, words, 12), "topics": words[:3]}
        pieces = pieces_of(_json(value), rng)
    else:
        tokens = max(1, round(mean * rng.uniform(0.5, 1.5)))
        pieces = tokens_of(_told_by_tools(request) + prose(rng, words, tokens))
    return [Text(piece) for piece in _until_stop(pieces, request.stop_sequences)]


def _until_stop(pieces: list[str], stops: list[str]) -> list[str]:
    """The pieces before the first stop sequence, which is itself left out."""
    text = "".join(pieces)
    ends = [found for stop in stops if stop and (found := text.find(stop)) >= 0]
    if not ends:
        return pieces
    left = min(ends)
    kept = []
    for piece in pieces:
        if left <= 0:
            break
        kept.append(piece[:left])
        left -= len(piece)
    return kept


def _tools_to_call(
    request: ModelRequest, mock: MockSettings, rng: Random, origin: Origin
) -> list[Tool]:
    """The tools to call now: those that must be, or the next ones in turn while rounds are left."""
    choice = request.tool_choice
    if isinstance(choice, NamedTool):
        for tool in request.tools:
            if tool.name == choice.name:
                return [tool]
        raise refused_here(origin, f"tool_choice names {choice.name!r}, which is not among tools")
    if choice == "required":
        if not request.tools:
            raise refused_here(origin, "tool_choice is required, and tools is empty; give a tool")
        return [rng.choice(request.tools)]
    rounds = _rounds_of_calls(request)
    if choice == "none" or not request.tools or rounds >= mock.tool_rounds:
        return []
    first, count = rounds * mock.tool_calls, len(request.tools)
    return [request.tools[(first + place) % count] for place in range(min(mock.tool_calls, count))]


def _rounds_of_calls(request: ModelRequest) -> int:
    """How many answers since the last user message called tools."""
    rounds = 0
    for message in reversed(request.messages):
        if message.role is Role.USER:
            break
        rounds += any(isinstance(part, ToolCallPart) for part in message.parts())
    return rounds


def _told_by_tools(request: ModelRequest) -> str:
    """What tools answered, each in short."""
    told, names = "", {}
    for message in request.messages:
        for part in message.parts():
            if isinstance(part, ToolCallPart):
                names[part.id] = part.name
            elif isinstance(part, ToolResultPart):
                shown = " ".join(part.content[:_QUOTED].split())
                told += f"{names.get(part.tool_call_id, 'A tool')} says: {shown}. "
    return told


def _call(place: int, tool: Tool, rng: Random, words: list[str]) -> list[Delta]:
    arguments = _json(Example(tool.parameters, rng, words).value())
    first = ToolCall(place, id=f"call_{rng.getrandbits(64):016x}", name=tool.name)
    return [first, *(ToolCall(place, arguments=piece) for piece in pieces_of(arguments, rng))]


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
