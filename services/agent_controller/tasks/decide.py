"""What happens next in a task: given its view and the time, the events to append.

Pure and level-triggered: it asks what the log lacks, never what was done before. Whoever folds the
same log decides the same; of two controllers that append, the server takes one. It is called again
after every append, until it returns nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from agent_controller.tasks import (
    approvals,
    budget,
    ending,
    lifetime,
    losses,
    order,
    replanning,
    retry,
)
from agent_controller.tasks.limits import Limits
from agent_controller.tasks.order import Room, room_for_all
from agent_controller.tasks.records import SubtaskRecord
from agent_controller.tasks.replanning import Change
from agent_controller.tasks.view import PLANNING, REPLANNING_IDS, TaskView
from atlas.contracts.errors import InvalidRequestError, RequestTimeoutError
from atlas.contracts.ids import derived_id
from atlas.contracts.task_events import (
    SubtaskCancelled,
    SubtaskDispatched,
    SubtaskFailed,
    SubtaskRetried,
    TaskAwaitingApproval,
    TaskEvent,
    TaskPlanned,
    TaskReplanned,
)
from atlas.contracts.tasks import Approval, PlannedSubtask

CONTROLLER = "controller"
"""Who cancels what cannot be reached any more, or is in the plan no more."""


@dataclass(frozen=True, slots=True)
class MakePlan:
    """The plan is there."""

    plan: tuple[PlannedSubtask, ...]
    planner: Literal["caller", "pattern", "model", "last_resort"]
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class AskModel:
    """A model must be asked, by the planning subtask of this id."""

    subtask_id: str


@dataclass(frozen=True, slots=True)
class KeepPlan:
    """No better plan came of it; the task goes on, or ends, with the one that it has."""

    reason: str


class Planner(Protocol):
    """How a goal becomes a plan. Implementations are pure."""

    def next_step(self, view: TaskView) -> MakePlan | AskModel | None:
        """What to do while there is no plan; None: wait for the planning subtask that runs.

        Raises:
            InvalidRequestError: There is no way to plan this task.
        """
        ...

    def next_change(self, view: TaskView) -> Change | AskModel | KeepPlan | None:
        """What to do where the plan must change; None: wait for the subtask that asks a model."""
        ...

    def assignment(self, view: TaskView, subtask_id: str) -> PlannedSubtask:
        """What a planning subtask has to do."""
        ...


def decide(
    view: TaskView,
    now_ms: int,
    limits: Limits,
    planner: Planner,
    room: Room = room_for_all,
) -> list[TaskEvent]:
    """The events to append now, in their order; empty when nothing is to be recorded."""
    if view.is_cut and view.end is None:
        return [lifetime.forgotten(view, now_ms)]
    if view.end is not None or view.request is None:
        return []
    if view.is_plan_rejected:
        return [ending.rejected(view, now_ms)]
    spent = budget.exceeded(view, now_ms) or lifetime.outlived(view, now_ms, limits)
    if spent is not None:
        return [ending.out_of_budget(view, now_ms, spent.to_info())]
    events = [
        *_overdue(view, now_ms, limits),
        *_retries(view, now_ms, limits),
        *approvals.expired(view, now_ms),
    ]
    if not events and view.plan is None:
        events = list(_planning(view, now_ms, limits, planner, room))
    elif not events:
        events = _onward(view, now_ms, limits, view.request.approval, planner, room)
    return numbered(view, events)


def _onward(  # noqa: PLR0917 - what decide was given
    view: TaskView,
    now_ms: int,
    limits: Limits,
    approval: Approval,
    planner: Planner,
    room: Room,
) -> list[TaskEvent]:
    """Along the plan: ask, change it, stop what cannot be reached, start what is ready, conclude.

    While a change of the plan is asked for, nothing new starts, and what runs goes on.
    """
    if approval is Approval.PLAN and not view.is_plan_approved:
        return [] if view.is_plan_awaiting_approval else [_awaiting(view, now_ms, None)]
    kept = None
    if replanning.causes(view):
        match planner.next_change(view):
            case KeepPlan(reason):
                kept = reason
            case Change() as change:
                return list(_changed(view, now_ms, change))
            case step if not view.is_paused:
                asked = [] if step is None else [SubtaskRecord(step.subtask_id, PLANNING)]
                going = order.next_up(view, now_ms, limits, room, asked)
                return [_dispatched(view, now_ms, one) for one in going]
            case _:
                return []
    events = [*_unreachable(view, now_ms)]
    if not view.is_paused:
        events.extend(_awaiting(view, now_ms, id_) for id_ in view.progress.each("asks_first"))
        going = order.next_up(view, now_ms, limits, room)
        events.extend(_dispatched(view, now_ms, one) for one in going)
    if not events and not view.progress.count("left"):
        events.append(ending.conclusion(view, now_ms, kept))
    return events


def _changed(view: TaskView, now_ms: int, change: Change) -> Iterator[TaskEvent]:
    """Another plan; what runs and is in it no more is stopped first, so that its worker hears."""
    for subtask_id in change.removed:
        record = view.subtasks[subtask_id]
        if record.attempt and not record.state.is_terminal:
            yield _stopped(view, now_ms, subtask_id, f"the plan changes: {change.reason}")
    yield TaskReplanned(
        task_id=view.task_id,
        version=1,
        at_ms=now_ms,
        added=list(change.added),
        removed=list(change.removed),
        reason=change.reason,
        because=list(_asking(view).because),
    )


def _asking(view: TaskView) -> SubtaskRecord:
    """The subtask whose answer is the change: the last that asked for one."""
    first, again = REPLANNING_IDS[view.replans]
    return view.subtasks.get(again) or view.subtasks[first]


def _stopped(view: TaskView, now_ms: int, subtask_id: str, reason: str) -> SubtaskCancelled:
    return SubtaskCancelled(
        task_id=view.task_id,
        version=1,
        at_ms=now_ms,
        subtask_id=subtask_id,
        by=CONTROLLER,
        reason=reason,
    )


def numbered(view: TaskView, drafts: list[TaskEvent]) -> list[TaskEvent]:
    """The events with the versions that follow the view's."""
    return [
        draft.model_copy(update={"version": view.version + place})
        for place, draft in enumerate(drafts, start=1)
    ]


