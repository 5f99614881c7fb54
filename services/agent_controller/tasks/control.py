"""What a control does to a task: the events that it appends. Pure."""

from agent_controller.tasks.decide import numbered
from agent_controller.tasks.records import SubtaskRecord
from agent_controller.tasks.view import TaskView
from atlas.contracts.errors import InvalidRequestError, InvalidTransitionError, NotFoundError
from atlas.contracts.task_events import (
    SubtaskCancelled,
    TaskApprovalRejected,
    TaskApproved,
    TaskCancelled,
    TaskEvent,
    TaskPaused,
    TaskResumed,
)
from atlas.contracts.tasks import SubtaskState, TaskAction, TaskControl, TaskState


def apply_control(view: TaskView, control: TaskControl, now_ms: int) -> list[TaskEvent]:
    """The events to append; empty when the control only repeats what is already so.

    Raises:
        InvalidTransitionError: The task's state does not allow it; nothing is changed.
        InvalidRequestError: It makes no sense for a single subtask.
        NotFoundError: The task has no such subtask.
    """
    record = _subject(view, control)
    if view.state.is_terminal:
        if control.action is TaskAction.CANCEL and view.state is TaskState.CANCELLED:
            return []
        raise _refused(view, control, f"the task is {view.state}")
    match control.action:
        case TaskAction.PAUSE:
            return [] if view.is_paused else [_paused(view, control, now_ms)]
        case TaskAction.RESUME:
            return [_resumed(view, control, now_ms)] if view.is_paused else []
        case TaskAction.CANCEL:
            return _cancel(view, record, control, now_ms)
        case TaskAction.APPROVE | TaskAction.REJECT:
            return _answer(view, record, control, now_ms)


def _subject(view: TaskView, control: TaskControl) -> SubtaskRecord | None:
    if control.subtask_id is None:
        return None
    if control.action in (TaskAction.PAUSE, TaskAction.RESUME):
        raise InvalidRequestError(
            f"{control.action} reaches a whole task; leave subtask_id out, or control the "
            "stream of the subtask"
        )
    record = view.subtasks.get(control.subtask_id)
    if record is None:
        raise NotFoundError(f"task {view.task_id!r} has no subtask {control.subtask_id!r}")
    return record


def _refused(view: TaskView, control: TaskControl, state: str) -> InvalidTransitionError:
    return InvalidTransitionError(
        f"task {view.task_id!r}: cannot {control.action}, because {state}",
        details={"state": str(view.state)},
    )


def _paused(view: TaskView, control: TaskControl, now_ms: int) -> TaskPaused:
    return TaskPaused(
        task_id=view.task_id,
        version=view.version + 1,
        at_ms=now_ms,
        by=control.by,
        reason=control.reason,
    )


def _resumed(view: TaskView, control: TaskControl, now_ms: int) -> TaskResumed:
    return TaskResumed(
        task_id=view.task_id,
        version=view.version + 1,
        at_ms=now_ms,
        by=control.by,
        reason=control.reason,
    )


def _cancel(
    view: TaskView, record: SubtaskRecord | None, control: TaskControl, now_ms: int
) -> list[TaskEvent]:
    """One event ends the whole task, so that no crash can leave half of it cancelled."""
    if record is None:
        return [
            TaskCancelled(
                task_id=view.task_id,
                version=view.version + 1,
                at_ms=now_ms,
                by=control.by,
                reason=control.reason,
                usage=view.usage,
                cost=view.cost,
            )
        ]
    if record.state is SubtaskState.CANCELLED:
        return []
    if record.state.is_terminal:
        raise _refused(view, control, f"subtask {record.subtask_id!r} is {record.state}")
    return [
        SubtaskCancelled(
            task_id=view.task_id,
            version=view.version + 1,
            at_ms=now_ms,
            subtask_id=record.subtask_id,
            by=control.by,
            reason=control.reason,
        )
    ]


def _answer(
    view: TaskView, record: SubtaskRecord | None, control: TaskControl, now_ms: int
) -> list[TaskEvent]:
    """Approve or reject the plan, one subtask, or, unnamed, every subtask that waits for it."""
    approves = control.action is TaskAction.APPROVE
    if record is not None:
        if record.state is SubtaskState.AWAITING_APPROVAL:
            return [_verdict(view, record.subtask_id, control, now_ms)]
        if (record.is_approved and approves) or (record.is_rejected and not approves):
            return []
        raise _refused(view, control, f"subtask {record.subtask_id!r} is {record.state}")
    if view.is_plan_awaiting_approval:
        return [_verdict(view, None, control, now_ms)]
    waiting = view.progress.ids("awaiting")
    if waiting:
        return numbered(view, [_verdict(view, id_, control, now_ms) for id_ in waiting])
    if view.is_plan_approved and approves:
        return []
    raise _refused(view, control, "nothing awaits approval")


def _verdict(
    view: TaskView, subtask_id: str | None, control: TaskControl, now_ms: int
) -> TaskApproved | TaskApprovalRejected:
    kind = TaskApproved if control.action is TaskAction.APPROVE else TaskApprovalRejected
    return kind(
        task_id=view.task_id,
        version=view.version + 1,
        at_ms=now_ms,
        subtask_id=subtask_id,
        by=control.by,
        reason=control.reason,
    )
