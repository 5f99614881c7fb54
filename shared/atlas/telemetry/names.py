"""The one table of names: attributes, spans and metrics, spelt here and nowhere else.

Those that begin with `gen_ai.` or `messaging.` are OpenTelemetry's semantic conventions, which
still move (github.com/open-telemetry/semantic-conventions-genai, read in November 2026); ours begin
with `atlas.`. `docs/operate.md` shows the table, and a test compares the two.
"""

from dataclasses import dataclass
from typing import Final, Literal

# --- attributes ---------------------------------------------------------------------------------

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_STOP: Final = "gen_ai.request.stop_sequences"
REQUEST_STREAM: Final = "gen_ai.request.stream"
OUTPUT_TYPE: Final = "gen_ai.output.type"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
FIRST_CHUNK_S: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
AGENT_NAME: Final = "gen_ai.agent.name"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_RESULT: Final = "gen_ai.tool.call.result"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - of a model

ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"

MESSAGING_SYSTEM: Final = "messaging.system"
MESSAGING_OPERATION: Final = "messaging.operation.name"
MESSAGING_OPERATION_TYPE: Final = "messaging.operation.type"
DESTINATION: Final = "messaging.destination.template"

ACCOUNT: Final = "atlas.provider"
"""A provider's name in the configuration; `gen_ai.provider.name` is its dialect."""
SERVICE: Final = "atlas.service"
STREAM_ID: Final = "atlas.stream.id"
TASK_ID: Final = "atlas.task.id"
SUBTASK_ID: Final = "atlas.subtask.id"
ATTEMPT: Final = "atlas.attempt"
TENANT: Final = "atlas.tenant"
OUTCOME: Final = "atlas.outcome"
DOOR: Final = "atlas.door"
QUEUE: Final = "atlas.queue"
LANE: Final = "atlas.lane"
CAPABILITY: Final = "atlas.capability"
PRIORITY: Final = "atlas.priority"
JETSTREAM: Final = "atlas.jetstream.stream"
"""A stream of JetStream, as its subjects call it: `tasks`, `dead`."""
EVENT_TYPE: Final = "atlas.event.type"
CIRCUIT_STATE: Final = "atlas.circuit.state"
BUDGET_PERIOD: Final = "atlas.budget.period"
BUDGET_UNIT: Final = "atlas.budget.unit"
STREAM_METRICS: Final = "atlas.stream.metrics."
"""Before the name of each figure of `StreamMetrics`, on the span of a chat."""

OTHER: Final = "_OTHER"
"""Stands for what is not counted by its own name, so that nobody can make up labels without end."""

# --- spans --------------------------------------------------------------------------------------


def chat(model: str) -> str:
    """A model answers, in the router: one for each stream and each router that had it."""
    return f"chat {model}"


def embeddings(model: str) -> str:
    """A model turns texts into vectors, in the router."""
    return f"embeddings {model}"


def invoke_agent(capability: str) -> str:
    """A handler does a subtask, in the worker."""
    return f"invoke_agent {capability}"


def execute_tool(tool: str) -> str:
    """A worker carries out a call of a tool, for a model."""
    return f"execute_tool {tool}"


def send(template: str) -> str:
    """A client publishes or asks; the template of a subject holds no id."""
    return f"send {template}"


def process(template: str) -> str:
    """A service handles a message."""
    return f"process {template}"


# --- metrics ------------------------------------------------------------------------------------