def _overdue(view: TaskView, now_ms: int, limits: Limits) -> Iterator[TaskEvent]:
    """Attempts that ran longer than they may. While the task is paused, time stands still."""
    if view.is_paused:
        return
    late = view.progress.ids("clock", now_ms - limits.subtask_timeout_ms)
    late = view.progress.in_order([*late, *view.progress.ids("due", now_ms)])
    for record in view.those(late):
        error = RequestTimeoutError(
            f"subtask {record.subtask_id!r}, attempt {record.attempt}: no result from "
            f"{record.worker} within {timeout_ms(record, limits)} ms"
        ).to_info()
        yield SubtaskFailed(
            task_id=view.task_id,
            version=1,
            at_ms=now_ms,
            subtask_id=record.subtask_id,
            attempt=record.attempt,
            error=error,
            final=retry.is_final(record, record.attempt, error, limits),
        )


def timeout_ms(record: SubtaskRecord, limits: Limits) -> int:
    """How long one attempt may run."""
    planned = record.planned.timeout_ms if record.planned else None
    return planned or limits.subtask_timeout_ms


def _retries(view: TaskView, now_ms: int, limits: Limits) -> Iterator[TaskEvent]:
    for record in view.those(view.progress.each("unscheduled")):
        yield SubtaskRetried(
            task_id=view.task_id,
            version=1,
            at_ms=now_ms,
            subtask_id=record.subtask_id,
            attempt=record.attempt + 1,
            not_before_ms=retry.not_before_ms(view.task_id, record, limits),
            reason=record.error.message if record.error else "the attempt failed",
        )


def _dispatched(view: TaskView, now_ms: int, record: SubtaskRecord) -> SubtaskDispatched:
    attempt = record.attempt + 1
    return SubtaskDispatched(
        task_id=view.task_id,
        version=1,
        at_ms=now_ms,
        subtask_id=record.subtask_id,
        attempt=attempt,
        capability=record.capability,
        stream_id=derived_id(view.tenant, view.task_id, record.subtask_id, attempt),
    )


def _planning(
    view: TaskView, now_ms: int, limits: Limits, planner: Planner, room: Room
) -> Iterator[TaskEvent]:
    try:
        step = planner.next_step(view)
    except InvalidRequestError as error:
        yield ending.failed(view, now_ms, error.to_info())
        return
    match step:
        case MakePlan():
            yield TaskPlanned(
                task_id=view.task_id,
                version=1,
                at_ms=now_ms,
                plan=list(step.plan),
                planner=step.planner,
                reason=step.reason,
            )
            return
        case _ if view.is_paused:
            return
        case AskModel():
            asked = [SubtaskRecord(step.subtask_id, PLANNING)]
        case None:
            asked = []
    for record in order.next_up(view, now_ms, limits, room, asked):
        yield _dispatched(view, now_ms, record)


def _awaiting(view: TaskView, now_ms: int, subtask_id: str | None) -> TaskAwaitingApproval:
    return TaskAwaitingApproval(
        task_id=view.task_id,
        version=view.version + 1,
        at_ms=now_ms,
        subtask_id=subtask_id,
        expires_at_ms=approvals.expires_at_ms(view, now_ms),
    )


def _unreachable(view: TaskView, now_ms: int) -> Iterator[TaskEvent]:
    """Subtasks that a person rejected, or that wait for a result that will never come."""
    for record in view.those(view.progress.each("unreachable")):
        reason = (
            "its approval was rejected"
            if record.is_rejected
            else losses.why_unreachable(view, record)
        )
        if reason is not None:
            yield _stopped(view, now_ms, record.subtask_id, reason)
