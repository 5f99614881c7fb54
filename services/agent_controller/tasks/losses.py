"""What the loss of a subtask does to those that depend on it, as `on_failure` asks. Pure.

A subtask is lost when it will never have a result: it failed for good, or was cancelled.
"""

from collections.abc import Iterator

from agent_controller.tasks.view import SubtaskRecord, TaskView
from atlas.contracts.tasks import OnFailure, SubtaskState

LOST = (SubtaskState.FAILED, SubtaskState.CANCELLED)
"""The ends without a result."""


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
    if len(record.depends_on) - len(lost) >= _needed(view, record):
        return None
    if _needed(view, record) == len(record.depends_on):
        return f"it depends on {lost[0]!r}, which is {view.subtasks[lost[0]].state}"
    return (
        f"it needs {_needed(view, record)} of {len(record.depends_on)} results, and {len(lost)} "
        "will never come"
    )


def is_ready(view: TaskView, record: SubtaskRecord) -> bool:
    """Whether all that it depends on are at their end, and enough of them succeeded."""
    if not all(view.subtasks[one].state.is_terminal for one in record.depends_on):
        return False
    return len(record.depends_on) - len(lost_of(view, record)) >= _needed(view, record)


def lost_of(view: TaskView, record: SubtaskRecord) -> list[str]:
    """Those that it depends on and that are lost."""
    return [one for one in record.depends_on if view.subtasks[one].state in LOST]


def _needed(view: TaskView, record: SubtaskRecord) -> int:
    if record.planned is not None and record.planned.quorum is not None:
        return record.planned.quorum
    return needed_of(view, len(record.depends_on))


def sinks(view: TaskView) -> list[SubtaskRecord]:
    """The subtasks whose results are the task's: no other depends on them."""
    needed = {dependency for record in view.planned for dependency in record.depends_on}
    return [record for record in view.planned if record.subtask_id not in needed]


def best_so_far(view: TaskView) -> list[SubtaskRecord]:
    """The results that went into no other result."""
    used = {dependency for record in _succeeded(view) for dependency in record.depends_on}
    return [record for record in _succeeded(view) if record.subtask_id not in used]


def _succeeded(view: TaskView) -> Iterator[SubtaskRecord]:
    return (record for record in view.planned if record.state is SubtaskState.SUCCEEDED)
