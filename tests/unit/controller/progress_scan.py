"""What a task's progress must say, by a look at every subtask: slow, and plain to see."""

from collections.abc import Callable
from graphlib import TopologicalSorter
from typing import Any

from agent_controller.tasks import losses
from agent_controller.tasks.progress import Layout, Progress
from agent_controller.tasks.view import TaskView
from atlas.contracts.tasks import Approval, OnFailure, SubtaskState

WAITING = (SubtaskState.WAITING, SubtaskState.AWAITING_APPROVAL)
LOST = (SubtaskState.FAILED, SubtaskState.CANCELLED)


def check_progress(view: TaskView) -> None:
    """Every row that decisions look at is what a scan of the records finds, in the same order."""
    progress, asks = view.progress, must_be_asked(view)

    def scanned(found: Callable[[Any], bool], *, by_path: bool = False) -> list[str]:
        records = [one for one in view.subtasks.values() if found(one)]
        if by_path:
            records.sort(key=lambda one: -one.path)
        return [one.subtask_id for one in records]

    def is_ready(one: Any) -> bool:
        return (
            one.planned is not None
            and one.state is SubtaskState.WAITING
            and not one.is_rejected
            and all(state_of(view, need) not in OPEN for need in one.depends_on)
            and losses.why_unreachable(view, one) is None
        )

    def is_stuck(one: Any) -> bool:
        if one.planned is None or one.state not in WAITING:
            return False
        return one.is_rejected or losses.why_unreachable(view, one) is not None

    rows: dict[Any, list[str]] = {
        "left": scanned(lambda one: one.planned and one.state in OPEN),
        "asking_left": scanned(lambda one: not one.planned and one.state in OPEN),
        "busy": scanned(
            lambda one: one.planned and (one.is_live or one.state is SubtaskState.RETRYING)
        ),
        "queued": scanned(lambda one: one.state is SubtaskState.DISPATCHED),
        "running": scanned(lambda one: one.state is SubtaskState.RUNNING),
        "unscheduled": scanned(
            lambda one: one.state is SubtaskState.RETRYING and one.not_before_ms is None
        ),
        "awaiting": scanned(lambda one: one.state is SubtaskState.AWAITING_APPROVAL),
        "unreachable": scanned(is_stuck),
        "failed": scanned(lambda one: one.planned and one.state is SubtaskState.FAILED),
        "asking": scanned(lambda one: one.planned and one.replan is not None),
        "abandoned": scanned(lambda one: bool(one.abandoned)),
        "asks_first": scanned(
            lambda one: is_ready(one) and asks and not one.is_approved, by_path=True
        ),
        "ready": scanned(
            lambda one: is_ready(one) and not (asks and not one.is_approved), by_path=True
        ),
        "retrying": scanned(
            lambda one: one.state is SubtaskState.RETRYING and one.not_before_ms is not None,
            by_path=True,
        ),
    }
    assert {kind: progress.ids(kind) for kind in rows} == rows
    for kind in ("ready", "retrying", "queued"):
        lanes = {one: progress.ids(kind, None, one) for one in progress.lanes(kind)}
        by_name = {view.subtasks[id_].capability for id_ in rows[kind]}
        assert set(lanes) == by_name
        assert sorted(id_ for lane in lanes.values() for id_ in lane) == sorted(rows[kind])
    check_times(view)
    assert losses.is_doomed(view) == is_doomed(view)
    assert progress == from_scratch(view), "how it came to this makes no difference"


OPEN = tuple(one for one in SubtaskState if not one.is_terminal)


def must_be_asked(view: TaskView) -> bool:
    return view.request is not None and view.request.approval is Approval.SUBTASKS


def state_of(view: TaskView, subtask_id: str) -> SubtaskState | None:
    record = view.subtasks.get(subtask_id)
    return record.state if record else None


def check_times(view: TaskView) -> None:
    """What becomes due first, and what is due by then."""
    records: list[Any] = list(view.subtasks.values())
    live = [one for one in records if one.is_live]
    clocks = [one for one in live if one.clock_from_ms is not None]
    own = [one for one in clocks if one.planned and one.planned.timeout_ms]
    times: dict[Any, list[Any]] = {
        "queued": [(one.unheard_from_ms, one) for one in live if one.state == "dispatched"],
        "running": [(one.unheard_from_ms, one) for one in live if one.state == "running"],
        "due": [(one.clock_from_ms + one.planned.timeout_ms, one) for one in own],
        "clock": [(one.clock_from_ms, one) for one in clocks if one not in own],
        "awaiting": [(one.waits_from_ms, one) for one in records if one.state in WAITING[1:]],
        "retrying": [
            (one.not_before_ms, one)
            for one in records
            if one.state is SubtaskState.RETRYING and one.not_before_ms is not None
        ],
    }
    for kind, found in times.items():
        assert view.progress.least(kind) == min((at_ms for at_ms, _ in found), default=None)
        for at_ms, _ in found:
            later = [other_ms for other_ms, _ in found if other_ms > at_ms]
            assert view.progress.least(kind, above=at_ms) == min(later, default=None)
            due = {one.subtask_id for other_ms, one in found if other_ms <= at_ms}
            assert set(view.progress.each(kind, at_ms)) == due


def is_doomed(view: TaskView) -> bool:
    """Whether the task can only fail: along the plan, from what needs nothing to what is last."""
    waits_for = {
        one.subtask_id: [id_ for id_ in one.depends_on if id_ in view.subtasks]
        for one in view.planned
    }
    good: set[str] = set()
    for id_ in TopologicalSorter(waits_for).static_order():
        record = view.subtasks[id_]
        if record.state in LOST or record.is_rejected:
            continue
        there = sum(one in good for one in record.depends_on)
        if record.attempt or there >= losses.needed(view, record):
            good.add(id_)
    if view.on_failure is OnFailure.BEST_SO_FAR:
        return not good
    last = losses.sinks(view)
    done = sum(one.subtask_id in good for one in last)
    return not last or done < losses.needed_of(view, len(last))


def from_scratch(view: TaskView) -> Progress:
    if not view.subtasks:
        return Progress()
    layout = Layout.of(
        view.subtasks,
        needed=lambda one: losses.needed(view, one),
        last=[one.subtask_id for one in losses.sinks(view)],
        asks_first=must_be_asked(view),
    )
    return Progress.of(layout, view.subtasks)
