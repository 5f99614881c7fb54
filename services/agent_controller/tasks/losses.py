"""What the loss of a subtask does to those that depend on it, as `on_failure` asks. Pure.

A subtask is lost when it will never have a result: it failed for good, was cancelled, or is gone
because the plan was changed. It is spared when a result was accepted that it was to make better.
"""

from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter

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
    """Why a subtask will never begin; None: it may."""
    if (judge := _accepting(view, record)) is not None and judge.planned is not None:
        return f"{judge.subtask_id!r} accepts {judge.planned.accepts!r} as it is"
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
    """How many of the results that a subtask depends on are enough for it to begin.

    More than there are, where one of them says that it need not be done.
    """
    if _accepting(view, record) is not None:
        return len(record.depends_on) + 1
    if record.planned is not None and record.planned.quorum is not None:
        return record.planned.quorum
    return needed_of(view, len(record.depends_on))


def _accepting(view: TaskView, record: SubtaskRecord) -> SubtaskRecord | None:
    """Of those that a subtask depends on, one that judged that it need not be done."""
    needs = (view.subtasks.get(one) for one in record.depends_on)
    return next((one for one in needs if one is not None and one.has_accepted), None)


def settled(view: TaskView) -> frozenset[str]:
    """The judgements that accepted a result, and what is not done because of them."""
    found = {one.subtask_id for one in view.planned if one.has_accepted}
    if not found:
        return frozenset()
    records = {one.subtask_id: one for one in view.planned}
    waits_for = {id_: one.depends_on for id_, one in records.items()}
    for id_ in TopologicalSorter(waits_for).static_order():
        if (record := records.get(id_)) is None:
            continue  # the plan has it no more
        left = sum(one not in found for one in record.depends_on)
        if left < needed(view, record):
            found.add(id_)
    return frozenset(found)


def sinks(view: TaskView) -> list[SubtaskRecord]:
    """The subtasks whose results are the task's: no other depends on them, or ever did.

    An accepted result is among them where only its judgement and what is settled depend on it.
    """
    left_out = settled(view)
    of_the_plan = [one for one in view.planned if one.subtask_id not in left_out]
    needed = _needs_of(of_the_plan)
    if left_out:
        settled_ones = [*view.those(left_out)]
        accepted = {one.planned.accepts for one in settled_ones if one.planned and one.has_accepted}
        needed |= _needs_of(settled_ones) - accepted
    last = [record for record in of_the_plan if record.subtask_id not in needed]
    once = _needs_of(view.removed.values())
    return [record for record in last if record.subtask_id not in once] or last


def _needs_of(records: Iterable[SubtaskRecord]) -> set[str]:
    return {dependency for record in records for dependency in record.depends_on}


def best_so_far(view: TaskView) -> list[SubtaskRecord]:
    """The results that went into no other result, where judgements are none."""
    results = [one for one in _succeeded(view) if one.planned and one.planned.accepts is None]
    used = _needs_of(results)
    return [record for record in results if record.subtask_id not in used]


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
