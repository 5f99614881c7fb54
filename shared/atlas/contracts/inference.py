"""What one asks of a model, and what comes back (contract A3, A7)."""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from atlas.contracts.base import Contract, Count, DurationMs, JsonObject, PositiveMs, Usd, UserInput
from atlas.contracts.flow import BufferOptions, FallbackPolicy
from atlas.contracts.ids import StreamId


class Level(StrEnum):
    """How well a model does something; ordered from `none` (0) to `exceptional` (4)."""

    NONE = "none"
    BASIC = "basic"
    MODERATE = "moderate"
    STRONG = "strong"
    EXCEPTIONAL = "exceptional"

    @property
    def rank(self) -> int:
        """0 to 4, for comparison."""
        return list(Level).index(self)


class ModelCapability(StrEnum):
    """What a model can be good at: operational, task and domain capabilities."""

    INEXPENSIVE = "inexpensive"
    EFFICIENT = "efficient"
    PREMIUM = "premium"
    VISION = "vision"
    STREAMING = "streaming"
    REASONING = "reasoning"
    LOGIC = "logic"
    MATH = "math"
    ANALYSIS = "analysis"
    CODE = "code"
    CREATIVE = "creative"
    SUMMARIZATION = "summarization"
    EXTRACTION = "extraction"
    FORMATTING = "formatting"
    TOOL_USE = "tool_use"
    JSON_OUTPUT = "json_output"
    SCIENCE = "science"
    FINANCE = "finance"
    LEGAL = "legal"
    MEDICAL = "medical"
    TECHNICAL = "technical"
    MULTILINGUAL = "multilingual"


class TaskType(StrEnum):
    """A kind of request; `TASK_NEEDS` says what each needs of a model."""

    CONVERSATIONAL = "conversational"
    CODE_GENERATION = "code_generation"
    SUMMARIZATION = "summarization"
    CREATIVE_WRITING = "creative_writing"
    DATA_ANALYSIS = "data_analysis"
    INFORMATION_EXTRACTION = "information_extraction"
    TRANSLATION = "translation"
    MATH_PROBLEM_SOLVING = "math_problem_solving"


TASK_NEEDS: dict[TaskType, dict[ModelCapability, Level]] = {
    TaskType.CONVERSATIONAL: {ModelCapability.REASONING: Level.MODERATE},
    TaskType.CODE_GENERATION: {
        ModelCapability.CODE: Level.STRONG,
        ModelCapability.REASONING: Level.MODERATE,
        ModelCapability.TECHNICAL: Level.MODERATE,
    },
    TaskType.SUMMARIZATION: {
        ModelCapability.SUMMARIZATION: Level.STRONG,
        ModelCapability.REASONING: Level.MODERATE,
    },
    TaskType.CREATIVE_WRITING: {
        ModelCapability.CREATIVE: Level.STRONG,
        ModelCapability.REASONING: Level.MODERATE,
    },
    TaskType.DATA_ANALYSIS: {
        ModelCapability.ANALYSIS: Level.STRONG,
        ModelCapability.REASONING: Level.STRONG,
        ModelCapability.MATH: Level.MODERATE,
    },
    TaskType.INFORMATION_EXTRACTION: {
        ModelCapability.EXTRACTION: Level.STRONG,
        ModelCapability.REASONING: Level.MODERATE,
    },
    TaskType.TRANSLATION: {ModelCapability.MULTILINGUAL: Level.STRONG},
    TaskType.MATH_PROBLEM_SOLVING: {
        ModelCapability.MATH: Level.STRONG,
        ModelCapability.REASONING: Level.STRONG,
    },
}
"""The least level of each capability that a task type needs (contract A7)."""


class Requirements(UserInput):
    """What a model must be able to do: any, or those of a group that is named."""

    task_type: TaskType | None = None
    capabilities: dict[ModelCapability, Level] = Field(default_factory=dict)
    context_tokens: int | None = Field(
        default=None,
        gt=0,
        description="The least context size; what the request itself needs is counted anyway.",
    )

    def needs(self) -> dict[ModelCapability, Level]:
        """The least level of each capability: the task type's, raised by what was asked."""
        needs = dict(TASK_NEEDS[self.task_type]) if self.task_type else {}
        for capability, level in self.capabilities.items():
            if level.rank > needs.get(capability, Level.NONE).rank:
                needs[capability] = level
        return needs


class TextPart(UserInput):
    """A piece of text."""

    type: Literal["text"] = "text"
    text: str


