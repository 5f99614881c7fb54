"""What makes a plan a plan, and how a goal becomes one."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_controller.planning import model_plan, patterns
from agent_controller.planning.planner import check_request
from agent_controller.tasks.limits import Limits
from agent_controller.tasks.plan import check_plan
from agent_controller.tasks.schema import problems as schema_problems
from atlas.contracts.errors import InvalidRequestError
from atlas.contracts.tasks import PlannedSubtask, TaskRequest

LIMITS = Limits()


def node(id_, *depends_on, capability="general") -> Any:
    return PlannedSubtask(
        id=id_, capability=capability, instruction="do", depends_on=list(depends_on)
    )


def named(caught) -> Any:
    return (caught.value.details or {})["problems"]


def problems(plan, **limits) -> Any:
    with pytest.raises(InvalidRequestError) as caught:
        check_plan(plan, **limits)
    return {one["path"]: one["message"] for one in named(caught)}


def test_a_diamond_is_a_plan():
    check_plan([node("a"), node("b", "a"), node("c", "a"), node("d", "b", "c")])


def test_every_problem_is_named_at_once_with_its_path():
    found = problems([node("a"), node("a"), node("b", "b", "reserch"), node("research")])
    assert found == {
        "plan[1].id": "'a' is the id of plan[0] already",
        "plan[2].depends_on[0]": "'b' depends on itself",
        "plan[2].depends_on[1]": "there is no subtask 'reserch'; did you mean 'research'?",
    }


def test_a_blank_instruction_is_a_problem_of_its_subtask():
    blank = node("b").model_copy(update={"instruction": " \n\t"})
    assert problems([node("a"), blank]) == {
        "plan[1].instruction": "it is blank; say what is to be done"
    }


def test_a_cycle_is_named_as_a_path():
    found = problems([node("x", "a"), node("a", "b"), node("b", "c"), node("c", "a")])
    assert list(found.values()) == ["a cycle: a → b → c → a"]


def test_size_capabilities_and_reserved_ids_are_checked_where_asked():
    plan = [node("plan", capability="magic"), node("b")]
    found = problems(plan, max_nodes=1, capabilities={"general"}, reserved={"plan"})
    assert set(found) == {"plan", "plan[0].id", "plan[0].capability"}
    assert "use one of general" in found["plan[0].capability"]


@given(st.lists(st.lists(st.integers(0, 9), max_size=4, unique=True), min_size=1, max_size=10))
def test_a_plan_is_accepted_exactly_when_it_can_be_ordered(edges):
    plan = [
        node(f"n{here}", *(f"n{there}" for there in there_all if there < len(edges)))
        for here, there_all in enumerate(edges)
    ]
    done: set[str] = set()
    while ready := [one for one in plan if one.id not in done and done >= set(one.depends_on)]:
        done |= {one.id for one in ready}
    if len(done) == len(plan):
        check_plan(plan)
    else:
        assert problems(plan)


def test_a_plan_of_ten_thousand_in_a_row_is_checked_without_recursion():
    check_plan([node("n0"), *(node(f"n{i}", f"n{i - 1}") for i in range(1, 10_000))])


def test_the_example_of_the_plan_schema_satisfies_it_and_is_a_plan():
    schema: dict[str, Any] = model_plan.plan_schema(LIMITS)
    (example,) = schema["examples"]
    assert schema_problems(example, schema) == []
    plan = model_plan.read_plan(example, LIMITS)
    assert [one.id for one in plan if not one.depends_on] == ["research", "analysis", "outline"]
    assert plan[-1].depends_on == ["research", "analysis", "outline"]


@pytest.mark.parametrize(
    ("output", "path"),
    [
        ("a plan in prose", "plan"),
        ({"steps": []}, "plan"),
        ({"subtasks": []}, "plan"),
        ({"subtasks": [{"id": "a"}]}, "plan[0].capability"),
        (
            {"subtasks": [{"id": "plan", "capability": "draft", "instruction": "x"}]},
            "plan[0].id",
        ),
        (
            {"subtasks": [{"id": "a", "capability": "planning", "instruction": "x"}]},
            "plan[0].capability",
        ),
        (
            {"subtasks": [{"id": "a", "capability": "draft", "instruction": " "}]},
            "plan[0].instruction",
        ),
    ],
)
def test_nonsense_of_a_model_is_refused_with_its_path(output, path):
    with pytest.raises(InvalidRequestError) as caught:
        model_plan.read_plan(output, LIMITS)
    assert path in {one["path"] for one in named(caught)}


def test_a_pattern_of_another_version_is_refused_with_those_that_are_there():
    with pytest.raises(InvalidRequestError, match=r"not available .* auto, route, single, "):
        check_request(TaskRequest(goal="g", pattern="swarm"))


def test_a_plan_with_an_output_schema_that_is_none_is_refused():
    bad = node("a").model_copy(update={"output_schema": {"type": "objekt"}})
    with pytest.raises(InvalidRequestError, match=r"plan\[0\].output_schema"):
        check_request(TaskRequest(goal="g", plan=[bad]))


def test_a_blank_goal_is_refused_together_with_all_else_that_is_wrong():
    with pytest.raises(InvalidRequestError, match="goal: it is blank") as caught:
        check_request(TaskRequest(goal="\u2003\n", plan=[node("a", "a")]))
    assert [one["path"] for one in named(caught)] == ["goal", "plan[0].depends_on[0]"]


def test_the_patterns_that_are_there_are_listed_for_a_program_too():
    with pytest.raises(InvalidRequestError) as caught:
        check_request(TaskRequest(goal=" ", pattern="swarm"))
    assert [one["path"] for one in named(caught)] == ["goal", "pattern"]
    assert (caught.value.details or {})["supported"] == ["auto", "route", *patterns.PATTERNS]


def test_of_ten_thousand_problems_as_many_are_named_as_fit_an_answer():
    with pytest.raises(InvalidRequestError, match=r"and 9992 more") as caught:
        check_plan([node(f"n{number}", "nobody") for number in range(10_000)])
    assert len(caught.value.to_reply().to_json()) < 64 * 1024
