"""Approvals that nobody gives: when they expire, and what is taken for the answer. Pure."""

from collections.abc import Iterator

from agent_controller.tasks.view import TaskView
from atlas.contracts.task_events import TaskApprovalRejected, TaskApproved, TaskEvent
from atlas.contracts.tasks import OnApprovalExpired, SubtaskState

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
    waiting = [at_ms for _, at_ms in _waiting(view)]
    return min(waiting, default=None)


def expired(view: TaskView, now_ms: int) -> Iterator[TaskEvent]:
    """The answers to what has waited for too long."""
    request = view.request
    if request is None:
        return
    is_yes = request.on_approval_expired is OnApprovalExpired.APPROVE
    kind = TaskApproved if is_yes else TaskApprovalRejected
    for subtask_id, at_ms in _waiting(view):
        if at_ms <= now_ms:
            yield kind(
                task_id=view.task_id,
                version=1,
                at_ms=now_ms,
                subtask_id=subtask_id,
                by=_BY,
                reason=f"nobody answered within {request.approval_expires_ms} ms",
            )


def _waiting(view: TaskView) -> Iterator[tuple[str | None, int]]:
    """What waits for an answer that will expire, None being the plan, and when."""
    if view.request is None or view.request.approval_expires_ms is None:
        return  # a plan may have thousands of subtasks to look at
    if (at_ms := expires_at_ms(view, view.plan_waits_from_ms)) is not None:
        yield None, at_ms
    for record in view.planned:
        if record.state is not SubtaskState.AWAITING_APPROVAL:
            continue
        if (at_ms := expires_at_ms(view, record.waits_from_ms)) is not None:
            yield record.subtask_id, at_ms
