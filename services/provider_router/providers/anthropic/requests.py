"""A `ModelRequest` as a Messages request: pure."""

import base64
import binascii
import re

import msgspec

from atlas.contracts.base import JsonObject
from atlas.contracts.inference import (
    FilePart,
    ImagePart,
    JsonObjectFormat,
    JsonSchemaFormat,
    Message,
    ModelRequest,
    NamedTool,
    Part,
    Reasoning,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from provider_router.providers.errors import Origin, refused_here

DEFAULT_MAX_TOKENS = 8_192
"""The API insists on a bound; every model on offer can write this much."""

_MIN_THINKING_TOKENS = 1_024
"""The API's least `budget_tokens`."""

_BUDGETS = {"minimal": 1_024, "low": 2_048, "medium": 8_192, "high": 16_384}
_JSON_INSTRUCTION = "Answer with a single JSON object and nothing else."
_VERSION = re.compile(r"claude-(?:opus|sonnet|haiku)-(\d+)(?:-(\d{1,2}))?(?:-|$)")
_ADAPTIVE_SINCE = (4, 6)


def messages_body(model: str, request: ModelRequest, origin: Origin) -> JsonObject:
    """The body of `POST /v1/messages`; `provider_options` replace fields of the same name.

    `json_object` has no field of its own: an instruction in the system prompt asks for it.

    Raises:
        ProviderInvalidRequestError: A part or an argument that the API cannot take.
    """
    body: JsonObject = {
        "model": model,
        "max_tokens": request.max_tokens or DEFAULT_MAX_TOKENS,
        "messages": _turns(request.messages, origin),
    }
    if system := _system(request):
        body["system"] = system
    for name in ("temperature", "top_p"):
        if (value := getattr(request, name)) is not None:
            body[name] = value
    if request.stop_sequences:
        body["stop_sequences"] = request.stop_sequences
    if request.tools:
        body["tools"] = _tools(request)
        if request.tool_choice is not None:
            body["tool_choice"] = _tool_choice(request)
    if isinstance(request.response_format, JsonSchemaFormat):
        schema = request.response_format.json_schema
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    if request.reasoning is not None:
        _think(body, model, request, request.reasoning)
    return body | (request.provider_options or {}) | {"stream": True}


def _system(request: ModelRequest) -> str:
    """The API has one system prompt, so system messages join it, wherever they stood."""
    texts = [request.system_prompt] if request.system_prompt else []
    for message in request.messages:
        if message.role is Role.SYSTEM:
            texts += [part.text for part in message.parts() if isinstance(part, TextPart)]
    if isinstance(request.response_format, JsonObjectFormat):
        texts.append(_JSON_INSTRUCTION)
    return "\n\n".join(texts)


def _turns(messages: list[Message], origin: Origin) -> list[JsonObject]:
    """Neighbours of one role become one turn: all results of parallel calls belong together."""
    turns: list[tuple[str, list[JsonObject]]] = []
    for message in messages:
        if message.role is Role.SYSTEM:
            continue
        role = "assistant" if message.role is Role.ASSISTANT else "user"
        # The API refuses empty text blocks.
        blocks = [
            _block(part, origin)
            for part in message.parts()
            if not (isinstance(part, TextPart) and not part.text)
        ]
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(blocks)
        else:
            turns.append((role, blocks))
    return [{"role": role, "content": blocks} for role, blocks in turns]


def _block(part: Part, origin: Origin) -> JsonObject:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case ImagePart():
            return {"type": "image", "source": _source(part, origin)}
        case FilePart():
            title: JsonObject = {"title": part.name} if part.name else {}
            return {"type": "document", "source": _source(part, origin)} | title
        case ToolCallPart():
            return {
                "type": "tool_use",
                "id": part.id,
                "name": part.name,
                "input": _arguments(part, origin),
            }
        case ToolResultPart():
            failed: JsonObject = {"is_error": True} if part.is_error else {}
            return {
                "type": "tool_result",
                "tool_use_id": part.tool_call_id,
                "content": part.content,
            } | failed


def _source(part: ImagePart | FilePart, origin: Origin) -> JsonObject:
    if part.url is not None:
        return {"type": "url", "url": part.url}
    if part.data is None:
        raise refused_here(origin, f"object {part.object!r} was not resolved before the call")
    if isinstance(part, FilePart) and part.media_type == "text/plain":
        try:
            text = base64.b64decode(part.data, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise refused_here(origin, f"a text file is not UTF-8 in base64: {error}") from error
        return {"type": "text", "media_type": "text/plain", "data": text}
    return {"type": "base64", "media_type": part.media_type, "data": part.data}


def _arguments(part: ToolCallPart, origin: Origin) -> JsonObject:
    try:
        return msgspec.json.decode(part.arguments or "{}", type=dict[str, object])
    except msgspec.DecodeError as error:
        raise refused_here(
            origin, f"the arguments of tool call {part.id} are no JSON object: {error}"
        ) from error


def _tools(request: ModelRequest) -> list[JsonObject]:
    tools = []
    for tool in request.tools:
        entry: JsonObject = {"name": tool.name, "input_schema": tool.parameters}
        if tool.description is not None:
            entry["description"] = tool.description
        if tool.strict is not None:
            entry["strict"] = tool.strict
        tools.append(entry)
    return tools


def _tool_choice(request: ModelRequest) -> JsonObject:
    match request.tool_choice:
        case NamedTool(name=name):
            return {"type": "tool", "name": name}
        case "required":
            return {"type": "any"}
        case choice:
            return {"type": choice}


def _think(body: JsonObject, model: str, request: ModelRequest, reasoning: Reasoning) -> None:
    """Adds thinking in the way the model knows.

    Since 4.6 models think adaptively and take an effort. Older ones take a budget of tokens, which
    must be below `max_tokens`; when the request's bound leaves no room for the least budget, or
    when it answers tool calls (these models insist on their own signed thinking before a call,
    which the contract does not carry), there is no thinking.
    """
    budget = reasoning.max_tokens or _BUDGETS[reasoning.effort or "medium"]
    if is_adaptive(model):
        body["thinking"] = {"type": "adaptive"}
        nearest = next((name for name, tokens in _BUDGETS.items() if budget <= tokens), "high")
        effort = reasoning.effort or nearest
        config = body.get("output_config")
        body["output_config"] = (config if isinstance(config, dict) else {}) | {
            "effort": "low" if effort == "minimal" else effort
        }
        return
    budget = max(budget, _MIN_THINKING_TOKENS)
    if request.max_tokens is None:
        body["max_tokens"] = budget + DEFAULT_MAX_TOKENS
    else:
        budget = min(budget, request.max_tokens - 1)
    if budget >= _MIN_THINKING_TOKENS and request.messages[-1].role is not Role.TOOL:
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}


def is_adaptive(model: str) -> bool:
    """By the version in its name; a name without one is taken for a newer model."""
    if model.startswith("claude-3"):
        return False
    found = _VERSION.search(model)
    return found is None or (int(found[1]), int(found[2] or 0)) >= _ADAPTIVE_SINCE
