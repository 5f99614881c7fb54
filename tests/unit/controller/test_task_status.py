"""The status of a task fits an answer, however many subtasks it has."""

from tests.unit.controller.task_world import node, world

from agent_controller.handlers import fitting_status

_ANSWER_BYTES = 768 * 1024


def test_a_small_task_is_told_whole():
    task = world(node("a"), node("b", "a")).succeed("a", "A")
    assert fitting_status(task.view) == task.view.to_status()


def test_of_long_instructions_the_beginning_is_told():
    nodes = [
        node(f"n{number}").model_copy(update={"instruction": "x" * 2_000}) for number in range(500)
    ]
    status = fitting_status(world(*nodes).view)
    assert len(status.to_json()) <= _ANSWER_BYTES
    assert len(status.subtasks) == 500
    assert status.subtasks_left_out is None
    assert status.subtasks[0].instruction == "x" * 100


def test_of_too_many_subtasks_as_many_are_told_as_fit_and_how_many_are_not():
    nodes = [node(f"{number}".ljust(60, "n"), "a") for number in range(6_000)]
    status = fitting_status(world(node("a"), *nodes).succeed("a", "A").view)
    assert _ANSWER_BYTES - 1_024 < len(status.to_json()) <= _ANSWER_BYTES
    assert status.subtasks_left_out == 6_001 - len(status.subtasks)
    assert not any(one.state.is_terminal for one in status.subtasks)
