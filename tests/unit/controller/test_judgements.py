"""Results that are judged: once one is accepted, what was to make it better is not done."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.documents import blocks
from tests.unit.controller.progress_scan import check_progress
from tests.unit.controller.task_play import check_the_log, plans
from tests.unit.controller.task_world import node, world

from agent_controller.planning.planner import check_request
from agent_controller.tasks.plan import problems_in
from atlas.contracts.errors import InvalidRequestError
from atlas.contracts.inference import Budget
from atlas.contracts.tasks import SubtaskState, TaskRequest

SCHEMA = {
    "type": "object",
    "required": ["accepted"],
    "properties": {"accepted": {"type": "boolean"}},
}
YES, NO = {"accepted": True}, {"accepted": False}


def judge(id_, of, **more) -> Any:
    return node(id_, of, accepts=of, output_schema=SCHEMA, **more)


ROUNDS = (
    node("d1"),
    judge("e1", "d1"),
    node("d2", "d1", "e1"),
    judge("e2", "d2"),
    node("d3", "d2", "e2"),
)


def test_an_accepted_result_is_the_answer_and_nothing_more_is_done():
    task = world(*ROUNDS).succeed("d1", "first").succeed("e1", YES)
    assert task.view.end.type == "task.completed"
    assert task.view.end.output == "first"
    assert (task.view.end.lost, task.view.end.cause) == ([], None)
    assert task.view.end.spared == ["d2", "e2", "d3"]
    cancelled = [one for one in task.log if one.type == "subtask.cancelled"]
    assert [one.subtask_id for one in cancelled] == ["d2", "e2", "d3"]
    assert cancelled[0].reason == "'e1' accepts 'd1' as it is"


def test_what_is_not_accepted_is_made_anew_until_the_rounds_are_over():
    task = world(*ROUNDS).succeed("d1").succeed("e1", NO)
    assert task.waiting_work()["d2"].inputs["e1"] == NO
    task.succeed("d2").succeed("e2", NO).succeed("d3", "third")
    assert (task.view.end.output, task.view.end.spared) == ("third", [])


def test_a_later_round_may_accept():
    task = world(*ROUNDS).succeed("d1").succeed("e1", NO).succeed("d2", "second").succeed("e2", YES)
    assert (task.view.end.output, task.view.end.spared) == ("second", ["d3"])


def test_other_branches_go_on_and_their_results_count_too():
    task = world(*ROUNDS, node("aside")).succeed("d1", "first").succeed("e1", YES)
    assert set(task.waiting_work()) == {"aside"}
    task.succeed("aside", "more")
    assert task.view.end.output == {"d1": "first", "aside": "more"}
    assert task.view.end.lost == []


def test_what_was_to_go_into_a_better_one_is_no_answer_beside_the_accepted_one():
    task = world(node("d1"), node("facts"), judge("e1", "d1"), node("d2", "d1", "e1", "facts"))
    task.succeed("d1", "first").succeed("facts").succeed("e1", YES)
    assert (task.view.end.output, task.view.end.spared) == ("first", ["d2"])


def test_whoever_can_do_without_what_is_spared_goes_on():
    task = world(*ROUNDS[:3], node("other"), node("sum", "d2", "other", quorum=1))
    task.succeed("d1", "first").succeed("e1", YES).succeed("other", "o")
    assert task.waiting_work()["sum"].inputs == {"other": "o"}
    task.succeed("sum", "s")
    assert task.view.end.output == {"d1": "first", "sum": "s"}
    assert task.view.end.spared == ["d2"]


def test_a_judgement_is_not_the_best_of_a_task_that_runs_out():
    task = world(*ROUNDS, on_failure="best_so_far", budget=Budget(max_tokens=10))
    task.succeed("d1", "first").succeed("e1", NO, tokens=20)
    assert task.view.end.output == {"d1": "first"}


def test_a_judgement_that_is_lost_leaves_the_draft_where_the_best_so_far_is_asked():
    task = world(*ROUNDS[:3], on_failure="best_so_far").succeed("d1", "first")
    task.control("cancel", "e1")
    assert task.waiting_work()["d2"].inputs == {"d1": "first"}


@pytest.mark.parametrize(
    ("bad", "path", "said"),
    [
        (node("e", accepts="a", output_schema=SCHEMA), "plan[1].accepts", "does not depend on it"),
        (node("e", "a", accepts="a"), "plan[1].output_schema", "require a property `accepted`"),
        (
            node("e", "a", accepts="a", output_schema={**SCHEMA, "required": []}),
            "plan[1].output_schema",
            "require a property `accepted`",
        ),
    ],
)
def test_a_judge_that_cannot_judge_is_refused(bad, path, said):
    with pytest.raises(InvalidRequestError) as refused:
        check_request(TaskRequest(goal="g", plan=[node("a"), bad]))
    (problem,) = problems_in(refused.value)
    assert problem.path == path
    assert said in problem.message


def test_the_plan_in_the_documents_is_one():
    (shown,) = blocks("json")
    plan = json.loads(shown)
    check_request(TaskRequest(goal="g", plan=plan))
    task = world(*TaskRequest(goal="g", plan=plan).plan or ())
    task.succeed("draft", "Dear all,").succeed("check", {"accepted": True, "flaws": []})
    assert task.view.end.output == "Dear all,"


@st.composite
def judged(draw) -> Any:
    return [
        one.model_copy(update={"accepts": one.depends_on[0], "output_schema": SCHEMA})
        if one.depends_on and draw(st.booleans())
        else one
        for one in draw(plans())
    ]


@settings(deadline=None, max_examples=200)
@given(st.data(), st.sampled_from(["fail", "best_so_far"]))
def test_in_any_plan_what_depends_on_an_acceptance_is_never_begun_and_the_task_ends(
    data, on_failure
):
    plan = data.draw(judged())
    judges = {one.id for one in plan if one.accepts}
    task = world(*plan, on_failure=on_failure)
    accepted: set[str] = set()
    while task.view.end is None:
        id_ = data.draw(st.sampled_from(sorted(one.subtask_id for one in task.view.live)))
        says_yes = id_ in judges and data.draw(st.booleans())
        task.succeed(id_, {"accepted": says_yes} if id_ in judges else id_)
        accepted |= {id_} if says_yes else set()
        check_progress(task.view)
    check_the_log(task.log)
    end = task.view.end
    assert (end.type, end.lost) == ("task.completed", [])
    for one in plan:
        if accepted & set(one.depends_on):
            assert task.view.subtasks[one.id].state is SubtaskState.CANCELLED
            assert one.id in end.spared
    not_done = [one.id for one in plan if task.view.subtasks[one.id].output is None]
    assert end.spared == not_done
