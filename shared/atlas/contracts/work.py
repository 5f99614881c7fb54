"""What controllers give to workers, and what comes back (contract A4)."""

from typing import Literal

from pydantic import Field

from atlas.contracts.base import Contract, EpochMs, JsonObject
from atlas.contracts.errors import ErrorInfo
from atlas.contracts.ids import Capability, Id, StreamId, SubtaskId, TaskId
from atlas.contracts.inference import Budget, Cost, Requirements, Usage


class Subtask(Contract):
    """What a worker gets. It needs to know nothing else."""

    task_id: TaskId
    subtask_id: SubtaskId
    attempt: int = Field(ge=1)
    capability: Capability
    instruction: str
    goal: str
    inputs: JsonObject = Field(
        default_factory=dict,
        description="The task's inputs under `task`, and each result it depends on by its id; "
        "a large one is `{output_ref}`.",
    )
    output_schema: JsonObject | None = None
    requirements: Requirements | None = None
    tools: list[str] = Field(
        default_factory=list,
        description="Those that it may use, of what its capability is granted; none: all of that.",
    )
    budget: Budget | None = Field(
        default=None, description="Its part of what the task has left, for all of its streams."
    )
    task_budget: Budget | None = Field(
        default=None,
        description="What all streams of the task may use together: goes with each request to a "
        "model, in the header `Atlas-Task-Budget` beside `Atlas-Task`.",
    )
    deadline_ms: EpochMs | None = None
    stream_id: StreamId = Field(description="For its first stream.")
    idempotency_key: str = Field(description="`task:subtask:attempt`, for tools.")


class SubtaskReport(Contract):
    """What a worker tells while it works."""

    task_id: TaskId
    subtask_id: SubtaskId
    attempt: int = Field(ge=1)
    worker: str
    type: Literal["started", "progress", "failed"]
    stream_ids: list[StreamId] = Field(default_factory=list)
    progress: JsonObject | None = None
    error: ErrorInfo | None = None
    usage: Usage | None = None
    cost: Cost | None = None


class SubtaskResult(Contract):
    """What a worker made; the first one of a subtask wins."""

    task_id: TaskId
    subtask_id: SubtaskId
    attempt: int = Field(ge=1)
    worker: str
    output: object = None
    output_ref: str | None = None
    replan: str | None = Field(
        default=None,
        max_length=4_000,
        description="Why the rest of the plan must change, where the work showed that; the output "
        "counts all the same. A model changes the plan if the task's `max_replans` allows it.",
    )
    usage: Usage = Usage()
    cost: Cost = Cost()


class Timer(Contract):
    """Something that is due for a task at a time."""

    task_id: TaskId
    name: Id
    due_at_ms: EpochMs
    data: JsonObject = Field(default_factory=dict)
