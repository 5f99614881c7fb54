"""What must be true of every task after a run of chaos, whatever it hit."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.task_plan import PlannedTask

TASK_ENDS = {"task.completed", "task.failed", "task.cancelled"}
SUBTASK_ENDS = {"subtask.succeeded", "subtask.cancelled"}
_SLACK_TOKENS = 64
"""Of each attempt: what a chunk that is on its way brings, and what an answer's start costs."""

type Entry = dict[str, Any]


@dataclass(slots=True)
class TaskOutcome:
    """What a run left."""

    logs: dict[str, list[Entry]] = field(default_factory=dict)
    followed: dict[str, list[int]] = field(default_factory=dict)
    """The versions that somebody saw who watched from the start to the end."""
    stream_ends: dict[str, list[str]] = field(default_factory=dict)
    """The terminal events of each stream that a task's log names."""
    happened: list[str] = field(default_factory=list)
    unended: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)
    """Messages that are still in the queues when every task has ended."""


def violations_of(task: PlannedTask, outcome: TaskOutcome) -> Iterator[str]:
    """What is not as promised: one log without a gap, one end, no result twice, the budget."""
    log = outcome.logs[task.task_id]
    versions = [entry["version"] for entry in log]
    if versions != list(range(1, len(log) + 1)):
        yield f"its versions are {versions}"
    types = Counter(entry["type"] for entry in log)
    if types["task.accepted"] != 1 or (log and log[0]["type"] != "task.accepted"):
        yield f"it was accepted {types['task.accepted']} times"
    ends = [entry["type"] for entry in log if entry["type"] in TASK_ENDS]
    if len(ends) != 1 or log[-1]["type"] not in TASK_ENDS:
        yield f"its ends are {ends}, and its last entry is {log[-1]['type'] if log else 'none'}"
        return
    if ends[0] not in task.may_end:
        yield f"it ended with {ends[0]}: {log[-1].get('error') or log[-1].get('reason')}"
    if outcome.followed.get(task.task_id) not in (None, versions):
        yield f"its follower saw {outcome.followed[task.task_id]} of {len(versions)}"
    yield from _of_subtasks(log, ends[0])
    yield from _of_the_budget(task, log)
    for entry in log:
        stream_id = entry.get("stream_id")
        if stream_id and len(outcome.stream_ends.get(stream_id, [])) > 1:
            yield f"stream {stream_id} has the ends {outcome.stream_ends[stream_id]}"


def _of_subtasks(log: Sequence[Entry], end: str) -> Iterator[str]:
    applied = Counter(entry["subtask_id"] for entry in log if entry["type"] == "subtask.succeeded")
    twice = [subtask_id for subtask_id, count in applied.items() if count > 1]
    if twice:
        yield f"results were applied twice: {twice}"
    dispatched = Counter(
        (entry["subtask_id"], entry["attempt"])
        for entry in log
        if entry["type"] == "subtask.dispatched"
    )
    if any(count > 1 for count in dispatched.values()):
        yield f"attempts were dispatched twice: {dispatched}"
    plan = _last_plan(log)
    if end == "task.completed":
        lost = set(log[-1].get("lost") or [])
        if lost and not log[-1].get("cause"):
            yield f"it is completed without {lost} and without a cause"
        missing = {one["id"] for one in plan} - set(applied) - lost - set(log[-1]["spared"])
        if missing:
            yield f"it is completed without the results of {missing}"
    done = {
        entry["subtask_id"]: at
        for at, entry in enumerate(log)
        if entry["type"] == "subtask.succeeded"
    }
    begun = {entry["subtask_id"]: at for at, entry in _dispatches(log)}
    for one in plan:
        at = begun.get(one["id"], len(log))
        early = [it for it in one.get("depends_on", []) if done.get(it, -1) > at]
        if early:
            yield f"{one['id']} was dispatched before {early} had succeeded"


def _last_plan(log: Sequence[Entry]) -> list[Entry]:
    """The plan with every change of it."""
    plan: dict[str, Entry] = {}
    for entry in log:
        if entry["type"] == "task.planned":
            plan = {one["id"]: one for one in entry["plan"]}
        elif entry["type"] == "task.replanned":
            gone = set(entry["removed"])
            kept = [one for id_, one in plan.items() if id_ not in gone]
            plan = {one["id"]: one for one in (*kept, *entry["added"])}
    return list(plan.values())


def _dispatches(log: Sequence[Entry]) -> Iterator[tuple[int, Entry]]:
    """Last first, so that a mapping keeps the first of each subtask."""
    for at in range(len(log) - 1, -1, -1):
        if log[at]["type"] == "subtask.dispatched":
            yield at, log[at]


def _of_the_budget(task: PlannedTask, log: Sequence[Entry]) -> Iterator[str]:
    limit = task.request.get("budget", {}).get("max_tokens")
    if limit is None:
        return
    usage = log[-1]["usage"]
    used = usage["input_tokens"] + usage["output_tokens"]
    attempts = sum(entry["type"] == "subtask.dispatched" for entry in log)
    if used > limit + _SLACK_TOKENS * attempts:
        yield f"it used {used} tokens of {limit}, in {attempts} attempts"


def tally_of(logs: Mapping[str, Sequence[Entry]]) -> Counter[str]:
    """What happened in a run, so that one sees what it has shown."""
    return Counter(entry["type"] for log in logs.values() for entry in log)
