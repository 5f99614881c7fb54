"""When the plan of a task must change, and what makes a change a good one. Pure.

A change is a difference: subtasks that are removed, and others that are added. Finished work stays
as it is; what is done differently is removed and added under another id, because each id has one
place for its result.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent_controller.tasks import losses
from agent_controller.tasks.plan import Problem
from agent_controller.tasks.progress import LOST
from agent_controller.tasks.view import TaskView
from atlas.contracts.tasks import Pattern, PlannedSubtask, SubtaskState
from atlas.spelling import nearest

_BY_DEFAULT = 1
"""How often the plan is changed that a model made, where nobody says it."""


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a plan, and why."""

    added: tuple[PlannedSubtask, ...]
    removed: tuple[str, ...]
    reason: str


def allowed(view: TaskView) -> int:
    """How often the plan of a task may be changed."""
    request = view.request
    if request is None:
        return 0
    if request.max_replans is not None:
        return request.max_replans
    is_models = view.planner == "model" and request.pattern == Pattern.AUTO
    return _BY_DEFAULT if is_models else 0


def causes(view: TaskView) -> list[str]:
    """The subtasks because of which the plan must change now; none while it need not, or may not.

    Those that failed for good, where the task could only fail because of them, and those whose
    results ask for it.
    """
    if view.replans >= allowed(view):
        return []
    failed = view.progress.ids("failed") if losses.is_doomed(view) else []
    return [*failed, *view.progress.ids("asking")]


def removable(view: TaskView, removed: Sequence[str]) -> tuple[str, ...]:
    """Those that leave the plan: what has its result by now stays in it."""
    return tuple(
        id_
        for id_ in dict.fromkeys(removed)
        if id_ not in view.subtasks or view.subtasks[id_].state is not SubtaskState.SUCCEEDED
    )


def misnamed(before: TaskView, change: Change) -> Iterator[Problem]:
    """Where a change removes what is not there, or adds under an id that is or was."""
    planned = {one.subtask_id for one in before.planned}
    for index, id_ in enumerate(change.removed):
        if id_ not in planned:
            near = nearest(id_, planned)
            hint = f"; did you mean {near!r}?" if near else ""
            yield Problem(f"removed[{index}]", f"the plan has no subtask {id_!r}{hint}")
    for index, node in enumerate(change.added):
        if node.id in before.subtasks or node.id in before.removed:
            yield Problem(
                f"added[{index}].id", f"{node.id!r} is the id of an earlier subtask; choose another"
            )


def stranded(after: TaskView, change: Change) -> Iterator[Problem]:
    """What could not be carried out after a change, and what would keep the task from its end."""
    places = {node.id: f"added[{index}]" for index, node in enumerate(change.added)}
    is_told = False
    for record in after.planned:
        if record.attempt or record.state.is_terminal or record.is_rejected:
            continue
        if (reason := losses.why_unreachable(after, record)) is None:
            continue
        is_told = True
        id_ = record.subtask_id
        if id_ in places:
            yield Problem(f"{places[id_]}.depends_on", f"{reason}; leave it out")
        else:
            yield Problem(
                "removed",
                f"{id_!r} could not begin: {reason}; remove {id_!r} too, and add what it did under "
                "another id",
            )
    if not is_told and losses.is_doomed(after):
        yield Problem("removed", _doom(after))


def _doom(after: TaskView) -> str:
    lost = [one for one in after.planned if one.state in LOST]
    if not lost:
        return "nothing would be left to do; add the subtasks that reach the goal"
    named = ", ".join(f"{one.subtask_id!r} ({one.state})" for one in lost)
    return f"the task could still only fail because of {named}; remove them, and add what they did"
