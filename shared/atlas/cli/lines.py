"""An entry of a task's log as one plain line, for pipes and logs. Pure."""

from atlas.cli.figures import by_and_why, clock, duration, money, one_line, tokens
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.task_events import (
    SubtaskCancelled,
    SubtaskDispatched,
    SubtaskFailed,
    SubtaskRetried,
    SubtaskSpent,
    SubtaskStarted,
    SubtaskSucceeded,
    TaskAcceptedEvent,
    TaskApprovalRejected,
    TaskApproved,
    TaskAwaitingApproval,
    TaskCancelled,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskPaused,
    TaskPlanned,
    TaskReplanned,
    TaskResumed,
)
from atlas.contracts.tasks import PlannedSubtask

_WIDTH = 160


def line(event: TaskEvent, took_ms: int | None = None) -> str:
    """Such as `12:00:01 research started (worker host-123, stream 0199…)`.

    Args:
        event: The entry.
        took_ms: How long that took which it ends, for those that end something.
    """
    took = "" if took_ms is None else duration(took_ms / 1000)
    return f"{clock(event.at_ms)} {one_line(_said(event, took), _WIDTH)}"


def _said(event: TaskEvent, took: str) -> str:
    match event:
        case (
            SubtaskDispatched()
            | SubtaskStarted()
            | SubtaskSucceeded()
            | SubtaskFailed()
            | SubtaskRetried()
            | SubtaskCancelled()
            | SubtaskSpent()
        ):
            return f"{event.subtask_id} {_of_subtask(event, took)}"
        case TaskAwaitingApproval() | TaskApproved() | TaskApprovalRejected():
            return _of_approval(event)
        case _:
            return _of_task(event, took)


def _of_subtask(  # noqa: PLR0911 - one line for each type of event
    event: SubtaskDispatched
    | SubtaskStarted
    | SubtaskSucceeded
    | SubtaskFailed
    | SubtaskRetried
    | SubtaskCancelled
    | SubtaskSpent,
    took: str,
) -> str:
    match event:
        case SubtaskDispatched():
            warning = f": {event.warning}" if event.warning else ""
            return f"dispatched ({event.capability}, attempt {event.attempt}){warning}"
        case SubtaskStarted():
            stream = f", stream {event.stream_id}" if event.stream_id else ""
            return f"started (worker {event.worker}{stream})"
        case SubtaskSucceeded():
            return f"succeeded ({_spent(event.usage, event.cost, took)})"
        case SubtaskFailed():
            end = "for good" if event.final else f"in attempt {event.attempt}"
            return f"failed {end}{_after(took)}: {event.error.message}"
        case SubtaskRetried():
            return f"will be tried again, attempt {event.attempt}: {event.reason}"
        case SubtaskCancelled():
            return f"cancelled{by_and_why(event.by, event.reason)}"
        case SubtaskSpent():
            return f"attempt {event.attempt} had used {_spent(event.usage, event.cost, '')}"


def _of_approval(event: TaskAwaitingApproval | TaskApproved | TaskApprovalRejected) -> str:
    what = event.subtask_id or "the plan"
    match event:
        case TaskAwaitingApproval():
            only = f" --subtask {event.subtask_id}" if event.subtask_id else ""
            until = f" until {clock(event.expires_at_ms)}" if event.expires_at_ms else ""
            return f"{what} waits for approval{until}: atlas task approve {event.task_id}{only}"
        case TaskApproved():
            return f"{what} approved{by_and_why(event.by, event.reason)}"
        case TaskApprovalRejected():
            return f"{what} rejected{by_and_why(event.by, event.reason)}"


def _of_task(event: TaskEvent, took: str) -> str:  # noqa: PLR0911 - one line for each type of event
    match event:
        case TaskAcceptedEvent():
            return f"task {event.task_id} accepted: {event.request.goal}"
        case TaskPlanned():
            why = f" ({event.reason})" if event.reason else ""
            return f"planned by {event.planner}{why}: {_plan(event.plan)}"
        case TaskReplanned():
            removed = f", without {', '.join(event.removed)}" if event.removed else ""
            return f"replanned ({event.reason}): {_plan(event.added) or 'nothing new'}{removed}"
        case TaskPaused():
            return f"paused{by_and_why(event.by, event.reason)}"
        case TaskResumed():
            return f"resumed{by_and_why(event.by, event.reason)}"
        case TaskCompleted():
            lost = f" without {', '.join(event.lost)}" if event.lost else ""
            return f"completed{lost} ({_spent(event.usage, event.cost, took)})"
        case TaskFailed():
            return f"failed{_after(took)}: {event.error.message}"
        case TaskCancelled():
            return f"cancelled{_after(took)}{by_and_why(event.by, event.reason)}"
        case _:
            return event.type


def _plan(plan: list[PlannedSubtask]) -> str:
    return ", ".join(
        f"{one.id} after {'+'.join(one.depends_on)}" if one.depends_on else one.id for one in plan
    )


def _spent(usage: Usage, cost: Cost, took: str) -> str:
    return ", ".join(filter(None, [tokens(usage), money(cost), took]))


def _after(took: str) -> str:
    return f" after {took}" if took else ""