class _Source(UserInput):
    url: str | None = Field(default=None, description="Where the provider may fetch it.")
    data: str | None = Field(default=None, description="The bytes as base64; needs `media_type`.")
    object: str | None = Field(
        default=None, description="Its name in the object store `ATLAS_OBJECTS`."
    )
    media_type: str | None = Field(default=None, description="Such as `image/png`.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(value is not None for value in (self.url, self.data, self.object)) != 1:
            raise ValueError("give exactly one of url, data, object")
        if self.data is not None and self.media_type is None:
            raise ValueError("data needs media_type")
        return self


class ImagePart(_Source):
    """A picture, by URL, inline as base64, or by reference into the object store."""

    type: Literal["image"]


class FilePart(_Source):
    """A document such as a PDF, by URL, inline as base64, or by reference."""

    type: Literal["file"]
    name: str | None = None


class ToolCallPart(UserInput):
    """A call that the assistant made; stands in an `assistant` message."""

    type: Literal["tool_call"]
    id: str = Field(min_length=1)
    name: str = Field(min_length=1)
    arguments: str = Field(description="The arguments as JSON text, as the model wrote them.")


class ToolResultPart(UserInput):
    """What a tool answered; stands in a `tool` message."""

    type: Literal["tool_result"]
    tool_call_id: str = Field(min_length=1)
    content: str
    is_error: bool = False


type Part = Annotated[
    TextPart | ImagePart | FilePart | ToolCallPart | ToolResultPart, Field(discriminator="type")
]


class Role(StrEnum):
    """Who says a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


_PARTS_OF: dict[Role, tuple[type[UserInput], ...]] = {
    Role.SYSTEM: (TextPart,),
    Role.USER: (TextPart, ImagePart, FilePart),
    Role.ASSISTANT: (TextPart, ToolCallPart),
    Role.TOOL: (ToolResultPart,),
}


class Message(UserInput):
    """One turn of a conversation: a role and its content, as text or as typed parts."""

    role: Role
    content: str | list[Part]

    @model_validator(mode="after")
    def _parts_fit_the_role(self) -> Self:
        allowed = _PARTS_OF[self.role]
        if isinstance(self.content, str):
            if self.role is Role.TOOL:
                raise ValueError("a tool message holds a list of tool_result parts")
            return self
        if not self.content:
            raise ValueError("content is an empty list; give text or at least one part")
        for part in self.content:
            if not isinstance(part, allowed):
                raise ValueError(  # noqa: TRY004 - pydantic turns ValueError into its own error
                    f"a {part.type} part may not stand in a {self.role} message"
                )
        return self

    def parts(self) -> list[Part]:
        """The content as parts, also when it was given as a string."""
        return [TextPart(text=self.content)] if isinstance(self.content, str) else self.content


class Tool(UserInput):
    """A function that the model may call."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = None
    parameters: JsonObject = Field(
        default={"type": "object", "properties": {}},
        description="The JSON Schema of its arguments.",
    )
    strict: bool | None = Field(default=None, description="Hold the model to the schema exactly.")


class NamedTool(UserInput):
    """The one tool that the model must call."""

    name: str = Field(min_length=1)


type ToolChoice = Literal["auto", "none", "required"] | NamedTool


class TextFormat(UserInput):
    """Plain text, the default."""

    type: Literal["text"] = "text"


class JsonObjectFormat(UserInput):
    """Any JSON object."""

    type: Literal["json_object"]


class JsonSchemaFormat(UserInput):
    """JSON that satisfies a schema."""

    type: Literal["json_schema"]
    name: str = Field(default="answer", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    json_schema: JsonObject
    strict: bool = True


type ResponseFormat = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")
]


class Reasoning(UserInput):
    """How much a reasoning model may think before it answers."""

    effort: Literal["minimal", "low", "medium", "high"] | None = None
    max_tokens: int | None = Field(default=None, gt=0, description="Bound on thinking tokens.")


class Budget(UserInput):
    """What a request or task may use up at most, over all its attempts."""

    max_tokens: int | None = Field(default=None, gt=0, description="Input and output tokens.")
    max_usd: float | None = Field(default=None, gt=0)
    max_ms: PositiveMs | None = Field(
        default=None,
        description="From when a router takes the request up, or the task was accepted; the time "
        "that it is paused does not count, that of a router that died does.",
    )


class ModelRequest(UserInput):
    """A request to a model: `model`, or `requirements`, or both, or neither for the default."""

    messages: list[Message] = Field(min_length=1)
    model: str | None = Field(
        default=None,
        min_length=1,
        description="`provider/name`, a name that the catalogue knows, or a group's name.",
    )
    requirements: Requirements | None = Field(
        default=None,
        description="With `model`: which members of that group may answer; a single model that "
        "does not meet them is refused.",
    )
    system_prompt: str | None = None
    max_tokens: int | None = Field(default=None, gt=0)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    stop_sequences: list[str] = Field(default_factory=list, max_length=16)
    tools: list[Tool] = Field(default_factory=list, max_length=256)
    tool_choice: ToolChoice | None = None
    response_format: ResponseFormat | None = None
    reasoning: Reasoning | None = None
    provider_options: JsonObject | None = Field(
        default=None, description="Fields passed into the provider's request body as they are."
    )
    budget: Budget | None = None
    fallback: FallbackPolicy = FallbackPolicy()
    buffer: BufferOptions = BufferOptions()
    metadata: dict[str, str] | None = None


class GenerateRequest(ModelRequest):
    """What `api.generate` takes: a `ModelRequest`, an id of one's own, and whether to stream."""

    stream_id: StreamId | None = None
    stream: bool = False

    def model_request(self) -> ModelRequest:
        """The request without what only the door needs."""
        fields = {name: getattr(self, name) for name in self.model_fields_set}
        fields.pop("stream_id", None)
        fields.pop("stream", None)
        return ModelRequest.model_construct(_fields_set=set(fields), **fields)


class FinishReason(StrEnum):
    """Why a model stopped."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    BUDGET = "budget"
    OTHER = "other"


class UsageSource(StrEnum):
    """Whether a figure came from the provider or was counted by us."""

    REPORTED = "reported"
    ESTIMATED = "estimated"


class Usage(Contract):
    """Tokens of all attempts, also of those that failed, lost a race or died with their router.

    `input_tokens` includes cached ones, `output_tokens` includes reasoning. One estimated part
    makes the whole `estimated`.
    """

    input_tokens: Count = 0
    output_tokens: Count = 0
    reasoning_tokens: Count = 0
    cached_input_tokens: Count = Field(default=0, description="Read from the provider's cache.")
    cache_write_tokens: Count = Field(default=0, description="Written to the provider's cache.")
    source: UsageSource = UsageSource.REPORTED

    def __add__(self, other: "Usage") -> "Usage":
        """The sum; estimated when either is."""
        estimated = UsageSource.ESTIMATED in (self.source, other.source)
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            cached_input_tokens=self.cached_input_tokens + other.cached_input_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            source=UsageSource.ESTIMATED if estimated else UsageSource.REPORTED,
        )


class Cost(Contract):
    """Money of all attempts. `complete` is false when a part has no known price."""

    total_usd: Usd = 0.0
    complete: bool = True

    def __add__(self, other: "Cost") -> "Cost":
        """The sum; complete only when both are."""
        return Cost(
            total_usd=self.total_usd + other.total_usd, complete=self.complete and other.complete
        )


class StreamMetrics(Contract):
    """How a stream went, as its last router saw it.

    A gap is the time between two reads of one attempt that brought content, without those in which
    the stream was paused. Percentiles are exact to about 6 %, and absent where there is no gap.
    """

    time_to_first_token_ms: DurationMs | None = None
    duration_ms: DurationMs = 0
    paused_ms: DurationMs = 0
    chunks: Count = Field(default=0, description="Chunks with content that providers sent.")
    bytes: Count = Field(
        default=0,
        description="Of all content that was published, as UTF-8: text, reasoning and arguments, "
        "of dropped attempts too.",
    )
    gap_p50_ms: float | None = Field(default=None, ge=0)
    gap_p99_ms: float | None = Field(default=None, ge=0)
    tokens_per_second: float = 0.0
    attempts: Count = 0


class ToolCall(Contract):
    """A complete call that the model made."""

    index: Count
    id: str
    name: str
    arguments: str = Field(description="JSON text as the model wrote it; not checked.")


class ModelResponse(Contract):
    """The whole answer of a model."""

    stream_id: StreamId
    content: str
    reasoning: str | None = None
    tool_calls: list[ToolCall] = Field(default_factory=list)
    model: str
    provider: str
    finish_reason: FinishReason
    usage: Usage
    cost: Cost
    metrics: StreamMetrics


class EmbedRequest(UserInput):
    """Texts to be turned into vectors, all by one model.

    An answer that would not fit into a NATS message is refused with `payload_too_large`; its
    `details.max_inputs` says how many texts to send at once.
    """

    input: str | Annotated[list[str], Field(min_length=1, max_length=2048)]
    model: str | None = Field(
        default=None,
        min_length=1,
        description="`provider/name`, or a name for whichever provider offers it; none: the first "
        "embedding model that is offered.",
    )
    dimensions: int | None = Field(
        default=None, gt=0, description="Of each vector, where the model lets one choose."
    )
    metadata: dict[str, str] | None = None


class EmbedResponse(Contract):
    """One vector per text, in their order."""

    model: str
    provider: str
    embeddings: list[list[float]]
    usage: Usage
    cost: Cost
