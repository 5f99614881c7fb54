"""Which ready subtasks go first, and how many: the longest path first, never above a limit."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.controller.task_world import LATEST_MS, LIMITS, PLANNER, World, node

from agent_controller.tasks.decide import decide
from agent_controller.tasks.effects import wake_at_ms
from agent_controller.tasks.order import longest_paths
from atlas.contracts.errors import ConfigurationError, ProviderOverloadedError
from atlas.contracts.tasks import SubtaskState, TaskRequest, TaskState
from atlas.settings import load_settings

TIGHT = replace(LIMITS, task_parallel=3, task_waiting=2)


class Bounded(World):
    """A task under limits of its own, which may stand behind other tasks."""

    def __init__(self, plan, limits=TIGHT, room=lambda _: True, **request) -> None:
        super().__init__(TaskRequest(goal="g", plan=plan, **request))
        self.limits, self.room = limits, room
        self.settle()

    def settle(self) -> Any:
        for _ in range(100):
            events = decide(self.view, self.now_ms, self.limits, PLANNER, self.room)
            if not events:
                return self
            self.append(events)
        raise AssertionError("it never settles")

    def dispatched(self) -> Any:
        return [one.subtask_id for one in self.log if one.type == "subtask.dispatched"]

    def waiting(self) -> Any:
        return [one for one in self.view.live if one.state is SubtaskState.DISPATCHED]


def wide(count, capability="general") -> Any:
    return [
        node(f"s{number}").model_copy(update={"capability": capability}) for number in range(count)
    ]


def test_the_longest_remaining_path_goes_first_whatever_the_order_of_the_plan():
    plan = [
        node("leaf"),
        node("short"),
        node("after", "short"),
        node("long"),
        node("then", "long"),
        node("last", "then"),
    ]
    assert Bounded(plan, LIMITS).dispatched() == ["long", "short", "leaf"]


def test_what_was_tried_already_goes_before_what_was_not():
    task = Bounded(wide(4), replace(LIMITS, task_parallel=2)).start("s0").start("s1")
    task.fail("s1", ProviderOverloadedError("busy")).succeed("s0")
    assert task.dispatched() == ["s0", "s1", "s2", "s3"]
    task.succeed("s2")  # while s3 runs, and s1's back-off is over, its turn comes first
    task.wait(10_000)
    assert task.dispatched()[-1] == "s1"


def test_a_task_may_ask_for_less_than_the_limit_and_not_for_more():
    assert len(Bounded(wide(9), TIGHT, max_parallel=1).dispatched()) == 1
    assert len(Bounded(wide(9), replace(TIGHT, task_waiting=9), max_parallel=50).dispatched()) == 3


def test_each_capability_has_a_queue_of_its_own():
    task = Bounded(
        [*wide(3), *[one.model_copy(update={"id": f"c{one.id}"}) for one in wide(3, "code")]],
        replace(TIGHT, task_parallel=99),
    )
    assert task.dispatched() == ["s0", "s1", "cs0", "cs1"]


def test_a_subtask_that_begins_makes_room_for_the_next():
    task = Bounded(wide(9), replace(TIGHT, task_parallel=99))
    assert len(task.waiting()) == 2
    task.start("s0").start("s1")
    assert len(task.waiting()) == 2
    assert len(task.view.live) == 4


def test_where_other_tasks_leave_no_room_nothing_goes_and_no_time_before_its_last_wakes_the_task():
    full = Bounded(wide(2), room=lambda _: False)
    assert full.dispatched() == []
    assert full.view.state is TaskState.RUNNING
    assert wake_at_ms(full.view, full.now_ms, TIGHT) == LATEST_MS
    full.room = lambda _: True
    assert len(full.settle().dispatched()) == 2


def test_a_retry_that_found_no_room_wakes_nobody_until_there_is_some():
    task = Bounded(wide(1)).start("s0").fail("s0")
    task.room = lambda _: False
    due_ms = wake_at_ms(task.view, task.now_ms, TIGHT)
    task.wait(due_ms - task.now_ms)
    assert wake_at_ms(task.view, task.now_ms, TIGHT) == LATEST_MS
    task.room = lambda _: True
    assert task.settle().dispatched() == ["s0", "s0"]


def test_a_model_is_asked_for_a_plan_when_there_is_room():
    task = Bounded(None, room=lambda _: False, pattern="auto")
    assert task.dispatched() == []
    task.room = lambda capability: capability == "planning"
    assert task.settle().dispatched() == ["plan"]


def test_a_path_of_ten_thousand_is_measured_without_recursion():
    chain = [node("n0"), *(node(f"n{n}", f"n{n - 1}") for n in range(1, 10_000))]
    assert longest_paths(chain)["n0"] == 10_000


@st.composite
def plans(draw):
    size = draw(st.integers(1, 12))
    return [
        node(
            f"n{place}",
            *(f"n{one}" for one in sorted(draw(st.sets(st.integers(0, place - 1)))) if place),
        ).model_copy(update={"capability": draw(st.sampled_from(["general", "code"]))})
        if place
        else node("n0")
        for place in range(size)
    ]


@given(plans())
def test_a_path_is_one_longer_than_the_longest_of_those_behind_it(plan):
    paths = longest_paths(plan)
    for one in plan:
        behind = [paths[other.id] for other in plan if one.id in other.depends_on]
        assert paths[one.id] == 1 + max(behind, default=0)


@settings(deadline=None, max_examples=60)
@given(
    plan=plans(),
    limits=st.builds(
        lambda parallel, waiting: replace(LIMITS, task_parallel=parallel, task_waiting=waiting),
        st.integers(1, 4),
        st.integers(1, 3),
    ),
    asked=st.none() | st.integers(1, 3),
    data=st.data(),
)
def test_no_limit_is_ever_exceeded_and_everything_is_dispatched_in_the_end(
    plan, limits, asked, data
):
    """Workers start, finish and fail in any order, and now and then other tasks leave no room."""
    task = Bounded(plan, limits, max_parallel=asked)
    most = min(asked or limits.task_parallel, limits.task_parallel)
    for _ in range(200):
        live = task.view.live
        assert len(live) <= most
        for capability in ("general", "code"):
            queued = [one for one in task.waiting() if one.capability == capability]
            assert len(queued) <= limits.task_waiting
        if task.view.end is not None:
            break
        assert live or any(one.state is SubtaskState.RETRYING for one in task.view.planned)
        if not live:
            task.wait(60_000)
            continue
        record = data.draw(st.sampled_from(live))
        begins = ["start"] if record.state is SubtaskState.DISPATCHED else []
        fails = ["fail"] if record.attempt < limits.subtask_max_attempts else []
        does = data.draw(st.sampled_from(["succeed", *begins, *fails]))
        task.room = (lambda _: False) if data.draw(st.booleans()) else (lambda _: True)
        getattr(task, does)(record.subtask_id)
        task.room = lambda _: True
        task.settle()
    assert task.view.state is TaskState.COMPLETED
    assert set(task.dispatched()) == {one.id for one in plan}


@settings(deadline=None, max_examples=60)
@given(plan=plans(), data=st.data())
def test_of_those_ready_together_none_goes_before_one_with_a_longer_path(plan, data):
    task = Bounded(plan, replace(LIMITS, task_parallel=data.draw(st.integers(1, 3))))
    paths = longest_paths(plan)
    while task.view.end is None:
        before = task.view
        task.succeed(data.draw(st.sampled_from(before.live)).subtask_id)
        gone = {one.subtask_id for one in task.view.live} - {one.subtask_id for one in before.live}
        left = [
            one
            for one in task.view.planned
            if one.state is SubtaskState.WAITING
            and all(task.view.subtasks[other].state.is_terminal for other in one.depends_on)
        ]
        if gone and left:
            assert min(paths[one] for one in gone) >= max(paths[one.subtask_id] for one in left)


@given(plans())
def test_two_controllers_that_fold_the_same_log_decide_the_same(plan):
    one, other = Bounded(plan), Bounded(plan)
    assert one.dispatched() == other.dispatched()
    assert one.view == other.view


@pytest.mark.parametrize("field", ["task_parallel", "task_waiting"])
def test_a_limit_of_nothing_is_refused(field, monkeypatch):
    monkeypatch.setenv(f"ATLAS_CONTROLLER__LIMITS__{field.upper()}", "0")
    with pytest.raises(ConfigurationError, match=f"{field.upper()}: give a number from 1 on"):
        load_settings()
