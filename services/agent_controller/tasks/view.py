"""A task as its log tells it: frozen values, made by `fold` only.

They are msgspec's and no dataclasses, because every event of a log makes new ones of them, with a
field or two changed: that takes a tenth of the time.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from msgspec import Struct, field

from atlas.contracts.errors import ErrorInfo
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.task_events import TaskFailed, TerminalTaskEvent
from atlas.contracts.tasks import (
    MOST_REPLANS,
    OnFailure,
    Pattern,
    PlannedSubtask,
    SubtaskState,
    SubtaskView,
    TaskRequest,
    TaskState,
    TaskStatus,
    TaskSummary,
)

PLAN = "plan"
"""The subtask that asks a model for a plan."""
PLAN_REPAIR = "plan-repair"
"""The subtask that asks once more, naming what was wrong."""
PLANNING_IDS = (PLAN, PLAN_REPAIR)
PLANNING = "planning"
"""The capability of subtasks that ask a model for a plan."""
REPLANNING_IDS = tuple(
    (f"replan-{number}", f"replan-{number}-repair") for number in range(1, MOST_REPLANS + 1)
)
"""For each change of a plan the subtasks that ask a model for it: at first, and once more."""
RESERVED_IDS = (*PLANNING_IDS, *(one for pair in REPLANNING_IDS for one in pair))
"""What no subtask of a plan that is changed, or that a model makes, may be called."""

_GOAL_SHOWN = 200


class SubtaskRecord(Struct, frozen=True):
    """One subtask. `attempt` counts from 1 with the first dispatch; 0 means never dispatched."""

    subtask_id: str
    capability: str
    planned: PlannedSubtask | None = None
    """Its node in the plan; None for the subtasks that make the plan."""
    path: int = 1
    """How many subtasks stand in the longest chain from it to an end of the plan, with itself."""
    state: SubtaskState = SubtaskState.WAITING
    attempt: int = 0
    worker: str | None = None
    stream_id: str | None = None
    """Where the current attempt's tokens stream."""
    paid: tuple[int, ...] = ()
    """The attempts whose usage is in the task's."""
    abandoned: tuple[str, ...] = ()
    """Streams that nobody waits for any more: to be cancelled."""
    output: object = None
    output_ref: str | None = None
    error: ErrorInfo | None = None
    dispatched_at_ms: int | None = None
    started_at_ms: int | None = None
    clock_from_ms: int | None = None
    """From when a started attempt's timeout counts: its start, moved on by every pause."""
    last_heard_ms: int | None = None
    failed_at_ms: int | None = None
    not_before_ms: int | None = None
    """While retrying: when the next attempt may be dispatched; None until that was decided."""
    waits_from_ms: int | None = None
    """Since when it waits for its approval, moved on by every pause."""
    is_approved: bool = False
    is_rejected: bool = False
    replan: str | None = None
    """Why its result asks for another plan; None when that was answered, or it does not."""
    because: tuple[str, ...] = ()
    """Of a subtask that asks a model to change the plan: whose failure or result caused it."""

    @property
    def depends_on(self) -> tuple[str, ...]:
        """The subtasks whose results it needs."""
        return tuple(self.planned.depends_on) if self.planned else ()

    @property
    def is_live(self) -> bool:
        """Whether a worker has it, or should have it."""
        return self.state in (SubtaskState.DISPATCHED, SubtaskState.RUNNING)

    @property
    def _instruction(self) -> str:
        if self.planned is not None:
            return self.planned.instruction
        return "Change the plan." if self.because else "Make a plan for the goal."

    def to_view(self) -> SubtaskView:
        """As `TaskStatus` shows it."""
        return SubtaskView(
            subtask_id=self.subtask_id,
            capability=self.capability,
            instruction=self._instruction,
            depends_on=list(self.depends_on),
            state=self.state,
            attempt=self.attempt,
            worker=self.worker,
            stream_id=self.stream_id,
            output=self.output,
            output_ref=self.output_ref,
            error=self.error,
        )


