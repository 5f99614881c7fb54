"""A task ends before its log loses its beginning, and tells it where that came too late."""

from typing import Any

import pytest
from tests.unit.controller.task_world import LATEST_MS, LIMITS, PLANNER, START_MS, node, world

from agent_controller.tasks import lifetime
from agent_controller.tasks.decide import decide
from agent_controller.tasks.effects import CloseTask, effects, wake_at_ms
from agent_controller.tasks.entries import LogCorruptError
from agent_controller.tasks.fold import fold
from agent_controller.tasks.limits import DAY_MS
from agent_controller.tasks.view import TaskView
from atlas.contracts.task_events import TaskFailed
from atlas.contracts.tasks import TaskRequest, TaskState

LONGEST_MS = LIMITS.max_open_ms


@pytest.mark.parametrize("why", ["nobody approves", "paused", "nobody takes the work"])
def test_a_task_that_stays_open_for_too_long_ends_and_says_where_that_is_set(why: str):
    asked = {"approval": "plan"} if why == "nobody approves" else {}
    task = world(node("a"), **asked)
    if why == "paused":
        task.control("pause")
    assert task.wait(LONGEST_MS - 1).view.end is None
    assert wake_at_ms(task.view, task.now_ms, LIMITS) == LATEST_MS
    end = task.wait(1).view.end
    assert (end.type, end.error.code) == ("task.failed", "timeout")
    assert "open for 27 days, the longest that a task may be" in end.error.message
    assert "topology.task_days" in end.error.message


def test_what_was_made_until_then_is_the_answer_where_the_best_so_far_is_asked_for():
    task = world(node("a"), node("b", "a"), on_failure="best_so_far").succeed("a", "A")
    end = task.wait(LONGEST_MS).view.end
    assert (end.type, end.output, end.cause.code) == ("task.completed", {"a": "A"}, "timeout")


def test_a_deadline_comes_before_the_longest_time():
    task = world(node("a"), deadline_ms=START_MS + 500)
    assert "deadline_ms" in task.wait(500).view.end.error.message


def rest_of(task: Any, first_version: int) -> TaskView:
    return fold(TaskView("default", "t1"), task.log[first_version - 1 :])


def test_a_task_whose_log_lost_its_beginning_ends_and_leaves_the_index():
    task = world(node("a"), node("b", "a")).start("a")
    view = rest_of(task, 3)
    (end,) = decide(view, task.now_ms, LIMITS, PLANNER)
    assert isinstance(end, TaskFailed)
    assert end.version == view.version + 1
    assert "open for longer than its log is kept (topology.task_days)" in end.error.message
    ended = fold(view, [end])
    assert decide(ended, task.now_ms, LIMITS, PLANNER) == []
    assert effects(ended, task.now_ms, LIMITS, PLANNER) == [CloseTask("close")]


def test_the_end_of_a_log_that_lost_its_beginning_is_still_told():
    task = world(node("a")).succeed("a", "A")
    status = rest_of(task, 3).to_status()
    assert (status.state, status.output, status.version) == (TaskState.COMPLETED, "A", 5)
    assert status.usage == task.view.usage


def test_only_the_beginning_of_a_log_may_be_missing():
    task = world(node("a")).succeed("a", "A")
    with pytest.raises(LogCorruptError, match="from version 2 to 4"):
        fold(TaskView("default", "t1"), [task.log[1], task.log[3]])


@pytest.mark.parametrize("field", ["deadline_ms", "approval_expires_ms"])
def test_nothing_is_waited_for_longer_than_a_task_may_be_open(field: str):
    def problems(at_ms: int) -> Any:
        begins_ms = START_MS if field == "deadline_ms" else 0
        request = TaskRequest.model_validate({"goal": "g", field: begins_ms + at_ms})
        return list(lifetime.problems(request, START_MS, LIMITS))

    assert problems(LONGEST_MS) == []
    (problem,) = problems(LONGEST_MS + 3 * DAY_MS)
    assert problem.path == field
    assert problem.message.startswith("it is 30 days")
    assert "a task may be open for 27 days" in problem.message
