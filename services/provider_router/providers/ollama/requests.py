"""A `ModelRequest` as a request to Ollama's `/api/chat`: pure."""

import msgspec

from atlas.contracts.base import JsonObject
from atlas.contracts.inference import (
    ImagePart,
    JsonObjectFormat,
    JsonSchemaFormat,
    Message,
    ModelRequest,
    NamedTool,
    Part,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from provider_router.providers.errors import Origin, refused_here

_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high"}
_EFFORT_MODELS = "gpt-oss"
"""The one family that takes a level; the others take true or false."""


def ollama_body(model: str, request: ModelRequest, origin: Origin) -> JsonObject:
    """The body of `POST /api/chat`.

    `provider_options` replace fields of the same name, except that what they give under `options`
    joins ours.

    Raises:
        ProviderInvalidRequestError: A forced tool call, a file, or an image by URL: the API has
            none of them.
    """
    body: JsonObject = {"model": model, "messages": _messages(request, origin)}
    may_call = bool(request.tools) and request.tool_choice != "none"
    if may_call:
        if request.tool_choice == "required" or isinstance(request.tool_choice, NamedTool):
            raise refused_here(
                origin, "Ollama cannot be made to call a tool; set tool_choice to auto or none"
            )
        body["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description or "",
                    "parameters": tool.parameters,
                },
            }
            for tool in request.tools
        ]
    # A format rules out the tokens with which models call tools (ollama/ollama#8095, #11185).
    wanted = None if may_call else request.response_format
    if isinstance(wanted, JsonSchemaFormat):
        body["format"] = wanted.json_schema
    elif isinstance(wanted, JsonObjectFormat):
        body["format"] = "json"
    if request.reasoning is not None:
        effort = _EFFORTS[request.reasoning.effort or "medium"]
        body["think"] = effort if model.startswith(_EFFORT_MODELS) else True
    extra = dict(request.provider_options or {})
    given = extra.pop("options", None)
    options = _options(request) | (given if isinstance(given, dict) else {})
    if options:
        body["options"] = options
    return body | extra | {"stream": True}


def _options(request: ModelRequest) -> JsonObject:
    options: JsonObject = {
        "num_predict": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stop": request.stop_sequences or None,
    }
    return {name: value for name, value in options.items() if value is not None}


def _messages(request: ModelRequest, origin: Origin) -> list[JsonObject]:
    messages: list[JsonObject] = []
    if request.system_prompt:
        messages.append({"role": "system", "content": request.system_prompt})
    names: dict[str, str] = {}
    for message in request.messages:
        for part in message.parts():
            if isinstance(part, ToolCallPart):
                names[part.id] = part.name
        if message.role is Role.TOOL:
            messages.extend(_results(message, names))
        else:
            messages.append(_message(message, origin))
    return messages


def _results(message: Message, names: dict[str, str]) -> list[JsonObject]:
    """Results are told apart by the name of their tool; newer versions read the id as well."""
    return [
        {
            "role": "tool",
            "tool_name": names.get(part.tool_call_id, part.tool_call_id),
            "tool_call_id": part.tool_call_id,
            "content": part.content,
        }
        for part in message.parts()
        if isinstance(part, ToolResultPart)
    ]


def _message(message: Message, origin: Origin) -> JsonObject:
    parts = message.parts()
    images = [
        _image(part, origin) for part in parts if not isinstance(part, TextPart | ToolCallPart)
    ]
    calls: list[JsonObject] = [
        {"id": part.id, "function": {"name": part.name, "arguments": _arguments(part, origin)}}
        for part in parts
        if isinstance(part, ToolCallPart)
    ]
    body: JsonObject = {
        "role": message.role.value,
        "content": "".join(part.text for part in parts if isinstance(part, TextPart)),
    }
    if images:
        body["images"] = images
    if calls:
        body["tool_calls"] = calls
    return body


def _image(part: Part, origin: Origin) -> str:
    if not isinstance(part, ImagePart):
        raise refused_here(origin, f"Ollama takes no {part.type} part; send its content as text")
    if part.object is not None:
        raise refused_here(origin, f"object {part.object!r} was not resolved before the call")
    if part.data is None:
        raise refused_here(origin, "Ollama takes no image by URL; send its bytes as data")
    return part.data


def _arguments(part: ToolCallPart, origin: Origin) -> JsonObject:
    try:
        return msgspec.json.decode(part.arguments or "{}", type=dict[str, object])
    except msgspec.DecodeError as error:
        raise refused_here(
            origin, f"the arguments of tool call {part.id} are no JSON object: {error}"
        ) from error
