"""A task as its log tells it: a frozen value, made by `fold` only.

It is msgspec's and no dataclass, because every event of a log makes a new one of it, with a
field or two changed: that takes a tenth of the time.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Literal

from msgspec import Struct, field

from agent_controller.tasks.progress import Progress, Standing
from agent_controller.tasks.records import Records, SubtaskRecord
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.task_events import TaskFailed, TerminalTaskEvent
from atlas.contracts.tasks import (
    MOST_REPLANS,
    OnFailure,
    Pattern,
    PlannedSubtask,
    SubtaskState,
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
    subtasks: Records = field(default_factory=Records)
    standing: Standing = field(default_factory=Standing)
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
    def progress(self) -> Progress:
        """Where its subtasks stand: what decisions look for among them."""
        return self.standing.progress

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
        queued, running = self.progress.ids("queued"), self.progress.ids("running")
        return [*self.those(self.progress.in_order([*queued, *running]))]

    def those(self, ids: Iterable[str]) -> Iterator[SubtaskRecord]:
        """The subtasks of these ids, one after the other."""
        return map(self.subtasks.__getitem__, ids)

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
        if self.progress.count("awaiting") and not self.progress.count("busy"):
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
