"""A `ModelRequest` as a Chat Completions request: pure."""

from atlas.contracts.base import JsonObject
from atlas.contracts.inference import (
    FilePart,
    ImagePart,
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

_EFFORTS = {1_024: "minimal", 2_048: "low", 8_192: "medium"}
"""A budget of thinking tokens, which OpenAI does not take, as the effort nearest to it."""


def chat_body(model: str, request: ModelRequest, origin: Origin, *, is_openai: bool) -> JsonObject:
    """The body of `POST /chat/completions`; `provider_options` replace fields of the same name.

    Args:
        model: The provider's own name of the model.
        request: What was asked.
        origin: The account, for errors.
        is_openai: Whether this goes to OpenAI itself, where `max_completion_tokens` took the place
            of `max_tokens`; compatible servers know the older name.

    Raises:
        ProviderInvalidRequestError: A part that the API cannot take.
    """
    body: JsonObject = {
        "model": model,
        "messages": _messages(request, origin),
        "stream_options": {"include_usage": True},
    }
    if request.max_tokens is not None:
        body["max_completion_tokens" if is_openai else "max_tokens"] = request.max_tokens
    for name in ("temperature", "top_p"):
        if (value := getattr(request, name)) is not None:
            body[name] = value
    if request.stop_sequences:
        body["stop"] = request.stop_sequences
    if request.tools:
        body["tools"] = _tools(request)
        if request.tool_choice is not None:
            body["tool_choice"] = _tool_choice(request)
    if isinstance(request.response_format, JsonSchemaFormat):
        wanted = request.response_format
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {
                "name": wanted.name,
                "schema": wanted.json_schema,
                "strict": wanted.strict,
            },
        }
    elif request.response_format is not None:
        body["response_format"] = {"type": request.response_format.type}
    if request.reasoning is not None:
        body["reasoning_effort"] = effort(request.reasoning)
    return body | (request.provider_options or {}) | {"stream": True}


def effort(reasoning: Reasoning) -> str:
    """How much to think, in OpenAI's words; a budget counts where no effort is given."""
    if reasoning.effort is not None:
        return reasoning.effort
    if reasoning.max_tokens is None:
        return "medium"
    return next((word for most, word in _EFFORTS.items() if reasoning.max_tokens <= most), "high")


def data_url(part: ImagePart | FilePart, origin: Origin) -> str:
    """The bytes of a part as a `data:` URL.

    Raises:
        ProviderInvalidRequestError: It is still a reference into the object store.
    """
    if part.data is None:
        raise refused_here(origin, f"object {part.object!r} was not resolved before the call")
    return f"data:{part.media_type};base64,{part.data}"


def _messages(request: ModelRequest, origin: Origin) -> list[JsonObject]:
    messages: list[JsonObject] = []
    if request.system_prompt:
        messages.append({"role": "system", "content": request.system_prompt})
    for message in request.messages:
        messages.extend(_message(message, origin))
    return messages


def _message(message: Message, origin: Origin) -> list[JsonObject]:
    if message.role is Role.TOOL:
        return [
            {"role": "tool", "tool_call_id": part.tool_call_id, "content": part.content}
            for part in message.parts()
            if isinstance(part, ToolResultPart)
        ]
    role = message.role.value
    if isinstance(message.content, str):
        return [{"role": role, "content": message.content}]
    if message.role is Role.ASSISTANT:
        return [_assistant(message.content)]
    return [{"role": role, "content": [_part(part, origin) for part in message.content]}]


def _assistant(parts: list[Part]) -> JsonObject:
    text = "".join(part.text for part in parts if isinstance(part, TextPart))
    calls: list[JsonObject] = [
        {
            "id": part.id,
            "type": "function",
            "function": {"name": part.name, "arguments": part.arguments or "{}"},
        }
        for part in parts
        if isinstance(part, ToolCallPart)
    ]
    message: JsonObject = {"role": "assistant", "content": text or None}
    return message | ({"tool_calls": calls} if calls else {})


def _part(part: Part, origin: Origin) -> JsonObject:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case ImagePart():
            url = part.url if part.url is not None else data_url(part, origin)
            return {"type": "image_url", "image_url": {"url": url}}
        case FilePart():
            if part.url is not None:
                raise refused_here(
                    origin, "Chat Completions takes no file by URL; send its bytes as data"
                )
            file: JsonObject = {"file_data": data_url(part, origin)}
            return {"type": "file", "file": {"filename": part.name or "file"} | file}
        case ToolCallPart() | ToolResultPart():  # the contract keeps these out of such messages
            raise refused_here(origin, f"a {part.type} part cannot stand here")


def _tools(request: ModelRequest) -> list[JsonObject]:
    tools: list[JsonObject] = []
    for tool in request.tools:
        function: JsonObject = {"name": tool.name, "parameters": tool.parameters}
        if tool.description is not None:
            function["description"] = tool.description
        if tool.strict is not None:
            function["strict"] = tool.strict
        tools.append({"type": "function", "function": function})
    return tools


def _tool_choice(request: ModelRequest) -> object:
    if isinstance(request.tool_choice, NamedTool):
        return {"type": "function", "function": {"name": request.tool_choice.name}}
    return request.tool_choice
