"""What a worker's word does to a task: the events that it appends. Pure.

Reports and results are delivered at least once, late and out of order; each is taken at most once.
What comes of an attempt that nobody waits for any more counts for what it used.
"""

from collections.abc import Callable

from agent_controller.tasks import retry, schema
from agent_controller.tasks.limits import Limits
from agent_controller.tasks.records import SubtaskRecord
from agent_controller.tasks.view import TaskView
from atlas.contracts.errors import AtlasError, ErrorInfo, InvalidRequestError
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.task_events import (
    SubtaskFailed,
    SubtaskSpent,
    SubtaskStarted,
    SubtaskSucceeded,
    TaskEvent,
)
from atlas.contracts.tasks import SubtaskState
from atlas.contracts.work import SubtaskReport, SubtaskResult

type Intake = Callable[[TaskView, int], list[TaskEvent]]
"""From the view and the time to the events that something from outside appends."""

_LONGEST_ERROR_BYTES = 16 * 1024
_LONGEST_MESSAGE = 4_000
"""Characters. A worker's words go into its task's last event too, which must fit a message."""


def take_report(
    view: TaskView, report: SubtaskReport, now_ms: int, limits: Limits
) -> list[TaskEvent]:
    """The events for a report; empty when it is late, a repeat, or only tells progress."""
    record = _record(view, report.subtask_id)
    if view.end is not None or record is None:
        return []
    if record.attempt != report.attempt or not record.is_live:
        return _spent(view, record, report, now_ms) if report.type == "failed" else []
    match report.type:
        case "started":
            return _started(view, record, report, now_ms)
        case "failed":
            return [_failed(view, record, report, now_ms, limits)]
        case _:
            return []


def _record(view: TaskView, subtask_id: str) -> SubtaskRecord | None:
    """A subtask of the plan, or one that was taken out of it."""
    return view.subtasks.get(subtask_id) or view.removed.get(subtask_id)


def _spent(
    view: TaskView, record: SubtaskRecord, word: SubtaskReport | SubtaskResult, now_ms: int
) -> list[TaskEvent]:
    """The event for what an attempt had used that was given up, once for each attempt."""
    usage, cost = word.usage or Usage(), word.cost or Cost()
    is_free = not (usage.input_tokens or usage.output_tokens or cost.total_usd)
    if is_free or word.attempt in record.paid or word.attempt > record.attempt:
        return []
    return [
        SubtaskSpent(
            task_id=view.task_id,
            version=view.version + 1,
            at_ms=now_ms,
            subtask_id=record.subtask_id,
            attempt=word.attempt,
            worker=word.worker,
            usage=usage,
            cost=cost,
        )
    ]


def _started(
    view: TaskView, record: SubtaskRecord, report: SubtaskReport, now_ms: int
) -> list[TaskEvent]:
    if record.state is SubtaskState.RUNNING and record.worker == report.worker:
        return []
    return [
        SubtaskStarted(
            task_id=view.task_id,
            version=view.version + 1,
            at_ms=now_ms,
            subtask_id=record.subtask_id,
            attempt=record.attempt,
            worker=report.worker,
            stream_id=next(iter(report.stream_ids), None),
        )
    ]


def _failed(
    view: TaskView, record: SubtaskRecord, report: SubtaskReport, now_ms: int, limits: Limits
) -> SubtaskFailed:
    error = _shortened(
        report.error
        or AtlasError(
            f"worker {report.worker} reported a failure and no error; it must say why"
        ).to_info()
    )
    return SubtaskFailed(
        task_id=view.task_id,
        version=view.version + 1,
        at_ms=now_ms,
        subtask_id=record.subtask_id,
        attempt=record.attempt,
        worker=report.worker,
        error=error,
        final=retry.is_final(record, record.attempt, error, limits),
        usage=report.usage,
        cost=report.cost,
    )


def _shortened(error: ErrorInfo) -> ErrorInfo:
    if len(error.to_json()) <= _LONGEST_ERROR_BYTES:
        return error
    return error.model_copy(
        update={"message": f"{error.message[:_LONGEST_MESSAGE]}…", "details": None}
    )


def take_result(
    view: TaskView,
    result: SubtaskResult,
    now_ms: int,
    output_schema: dict[str, object] | None,
) -> list[TaskEvent]:
    """The events for a result: whichever attempt it names, the first one counts.

    An output that does not satisfy its schema fails the subtask for good: the place of its result
    is taken, so that no further attempt could be heard.
    """
    record = _record(view, result.subtask_id)
    if view.end is not None or record is None:
        return []
    if record.state.is_terminal:
        return _spent(view, record, result, now_ms)
    if not record.attempt:
        return []  # nobody asked for it; should it be dispatched, its resending finds this
    if result.attempt in record.paid:  # another worker told it, of the same stream
        result = result.model_copy(update={"usage": Usage(), "cost": Cost()})
    if (error := _mismatch(result, output_schema)) is not None:
        return [
            SubtaskFailed(
                task_id=view.task_id,
                version=view.version + 1,
                at_ms=now_ms,
                subtask_id=record.subtask_id,
                attempt=result.attempt,
                worker=result.worker,
                error=error,
                final=True,
                usage=result.usage,
                cost=result.cost,
            )
        ]
    return [
        SubtaskSucceeded(
            task_id=view.task_id,
            version=view.version + 1,
            at_ms=now_ms,
            subtask_id=record.subtask_id,
            attempt=result.attempt,
            worker=result.worker,
            output=result.output,
            output_ref=result.output_ref,
            replan=result.replan,
            usage=result.usage,
            cost=result.cost,
        )
    ]


def give_up(view: TaskView, subtask_id: str, error: ErrorInfo, now_ms: int) -> list[TaskEvent]:
    """The events for a subtask that can come to no result, whatever is tried."""
    record = view.subtasks.get(subtask_id)
    if view.end is not None or record is None or record.state.is_terminal or not record.attempt:
        return []
    return [
        SubtaskFailed(
            task_id=view.task_id,
            version=view.version + 1,
            at_ms=now_ms,
            subtask_id=subtask_id,
            attempt=record.attempt,
            error=_shortened(error),
            final=True,
        )
    ]


def _mismatch(result: SubtaskResult, output_schema: dict[str, object] | None) -> ErrorInfo | None:
    if output_schema is None or result.output_ref is not None:
        return None
    problems = schema.problems(result.output, output_schema)
    if not problems:
        return None
    return InvalidRequestError(
        f"the output of subtask {result.subtask_id!r} from worker {result.worker} does not "
        f"satisfy its output_schema: {'; '.join(problems)}"
    ).to_info()
