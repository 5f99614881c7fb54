"""How a task ends: with an answer, with what there is of one, or without. Pure."""

from collections.abc import Sequence

from agent_controller.tasks import losses
from agent_controller.tasks.records import SubtaskRecord
from agent_controller.tasks.view import TaskView
from atlas.contracts.errors import ErrorInfo, TaskFailedError
from atlas.contracts.task_events import TaskCancelled, TaskCompleted, TaskFailed
from atlas.contracts.tasks import OnFailure, SubtaskState


def conclusion(view: TaskView, now_ms: int, kept: str | None = None) -> TaskCompleted | TaskFailed:
    """The end of a task whose subtasks are all at theirs; `kept`: why its plan did not change."""
    sinks = losses.sinks(view)
    done = [one for one in sinks if one.state is SubtaskState.SUCCEEDED]
    lost = _unfinished(view)
    cause = _cause(lost) if lost else None
    if len(done) < len(sinks) and view.on_failure is OnFailure.BEST_SO_FAR:
        done = losses.best_so_far(view)
    if cause is not None and len(done) < losses.needed_of(view, len(sinks)):
        why = f"{cause.message}; the plan could not be changed: {kept}" if kept else cause.message
        return failed(view, now_ms, cause.model_copy(update={"message": why}))
    return _completed(view, now_ms, done, cause)


def out_of_budget(view: TaskView, now_ms: int, error: ErrorInfo) -> TaskCompleted | TaskFailed:
    """The end of a task that may not go on: with the best so far, where that was asked."""
    done = losses.best_so_far(view) if view.on_failure is OnFailure.BEST_SO_FAR else []
    return _completed(view, now_ms, done, error) if done else failed(view, now_ms, error)


def _completed(
    view: TaskView, now_ms: int, done: Sequence[SubtaskRecord], cause: ErrorInfo | None
) -> TaskCompleted:
    """Where a single result was to be the answer and is there, it stands by itself."""
    sinks = losses.sinks(view)
    is_whole = len(sinks) == 1 and sinks[0].state is SubtaskState.SUCCEEDED
    return TaskCompleted(
        task_id=view.task_id,
        version=view.version + 1,
        at_ms=now_ms,
        output=sinks[0].output if is_whole else {one.subtask_id: value(one) for one in done},
        output_ref=sinks[0].output_ref if is_whole else None,
        lost=[one.subtask_id for one in _unfinished(view)],
        spared=_spared(view),
        # `lost` and the log say which; here it would stand twice in one message.
        cause=cause.model_copy(update={"details": None}) if cause is not None else None,
        usage=view.usage,
        cost=view.cost,
    )


def failed(view: TaskView, now_ms: int, error: ErrorInfo) -> TaskFailed:
    """The end without an answer; what finished subtasks made is kept."""
    return TaskFailed(
        task_id=view.task_id,
        version=view.version + 1,
        at_ms=now_ms,
        error=error,
        outputs={
            one.subtask_id: value(one)
            for one in view.planned
            if one.state is SubtaskState.SUCCEEDED
        },
        usage=view.usage,
        cost=view.cost,
    )


def rejected(view: TaskView, now_ms: int) -> TaskCancelled:
    """The end of a task whose plan a person rejected."""
    return TaskCancelled(
        task_id=view.task_id,
        version=view.version + 1,
        at_ms=now_ms,
        by=view.rejected_by,
        reason=view.rejected_reason or "the plan was rejected",
        usage=view.usage,
        cost=view.cost,
    )


_MOST_NAMED = 20
"""Lost subtasks that an error names; the others it counts, and the log names them all."""


def value(record: SubtaskRecord) -> object:
    """A result as it is handed on: itself, or `{output_ref}` when it is large."""
    return {"output_ref": record.output_ref} if record.output_ref is not None else record.output


def _unfinished(view: TaskView) -> list[SubtaskRecord]:
    settled = losses.settled(view)
    return [
        one
        for one in view.planned
        if one.state is not SubtaskState.SUCCEEDED and one.subtask_id not in settled
    ]


def _spared(view: TaskView) -> list[str]:
    """What need not be done, because a result was accepted."""
    settled = view.those(losses.settled(view))
    ids = [one.subtask_id for one in settled if one.state is not SubtaskState.SUCCEEDED]
    return view.progress.in_order(ids)


def _cause(lost: list[SubtaskRecord]) -> ErrorInfo:
    """Why results are missing: the first failure, or the first subtask that somebody stopped."""
    failures = [(one, one.error) for one in lost if one.error and one.state is SubtaskState.FAILED]
    if not failures:
        stopped = ", ".join(one.subtask_id for one in lost[:_MOST_NAMED])
        more = f" (and {len(lost) - _MOST_NAMED} more)" if len(lost) > _MOST_NAMED else ""
        return TaskFailedError(f"cancelled: {stopped}{more}").to_info()
    others = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    first, cause = failures[0]
    cancelled = [one for one in lost if one.state is SubtaskState.CANCELLED]
    return (
        TaskFailedError(
            f"subtask {first.subtask_id!r} failed after {first.attempt} attempts{others}: "
            f"{cause.message}",
            provider=cause.provider,
            http_status=cause.http_status,
            details={
                "failed": [one.subtask_id for one, _ in failures[:_MOST_NAMED]],
                "cancelled": [one.subtask_id for one in cancelled[:_MOST_NAMED]],
                "failed_more": max(0, len(failures) - _MOST_NAMED),
                "cancelled_more": max(0, len(cancelled) - _MOST_NAMED),
                "cause": cause.code,
            },
        )
        .to_info()
        .model_copy(update={"category": cause.category})
    )