type Kind = Literal["counter", "histogram", "gauge", "total"]
"""A counter and a histogram are told when something happens; a gauge, and a total that only grows,
are looked at every few seconds."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table."""

    name: str
    kind: Kind
    unit: str
    """In UCUM, as the conventions have it."""
    told_by: str
    says: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""What the conventions say for all durations of clients."""
_LONG_SECONDS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
_TOKENS = tuple(float(4**power) for power in range(14))
_GEN_AI = (OPERATION, PROVIDER, REQUEST_MODEL, RESPONSE_MODEL, ACCOUNT)

TOKEN_USAGE = Metric(
    "gen_ai.client.token.usage",
    "histogram",
    "{token}",
    "router",
    "Tokens of an attempt at a provider, failed ones and losers of a race included.",
    (*_GEN_AI, TOKEN_TYPE),
    _TOKENS,
)
OPERATION_DURATION = Metric(
    "gen_ai.client.operation.duration",
    "histogram",
    "s",
    "router",
    "A stream, or a request for embeddings, from its claim to its end, pauses included; "
    "`error.type` where it failed.",
    (*_GEN_AI, OUTCOME, ERROR_TYPE),
    _SECONDS,
)
TIME_TO_FIRST_CHUNK = Metric(
    "gen_ai.client.operation.time_to_first_chunk",
    "histogram",
    "s",
    "router",
    "From the claim of a stream to its first content.",
    _GEN_AI,
    _SECONDS,
)
TIME_PER_OUTPUT_CHUNK = Metric(
    "gen_ai.client.operation.time_per_output_chunk",
    "histogram",
    "s",
    "router",
    "The mean time between the chunks of a stream, pauses left out: once for each stream, not "
    "once for each chunk.",
    _GEN_AI,
    _SECONDS,
)
AGENT_DURATION = Metric(
    "gen_ai.invoke_agent.duration",
    "histogram",
    "s",
    "worker",
    "An attempt at a subtask, in the worker that did it.",
    (OPERATION, AGENT_NAME, ERROR_TYPE),
    _LONG_SECONDS,
)
TOOL_DURATION = Metric(
    "gen_ai.execute_tool.duration",
    "histogram",
    "s",
    "worker",
    "A call of a tool that a model asked for; one that is not offered counts as `_OTHER`.",
    (OPERATION, TOOL_NAME, ERROR_TYPE),
    _LONG_SECONDS,
)
COST = Metric(
    "atlas.cost",
    "counter",
    "USD",
    "router",
    "What attempts cost, where the price is known.",
    _GEN_AI,
)
STREAMS_RUNNING = Metric(
    "atlas.streams.running", "gauge", "{stream}", "router", "Streams that the router owns."
)
STREAMS_ENDED = Metric(
    "atlas.streams.ended",
    "total",
    "{stream}",
    "router",
    "Streams that ended in the router, refused ones included: completed, failed, cancelled.",
    (OUTCOME,),
)
PROVIDER_CIRCUIT = Metric(
    "atlas.provider.circuit",
    "gauge",
    "1",
    "router",
    "1 for the state that a provider's circuit is in (closed, open, half_open), 0 for the others.",
    (ACCOUNT, CIRCUIT_STATE),
)
PROVIDER_IN_FLIGHT = Metric(
    "atlas.provider.in_flight",
    "gauge",
    "{request}",
    "router",
    "Attempts that run at a provider.",
    (ACCOUNT,),
)
PROVIDER_ATTEMPTS = Metric(
    "atlas.provider.attempts",
    "total",
    "{request}",
    "router",
    "Attempts at a provider that ended.",
    (ACCOUNT,),
)
PROVIDER_FAILURES = Metric(
    "atlas.provider.failures",
    "total",
    "{request}",
    "router",
    "Those of them that failed by the provider's fault.",
    (ACCOUNT,),
)
BUDGET_LIMIT = Metric(
    "atlas.budget.limit",
    "gauge",
    "1",
    "router",
    "What a tenant that the settings name may spend; of all routers the same.",
    (TENANT, BUDGET_PERIOD, BUDGET_UNIT),
)
BUDGET_SPENT = Metric(
    "atlas.budget.spent",
    "gauge",
    "1",
    "router",
    "What of it is spent or reserved, by all routers together; take the maximum.",
    (TENANT, BUDGET_PERIOD, BUDGET_UNIT),
)
QUEUE_DEPTH = Metric(
    "atlas.queue.depth",
    "gauge",
    "{message}",
    "router, controller",
    "What waits: requests by lane (routers), submits, reports, work by capability and priority "
    "(controllers). Each instance tells the same; take the maximum.",
    (QUEUE, LANE, CAPABILITY, PRIORITY),
)
QUEUE_IN_PROGRESS = Metric(
    "atlas.queue.in_progress",
    "gauge",
    "{message}",
    "router, controller",
    "What was taken from a queue and is not done; take the maximum.",
    (QUEUE, LANE, CAPABILITY, PRIORITY),
)
STORED_MESSAGES = Metric(
    "atlas.jetstream.messages",
    "gauge",
    "{message}",
    "controller",
    "What a stream of JetStream holds; take the maximum. `dead` is what nobody could take.",
    (JETSTREAM,),
)
STORED_BYTES = Metric(
    "atlas.jetstream.size",
    "gauge",
    "By",
    "controller",
    "The same in bytes, on one replica; take the maximum.",
    (JETSTREAM,),
)
STORED_LIMIT = Metric(
    "atlas.jetstream.limit",
    "gauge",
    "By",
    "controller",
    "What a stream may hold, where it has a limit: beyond it `submits` refuses, others forget the "
    "oldest.",
    (JETSTREAM,),
)
TASK_EVENTS = Metric(
    "atlas.task.events",
    "counter",
    "{event}",
    "controller",
    "Entries in the logs of tasks, each counted by the controller that wrote it: "
    "`task.accepted`, `subtask.dispatched`, `subtask.succeeded` …",
    (EVENT_TYPE,),
)
TASK_DURATION = Metric(
    "atlas.task.duration",
    "histogram",
    "s",
    "controller",
    "A task from its acceptance to its end: completed, failed, cancelled.",
    (OUTCOME,),
    _LONG_SECONDS,
)
SUBTASK_DURATION = Metric(
    "atlas.subtask.duration",
    "histogram",
    "s",
    "controller",
    "An attempt at a subtask from its dispatch, so with its time in the queue, to its end: "
    "succeeded, failed, cancelled.",
    (CAPABILITY, OUTCOME),
    _LONG_SECONDS,
)
TASKS_HELD = Metric(
    "atlas.tasks.held", "gauge", "{task}", "controller", "Tasks that the controller remembers."
)
WORKER_RUNNING = Metric(
    "atlas.worker.running", "gauge", "{subtask}", "worker", "Subtasks in progress."
)
WORKER_CONCURRENCY = Metric(
    "atlas.worker.concurrency",
    "gauge",
    "{subtask}",
    "worker",
    "How many the worker does at a time.",
)
DOOR_DURATION = Metric(
    "atlas.door.duration",
    "histogram",
    "s",
    "every service",
    "Calls of a door; `error.type` where the answer was an error.",
    (DOOR, ERROR_TYPE),
    _SECONDS,
)
NATS_RECONNECTS = Metric(
    "atlas.nats.reconnects",
    "total",
    "{reconnect}",
    "every service",
    "How often the connection to NATS broke and came back.",
)
NATS_CONNECTED = Metric(
    "atlas.nats.connected", "gauge", "1", "every service", "1 while NATS is there, else 0."
)
LOOP_LATENESS = Metric(
    "atlas.event_loop.lateness",
    "gauge",
    "s",
    "every service",
    "The longest that something due waited for the event loop, in the last five seconds.",
)

METRICS: Final = tuple(one for one in list(globals().values()) if isinstance(one, Metric))
"""All of them, in the order of the documentation."""
