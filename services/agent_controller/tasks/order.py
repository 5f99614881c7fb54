"""Which of a task's ready subtasks go to the workers now, and in which order. Pure.

The longest remaining path goes first: what it leads to can begin no earlier than it ends, so that a
subtask with a long way behind it that waits makes the whole task wait. Of equally long paths a
subtask that was tried already goes first, then the plan's own order. Between tasks the queues
decide: one for each priority and capability, first in, first out.

A task never fills a queue with all that it has: only so much of it waits there as workers will soon
take, so that another task's work stands behind a bounded amount of it.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from agent_controller.tasks import losses, retry
from agent_controller.tasks.limits import Limits
from agent_controller.tasks.view import SubtaskRecord, TaskView
from atlas.contracts.tasks import Approval, PlannedSubtask, SubtaskState

type Room = Callable[[str], bool]
"""Whether there is room for one more subtask of a capability, beside those of other tasks. Whoever
gets a yes dispatches it."""


def room_for_all(_: str) -> bool:
    """There are no other tasks."""
    return True


def longest_paths(plan: Sequence[PlannedSubtask]) -> dict[str, int]:
    """How many subtasks stand in the longest chain from each one to an end of the plan."""
    missing = Counter(dependency for node in plan for dependency in node.depends_on)
    nodes = {node.id: node for node in plan}
    ends = [node.id for node in plan if not missing[node.id]]
    paths = dict.fromkeys(nodes, 1)
    while ends:  # each is looked at once, after all that depend on it
        id_ = ends.pop()
        for dependency in nodes[id_].depends_on:
            if dependency not in nodes:
                continue
            paths[dependency] = max(paths[dependency], paths[id_] + 1)
            missing[dependency] -= 1
            if not missing[dependency]:
                ends.append(dependency)
    return paths


def by_urgency(plan: Iterable[PlannedSubtask], paths: Mapping[str, int]) -> tuple[str, ...]:
    """The subtasks of a plan, those with the longest paths first, else in its order."""
    return tuple(sorted((node.id for node in plan), key=lambda id_: -paths[id_]))


def parallel(view: TaskView, limits: Limits) -> int:
    """How many subtasks of the task may be dispatched or running at a time."""
    asked = view.request.max_parallel if view.request is not None else None
    return min(asked or limits.task_parallel, limits.task_parallel)


def asks_first(view: TaskView, record: SubtaskRecord) -> bool:
    """Whether a person must approve a subtask before it begins."""
    asks = view.request is not None and view.request.approval is Approval.SUBTASKS
    return asks and not record.is_approved


def ready(view: TaskView) -> Iterator[SubtaskRecord]:
    """Every subtask that waits and has the results which it needs, the most urgent first."""
    for subtask_id in view.urgency:
        record = view.subtasks[subtask_id]
        if record.state is not SubtaskState.WAITING or record.is_rejected:
            continue
        if losses.is_ready(view, record):
            yield record


def next_up(
    view: TaskView,
    now_ms: int,
    limits: Limits,
    room: Room,
    more: Iterable[SubtaskRecord] = (),
) -> list[SubtaskRecord]:
    """The subtasks that are dispatched now, the most urgent first; `more` stand in no plan yet.

    It looks no further than there is room, because it is asked after each result of a fan-out.
    """
    live = view.live
    free = parallel(view, limits) - len(live)
    if free <= 0:
        return []
    waiting = Counter(one.capability for one in live if one.state is SubtaskState.DISPATCHED)
    full = {one for one, count in waiting.items() if count >= limits.task_waiting}
    if view.capabilities and full >= view.capabilities:
        return []
    again = [one for one in view.subtasks.values() if retry.is_due(one, now_ms)]
    chosen: list[SubtaskRecord] = []
    for record in heapq.merge(sorted(again, key=_urgency), ready(view), more, key=_urgency):
        capability = record.capability
        if capability in full or asks_first(view, record):
            continue
        if not room(capability):
            full.add(capability)
            continue
        chosen.append(record)
        waiting[capability] += 1
        if waiting[capability] >= limits.task_waiting:
            full.add(capability)
        if len(chosen) == free or full >= view.capabilities:
            break
    return chosen


def _urgency(record: SubtaskRecord) -> tuple[int, bool]:
    return -record.path, record.attempt == 0
