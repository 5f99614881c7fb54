"""Approvals: what waits for them, and those that are late, repeated, or for nothing there."""

from typing import Any

import pytest
from tests.unit.controller.task_world import LATEST_MS, LIMITS, START_MS, node, world

from agent_controller.planning.planner import check_request
from agent_controller.tasks.effects import wake_at_ms
from atlas.contracts.errors import InvalidRequestError, InvalidTransitionError, NotFoundError
from atlas.contracts.tasks import SubtaskState, TaskRequest, TaskState

HOUR_MS = 3_600_000


def asked(*plan, **request) -> Any:
    return world(*(plan or (node("a"),)), **{"approval": "plan", **request})


def refused(**request) -> Any:
    with pytest.raises(InvalidRequestError) as caught:
        check_request(TaskRequest(goal="g", pattern="single", **request))
    problems: Any = (caught.value.details or {})["problems"]
    return [one["path"] for one in problems]


def test_a_plan_that_nobody_approves_in_time_is_rejected_by_atlas():
    task = asked(approval_expires_ms=HOUR_MS)
    assert task.log[-1].expires_at_ms == START_MS + HOUR_MS
    assert wake_at_ms(task.view, task.now_ms, LIMITS) == START_MS + HOUR_MS
    assert task.wait(HOUR_MS - 1).view.state is TaskState.AWAITING_APPROVAL
    end = task.wait(1).view.end
    assert (end.type, end.by) == ("task.cancelled", "atlas")
    assert end.reason == f"nobody answered within {HOUR_MS} ms"
    assert task.types()[-2:] == ["task.approval_rejected", "task.cancelled"]


def test_a_subtask_that_nobody_approves_in_time_takes_what_waits_for_it_along():
    plan = (node("a"), node("b"), node("c", "b"))
    task = asked(*plan, approval="subtasks", approval_expires_ms=HOUR_MS).control("approve", "a")
    task.wait(HOUR_MS)
    (no,) = [one for one in task.log if one.type == "task.approval_rejected"]
    assert (no.subtask_id, no.by) == ("b", "atlas")
    assert task.view.subtasks["c"].state is SubtaskState.CANCELLED
    assert task.succeed("a", "A").view.end.outputs == {"a": "A"}


def test_what_nobody_answers_goes_on_where_that_was_asked():
    task = asked(approval_expires_ms=HOUR_MS, on_approval_expired="approve").wait(HOUR_MS)
    (yes,) = [one for one in task.log if one.type == "task.approved"]
    assert (yes.by, yes.reason) == ("atlas", f"nobody answered within {HOUR_MS} ms")
    assert set(task.waiting_work()) == {"a"}


def test_without_an_expiry_it_waits_for_as_long_as_a_task_may_be_open():
    task = asked().wait(HOUR_MS * 600)
    assert task.view.state is TaskState.AWAITING_APPROVAL
    assert task.log[-1].expires_at_ms is None
    assert wake_at_ms(task.view, task.now_ms, LIMITS) == LATEST_MS


@pytest.mark.parametrize("approval", ["plan", "subtasks"])
def test_a_pause_puts_the_expiry_off(approval):
    task = asked(approval=approval, approval_expires_ms=1_000).wait(400)
    task.control("pause").wait(HOUR_MS)
    assert wake_at_ms(task.view, task.now_ms, LIMITS) == LATEST_MS
    task.control("resume")
    assert wake_at_ms(task.view, task.now_ms, LIMITS) == task.now_ms + 600
    assert task.wait(599).view.end is None
    assert task.wait(1).view.end.type in {"task.cancelled", "task.failed"}


def test_what_began_to_wait_during_a_pause_waits_its_whole_time_and_no_more():
    task = world(pattern="auto", approval="plan", approval_expires_ms=1_000).control("pause")
    task.wait(300).succeed("plan", plan_of("a"))
    task.wait(500).control("resume")
    assert wake_at_ms(task.view, task.now_ms, LIMITS) == task.now_ms + 1_000


