"""What the loss of a subtask does to those that depend on it, as `on_failure` asks. Pure.

A subtask is lost when it will never have a result: it failed for good, was cancelled, or is gone
because the plan was changed.
"""

from collections.abc import Iterator

from agent_controller.tasks.progress import LOST
from agent_controller.tasks.records import SubtaskRecord
from agent_controller.tasks.view import TaskView
from atlas.contracts.tasks import OnFailure, SubtaskState

_LOST = (*LOST, None)
"""The ends without a result; None: it is not in the plan any more."""


def needed_of(view: TaskView, count: int) -> int:
    """How many of `count` results are enough for this task."""
    match view.on_failure:
        case OnFailure.QUORUM if view.request is not None and view.request.quorum is not None:
            return min(view.request.quorum, count)
        case OnFailure.BEST_SO_FAR:
            return min(1, count)
        case _:
            return count


def why_unreachable(view: TaskView, record: SubtaskRecord) -> str | None:
    """Why a subtask can never begin; None: it can."""
    lost = lost_of(view, record)
    if len(record.depends_on) - len(lost) >= needed(view, record):
        return None
    if needed(view, record) == len(record.depends_on):
        return f"it depends on {lost[0]!r}, which is {_state(view, lost[0]) or 'removed'}"
    return (
        f"it needs {needed(view, record)} of {len(record.depends_on)} results, and {len(lost)} "
        "will never come"
    )


def lost_of(view: TaskView, record: SubtaskRecord) -> list[str]:
    """Those that it depends on and that are lost, or that the plan has no more."""
    return [one for one in record.depends_on if _state(view, one) in _LOST]


def _state(view: TaskView, subtask_id: str) -> SubtaskState | None:
    """Where a subtask is; None when the plan was changed and it is gone."""
    record = view.subtasks.get(subtask_id)
    return record.state if record is not None else None


def needed(view: TaskView, record: SubtaskRecord) -> int:
    """How many of the results that a subtask depends on are enough for it to begin."""
    if record.planned is not None and record.planned.quorum is not None:
        return record.planned.quorum
    return needed_of(view, len(record.depends_on))


def sinks(view: TaskView) -> list[SubtaskRecord]:
    """The subtasks whose results are the task's: no other depends on them, or ever did."""
    needed = {
        dependency
        for record in (*view.planned, *view.removed.values())
        for dependency in record.depends_on
    }
    last = [record for record in view.planned if record.subtask_id not in needed]
    return last or _needed_by_none(view)


def _needed_by_none(view: TaskView) -> list[SubtaskRecord]:
    needed = {dependency for record in view.planned for dependency in record.depends_on}
    return [record for record in view.planned if record.subtask_id not in needed]


def best_so_far(view: TaskView) -> list[SubtaskRecord]:
    """The results that went into no other result."""
    used = {dependency for record in _succeeded(view) for dependency in record.depends_on}
    return [record for record in _succeeded(view) if record.subtask_id not in used]


def is_doomed(view: TaskView) -> bool:
    """Whether the task can only fail, even if all that can still succeed does."""
    progress = view.progress
    if view.on_failure is OnFailure.BEST_SO_FAR:
        return progress.count("hopeless") == progress.count("planned")
    last = len(progress.layout.last)
    good = last - progress.count("hopeless_last")
    return not last or good < needed_of(view, last)


def _succeeded(view: TaskView) -> Iterator[SubtaskRecord]:
    return (record for record in view.planned if record.state is SubtaskState.SUCCEEDED)
