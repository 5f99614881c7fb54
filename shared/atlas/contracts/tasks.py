"""The life of a task on the wire (contract A4)."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field
from pydantic.config import JsonDict

from atlas.contracts.base import Contract, Count, EpochMs, JsonObject, PositiveMs, UserInput
from atlas.contracts.errors import ErrorInfo
from atlas.contracts.ids import ID_PATTERN, Capability, StreamId, SubtaskId, TaskId
from atlas.contracts.inference import Budget, Cost, Requirements, Usage

_NOT_BLANK: JsonDict = {"pattern": r"\S"}
"""For the schema; the doors enforce it, so that a log of an older version stays readable."""


class Pattern(StrEnum):
    """How a goal is broken down; `auto` lets a model decide."""

    AUTO = "auto"
    SINGLE = "single"
    SEQUENTIAL = "sequential"
    PARALLEL = "parallel"
    MAP_REDUCE = "map_reduce"
    PIPELINE = "pipeline"
    DEBATE = "debate"
    VOTE = "vote"
    ROUTE = "route"
    EVALUATE_OPTIMIZE = "evaluate_optimize"


type PatternName = Annotated[
    str,
    Field(
        pattern=ID_PATTERN,
        examples=[one.value for one in Pattern],
        description="How a goal is broken down: a name of `Pattern`, or one that the controllers' "
        "settings declare.",
    ),
]


class Priority(StrEnum):
    """Which work goes first."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Approval(StrEnum):
    """What a person must approve before it runs."""

    NONE = "none"
    PLAN = "plan"
    SUBTASKS = "subtasks"


class OnApprovalExpired(StrEnum):
    """What an approval that nobody gives in time is taken for."""

    REJECT = "reject"
    APPROVE = "approve"


MOST_REPLANS = 10
"""How often the plan of a task may be changed at most."""


class OnFailure(StrEnum):
    """What a subtask that gives no result does to its task."""

    FAIL = "fail"
    QUORUM = "quorum"
    BEST_SO_FAR = "best_so_far"


class PlannedSubtask(UserInput):
    """One node of a plan."""

    id: SubtaskId
    capability: Capability
    instruction: str = Field(
        min_length=1,
        json_schema_extra=_NOT_BLANK,
        description="What is to be done; blanks alone are refused.",
    )
    depends_on: list[SubtaskId] = Field(default_factory=list)
    quorum: int | None = Field(
        default=None,
        ge=1,
        description="How many of those that it depends on must succeed; it begins when all of them "
        "are at their end. By default `on_failure` of the task says it.",
    )
    accepts: SubtaskId | None = Field(
        default=None,
        description="Of a subtask that judges one that it depends on: its id. Where its output has "
        "`accepted: true`, that result is good enough, and what depends on the judgement is not "
        "done. Its `output_schema` has to require `accepted`, a boolean.",
    )
    output_schema: JsonObject | None = Field(
        default=None, description="The JSON Schema that its output satisfies."
    )
    requirements: Requirements | None = None
    tools: list[str] = Field(
        default_factory=list,
        description="Those that it may use, of what its capability is granted; none: all of that.",
    )
    inputs: JsonObject | None = Field(
        default=None, description="Further material, beside the task's; of a name, this goes first."
    )
    task_inputs: list[str] | None = Field(
        default=None, description="Names of the task's inputs that it gets; by default all."
    )
    timeout_ms: PositiveMs | None = None
    max_attempts: int | None = Field(default=None, ge=1, le=20)


type Plan = Annotated[list[PlannedSubtask], Field(min_length=1, max_length=10_000)]