def plan_of(*ids) -> Any:
    nodes = [{"id": id_, "capability": "general", "instruction": "do"} for id_ in ids]
    return {"subtasks": [{**one, "depends_on": []} for one in nodes]}


def test_a_deadline_comes_before_an_expiry_that_is_later():
    task = asked(approval_expires_ms=HOUR_MS, deadline_ms=START_MS + 500).wait(500)
    assert task.view.end.error.category == "timeout"


def test_what_was_cancelled_while_it_waited_needs_no_answer_any_more():
    task = asked(node("a"), node("b"), approval="subtasks", approval_expires_ms=1_000)
    task.control("approve", "a").control("cancel", "b").wait(1_000).succeed("a", "A")
    assert "task.approval_rejected" not in task.types()
    assert task.view.end.outputs == {"a": "A"}


def test_an_answer_after_the_expiry_is_refused_and_changes_nothing():
    task = asked(approval_expires_ms=1_000).wait(1_000)
    with pytest.raises(InvalidTransitionError, match="the task is cancelled"):
        task.control("approve", by="anna")
    task = asked(node("a"), node("b"), approval="subtasks", approval_expires_ms=1_000)
    task.control("approve", "a").wait(1_000)
    before = len(task.log)
    with pytest.raises(InvalidTransitionError, match="subtask 'b' is cancelled"):
        task.control("approve", "b")
    assert len(task.log) == before


def test_an_approval_that_comes_twice_says_nothing_more():
    task = asked().control("approve", by="anna").control("approve", by="berta")
    assert [one.by for one in task.log if one.type == "task.approved"] == ["anna"]
    with pytest.raises(InvalidTransitionError, match="nothing awaits approval"):
        task.control("reject")


def test_an_approval_by_nobody_counts_and_stands_in_the_log_without_a_name():
    task = asked().control("approve")
    assert [one.by for one in task.log if one.type == "task.approved"] == [None]
    assert set(task.waiting_work()) == {"a"}


def test_an_approval_of_what_is_not_there_or_does_not_wait_is_named():
    task = asked(node("a"), node("b", "a"), approval="subtasks")
    with pytest.raises(NotFoundError, match="has no subtask 'z'"):
        task.control("approve", "z")
    with pytest.raises(InvalidTransitionError, match="subtask 'b' is waiting"):
        task.control("approve", "b")
    task.control("cancel")
    with pytest.raises(InvalidTransitionError, match="the task is cancelled"):
        task.control("approve", "a")


def test_an_expiry_that_can_mean_nothing_is_refused_with_what_to_give():
    assert refused(approval_expires_ms=1_000) == ["approval_expires_ms"]
    assert refused(approval="plan", on_approval_expired="approve") == ["on_approval_expired"]


def test_a_plan_waits_for_its_approval():
    task = world(node("a"), approval="plan")
    assert task.view.state is TaskState.AWAITING_APPROVAL
    assert task.waiting_work() == {}
    task.control("approve", by="me").control("approve")
    assert set(task.waiting_work()) == {"a"}
    assert task.types().count("task.approved") == 1


def test_a_rejected_plan_cancels_the_task_and_says_who():
    task = world(node("a"), approval="plan").control("reject", by="me", reason="too dear")
    assert task.view.state is TaskState.CANCELLED
    assert (task.view.end.by, task.view.end.reason) == ("me", "too dear")


def test_each_subtask_waits_for_its_approval_and_a_rejected_one_takes_its_dependants_along():
    task = world(node("a"), node("b"), node("c", "b"), approval="subtasks")
    assert task.view.state is TaskState.AWAITING_APPROVAL
    task.control("approve", "a").control("reject", "b")
    assert set(task.waiting_work()) == {"a"}
    assert task.view.subtasks["c"].state is SubtaskState.CANCELLED
    with pytest.raises(InvalidTransitionError):
        task.control("approve", "c")
    task.succeed("a", "A")
    assert task.view.end.outputs == {"a": "A"}
