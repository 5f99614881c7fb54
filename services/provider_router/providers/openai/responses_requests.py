"""A `ModelRequest` as a request to the Responses API: pure."""

from atlas.contracts.base import JsonObject
from atlas.contracts.inference import (
    FilePart,
    ImagePart,
    JsonSchemaFormat,
    Message,
    ModelRequest,
    NamedTool,
    Part,
    ResponseFormat,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from provider_router.providers.errors import Origin, refused_here
from provider_router.providers.openai.chat_requests import data_url, effort


def responses_body(model: str, request: ModelRequest, origin: Origin) -> JsonObject:
    """The body of `POST /responses`; `provider_options` replace fields of the same name.

    `store` is false, because a conversation is Atlas's to keep; and a tool is not `strict` unless
    it says so, as in Chat Completions (this API's own default is true).

    Raises:
        ProviderInvalidRequestError: Stop sequences, which this API lacks, or a part that it cannot
            take.
    """
    if request.stop_sequences:
        raise refused_here(
            origin,
            "the Responses API has no stop_sequences; leave them out or set the provider's api "
            "to chat",
        )
    body: JsonObject = {
        "model": model,
        "input": [item for message in request.messages for item in _items(message, origin)],
        "store": False,
    }
    if request.system_prompt:
        body["instructions"] = request.system_prompt
    if request.max_tokens is not None:
        body["max_output_tokens"] = request.max_tokens
    for name in ("temperature", "top_p"):
        if (value := getattr(request, name)) is not None:
            body[name] = value
    if request.tools:
        body["tools"] = _tools(request)
        if request.tool_choice is not None:
            body["tool_choice"] = _tool_choice(request)
    if request.response_format is not None:
        body["text"] = {"format": _format(request.response_format)}
    if request.reasoning is not None:
        body["reasoning"] = {"effort": effort(request.reasoning)}
    return body | (request.provider_options or {}) | {"stream": True}


def _format(wanted: ResponseFormat) -> JsonObject:
    if not isinstance(wanted, JsonSchemaFormat):
        return {"type": wanted.type}
    return {
        "type": "json_schema",
        "name": wanted.name,
        "schema": wanted.json_schema,
        "strict": wanted.strict,
    }


def _items(message: Message, origin: Origin) -> list[JsonObject]:
    """Calls and their results are items of their own; what else was said stays one message."""
    role = message.role.value
    if isinstance(message.content, str):
        return [{"role": role, "content": message.content}]
    items: list[JsonObject] = []
    content: list[JsonObject] = []
    for part in message.content:
        match part:
            case ToolCallPart():
                items.append(
                    {
                        "type": "function_call",
                        "call_id": part.id,
                        "name": part.name,
                        "arguments": part.arguments or "{}",
                    }
                )
            case ToolResultPart():
                items.append(
                    {
                        "type": "function_call_output",
                        "call_id": part.tool_call_id,
                        "output": part.content,
                    }
                )
            case _:
                content.append(_content(part, message.role, origin))
    said: list[JsonObject] = [{"role": role, "content": content}] if content else []
    return said + items


def _content(part: Part, role: Role, origin: Origin) -> JsonObject:
    match part:
        case TextPart():
            kind = "output_text" if role is Role.ASSISTANT else "input_text"
            return {"type": kind, "text": part.text}
        case ImagePart():
            url = part.url if part.url is not None else data_url(part, origin)
            return {"type": "input_image", "image_url": url}
        case FilePart():
            if part.url is not None:
                return {"type": "input_file", "file_url": part.url}
            return {
                "type": "input_file",
                "filename": part.name or "file",
                "file_data": data_url(part, origin),
            }
        case ToolCallPart() | ToolResultPart():  # items of their own, see `_items`
            raise refused_here(origin, f"a {part.type} part cannot stand here")


def _tools(request: ModelRequest) -> list[JsonObject]:
    tools: list[JsonObject] = []
    for tool in request.tools:
        entry: JsonObject = {
            "type": "function",
            "name": tool.name,
            "parameters": tool.parameters,
            "strict": bool(tool.strict),
        }
        if tool.description is not None:
            entry["description"] = tool.description
        tools.append(entry)
    return tools


def _tool_choice(request: ModelRequest) -> object:
    if isinstance(request.tool_choice, NamedTool):
        return {"type": "function", "name": request.tool_choice.name}
    return request.tool_choice
