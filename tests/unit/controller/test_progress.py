"""Where subtasks stand is kept from event to event, and a decision looks at few of them."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.controller.progress_scan import check_progress
from tests.unit.controller.task_play import play
from tests.unit.controller.task_world import LIMITS, PLANNER, World, node, world
from tests.unit.controller.test_controller_losses import tolerant

from agent_controller.tasks.effects import effects, wake_at_ms
from agent_controller.tasks.fold import fold
from agent_controller.tasks.marks import Marks
from agent_controller.tasks.view import TaskView
from atlas.contracts.inference import Budget


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_whenever_somebody_asks_it_is_what_a_scan_of_all_subtasks_finds(data):
    """So it is too in the game of two controllers, where plans change and people answer."""
    plan, asked = data.draw(tolerant())
    task = world(*plan, **asked)
    play(task, data)
    view = TaskView("default", "t1")
    for entry in task.log:
        view = fold(view, [entry])
        if data.draw(st.booleans()):
            check_progress(view)
    check_progress(view)


def test_it_makes_no_difference_how_much_was_read_since_somebody_asked_last():
    task = world(*fan_out(400))
    asked, seen = task.view, len(task.log)
    assert asked.progress.count("left") == 400
    for number in range(300):
        task.control("cancel", f"s{number}")
    at_once = fold(asked, task.log[seen:])
    check_progress(at_once)
    assert at_once == task.view
    assert asked.progress.count("left") == 400, "the past stays as it was"


NUMBERS = st.none() | st.integers(0, 5)


@given(st.lists(st.dictionaries(st.integers(0, 300), NUMBERS, max_size=30), max_size=8))
def test_marks_are_a_dict_in_order_and_their_past_stays_as_it_was(changes):
    marks, model = Marks(), dict[int, int]()
    past = [(marks, model)]
    for change in changes:
        marks = marks.changed(change)
        model = {place: one for place, one in {**model, **change}.items() if one is not None}
        past.append((marks, model))
    for then, expected in past:
        assert len(then) == len(expected)
        assert [*then.places()] == sorted(expected)
        assert then == Marks().changed(expected)
        assert then.least() == min(expected.values(), default=None)
        for most in range(6):
            below = [place for place, one in expected.items() if one <= most]
            assert [*then.places(most)] == sorted(below)
            above = [one for one in expected.values() if one > most]
            assert then.least(above=most) == min(above, default=None)
        assert all(then[place] == expected.get(place, 0) for place in range(301))


def instructions(do: Callable[[], Any]) -> int:
    """How many instructions Python carries out for it: the same however busy the machine is."""
    count = 0

    def one_more(*_: object) -> None:
        nonlocal count
        count += 1

    watch, tool = sys.monitoring, sys.monitoring.PROFILER_ID
    watch.use_tool_id(tool, "instructions")
    watch.register_callback(tool, watch.events.INSTRUCTION, one_more)
    watch.set_events(tool, watch.events.INSTRUCTION)
    try:
        do()
    finally:
        watch.set_events(tool, 0)
        watch.free_tool_id(tool)
    return count


def fan_out(size: int) -> list[Any]:
    return [node(f"s{number}") for number in range(size)]


def join(size: int) -> list[Any]:
    return [*fan_out(size), node("end", *(f"s{number}" for number in range(size)))]


def chain(size: int) -> list[Any]:
    return [node("s0"), *(node(f"s{number}", f"s{number - 1}") for number in range(1, size))]


def step(task: World, does: str, subtask_id: str) -> None:
    """All that a controller does when a worker is heard of."""
    getattr(task, does)(subtask_id)
    sent = {f"default:t1:{one.subtask_id}:1" for one in task.view.live}
    effects(task.view, task.now_ms, LIMITS, PLANNER, sent)
    wake_at_ms(task.view, task.now_ms, LIMITS)


@pytest.mark.parametrize("plan", [fan_out, join, chain])
@pytest.mark.parametrize("does", ["start", "succeed", "fail"])
def test_what_word_of_a_worker_costs_does_not_grow_with_the_plan(plan, does):
    def cost(size: int) -> int:
        asked = {"on_failure": "best_so_far", "max_replans": 1, "budget": Budget(max_tokens=10**9)}
        task = world(*plan(size), **asked)
        for number in range(3):
            step(task, "succeed", f"s{number}")
        return instructions(lambda: step(task, does, "s3"))

    assert cost(4_000) < 1.2 * cost(200)
