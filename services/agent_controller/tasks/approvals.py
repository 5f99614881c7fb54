"""Approvals that nobody gives: when they expire, and what is taken for the answer. Pure."""

from collections.abc import Iterator

from agent_controller.tasks.view import TaskView
from atlas.contracts.task_events import TaskApprovalRejected, TaskApproved, TaskEvent
from atlas.contracts.tasks import OnApprovalExpired

_BY = "atlas"
"""Who answers where no person does."""


def expires_at_ms(view: TaskView, waits_from_ms: int | None) -> int | None:
    """When what waits since then is answered by itself; while the task is paused, never."""
    lasts_ms = view.request.approval_expires_ms if view.request is not None else None
    if lasts_ms is None or waits_from_ms is None or view.is_paused:
        return None
    return waits_from_ms + lasts_ms


def next_at_ms(view: TaskView) -> int | None:
    """When the first of them expires."""
    of_plan = expires_at_ms(view, view.plan_waits_from_ms)
    of_subtasks = expires_at_ms(view, view.progress.least("awaiting"))
    return min((one for one in (of_plan, of_subtasks) if one is not None), default=None)


def expired(view: TaskView, now_ms: int) -> Iterator[TaskEvent]:
    """The answers to what has waited for too long."""
    request = view.request
    if request is None or request.approval_expires_ms is None or view.is_paused:
        return
    of_plan = expires_at_ms(view, view.plan_waits_from_ms)
    late = [None] if of_plan is not None and of_plan <= now_ms else []
    is_yes = request.on_approval_expired is OnApprovalExpired.APPROVE
    kind = TaskApproved if is_yes else TaskApprovalRejected
    for subtask_id in (
        *late,
        *view.progress.each("awaiting", now_ms - request.approval_expires_ms),
    ):
        yield kind(
            task_id=view.task_id,
            version=1,
            at_ms=now_ms,
            subtask_id=subtask_id,
            by=_BY,
            reason=f"nobody answered within {request.approval_expires_ms} ms",
        )
