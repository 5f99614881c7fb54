"""The events of a task's log, and how it is asked for (contract A4)."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter
from pydantic.json_schema import SkipJsonSchema

from atlas.contracts.base import Contract, EpochMs, JsonObject, Unknown, UserInput, types_of
from atlas.contracts.errors import ErrorInfo
from atlas.contracts.ids import Capability, StreamId, SubtaskId, TaskId
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.tasks import Plan, PlannedSubtask, TaskRequest, TaskState


class _TaskEvent(Contract):
    task_id: TaskId
    version: int = Field(ge=1, description="1, 2, 3 … without a gap.")
    at_ms: EpochMs


class _SubtaskEvent(_TaskEvent):
    subtask_id: SubtaskId


class TaskAcceptedEvent(_TaskEvent):
    """The task stands in the log; from here on it is carried to its end."""

    type: Literal["task.accepted"] = "task.accepted"
    request: TaskRequest
    request_sha256: str = Field(description="Of the body as it was sent.")


class TaskPlanned(_TaskEvent):
    """The plan is made and valid."""

    type: Literal["task.planned"] = "task.planned"
    plan: Plan
    planner: Literal["caller", "pattern", "model", "last_resort"]
    reason: str | None = Field(
        default=None, description="Why this one: a route that was chosen, a last resort."
    )


class TaskReplanned(_TaskEvent):
    """The plan changed; finished work is kept. What is removed and ran was cancelled before."""

    type: Literal["task.replanned"] = "task.replanned"
    added: list[PlannedSubtask] = Field(default_factory=list)
    removed: list[SubtaskId] = Field(default_factory=list)
    reason: str
    because: list[SubtaskId] = Field(
        default_factory=list,
        description="The subtasks whose failure, or whose result, asked for it.",
    )


class TaskAwaitingApproval(_TaskEvent):
    """A person must approve before it goes on."""

    type: Literal["task.awaiting_approval"] = "task.awaiting_approval"
    subtask_id: SubtaskId | None = None
    expires_at_ms: EpochMs | None = Field(
        default=None,
        description="When it is answered by itself if nobody does; a pause puts that off.",
    )


class TaskApproved(_TaskEvent):
    """A person approved."""

    type: Literal["task.approved"] = "task.approved"
    subtask_id: SubtaskId | None = None
    by: str | None = None
    reason: str | None = None


class TaskApprovalRejected(_TaskEvent):
    """A person rejected."""

    type: Literal["task.approval_rejected"] = "task.approval_rejected"
    subtask_id: SubtaskId | None = None
    by: str | None = None
    reason: str | None = None


class SubtaskDispatched(_SubtaskEvent):
    """A subtask goes to the workers."""

    type: Literal["subtask.dispatched"] = "subtask.dispatched"
    attempt: int = Field(ge=1)
    capability: Capability
    stream_id: StreamId
    warning: str | None = Field(
        default=None, description="Why it may wait: no worker announces its capability now."
    )


class SubtaskStarted(_SubtaskEvent):
    """A worker has begun."""

    type: Literal["subtask.started"] = "subtask.started"
    attempt: int = Field(ge=1)
    worker: str
    stream_id: StreamId | None = Field(default=None, description="Where its tokens stream.")


class SubtaskSucceeded(_SubtaskEvent):
    """A subtask has its result."""

    type: Literal["subtask.succeeded"] = "subtask.succeeded"
    attempt: int = Field(ge=1)
    worker: str
    output: object = None
    output_ref: str | None = Field(default=None, description="Object name when it is large.")
    replan: str | None = Field(
        default=None, description="Why the rest of the plan must change, as the worker says."
    )
    usage: Usage
    cost: Cost


class SubtaskFailed(_SubtaskEvent):
    """An attempt failed."""

    type: Literal["subtask.failed"] = "subtask.failed"
    attempt: int = Field(ge=1)
    worker: str | None = None
    error: ErrorInfo
    final: bool = Field(description="Whether no further attempt follows.")
    usage: Usage | None = None
    cost: Cost | None = None


class SubtaskRetried(_SubtaskEvent):
    """A further attempt follows, not before `not_before_ms`."""

    type: Literal["subtask.retried"] = "subtask.retried"
    attempt: int = Field(ge=2, description="The attempt that follows.")
    not_before_ms: EpochMs
    reason: str


class SubtaskCancelled(_SubtaskEvent):
    """A subtask will not be carried out, or not to its end."""

    type: Literal["subtask.cancelled"] = "subtask.cancelled"
    by: str | None = None
    reason: str | None = None


class SubtaskSpent(_SubtaskEvent):
    """What an attempt had used that was given up: it ran too long, was cancelled or taken out."""

    type: Literal["subtask.spent"] = "subtask.spent"
    attempt: int = Field(ge=1)
    worker: str
    usage: Usage
    cost: Cost


class TaskPaused(_TaskEvent):
    """Nothing new starts, and running streams stand still."""

    type: Literal["task.paused"] = "task.paused"
    by: str | None = None
    reason: str | None = None


class TaskResumed(_TaskEvent):
    """It goes on."""

    type: Literal["task.resumed"] = "task.resumed"
    by: str | None = None
    reason: str | None = None


class TaskCompleted(_TaskEvent):
    """The end: here is the answer."""

    type: Literal["task.completed"] = "task.completed"
    output: object = Field(
        default=None,
        description="Of the last subtask; of several, and where the last is among the lost, what "
        "there is by their ids.",
    )
    output_ref: str | None = None
    lost: list[SubtaskId] = Field(
        default_factory=list,
        description="Subtasks without a result, where `on_failure` or a `quorum` let it go on.",
    )
    spared: list[SubtaskId] = Field(
        default_factory=list,
        description="Subtasks that were not done because a result was accepted before (`accepts`).",
    )
    cause: ErrorInfo | None = Field(
        default=None, description="Why there are fewer results than planned."
    )
    usage: Usage
    cost: Cost


class TaskFailed(_TaskEvent):
    """The end: there is no answer, for this reason. Outputs of finished subtasks are kept."""

    type: Literal["task.failed"] = "task.failed"
    error: ErrorInfo
    outputs: JsonObject = Field(
        default_factory=dict,
        description="What finished subtasks made, by id; a large one is `{output_ref}`, and where "
        "there are too many for a message, `{output_ref}` stands for all of them.",
    )
    usage: Usage
    cost: Cost
    goal: str | None = Field(
        default=None,
        description="The beginning of what was asked, where a submission was refused and says it.",
    )


class TaskCancelled(_TaskEvent):
    """The end: somebody cancelled."""

    type: Literal["task.cancelled"] = "task.cancelled"
    by: str | None = None
    reason: str | None = None
    usage: Usage
    cost: Cost


class TaskDeletedEvent(_TaskEvent):
    """All that was stored of the task is removed; this alone is left of its log."""

    type: Literal["task.deleted"] = "task.deleted"


KnownTaskEvent = Annotated[
    TaskAcceptedEvent
    | TaskPlanned
    | TaskReplanned
    | TaskAwaitingApproval
    | TaskApproved
    | TaskApprovalRejected
    | SubtaskDispatched
    | SubtaskStarted
    | SubtaskSucceeded
    | SubtaskFailed
    | SubtaskRetried
    | SubtaskCancelled
    | SubtaskSpent
    | TaskPaused
    | TaskResumed
    | TaskCompleted
    | TaskFailed
    | TaskCancelled
    | TaskDeletedEvent,
    Field(discriminator="type"),
]


class UnknownTaskEvent(_TaskEvent, Unknown):
    """An event of a type that a newer controller writes. It has its place and decides nothing."""

    known = types_of(KnownTaskEvent)


type TaskEvent = Annotated[
    KnownTaskEvent | SkipJsonSchema[UnknownTaskEvent], Field(union_mode="left_to_right")
]
type TerminalTaskEvent = TaskCompleted | TaskFailed | TaskCancelled

TASK_EVENT: TypeAdapter[TaskEvent] = TypeAdapter(TaskEvent)
"""Reads and writes one task event."""


class TaskHistory(UserInput):
    """Asks for a task's log, from `from_version` on."""

    task_id: TaskId
    from_version: int = Field(default=1, ge=1)
    limit: int = Field(default=1000, ge=1, le=10_000)


class TaskHistoryReply(Contract):
    """A page of a task's log; `next_version` is None when this is the last one."""

    events: list[TaskEvent]
    state: TaskState
    next_version: int | None = None
