"""Examples of requests to models and of their answers."""

from atlas.contracts.base import Contract
from atlas.contracts.flow import BufferOptions, FallbackPolicy
from atlas.contracts.inference import (
    Budget,
    Cost,
    EmbedRequest,
    EmbedResponse,
    FilePart,
    FinishReason,
    GenerateRequest,
    ImagePart,
    JsonObjectFormat,
    JsonSchemaFormat,
    Level,
    Message,
    ModelCapability,
    ModelRequest,
    ModelResponse,
    NamedTool,
    Reasoning,
    Requirements,
    Role,
    StreamMetrics,
    TaskType,
    TextFormat,
    TextPart,
    Tool,
    ToolCall,
    ToolCallPart,
    ToolResultPart,
    Usage,
    UsageSource,
)

USAGE = Usage(
    input_tokens=1_200,
    output_tokens=340,
    reasoning_tokens=64,
    cached_input_tokens=1_000,
    cache_write_tokens=128,
    source=UsageSource.ESTIMATED,
)
COST = Cost(total_usd=0.00425, complete=False)
METRICS = StreamMetrics(
    time_to_first_token_ms=210,
    duration_ms=4_800,
    paused_ms=1_000,
    chunks=96,
    bytes=2_048,
    gap_p50_ms=31.7,
    gap_p99_ms=180.2,
    tokens_per_second=89.5,
    attempts=2,
)
BUDGET = Budget(max_tokens=20_000, max_usd=0.5, max_ms=60_000)
REQUIREMENTS = Requirements(
    task_type=TaskType.CODE_GENERATION,
    capabilities={ModelCapability.MULTILINGUAL: Level.STRONG},
    context_tokens=32_000,
)
IMAGE = ImagePart(type="image", object="default/chart-1", media_type="image/png")
FILE = FilePart(type="file", data="JVBERi0xLjcK", media_type="application/pdf", name="contract.pdf")
CALL_PART = ToolCallPart(
    type="tool_call", id="call_1", name="weather", arguments='{"city": "Zürich"}'
)
RESULT_PART = ToolResultPart(
    type="tool_result", tool_call_id="call_1", content="no such city", is_error=True
)
TOOL = Tool(
    name="weather",
    description="The weather of a city now.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}},
    strict=True,
)
SCHEMA_FORMAT = JsonSchemaFormat(
    type="json_schema",
    name="city",
    json_schema={"type": "object", "required": ["name"]},
    strict=False,
)
USER = Message(role=Role.USER, content=[TextPart(text="What is on it? 🗺️"), IMAGE, FILE])
ASKED = {
    "messages": [
        USER,
        Message(role=Role.ASSISTANT, content=[CALL_PART]),
        Message(role=Role.TOOL, content=[RESULT_PART]),
    ],
    "system_prompt": "Answer in one sentence.",
    "max_tokens": 512,
    "temperature": 0.2,
    "top_p": 0.9,
    "stop_sequences": ["END"],
    "tools": [TOOL],
    "tool_choice": NamedTool(name="weather"),
    "response_format": SCHEMA_FORMAT,
    "reasoning": Reasoning(effort="low", max_tokens=256),
    "provider_options": {"service_tier": "flex"},
    "budget": BUDGET,
    "fallback": FallbackPolicy(on_failure="continue"),
    "buffer": BufferOptions(coalesce="off", max_tokens_per_second=40.0),
    "metadata": {"team": "maps"},
}
CALL = ToolCall(index=0, id="call_1", name="weather", arguments='{"city": "Zürich"}')

INFERENCE: dict[str, Contract] = {
    "Requirements": REQUIREMENTS,
    "TextPart": TextPart(text="Grüezi"),
    "ImagePart": IMAGE,
    "ImagePart.by_url": ImagePart(type="image", url="https://example.com/map.png"),
    "ImagePart.inline": ImagePart(type="image", data="iVBORw0KGgo=", media_type="image/png"),
    "FilePart": FILE,
    "FilePart.by_url": FilePart(type="file", url="https://example.com/a.pdf"),
    "FilePart.by_reference": FilePart(type="file", object="default/a.pdf"),
    "ToolCallPart": CALL_PART,
    "ToolResultPart": RESULT_PART,
    "Message": USER,
    "Message.text": Message(role=Role.SYSTEM, content="Be brief."),
    "Tool": TOOL,
    "NamedTool": NamedTool(name="weather"),
    "TextFormat": TextFormat(),
    "JsonObjectFormat": JsonObjectFormat(type="json_object"),
    "JsonSchemaFormat": SCHEMA_FORMAT,
    "Reasoning": Reasoning(effort="high", max_tokens=2_048),
    "Budget": BUDGET,
    "FallbackPolicy": FallbackPolicy(on_failure="fail", hedge_after_ms=800),
    "BufferOptions": BufferOptions(coalesce="off", max_tokens_per_second=40.0),
    "BufferOptions.lines": BufferOptions(
        coalesce="delimiter",
        coalesce_ms=500,
        coalesce_chars=4_096,
        coalesce_delimiters=["\n"],
        max_unstored_bytes=65_536,
        max_paused_ms=600_000,
        on_max_paused="resume",
    ),
    "ModelRequest": ModelRequest.model_validate(ASKED | {"model": "openai/gpt-5"}),
    "ModelRequest.requirements": ModelRequest(
        messages=[Message(role=Role.USER, content="Sort a list.")],
        requirements=REQUIREMENTS,
        tool_choice="auto",
    ),
    "ModelRequest.group": ModelRequest(
        messages=[Message(role=Role.USER, content="Sort a list.")],
        model="everyday",
        requirements=REQUIREMENTS,
    ),
    "GenerateRequest": GenerateRequest.model_validate(
        ASKED | {"model": "openai/gpt-5", "stream_id": "story-1", "stream": True}
    ),
    "GenerateRequest.requirements": GenerateRequest(
        messages=[Message(role=Role.USER, content="Sort a list.")], requirements=REQUIREMENTS
    ),
    "Usage": USAGE,
    "Cost": COST,
    "StreamMetrics": METRICS,
    "ToolCall": CALL,
    "ModelResponse": ModelResponse(
        stream_id="story-1",
        content="A map of Zürich.",
        reasoning="The lake is at the bottom.",
        tool_calls=[CALL],
        model="gpt-5",
        provider="openai",
        finish_reason=FinishReason.TOOL_CALLS,
        usage=USAGE,
        cost=COST,
        metrics=METRICS,
    ),
    "EmbedRequest": EmbedRequest(
        input=["one", "two"],
        model="openai/text-embedding-3-small",
        dimensions=2,
        metadata={"team": "maps"},
    ),
    "EmbedRequest.text": EmbedRequest(input="one"),
    "EmbedResponse": EmbedResponse(
        model="text-embedding-3-small",
        provider="openai",
        embeddings=[[0.25, -0.5], [0.125, 1.0]],
        usage=USAGE,
        cost=COST,
    ),
}
