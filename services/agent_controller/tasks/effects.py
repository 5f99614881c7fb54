"""What must be true outside the log, given the log: work is with the workers, streams obey.

Pure and level-triggered. Each effect has a key: whoever carried out an effect of that key need not
do it again, and whoever does not know may, because each of them is harmless when repeated.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from agent_controller.tasks import approvals, budget, lifetime, losses, retry
from agent_controller.tasks.decide import Planner, timeout_at_ms
from agent_controller.tasks.ending import value
from agent_controller.tasks.limits import Limits
from agent_controller.tasks.view import SubtaskRecord, TaskView
from atlas.contracts.base import JsonObject
from atlas.contracts.streams import ControlAction
from atlas.contracts.tasks import PlannedSubtask, Priority, Subtask, SubtaskState


@dataclass(frozen=True, slots=True)
class SendWork:
    """Put a subtask into the work queue; `key` is its `Nats-Msg-Id`."""

    key: str
    subtask: Subtask
    priority: Priority
    resend: int
    """0: the first time; above: nobody started it, or the one who did fell silent."""


@dataclass(frozen=True, slots=True)
class ControlStream:
    """Pause, resume or cancel a stream that a subtask runs on."""

    key: str
    stream_id: str
    action: ControlAction
    reason: str


@dataclass(frozen=True, slots=True)
class CloseTask:
    """Take the task out of the index of open tasks; after everything else."""

    key: str


type Effect = SendWork | ControlStream | CloseTask


def effects(
    view: TaskView,
    now_ms: int,
    limits: Limits,
    planner: Planner,
    done: Collection[str] = frozenset(),
) -> list[Effect]:
    """Everything that must be true now, but for what is `done` already."""
    told = list(_cancelled_streams(view))
    if view.end is None and view.is_paused:
        told.extend(_controlled(view, ControlAction.PAUSE, "the task is paused"))
    elif view.end is None and view.control_version:
        told.extend(_controlled(view, ControlAction.RESUME, "the task was resumed"))
    found: list[Effect] = [one for one in told if one.key not in done]
    if view.end is not None:
        found.append(CloseTask("close"))
    elif not view.is_paused:
        found.extend(_work_to_send(view, now_ms, limits, planner, done))
    return found


def _work_to_send(
    view: TaskView, now_ms: int, limits: Limits, planner: Planner, done: Collection[str]
) -> Iterator[SendWork]:
    """Work is put together only when it is to be sent: a fan-out has thousands of live subtasks."""
    priority = view.request.priority if view.request else Priority.NORMAL
    for record in view.live:
        times = _sending(record, now_ms, limits)
        if times is None:
            continue
        since_ms, number = times
        key = f"{view.tenant}:{view.task_id}:{record.subtask_id}:{record.attempt}"
        if number:
            key = f"{key}:{since_ms}-{number}"
        if key not in done:
            yield SendWork(key, subtask_of(view, record, now_ms, planner), priority, number)


def wake_at_ms(view: TaskView, now_ms: int, limits: Limits) -> int | None:
    """When something becomes due that no message will tell; None when nothing does.

    `now_ms` is when was decided last: a retry that was due then waits for room, not for a time.
    """
    if view.end is not None or view.request is None:
        return None
    due = [
        view.request.deadline_ms,
        budget.time_is_up_at_ms(view),
        lifetime.must_end_at_ms(view, limits),
        approvals.next_at_ms(view),
    ]
    if not view.is_paused:
        for record in view.subtasks.values():
            if record.state is SubtaskState.RETRYING:
                due.append(None if retry.is_due(record, now_ms) else record.not_before_ms)
            elif record.is_live:
                due.append(timeout_at_ms(record, limits))
                due.append(_next_sending_ms(record, now_ms, limits))
    return min((at_ms for at_ms in due if at_ms is not None), default=None)


def subtask_of(view: TaskView, record: SubtaskRecord, now_ms: int, planner: Planner) -> Subtask:
    """What a worker gets for the current attempt."""
    assert view.request is not None  # noqa: S101 - nothing is dispatched before acceptance
    node = record.planned or planner.assignment(view, record.subtask_id)
    inputs: JsonObject = {}
    if material := _material(view.request.inputs or {}, node):
        inputs["task"] = material
    missing = losses.lost_of(view, record)
    for dependency in record.depends_on:
        if dependency not in missing:
            inputs[dependency] = value(view.subtasks[dependency])
    return Subtask(
        task_id=view.task_id,
        subtask_id=record.subtask_id,
        attempt=record.attempt,
        capability=record.capability,
        instruction=node.instruction + _missing(missing),
        goal=view.request.goal,
        inputs=inputs,
        output_schema=node.output_schema,
        requirements=node.requirements,
        tools=node.tools,
        budget=budget.share(view, now_ms),
        task_budget=view.request.budget,
        deadline_ms=view.request.deadline_ms,
        stream_id=record.stream_id or "",
        idempotency_key=f"{view.task_id}:{record.subtask_id}:{record.attempt}",
    )


def _missing(ids: Collection[str]) -> str:
    """What a worker is told of results that will never come."""
    if not ids:
        return ""
    return (
        f"\n\nThere is no result of {', '.join(ids)}: that work failed or was stopped. Go on "
        "without it, and say what is missing because of it."
    )


def _material(of_task: JsonObject, node: PlannedSubtask) -> JsonObject:
    """What a subtask gets beside the results that it depends on."""
    names = of_task if node.task_inputs is None else node.task_inputs
    return {name: of_task[name] for name in names if name in of_task} | (node.inputs or {})


def _sending(record: SubtaskRecord, now_ms: int, limits: Limits) -> tuple[int, int] | None:
    """Which sending of this attempt is due: since when and which; None: a worker is at it.

    The waits double, so that a long queue is not filled with copies. The number stands in the
    message id, because the server drops a repeat of the same id for two minutes.
    """
    since_ms, patience_ms, is_started = _waiting(record, limits)
    times = max(0, (now_ms - since_ms) // patience_ms).bit_length()
    if is_started and not times:
        return None
    return since_ms, times


def _next_sending_ms(record: SubtaskRecord, now_ms: int, limits: Limits) -> int:
    since_ms, patience_ms, _ = _waiting(record, limits)
    times = max(0, (now_ms - since_ms) // patience_ms).bit_length()
    return since_ms + (patience_ms << times)


def _waiting(record: SubtaskRecord, limits: Limits) -> tuple[int, int, bool]:
    """Since when nothing was heard, how long that is borne, and whether a worker has started."""
    if record.state is SubtaskState.RUNNING:
        return record.last_heard_ms or record.started_at_ms or 0, limits.silence_ms, True
    since_ms = record.last_heard_ms or record.dispatched_at_ms or 0
    return since_ms, limits.dispatch_timeout_ms, False


def _controlled(view: TaskView, action: ControlAction, reason: str) -> Iterator[ControlStream]:
    """Live streams that have not been told of the last pause or resume."""
    for record in view.live:
        is_later = action is ControlAction.RESUME and (record.dispatched_at_ms or 0) > (
            view.resumed_at_ms or 0
        )
        if record.stream_id is None or is_later:
            continue
        # A start after the pause counts anew: its stream may not have heard of it.
        key = f"{action}:{record.stream_id}:{view.control_version}:{record.state}"
        yield ControlStream(key, record.stream_id, action, reason)


def _cancelled_streams(view: TaskView) -> Iterator[ControlStream]:
    for record in (*view.subtasks.values(), *view.removed.values()):
        for stream_id in record.abandoned:
            yield ControlStream(
                f"cancel:{stream_id}",
                stream_id,
                ControlAction.CANCEL,
                f"subtask {record.subtask_id!r} of task {view.task_id!r} is {record.state}",
            )
