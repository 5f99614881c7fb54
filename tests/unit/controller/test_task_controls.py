"""Pause, resume and cancel of a task as a pure game: what they hold back, and whom they reach."""

import pytest
from tests.unit.controller.task_world import node, world

from agent_controller.tasks.control import apply_control
from agent_controller.tasks.effects import CloseTask, ControlStream
from atlas.contracts.errors import InvalidTransitionError, NotFoundError
from atlas.contracts.inference import Budget
from atlas.contracts.tasks import SubtaskState, TaskControl, TaskState


def test_time_stands_still_while_a_task_is_paused():
    task = world(node("a", timeout_ms=1_000), budget=Budget(max_ms=10_000)).start("a")
    task.wait(900).control("pause").wait(3_600_000).control("resume").wait(50)
    assert task.view.subtasks["a"].is_live
    task.wait(50)
    assert task.view.subtasks["a"].state is SubtaskState.RETRYING


def test_pause_holds_back_what_is_new_and_reaches_what_runs():
    task = world(node("a"), node("b", "a")).start("a").control("pause", by="me")
    (pause,) = task.effects()
    assert (pause.action, pause.stream_id) == ("pause", task.view.subtasks["a"].stream_id)
    task.succeed("a")
    assert task.view.subtasks["b"].state is SubtaskState.WAITING
    assert task.view.state is TaskState.PAUSED
    task.control("resume")
    assert set(task.waiting_work()) == {"b"}


def test_resume_reaches_the_streams_that_were_paused():
    task = world(node("a")).start("a").control("pause").control("resume")
    (resume,) = task.effects(ControlStream)
    assert resume.action == "resume"


def test_cancel_is_final_and_reaches_every_running_stream():
    task = world(node("a"), node("b"), node("c", "a")).start("a").start("b").control("cancel")
    assert task.view.state is TaskState.CANCELLED
    assert {one.action for one in task.effects(ControlStream)} == {"cancel"}
    assert len(task.effects(ControlStream)) == 2
    assert isinstance(task.effects()[-1], CloseTask)
    assert task.succeed("a").types()[-1] == "task.cancelled"
    assert task.control("cancel").types().count("task.cancelled") == 1
    with pytest.raises(InvalidTransitionError):
        task.control("resume")


def test_cancel_of_one_subtask_leaves_the_others():
    task = world(node("a"), node("b")).start("a").control("cancel", "a").succeed("b", "B")
    assert task.view.state is TaskState.FAILED
    assert task.view.end.outputs == {"b": "B"}
    with pytest.raises(NotFoundError):
        apply_control(world(node("a")).view, TaskControl(action="cancel", subtask_id="x"), 0)
