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
    Usage,
)
from provider_router.providers.base import Delta, Reasoning, Text, ToolCall
from provider_router.providers.errors import Origin, refused_here
from provider_router.providers.mock.schema import Example
from provider_router.providers.mock.text import keywords, pieces_of, prose, thoughts, tokens_of

_THINKING_TOKENS = {"minimal": 8, "low": 16, "medium": 32, "high": 64}
_CHARACTERS_PER_TOKEN = 4
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
    *,
    seed: int,
    mean_tokens: int,
    origin: Origin,
    is_continued: bool = False,
) -> Answer:
    """Make the answer, or the rest of the one that the last message begins.

    Reasoning comes when it is asked for, a tool call when one is required, JSON when a format
    wants it, and otherwise sentences with words of the last user message.

    Raises:
        ProviderInvalidRequestError: The tool that must be called is not among the tools.
    """
    if is_continued:
        return _rest_of(request, seed=seed, mean_tokens=mean_tokens, origin=origin)
    shaping = request.model_dump_json(include=_SEEDED_BY)
    digest = hashlib.sha256(f"{seed}:{shaping}".encode()).digest()
    rng = Random(digest)  # noqa: S311 - repeatable on purpose
    words = keywords(_last_user_text(request))
    thinking: list[Delta] = []
    if request.reasoning is not None:
        tokens = _THINKING_TOKENS[request.reasoning.effort or "medium"]
        text = tokens_of(thoughts(rng, words, tokens))[: request.reasoning.max_tokens]
        thinking = [Reasoning(piece) for piece in text]
    tool = _required_tool(request, rng, origin)
    if tool is not None:
        said, reason = _call(tool, rng, words), FinishReason.TOOL_CALLS
    else:
        said, reason = _said(request, rng, words, mean_tokens), FinishReason.STOP
    chunks = thinking + said
    if request.max_tokens is not None and len(chunks) > request.max_tokens:
        chunks, reason = chunks[: request.max_tokens], FinishReason.LENGTH
    usage = Usage(
        input_tokens=tokens_in(shaping),
        output_tokens=len(chunks),
        reasoning_tokens=sum(isinstance(chunk, Reasoning) for chunk in chunks),
    )
    return Answer(chunks, reason, usage)


def _rest_of(request: ModelRequest, *, seed: int, mean_tokens: int, origin: Origin) -> Answer:
    """What is left of the answer after its beginning; all of it, where it began otherwise."""
    whole = request.model_copy(update={"messages": request.messages[:-1], "max_tokens": None})
    answer = answer_to(whole, seed=seed, mean_tokens=mean_tokens, origin=origin)
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
        pieces = tokens_of(prose(rng, words, tokens))
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


def _required_tool(request: ModelRequest, rng: Random, origin: Origin) -> Tool | None:
    choice = request.tool_choice
    if isinstance(choice, NamedTool):
        for tool in request.tools:
            if tool.name == choice.name:
                return tool
        raise refused_here(origin, f"tool_choice names {choice.name!r}, which is not among tools")
    if choice != "required":
        return None
    if not request.tools:
        raise refused_here(origin, "tool_choice is required, and tools is empty; give a tool")
    return rng.choice(request.tools)


def _call(tool: Tool, rng: Random, words: list[str]) -> list[Delta]:
    arguments = _json(Example(tool.parameters, rng, words).value())
    first = ToolCall(0, id=f"call_{rng.getrandbits(64):016x}", name=tool.name)
    return [first, *(ToolCall(0, arguments=piece) for piece in pieces_of(arguments, rng))]


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
