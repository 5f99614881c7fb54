"""How long a task may be open. Pure.

JetStream keeps each entry of a log for `topology.task_days`. A task that were open for longer would
lose the beginning of its log, with the request, and nobody could carry it on. So it ends before,
with an error that says so; and where all controllers were away for too long, its end is all that
can be told of it.
"""

from collections.abc import Iterator

from agent_controller.tasks import ending
from agent_controller.tasks.limits import DAY_MS, Limits
from agent_controller.tasks.plan import Problem
from agent_controller.tasks.view import TaskView
from atlas.contracts.errors import AtlasError, RequestTimeoutError
from atlas.contracts.task_events import TaskEvent, TaskFailed
from atlas.contracts.tasks import TaskRequest

_HOW_LONG = "nine tenths of topology.task_days, because its log is kept no longer than that"


def must_end_at_ms(view: TaskView, limits: Limits) -> int:
    """When it has been open for as long as a task may; pauses count, its log expires in them."""
    return view.accepted_at_ms + limits.max_open_ms


def outlived(view: TaskView, now_ms: int, limits: Limits) -> AtlasError | None:
    """Why it must end now, or None."""
    if now_ms < must_end_at_ms(view, limits):
        return None
    return RequestTimeoutError(
        f"the task was open for {_days(limits.max_open_ms)}, the longest that a task may be "
        f"({_HOW_LONG}); submit it again, and raise topology.task_days where tasks take so long"
    )


def forgotten(view: TaskView, now_ms: int) -> TaskFailed:
    """The end of a task whose log expired, at least its beginning, before the task had ended."""
    error = RequestTimeoutError(
        "the task was open for longer than its log is kept (topology.task_days), and no controller "
        "ran to end it before; what was asked is not known any more; submit it again"
    )
    return ending.failed(view, now_ms, error.to_info())


def end_forgotten(view: TaskView, now_ms: int) -> list[TaskEvent]:
    """The end of a task of which nothing is left but its place in the index of open tasks."""
    return [] if view.version or view.is_deleted else [forgotten(view, now_ms)]


def problems(request: TaskRequest, now_ms: int, limits: Limits) -> Iterator[Problem]:
    """What a request asks for that no task can wait for."""
    longest = f"a task may be open for {_days(limits.max_open_ms)} ({_HOW_LONG})"
    if request.deadline_ms is not None and request.deadline_ms > now_ms + limits.max_open_ms:
        left = _days(request.deadline_ms - now_ms)
        yield Problem("deadline_ms", f"it is {left} from now, and {longest}; give an earlier time")
    lasts_ms = request.approval_expires_ms
    if lasts_ms is not None and lasts_ms > limits.max_open_ms:
        yield Problem(
            "approval_expires_ms", f"it is {_days(lasts_ms)}, and {longest}; give a shorter time"
        )


def _days(ms: int) -> str:
    return f"{ms / DAY_MS:.3g} days"
