"""Which work in a queue nobody waits for any more, by a view of its task that may be old."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.unit.controller.task_world import node, world

from agent_controller.queued_work import QueuedWork
from agent_controller.scheduling.dead_work import is_dead, is_waiting, needless
from agent_controller.tasks.view import TaskView
from atlas.contracts.errors import ProviderAuthError, ProviderOverloadedError
from atlas.contracts.tasks import TaskAction

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def queued(subtask_id="a", attempt=1, age_s=0, seq=1) -> Any:
    stored_at = NOW - timedelta(seconds=age_s)
    return QueuedWork(seq, ("default", "t1"), subtask_id, attempt, stored_at)


def dead(view, *work, **more) -> Any:
    return is_dead(view, queued(*work, **more), NOW)


def test_work_that_waits_or_runs_is_waited_for():
    task = world(node("a"), node("b"))
    assert not dead(task.view)
    assert not dead(task.start("a").view)


def test_work_of_a_paused_task_is_waited_for():
    assert not dead(world(node("a"), node("b")).control(TaskAction.PAUSE).view)


def test_nobody_waits_for_the_work_of_a_task_that_ended():
    assert dead(world(node("a"), node("b")).control(TaskAction.CANCEL).view)
    assert dead(TaskView("default", "t1", is_deleted=True))


def test_nobody_waits_for_an_attempt_that_failed_or_succeeded():
    task = world(node("a"), node("b"))
    assert dead(task.fail("a", ProviderOverloadedError("full")).view)
    assert not dead(task.view, "b")
    assert dead(task.succeed("b").view, "b")


def test_a_view_that_does_not_know_of_an_attempt_yet_says_nothing_of_it():
    task = world(node("a"), node("b", "a"))
    assert not dead(task.view, "b")
    assert not dead(task.fail("a", ProviderOverloadedError("full")).view, "a", 2)
    assert not dead(task.view, "unheard_of")


def test_nobody_waits_for_what_a_change_took_out_of_the_plan():
    plan = (node("a"), node("b"), node("c", "a", "b"))
    task = world(*plan, max_replans=1).succeed("a").fail("b", ProviderAuthError("no key"))
    added = {"id": "d", "capability": "general", "instruction": "do"}
    task.succeed("replan-1", {"added": [added], "removed": ["b", "c"], "reason": "another way"})
    assert dead(task.view, "b")
    assert not dead(task.view, "d")


def test_work_without_a_log_is_over_once_every_replica_must_have_heard_of_it():
    assert not dead(TaskView("default", "t1"), age_s=10)
    assert dead(TaskView("default", "t1"), age_s=120)


def test_copies_are_needless_until_a_worker_begins_and_falls_silent():
    task = world(node("a"), node("b", "a"))
    assert is_waiting(task.view, queued())
    assert not is_waiting(task.view, queued("b"))
    assert not is_waiting(task.view, queued("a", 2))
    assert not is_waiting(task.start("a").view, queued())


def test_of_copies_the_first_is_kept_also_when_they_are_looked_at_once_more():
    view = world(node("a"), node("b")).view
    works = [queued("a", seq=3), queued("b", seq=4), queued("a", seq=5), queued("a", seq=9)]
    kept: dict[Any, int] = {}
    for _ in range(2):  # NATS failed in the first look
        assert [one.seq for one in needless(view, works, NOW, kept)] == [5, 9]
