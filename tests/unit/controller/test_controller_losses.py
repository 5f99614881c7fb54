"""What a lost subtask does to its task, as `on_failure` and `quorum` ask."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.controller.task_play import enough_of, plans, play
from tests.unit.controller.task_world import START_MS, node, world

from agent_controller.planning.planner import check_request
from agent_controller.tasks.effects import ControlStream
from atlas.contracts.errors import InvalidRequestError, ProviderAuthError
from atlas.contracts.inference import Budget
from atlas.contracts.tasks import OnFailure, SubtaskState, TaskRequest, TaskState

NO_KEY = ProviderAuthError("no key")
JOIN = (node("a"), node("b"), node("c"), node("d", "a", "b", "c"))


def test_with_a_quorum_the_join_goes_on_with_the_results_that_are_there_and_is_told_which_not():
    task = world(*JOIN, on_failure="quorum", quorum=2).fail("b", NO_KEY).succeed("a", "A")
    assert set(task.waiting_work()) == {"c"}, "c may still come"
    joined = task.succeed("c", "C").waiting_work()["d"]
    assert joined.inputs == {"a": "A", "c": "C"}
    assert joined.instruction.startswith("do\n\nThere is no result of b:")
    task.succeed("d", "D")
    assert task.view.end.output == "D"
    assert task.view.end.lost == ["b"]
    assert "'b' failed after 1 attempts: no key" in task.view.end.cause.message
    assert task.view.end.cause.category == "auth"


def test_a_quorum_that_cannot_be_reached_any_more_ends_what_needs_it_at_once():
    task = world(*JOIN, on_failure="quorum", quorum=2).fail("a", NO_KEY).fail("b", NO_KEY)
    assert task.view.subtasks["d"].state is SubtaskState.CANCELLED
    assert task.log[-1].reason == "it needs 2 of 3 results, and 2 will never come"
    task.succeed("c", "C")
    assert task.view.end.type == "task.failed"
    assert task.view.end.outputs == {"c": "C"}


def test_a_subtasks_own_quorum_goes_before_what_the_task_says():
    task = world(node("a"), node("b"), node("c", "a", "b", quorum=1), node("d", "a", "b"))
    task.fail("a", NO_KEY).succeed("b", "B")
    assert task.view.subtasks["d"].state is SubtaskState.CANCELLED
    assert task.waiting_work()["c"].inputs == {"b": "B"}
    assert task.succeed("c").view.state is TaskState.FAILED, "d is a result of the task, and lost"


def test_with_a_quorum_so_many_of_several_last_results_are_the_answer():
    task = world(node("a"), node("b"), node("c"), on_failure="quorum", quorum=2)
    task.fail("b", NO_KEY).succeed("a", "A").succeed("c", "C")
    assert task.view.end.output == {"a": "A", "c": "C"}
    assert task.view.end.lost == ["b"]


def test_the_best_so_far_is_what_went_into_no_other_result():
    chain = (node("a"), node("b", "a"), node("c", "a"), node("d", "b", "c"), node("e", "d"))
    task = world(*chain, on_failure="best_so_far")
    task.succeed("a", "A").fail("b", NO_KEY).succeed("c", "C")
    assert task.waiting_work()["d"].inputs == {"c": "C"}
    task.fail("d", NO_KEY)
    assert task.view.end.type == "task.completed"
    assert task.view.end.output == {"c": "C"}
    assert task.view.end.lost == ["b", "d", "e"]


def test_there_is_no_best_of_nothing():
    task = world(node("a"), node("b", "a"), on_failure="best_so_far").fail("a", NO_KEY)
    assert task.view.end.type == "task.failed"


@pytest.mark.parametrize("bound", [{"deadline_ms": START_MS + 500}, {"budget": Budget(max_ms=500)}])
def test_at_its_bound_a_task_that_wants_it_ends_with_the_best_so_far_and_stops_the_rest(bound):
    task = world(*JOIN, on_failure="best_so_far", **bound).succeed("a", "A").start("b")
    task.wait(500)
    assert task.view.end.type == "task.completed"
    assert task.view.end.output == {"a": "A"}
    assert task.view.end.lost == ["b", "c", "d"]
    assert task.view.to_status().cause.category in {"timeout", "budget"}
    assert [one.action for one in task.effects(ControlStream)] == ["cancel"] * 2


def test_an_error_names_some_of_the_lost_subtasks_and_counts_the_others():
    nodes = [node(f"n{number}") for number in range(70)]
    task = world(*nodes, node("end", *(one.id for one in nodes)))
    for one in nodes[:30]:
        task.fail(one.id, NO_KEY)
    for one in nodes[30:]:
        task.control("cancel", subtask_id=one.id)
    details = task.view.end.error.details
    assert details["failed"] == [f"n{number}" for number in range(20)]
    assert len(details["cancelled"]) == 20
    assert (details["failed_more"], details["cancelled_more"]) == (10, 21)


def test_what_a_person_cancels_or_rejects_is_lost_like_what_failed():
    task = world(*JOIN, on_failure="best_so_far", approval="subtasks")
    task.control("reject", "a").control("approve", "b").control("approve", "c")
    task.control("cancel", "b").succeed("c", "C").control("approve", "d").succeed("d", "D")
    assert task.view.end.output == "D"
    assert task.view.end.lost == ["a", "b"]
    assert task.view.end.cause.message == "cancelled: a, b"


@pytest.mark.parametrize(
    ("fields", "path", "said"),
    [
        ({"on_failure": "quorum"}, "quorum", "needs it: how many"),
        ({"quorum": 2}, "quorum", "give both, or neither"),
        ({"on_failure": "fail", "quorum": 2}, "quorum", "give both, or neither"),
        (
            {"on_failure": "quorum", "quorum": 4, "plan": list(JOIN)},
            "quorum",
            "no subtask depends on more than 3",
        ),
        (
            {"on_failure": "quorum", "quorum": 4, "pattern": "vote"},
            "quorum",
            "no subtask depends on more than 3",
        ),
        ({"plan": [node("a"), node("b", "a", quorum=2)]}, "plan[1].quorum", "depends on 1"),
        ({"plan": [node("a", quorum=1)]}, "plan[0].quorum", "depends on 0"),
    ],
)
def test_a_quorum_that_makes_no_sense_is_refused(fields, path, said):
    with pytest.raises(InvalidRequestError) as caught:
        check_request(TaskRequest(goal="g", **fields))
    details: Any = caught.value.details
    (problem,) = details["problems"]
    assert problem["path"] == path
    assert said in problem["message"]


@st.composite
def tolerant(draw) -> Any:
    """A plan with quorums, and what its task wants on a failure."""
    plan = [
        one.model_copy(update={"quorum": draw(st.integers(1, len(one.depends_on)))})
        if one.depends_on and draw(st.booleans())
        else one
        for one in draw(plans())
    ]
    on_failure = draw(st.sampled_from(OnFailure))
    return plan, {
        "on_failure": on_failure,
        "quorum": draw(st.integers(1, 4)) if on_failure is OnFailure.QUORUM else None,
    }


def went_into(answer, plan, done) -> Any:
    """The finished subtasks whose results are in the answer, or in a result that is."""
    used = set(answer)
    for one in reversed(plan):  # a plan of `plans()` stands in the order of its dependencies
        if one.id in used & done:
            used |= set(one.depends_on) & done
    return used


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_no_finished_result_is_discarded_and_the_end_is_what_was_asked_for(data):
    plan, asked = data.draw(tolerant())
    task = world(*plan, **asked)
    play(task, data)
    end = task.view.end
    done = {one.subtask_id for one in task.view.planned if one.state is SubtaskState.SUCCEEDED}
    needed = {dependency for one in plan for dependency in one.depends_on}
    sinks = {one.id for one in plan if one.id not in needed}
    request = task.view.request
    enough = (
        bool(done)
        if request.on_failure is OnFailure.BEST_SO_FAR
        else len(sinks & done) >= enough_of(request, len(sinks))
    )
    assert (end.type == "task.completed") == enough
    if enough:
        assert set(end.lost) == {one.id for one in plan} - done
        assert (end.cause is not None) == bool(end.lost)
    else:
        assert set(end.outputs) == done
    if request.on_failure is OnFailure.BEST_SO_FAR and done and not sinks <= done:
        assert went_into(end.output, plan, done) == done
