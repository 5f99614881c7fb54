"""What there is to choose from, and why a request is answered by this model (contract A2, A7)."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from atlas.contracts.base import Contract, Count, EpochMs, Usd, UserInput
from atlas.contracts.inference import Cost, Level, ModelCapability, ModelRequest, TaskType


class Strategy(StrEnum):
    """In which order the members of a group are tried."""

    FAILOVER = "failover"
    ROUND_ROBIN = "round_robin"
    RANDOM = "random"
    WEIGHTED = "weighted"
    COST_OPTIMIZED = "cost_optimized"
    LATENCY = "latency"
    LEAST_BUSY = "least_busy"
    TASK_AWARE = "task_aware"
    ADAPTIVE = "adaptive"


class ModelInfo(Contract):
    """A model that the catalogue knows."""

    model: str = Field(description="`provider/name`, as `ModelRequest.model` takes it.")
    provider: str
    capabilities: dict[ModelCapability, Level] = Field(default_factory=dict)
    context_tokens: int | None = None
    input_usd_per_mtok: float | None = Field(default=None, description="Per million tokens.")
    output_usd_per_mtok: float | None = Field(default=None, description="Per million tokens.")


class ProviderInfo(Contract):
    """A provider as a router sees it now."""

    provider: str
    kind: str = Field(description="The dialect it speaks, such as `anthropic`.")
    base_url: str | None = None
    health: Literal["unknown", "healthy", "degraded", "unhealthy"] = "unknown"
    circuit: Literal["closed", "open", "half_open"] = "closed"
    open_until_ms: EpochMs | None = Field(
        default=None, description="When an open circuit is probed; absent: not before a change."
    )
    attempts: Count = 0
    failures: Count = 0
    in_flight: Count = Field(default=0, description="Attempts of this router that run now.")
    success_rate: float | None = Field(default=None, ge=0, le=1, description="A moving average.")
    time_to_first_token_ms: float | None = Field(default=None, description="A moving average.")
    last_error: str | None = None
    probed_at_ms: EpochMs | None = Field(
        default=None,
        description="When it was last asked what costs nothing. Absent: not yet, or it has no "
        "answer to that.",
    )
    probe_error: str | None = Field(
        default=None, description="Why that failed; absent: it did not."
    )


class GroupInfo(Contract):
    """Models that answer under one name."""

    group: str
    strategy: Strategy
    members: list[str] = Field(description="Each as `provider/name`.")


class Ranked(Contract):
    """A model that may answer, and why it stands at its place."""

    model: str
    reason: str
    expected_usd: Usd | None = Field(default=None, description="Absent: its price is unknown.")
    circuit: Literal["closed", "open", "half_open"] = "closed"


class Unfit(Contract):
    """A model that may not answer, and what it lacks."""

    model: str
    lacks: list[str]


class Explanation(Contract):
    """Which models would be tried for a request, in their order, and why the others would not."""

    group: str | None = Field(default=None, description="The group that was named.")
    strategy: Strategy | None = Field(default=None, description="Absent where one model is named.")
    task_type: TaskType | None = None
    task_type_reason: str | None = Field(default=None, description="What tells the task type.")
    needs: dict[ModelCapability, Level] = Field(default_factory=dict)
    context_tokens: Count = Field(default=0, description="Estimated: input, and what may come.")
    candidates: list[Ranked]
    unfit: list[Unfit] = Field(default_factory=list)


class BudgetInfo(Contract):
    """A limit of a budget that many streams share, and how far it is used up."""

    scope: Literal["day", "month", "task"]
    key: str = Field(description="The date, such as `2026-07-31` or `2026-07`, or the task's id.")
    unit: Literal["tokens", "usd"]
    limit: int | float
    spent: int | float = Field(description="What running streams have reserved included.")
    left: int | float
    resets_at_ms: EpochMs | None = Field(default=None, description="Absent: a task's never does.")


class ModelUsage(Contract):
    """What was used of a model."""

    model: str = Field(description="`provider/name`.")
    requests: Count = Field(default=0, description="Attempts that its provider took.")
    input_tokens: Count = 0
    output_tokens: Count = 0
    cached_input_tokens: Count = 0
    reasoning_tokens: Count = 0
    cost: Cost = Cost()


class ProvidersRequest(UserInput):
    """Asks for providers and models; with `explain`, also for who would answer that request."""

    explain: ModelRequest | None = None


class ProvidersReply(Contract):
    """What `api.providers` answers."""

    router: str
    default_model: str
    providers: list[ProviderInfo]
    models: list[ModelInfo]
    groups: list[GroupInfo] = Field(default_factory=list)
    budgets: list[BudgetInfo] | None = Field(
        default=None,
        description="Of the tenant that asks. Absent: its counters cannot be read now.",
    )
    usage: list[ModelUsage] | None = Field(
        default=None,
        description="Of the tenant that asks, today in UTC, by all routers; what was used last "
        "may lack for a second or two. Absent: the counters cannot be read now.",
    )
    explanation: Explanation | None = None
