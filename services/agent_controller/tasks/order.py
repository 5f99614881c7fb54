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
from collections.abc import Callable, Sequence

from agent_controller.tasks.limits import Limits
from agent_controller.tasks.records import SubtaskRecord
from agent_controller.tasks.view import TaskView
from atlas.contracts.tasks import Approval, PlannedSubtask

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


def parallel(view: TaskView, limits: Limits) -> int:
    """How many subtasks of the task may be dispatched or running at a time."""
    asked = view.request.max_parallel if view.request is not None else None
    return min(asked or limits.task_parallel, limits.task_parallel)


def asks_first(view: TaskView, record: SubtaskRecord) -> bool:
    """Whether a person must approve a subtask of the plan before it begins."""
    if record.planned is None:
        return False
    asks = view.request is not None and view.request.approval is Approval.SUBTASKS
    return asks and not record.is_approved


def next_up(
    view: TaskView,
    now_ms: int,
    limits: Limits,
    room: Room,
    asked: Sequence[SubtaskRecord] | None = None,
) -> list[SubtaskRecord]:
    """The subtasks that are dispatched now, the most urgent first.

    It looks no further than there is room, because it is asked after each result of a fan-out.

    Args:
        view: The task.
        now_ms: The time.
        limits: How much of it may be out.
        room: What there is beside other tasks.
        asked: While a plan or its change is asked for, those that ask: of all others only what was
            tried before goes on.
    """
    progress = view.progress
    free = parallel(view, limits) - progress.count("queued") - progress.count("running")
    if free <= 0:
        return []
    waiting = Counter({name: len(row) for name, row in progress.lanes("queued").items()})
    full = {one for one, count in waiting.items() if count >= limits.task_waiting}
    lines = [
        view.those(progress.each("retrying", now_ms, capability))
        for capability in progress.lanes("retrying")
        if capability not in full
    ]
    if asked is not None:
        lines.append(iter(asked))
    else:
        lines += [
            view.those(progress.each("ready", None, capability))
            for capability in progress.lanes("ready")
            if capability not in full
        ]
    chosen: list[SubtaskRecord] = []
    heads = [(_urgency(view, head), head, line) for line in lines if (head := next(line, None))]
    heapq.heapify(heads)
    while heads and len(chosen) < free:
        _, record, line = heapq.heappop(heads)
        capability = record.capability
        if capability not in full and not asks_first(view, record):
            if not room(capability):
                full.add(capability)
            else:
                chosen.append(record)
                waiting[capability] += 1
                if waiting[capability] >= limits.task_waiting:
                    full.add(capability)
        if capability not in full and (head := next(line, None)) is not None:
            heapq.heappush(heads, (_urgency(view, head), head, line))
    return chosen


def _urgency(view: TaskView, record: SubtaskRecord) -> tuple[int, bool, int]:
    return -record.path, record.attempt == 0, view.progress.rank(record.subtask_id)