class TaskRequest(UserInput):
    """A goal, and how to reach it."""

    goal: str = Field(
        min_length=1,
        json_schema_extra=_NOT_BLANK,
        description="What is to be reached; blanks alone are refused.",
    )
    inputs: JsonObject | None = Field(
        default=None, description="Named material for the work, such as the text of files."
    )
    pattern: PatternName = Pattern.AUTO.value
    pattern_options: JsonObject | None = Field(
        default=None, description="What the pattern takes, such as the `stages` of a pipeline."
    )
    plan: Plan | None = Field(default=None, description="A plan of one's own; replaces `pattern`.")
    on_failure: OnFailure | None = Field(
        default=None,
        description="What becomes of what depends on a subtask without a result, and of the task: "
        "`fail` (the default) ends them; with `quorum` so many results are enough, for each "
        "subtask and for the task; `best_so_far` goes on with those that are there, and ends with "
        "them, also at a deadline or when the budget is spent.",
    )
    quorum: int | None = Field(
        default=None, ge=1, description="With `on_failure: quorum`: how many must succeed."
    )
    max_replans: int | None = Field(
        default=None,
        ge=0,
        le=MOST_REPLANS,
        description="How often a model may change the plan, where a subtask that failed for good "
        "would end the task, or where a result asks for it (`replan`). By default once where a "
        "model made the plan (`auto`), and else never.",
    )
    budget: Budget | None = None
    priority: Priority = Priority.NORMAL
    max_parallel: int | None = Field(
        default=None,
        ge=1,
        description="How many of its subtasks may be dispatched or running at a time; the "
        "controllers' settings bound it too.",
    )
    approval: Approval = Approval.NONE
    approval_expires_ms: PositiveMs | None = Field(
        default=None,
        description="How long the plan, or a subtask, waits for its approval; pauses do not count. "
        "By default until somebody answers, or the task was open for as long as a task may.",
    )
    on_approval_expired: OnApprovalExpired | None = Field(
        default=None,
        description="What is done then, by `atlas`: `reject` (the default) or `approve`.",
    )
    deadline_ms: EpochMs | None = Field(
        default=None, description="When it must be done, in epoch milliseconds."
    )
    metadata: dict[str, str] | None = None


class SubmitRequest(TaskRequest):
    """What `api.task.submit` takes: a `TaskRequest` and an id of one's own."""

    task_id: TaskId | None = None

    def task_request(self) -> TaskRequest:
        """The request without what only the door needs."""
        fields = {name: getattr(self, name) for name in self.model_fields_set - {"task_id"}}
        return TaskRequest.model_construct(_fields_set=set(fields), **fields)


class TaskAccepted(Contract):
    """A task was accepted and will be carried to its end."""

    task_id: TaskId
    log_subject: str
    control_subject: str


class TaskState(StrEnum):
    """Where a task is."""

    ACCEPTED = "accepted"
    PLANNING = "planning"
    AWAITING_APPROVAL = "awaiting_approval"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing follows."""
        return self in (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED)


class SubtaskState(StrEnum):
    """Where a subtask is."""

    WAITING = "waiting"
    AWAITING_APPROVAL = "awaiting_approval"
    DISPATCHED = "dispatched"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing follows."""
        return self in (SubtaskState.SUCCEEDED, SubtaskState.FAILED, SubtaskState.CANCELLED)


class TaskAction(StrEnum):
    """What anyone may ask of a task."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    APPROVE = "approve"
    REJECT = "reject"


class TaskControl(UserInput):
    """Asks a task to pause, resume, cancel, or tells what a person decided."""

    action: TaskAction
    subtask_id: SubtaskId | None = None
    reason: str | None = Field(default=None, max_length=1024)
    by: str | None = Field(default=None, max_length=256)


class SubtaskView(Contract):
    """A subtask as it stands."""

    subtask_id: SubtaskId
    capability: Capability
    instruction: str
    depends_on: list[SubtaskId] = Field(default_factory=list)
    state: SubtaskState
    attempt: Count = 0
    worker: str | None = None
    stream_id: StreamId | None = None
    output: object = None
    output_ref: str | None = None
    error: ErrorInfo | None = None


class TaskStatus(Contract):
    """A task as it stands; also the answer to a control."""

    task_id: TaskId
    state: TaskState
    version: Count
    goal: str
    pattern: PatternName = Pattern.AUTO.value
    subtasks: list[SubtaskView] = Field(
        default_factory=list,
        description="Too many for an answer: without outputs, instructions cut, unfinished ones.",
    )
    subtasks_left_out: Count | None = Field(
        default=None, description="How many are not in `subtasks`; the history tells of all."
    )
    output: object = None
    output_ref: str | None = None
    lost: list[SubtaskId] = Field(
        default_factory=list, description="Of a completed task: subtasks without a result."
    )
    cause: ErrorInfo | None = Field(
        default=None, description="Of a completed task: why there are fewer results than planned."
    )
    usage: Usage = Usage()
    cost: Cost = Cost()
    accepted_at_ms: EpochMs
    updated_at_ms: EpochMs
    error: ErrorInfo | None = None


class TaskGet(UserInput):
    """Asks for one task."""

    task_id: TaskId


class TaskList(UserInput):
    """Asks for tasks, the newest first."""

    limit: int = Field(default=50, ge=1, le=1000)
    state: TaskState | None = None


class TaskSummary(Contract):
    """A task in a list."""

    task_id: TaskId
    state: TaskState
    goal: str = Field(description="The first 200 characters.")
    version: Count
    subtasks: Count
    subtasks_done: Count
    accepted_at_ms: EpochMs
    updated_at_ms: EpochMs


class TaskListReply(Contract):
    """What `api.task.list` answers."""

    tasks: list[TaskSummary]
