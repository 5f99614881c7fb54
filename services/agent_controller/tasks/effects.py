"""What must be true outside the log, given the log: work is with the workers, streams obey.

Pure and level-triggered. Each effect has a key: whoever carried out an effect of that key need not
do it again, and whoever does not know may, because each of them is harmless when repeated.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from agent_controller.tasks import approvals, budget, lifetime, losses
from agent_controller.tasks.decide import Planner
from agent_controller.tasks.ending import value
from agent_controller.tasks.limits import Limits
from agent_controller.tasks.records import SubtaskRecord
from agent_controller.tasks.view import TaskView
from atlas.contracts.base import JsonObject
from atlas.contracts.streams import ControlAction
from atlas.contracts.tasks import PlannedSubtask, Priority, SubtaskState
from atlas.contracts.work import Subtask


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
    found: list[Effect] = [*_cancelled_streams(view, done)]
    if view.end is None and view.is_paused:
        found.extend(_controlled(view, ControlAction.PAUSE, "the task is paused", done))
    elif view.end is None and view.control_version:
        found.extend(_controlled(view, ControlAction.RESUME, "the task was resumed", done))
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
    queued = view.progress.ids("queued")
    silent = view.progress.ids("running", now_ms - limits.silence_ms)
    for record in view.those(view.progress.in_order([*queued, *silent])):
        since_ms, number = _sending(record, now_ms, limits)
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
        progress = view.progress
        due.append(progress.least("retrying", above=now_ms))
        due.append(progress.least("due"))
        if (clock_ms := progress.least("clock")) is not None:
            due.append(clock_ms + limits.subtask_timeout_ms)
        due.append(_next_sending_ms(view, "queued", limits.dispatch_timeout_ms, now_ms))
        due.append(_next_sending_ms(view, "running", limits.silence_ms, now_ms))
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


def _sending(record: SubtaskRecord, now_ms: int, limits: Limits) -> tuple[int, int]:
    """Which sending of this attempt is due: since when nothing was heard, and which.

    The waits double, so that a long queue is not filled with copies. The number stands in the
    message id, because the server drops a repeat of the same id for two minutes.
    """
    since_ms = record.unheard_from_ms
    is_running = record.state is SubtaskState.RUNNING
    patience_ms = limits.silence_ms if is_running else limits.dispatch_timeout_ms
    return since_ms, max(0, (now_ms - since_ms) // patience_ms).bit_length()


def _next_sending_ms(
    view: TaskView, kind: Literal["queued", "running"], patience_ms: int, now_ms: int
) -> int | None:
    """When the next of them is to be sent again: the first time, or once more."""
    first_ms = view.progress.least(kind, above=now_ms - patience_ms)
    due = [] if first_ms is None else [first_ms + patience_ms]
    due += [
        since_ms + (patience_ms << ((now_ms - since_ms) // patience_ms).bit_length())
        for since_ms in view.progress.numbers(kind, now_ms - patience_ms)
    ]
    return min(due, default=None)


def _controlled(
    view: TaskView, action: ControlAction, reason: str, done: Collection[str]
) -> Iterator[ControlStream]:
    """Live streams that have not been told of the last pause or resume."""
    for record in view.live:
        is_later = action is ControlAction.RESUME and (record.dispatched_at_ms or 0) > (
            view.resumed_at_ms or 0
        )
        if record.stream_id is None or is_later:
            continue
        # A start after the pause counts anew: its stream may not have heard of it.
        key = f"{action}:{record.stream_id}:{view.control_version}:{record.state}"
        if key not in done:
            yield ControlStream(key, record.stream_id, action, reason)


def _cancelled_streams(view: TaskView, done: Collection[str]) -> Iterator[ControlStream]:
    """Those that nobody waits for: put together when they are to be told, as a task has many."""
    left = view.those(view.progress.each("abandoned"))
    for record in (*left, *view.removed.values()):
        for stream_id in record.abandoned:
            if (key := f"cancel:{stream_id}") in done:
                continue
            yield ControlStream(
                key,
                stream_id,
                ControlAction.CANCEL,
                f"subtask {record.subtask_id!r} of task {view.task_id!r} is {record.state}",
            )