class TaskView(Struct, frozen=True):
    """A task. Everything in it follows from its log; `version` is the last event folded."""

    tenant: str
    task_id: str
    version: int = 0
    request: TaskRequest | None = None
    """What was asked; None before acceptance, and for a submission that nobody could read."""
    is_cut: bool = False
    """The beginning of its log expired: of what is left only its end means something."""
    request_sha256: str | None = None
    accepted_at_ms: int = 0
    updated_at_ms: int = 0
    plan: tuple[PlannedSubtask, ...] | None = None
    planner: Literal["caller", "pattern", "model", "last_resort"] | None = None
    urgency: tuple[str, ...] = ()
    """The subtasks of the plan in the order in which those that are ready go."""
    capabilities: frozenset[str] = frozenset()
    """What the plan needs of workers."""
    subtasks: Mapping[str, SubtaskRecord] = field(default_factory=lambda: MappingProxyType({}))
    replans: int = 0
    """How often the plan was changed."""
    removed: Mapping[str, SubtaskRecord] = field(default_factory=lambda: MappingProxyType({}))
    """What changes took out of the plan. No id is used twice: each has one place for its result."""
    usage: Usage = field(default_factory=Usage)
    cost: Cost = field(default_factory=Cost)
    paused_at_ms: int | None = None
    paused_ms: int = 0
    """How long it stood still in all pauses that are over."""
    control_version: int = 0
    """The version of the last pause or resume; 0 when there was none."""
    resumed_at_ms: int | None = None
    plan_waits_from_ms: int | None = None
    """Since when it waits for the approval of its plan, moved on by every pause."""
    is_plan_approved: bool = False
    rejected_by: str | None = None
    rejected_reason: str | None = None
    is_plan_rejected: bool = False
    end: TerminalTaskEvent | None = None
    is_deleted: bool = False
    """It was; nothing else is known of it, and its id is used up."""

    @property
    def goal(self) -> str:
        """What was asked for, also by a submission that was refused; empty when nobody can say."""
        if self.request is not None:
            return self.request.goal
        return (self.end.goal or "") if isinstance(self.end, TaskFailed) else ""

    @property
    def on_failure(self) -> OnFailure:
        """What a subtask without a result does to it."""
        asked = self.request.on_failure if self.request is not None else None
        return asked or OnFailure.FAIL

    @property
    def is_paused(self) -> bool:
        """Whether it stands still now."""
        return self.paused_at_ms is not None

    @property
    def is_plan_awaiting_approval(self) -> bool:
        """Whether a person must approve its plan before it goes on."""
        return self.plan_waits_from_ms is not None

    @property
    def planned(self) -> list[SubtaskRecord]:
        """The subtasks of the plan, in its order; without those that make the plan."""
        return [record for record in self.subtasks.values() if record.planned is not None]

    @property
    def live(self) -> list[SubtaskRecord]:
        """The subtasks that a worker has, or should have."""
        return [record for record in self.subtasks.values() if record.is_live]

    @property
    def state(self) -> TaskState:
        """Where the task is."""
        if self.end is not None:
            return {
                "task.completed": TaskState.COMPLETED,
                "task.failed": TaskState.FAILED,
                "task.cancelled": TaskState.CANCELLED,
            }[self.end.type]
        if self.is_paused:
            return TaskState.PAUSED
        if self.plan is None:
            return TaskState.PLANNING if self.subtasks else TaskState.ACCEPTED
        if self.is_plan_awaiting_approval:
            return TaskState.AWAITING_APPROVAL
        open_states = {one.state for one in self.planned if not one.state.is_terminal}
        if SubtaskState.AWAITING_APPROVAL in open_states and not open_states & {
            SubtaskState.DISPATCHED,
            SubtaskState.RUNNING,
            SubtaskState.RETRYING,
        }:
            return TaskState.AWAITING_APPROVAL
        return TaskState.RUNNING

    def to_status(self) -> TaskStatus:
        """As `api.task.get` and every control answer it."""
        completed = self.end if self.end is not None and self.end.type == "task.completed" else None
        failed = self.end if isinstance(self.end, TaskFailed) else None
        return TaskStatus(
            task_id=self.task_id,
            state=self.state,
            version=self.version,
            goal=self.goal,
            pattern=self.request.pattern if self.request else Pattern.AUTO,
            subtasks=[record.to_view() for record in self.subtasks.values()],
            output=completed.output if completed else None,
            output_ref=completed.output_ref if completed else None,
            lost=completed.lost if completed else [],
            cause=completed.cause if completed else None,
            usage=self.usage,
            cost=self.cost,
            accepted_at_ms=self.accepted_at_ms,
            updated_at_ms=self.updated_at_ms,
            error=failed.error if failed else None,
        )

    def to_summary(self) -> TaskSummary:
        """As `api.task.list` shows it."""
        planned = self.planned
        return TaskSummary(
            task_id=self.task_id,
            state=self.state,
            goal=self.goal[:_GOAL_SHOWN],
            version=self.version,
            subtasks=len(planned),
            subtasks_done=sum(one.state is SubtaskState.SUCCEEDED for one in planned),
            accepted_at_ms=self.accepted_at_ms,
            updated_at_ms=self.updated_at_ms,
        )
