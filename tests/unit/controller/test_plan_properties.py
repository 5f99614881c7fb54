"""What holds of every plan, of every change of one, and of every log, whatever they are."""

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.unit.controller.task_play import check_the_log, one_move, plans, play
from tests.unit.controller.task_world import LIMITS, PLANNER, TERMINAL, node, world

from agent_controller.planning import model_change
from agent_controller.tasks import losses
from agent_controller.tasks.decide import decide
from agent_controller.tasks.effects import effects
from agent_controller.tasks.entries import read_entry
from agent_controller.tasks.fold import fold, with_change
from agent_controller.tasks.intake import take_result
from agent_controller.tasks.plan import plan_problems
from agent_controller.tasks.view import TaskView
from atlas.contracts.errors import InvalidRequestError, ProviderAuthError
from atlas.contracts.task_events import TASK_EVENT
from atlas.contracts.tasks import PlannedSubtask, SubtaskState, TaskState
from atlas.contracts.work import SubtaskResult

NAMES = [f"n{number}" for number in range(6)]


@st.composite
def graphs(draw) -> list[PlannedSubtask]:
    """Anything that has the shape of a plan: with cycles, unknown and repeated ids."""
    return [
        node(draw(st.sampled_from(NAMES)), *draw(st.lists(st.sampled_from(NAMES), max_size=3)))
        for _ in range(draw(st.integers(0, 6)))
    ]


def can_be_ordered(plan) -> bool:
    """Whether every subtask gets its turn, by the plain way: again and again take what is ready."""
    ids = [one.id for one in plan]
    if not plan or len(set(ids)) < len(ids):
        return False
    if any(len(set(one.depends_on)) < len(one.depends_on) for one in plan):
        return False
    done: set[str] = set()
    for _ in plan:
        done |= {one.id for one in plan if set(one.depends_on) <= done}
    return done == set(ids)


@given(graphs())
def test_a_plan_is_valid_exactly_when_every_subtask_gets_its_turn(plan):
    assert (plan_problems(plan) == []) == can_be_ordered(plan)


@given(plans(), st.integers(1, 8))
def test_a_plan_is_as_deep_as_its_longest_chain(plan, most):
    depths: dict[str, int] = {}
    for one in plan:  # each stands after what it depends on
        depths[one.id] = 1 + max((depths[id_] for id_ in one.depends_on), default=0)
    assert (plan_problems(plan, max_depth=most) == []) == (max(depths.values()) <= most)


@st.composite
def begun(draw) -> Any:
    """A task that got somewhere, with a failure because of which its plan must change."""
    task = world(*draw(plans()), max_replans=1)
    for _ in range(draw(st.integers(0, 8))):
        live = [one.subtask_id for one in task.view.live if one.planned]
        if not live or task.view.end is not None or "replan-1" in task.view.subtasks:
            break
        id_ = draw(st.sampled_from(live))
        if draw(st.integers(0, 2)):
            task.succeed(id_, f"out of {id_}")
        else:
            task.fail(id_, ProviderAuthError("no key"))
    assume("replan-1" in task.view.subtasks)
    return task


@st.composite
def answers(draw) -> Any:
    """What a model may answer, mostly by ids that there are."""
    ids = st.sampled_from([*NAMES, "new", "newer", "n0-2"])
    nodes = draw(st.lists(st.tuples(ids, st.lists(ids, max_size=3, unique=True)), max_size=3))
    return {
        "added": [
            {"id": id_, "capability": "general", "instruction": "do", "depends_on": needs}
            for id_, needs in nodes
        ],
        "removed": draw(st.lists(ids, max_size=5)),
        "reason": draw(st.text(max_size=5)),
    }


@settings(deadline=None)
@given(begun())
def test_the_example_of_a_change_can_be_made_whatever_happened_before(task):
    schema: Any = model_change.change_schema(task.view, LIMITS)
    change = model_change.read_change(task.view, schema["examples"][0], LIMITS)
    assert not losses.is_doomed(with_change(task.view, change.added, change.removed))


@settings(deadline=None, max_examples=300)
@given(begun(), answers())
def test_a_change_that_is_taken_keeps_what_is_finished_and_leads_to_an_end(task, answer):
    try:
        change = model_change.read_change(task.view, answer, LIMITS)
    except InvalidRequestError:
        change = None
    finished = {one.subtask_id: one.output for one in task.view.planned if one.output is not None}
    earlier = set(task.view.subtasks)
    task.succeed("replan-1", answer)
    assert ("task.replanned" in task.types()) == (change is not None)
    for id_, output in finished.items():
        assert task.view.subtasks[id_].output == output
    if change is None:
        return
    assert not earlier & {one.id for one in change.added}
    assert can_be_ordered(after_removal(task.view.plan))
    for _ in range(50):
        for record in task.view.live:
            task.succeed(record.subtask_id)
        if task.view.end is not None:
            break
    assert task.view.end.type == "task.completed", "all went well from there on"


def after_removal(plan) -> Any:
    """The plan without dependencies on what it has no more; what is finished may still name it."""
    ids = {one.id for one in plan}
    return [
        one.model_copy(update={"depends_on": [id_ for id_ in one.depends_on if id_ in ids]})
        for one in plan
    ]


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(0, 40))
def test_a_log_means_the_same_read_at_once_or_in_parts_and_nothing_follows_its_end(data, cut):
    task = world(*data.draw(plans()), max_replans=2)
    for _ in range(30):
        if task.view.end is not None:
            break
        one_move(task, data)
    stored = [TASK_EVENT.dump_json(one, exclude_none=True) for one in task.log]
    empty = TaskView("default", "t1")
    first = fold(empty, map(read_entry, stored[:cut]))
    assert fold(first, map(read_entry, stored[cut:])) == task.view
    assert [one.type in TERMINAL for one in task.log[:-1]].count(True) == 0


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_every_task_reaches_exactly_one_end(data):
    task = world(*data.draw(plans()))
    play(task, data)
    is_whole = all(one.state is SubtaskState.SUCCEEDED for one in task.view.planned)
    assert (task.view.state is TaskState.COMPLETED) == is_whole


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_two_controllers_with_lost_acknowledgements_write_one_log(data):
    """Each appends by compare-and-set on its own view, which may be stale; acks get lost."""
    task = world(*data.draw(plans()))
    stale = {"one": task.view, "other": task.view}
    sent: list[str] = []
    for _ in range(400):
        who = data.draw(st.sampled_from(["one", "other"]))
        view = stale[who]
        events = decide(view, task.now_ms, LIMITS, PLANNER)
        if not events and (live := view.live):
            id_ = live[data.draw(st.integers(0, len(live) - 1))].subtask_id
            result = SubtaskResult(task_id="t1", subtask_id=id_, attempt=1, worker="w", output=id_)
            events = take_result(view, result, task.now_ms, None)
        for event in events:
            if event.version != task.view.version + 1:
                stale[who] = task.view  # refused: read again
                break
            task.append([event])
            if data.draw(st.booleans()):  # stored, and the acknowledgement came
                stale[who] = task.view
            else:
                break
        sent += [one.key for one in effects(stale[who], task.now_ms, LIMITS, PLANNER)]
        if stale[who].version < task.view.version and data.draw(st.booleans()):
            stale[who] = task.view
        if task.view.end is not None:
            break
    else:
        pytest.fail("no end")
    check_the_log(task.log)
    assert task.view.state is TaskState.COMPLETED
