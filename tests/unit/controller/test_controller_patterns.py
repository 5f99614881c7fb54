"""What each pattern makes of a request, and what it refuses."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.controller.task_world import World, world

from agent_controller.planning import patterns
from agent_controller.planning.planner import TaskPlanner, check_request
from agent_controller.tasks.limits import Limits
from agent_controller.tasks.plan import check_plan
from agent_controller.tasks.schema import schema_problem
from atlas.contracts.errors import ConfigurationError, InvalidRequestError
from atlas.contracts.tasks import Pattern, TaskRequest

CAPABILITIES = Limits().capabilities - {"planning"}
MATERIAL = {"a.md": "A", "b.md": "B"}
ROUTES = {
    "bill": {"when": "it is about money", "instruction": "Explain the bill."},
    "repair": {"when": "all else", "instruction": "Mend it.", "capability": "code"},
}
LEAST: dict[str, dict[str, Any]] = {
    Pattern.PIPELINE: {"pattern_options": {"stages": ["translate", "shorten"]}},
    Pattern.MAP_REDUCE: {"inputs": MATERIAL},
    Pattern.ROUTE: {"pattern_options": {"routes": ROUTES}},
}
"""What a pattern cannot do without."""
TEXT = st.text("ab", min_size=1, max_size=3)


def planned(pattern, options=None, **request) -> Any:
    """The plan by the ids of its subtasks, as the log of a task has it."""
    asked = TaskRequest(goal="g", pattern=pattern, pattern_options=options, **request)
    check_request(asked)
    return {one.id: one for one in World(asked).settle().view.plan}


def refused(pattern, options=None, **request) -> Any:
    asked = TaskRequest(goal="g", pattern=pattern, pattern_options=options, **request)
    with pytest.raises(InvalidRequestError) as caught:
        check_request(asked)
    problems: Any = (caught.value.details or {})["problems"]
    return {one["path"]: one["message"] for one in problems}


@pytest.mark.parametrize(("pattern", "make"), patterns.PATTERNS.items())
def test_every_pattern_makes_a_valid_plan_with_one_answer(pattern, make):
    plan = make(TaskRequest(goal="g", pattern=pattern, **LEAST.get(pattern, {})))
    check_plan(plan, max_nodes=Limits().max_plan_nodes, capabilities=CAPABILITIES)
    needed = {dependency for one in plan for dependency in one.depends_on}
    assert [one.id for one in plan if one.id not in needed] == [plan[-1].id]
    schemas = [one.output_schema for one in plan if one.output_schema is not None]
    assert [schema_problem(one) for one in schemas] == [None] * len(schemas)


@pytest.mark.parametrize("pattern", [Pattern.AUTO, Pattern.ROUTE, *patterns.PATTERNS])
def test_an_option_that_a_pattern_does_not_know_is_refused(pattern):
    asked = dict(LEAST.get(pattern, {}))
    options = {**asked.pop("pattern_options", {}), "colour": "red"}
    assert refused(pattern, options, **asked) == {
        "pattern_options.colour": "unknown field; remove it"
    }


def test_a_plan_of_ones_own_takes_no_options():
    node = {"id": "a", "capability": "general", "instruction": "do"}
    assert set(refused("auto", {"rounds": 2}, plan=[node])) == {"pattern_options"}


def test_each_stage_of_a_pipeline_gets_what_the_one_before_made_and_the_first_the_material():
    stages = [{"instruction": "extract", "capability": "extract"}, "translate", "shorten"]
    task = world(pattern="pipeline", pattern_options={"stages": stages}, inputs=MATERIAL)
    (first,) = task.waiting_work().values()
    assert (first.capability, first.instruction) == ("extract", "extract")
    assert first.inputs == {"task": MATERIAL}
    (second,) = task.succeed("stage-1", "one").waiting_work().values()
    assert (second.capability, second.instruction) == ("general", "translate")
    assert second.inputs == {"stage-1": "one"}
    task.succeed("stage-2", "two").succeed("stage-3", "three")
    assert task.view.end.output == "three"


@pytest.mark.parametrize(
    ("options", "path"),
    [
        (None, "pattern_options.stages"),
        ({"stages": []}, "pattern_options.stages"),
        ({"stages": ["a"] * 101}, "pattern_options.stages"),
        ({"stages": ["a", " "]}, "pattern_options.stages[1].instruction"),
        ({"stages": [{"instrction": "a"}]}, "pattern_options.stages[0].instruction"),
    ],
)
def test_stages_that_are_none_are_named(options, path):
    assert path in refused("pipeline", options)


def test_each_input_is_mapped_by_itself_and_only_results_are_reduced():
    task = world(pattern="map_reduce", inputs=MATERIAL)
    work = task.waiting_work()
    assert [one.inputs for one in work.values()] == [
        {"task": {"a.md": "A"}},
        {"task": {"b.md": "B"}},
    ]
    task.succeed("map-1", 1).succeed("map-2", 2)
    assert task.waiting_work()["reduce"].inputs == {"map-1": 1, "map-2": 2}


def test_each_element_of_a_list_is_mapped_with_the_other_inputs():
    task = world(
        pattern="map_reduce",
        inputs={"lakes": ["Zug", "Thun"], "style": "short"},
        pattern_options={"over": "lakes", "map": "measure", "reduce": {"instruction": "rank"}},
    )
    work = task.waiting_work()
    assert [(one.instruction, one.inputs["task"]) for one in work.values()] == [
        ("measure", {"lakes": "Zug", "style": "short"}),
        ("measure", {"lakes": "Thun", "style": "short"}),
    ]
    whole = task.succeed("map-1", 1).succeed("map-2", 2).waiting_work()["reduce"]
    assert whole.inputs == {"task": {"style": "short"}, "map-1": 1, "map-2": 2}


@pytest.mark.parametrize(
    ("inputs", "options", "path", "said"),
    [
        (None, None, "inputs", "there are no inputs"),
        ({"lakes": []}, {"over": "lakes"}, "inputs.lakes", "there are no elements"),
        ({"lakes": "Zug"}, {"over": "lakes"}, "inputs.lakes", "it is no list"),
        ({"lakes": []}, {"over": "laks"}, "pattern_options.over", "did you mean 'lakes'?"),
        ({"lakes": [1] * 1001}, {"over": "lakes"}, "inputs.lakes", "1001 elements"),
        ({"lakes": ["x" * 800] * 1000}, {"over": "lakes"}, "inputs", "bytes"),
    ],
)
def test_what_cannot_be_mapped_is_refused_with_what_to_give(inputs, options, path, said):
    assert said in refused("map_reduce", options, inputs=inputs)[path]


@given(st.lists(TEXT, min_size=2, max_size=8), st.integers(1, 5))
def test_everyone_in_a_debate_answers_everyone_of_the_round_before(positions, rounds):
    plan = planned("debate", {"positions": positions, "rounds": rounds})
    assert len(plan) == len(positions) * rounds + 1
    for number, position in enumerate(positions, start=1):
        for round_ in range(1, rounds + 1):
            one = plan[f"position-{number}-round-{round_}"]
            assert f"Your position: {position}." in one.instruction
            assert one.depends_on == (
                [f"position-{other}-round-{round_ - 1}" for other in range(1, len(positions) + 1)]
                if round_ > 1
                else []
            )
    assert plan["verdict"].depends_on == [
        f"position-{number}-round-{rounds}" for number in range(1, len(positions) + 1)
    ]


@given(st.integers(2, 25), st.none() | st.lists(TEXT, min_size=2, max_size=5, unique=True))
def test_voters_know_nothing_of_each_other_and_choose_among_the_choices(voters, choices):
    *votes, verdict = planned("vote", {"voters": voters, "choices": choices}).values()
    assert len(votes) == voters
    assert all(one.depends_on == [] for one in votes)
    assert verdict.depends_on == [one.id for one in votes]
    for one in (*votes, verdict):
        schema: Any = one.output_schema
        assert choices == (schema["properties"]["choice"]["enum"] if schema else None)


def test_a_vote_among_choices_that_are_not_distinct_is_refused():
    assert set(refused("vote", {"choices": ["a", "a"]})) == {"pattern_options.choices"}


@given(st.integers(1, 5), st.lists(TEXT, max_size=3))
def test_a_draft_is_judged_by_the_criteria_and_written_anew_in_each_round(rounds, criteria):
    plan = planned("evaluate_optimize", {"rounds": rounds, "criteria": criteria})
    assert list(plan)[-1] == f"draft-{rounds + 1}"
    for round_ in range(1, rounds + 1):
        judged = plan[f"evaluation-{round_}"]
        assert judged.depends_on == [f"draft-{round_}"]
        assert judged.accepts == f"draft-{round_}"
        assert all(f"- {one}" in judged.instruction for one in criteria)
        assert plan[f"draft-{round_ + 1}"].depends_on == [f"draft-{round_}", judged.id]


def routed() -> Any:
    return world(pattern="route", pattern_options={"routes": ROUTES})


def test_a_model_chooses_the_route_and_only_that_one_is_gone():
    task = routed()
    asked = task.waiting_work()["plan"]
    assert (asked.capability, "- `bill`: it is about money" in asked.instruction) == (
        "planning",
        True,
    )
    assert asked.output_schema["properties"]["route"]["enum"] == ["bill", "repair"]
    task.succeed("plan", {"route": "repair", "reason": "it is broken"})
    (work,) = task.waiting_work().values()
    assert (work.subtask_id, work.capability, work.instruction) == ("repair", "code", "Mend it.")
    (planned_,) = [one for one in task.log if one.type == "task.planned"]
    assert (planned_.planner, planned_.reason) == ("model", "route repair: it is broken")


@pytest.mark.parametrize("nonsense", [{"route": "nowhere"}, {"route": ["bill"]}, "bill", None])
def test_a_route_that_is_none_is_asked_for_again_and_at_last_the_goal_is_worked_on(nonsense):
    task = routed().succeed("plan", nonsense)
    asked = task.waiting_work()["plan-repair"]
    assert "- route: give one of bill, repair" in asked.instruction
    assert "- `bill`: it is about money" in asked.instruction
    task.succeed("plan-repair", nonsense)
    assert set(task.waiting_work()) == {"answer"}
    assert task.view.planner == "last_resort"


@pytest.mark.parametrize(
    ("routes", "path"),
    [
        (None, "pattern_options.routes"),
        ({"bill": ROUTES["bill"]}, "pattern_options.routes"),
        ({**ROUTES, "plan": ROUTES["bill"]}, "pattern_options.routes.plan"),
        ({**ROUTES, "a b": ROUTES["bill"]}, "pattern_options.routes.a b"),
        ({**ROUTES, "other": {"instruction": "x"}}, "pattern_options.routes.other.when"),
    ],
)
def test_routes_that_are_none_are_named(routes, path):
    assert path in refused("route", {"routes": routes} if routes else None)


def test_a_subtask_of_ones_own_plan_gets_the_inputs_that_it_names_and_all_by_default():
    nodes = [
        {"id": "a", "capability": "general", "instruction": "do", "task_inputs": ["a.md"]},
        {"id": "b", "capability": "general", "instruction": "do", "inputs": {"b.md": "mine"}},
        {"id": "c", "capability": "general", "instruction": "do", "task_inputs": []},
    ]
    work = world(*nodes, inputs=MATERIAL).waiting_work()
    assert [work[id_].inputs for id_ in "abc"] == [
        {"task": {"a.md": "A"}},
        {"task": {"a.md": "A", "b.md": "mine"}},
        {},
    ]
    assert refused("auto", plan=nodes, inputs={"b.md": "B"}) == {
        "plan[0].task_inputs[0]": "the task has no input 'a.md'; did you mean 'b.md'?"
    }


def mine(request) -> Any:
    """A pattern of one's own; `inputs` say what it gives."""
    return request.inputs["plan"]


NOT_CALLABLE = "no function"


def own_plan(plan) -> Any:
    known = patterns.registered({"mine": f"{__name__}:mine"})
    request = TaskRequest(goal="g", pattern="mine", inputs={"plan": plan})
    TaskPlanner(Limits(), known=known).check(request)
    step: Any = TaskPlanner(Limits(), known=known).next_step(World(request).view)
    return step.planner, [one.id for one in step.plan]


def test_a_pattern_of_ones_own_is_a_function_that_gives_subtasks_or_their_fields():
    node = {"id": "a", "capability": "general", "instruction": "do"}
    assert own_plan([node, {**node, "id": "b", "depends_on": ["a"]}]) == ("pattern", ["a", "b"])


@pytest.mark.parametrize(
    ("plan", "path", "said"),
    [
        (None, "pattern", "it failed with TypeError: 'NoneType' object is not iterable"),
        ([], "plan", "it is empty"),
        ([{"id": "a"}], "plan[0].capability", "required"),
        (
            [{"id": "a", "capability": "c", "instruction": "i", "depends_on": ["a"]}],
            "plan[0].depends_on[0]",
            "depends on itself",
        ),
    ],
)
def test_what_is_wrong_with_the_plan_of_ones_own_pattern_is_told_at_the_door(plan, path, said):
    with pytest.raises(InvalidRequestError) as caught:
        own_plan(plan)
    details: Any = caught.value.details
    assert details["problems"][0]["path"] == path
    assert said in details["problems"][0]["message"]


@pytest.mark.parametrize(
    ("name", "place", "said"),
    [
        ("vote", f"{__name__}:mine", "Atlas has a pattern 'vote'"),
        ("route", f"{__name__}:mine", "Atlas has a pattern 'route'"),
        ("mine", __name__, "give `module:function`"),
        ("mine", "no_such_module:mine", "No module named 'no_such_module'"),
        ("mine", f"{__name__}:yours", "has no attribute 'yours'"),
        ("mine", f"{__name__}:NOT_CALLABLE", "it is no function"),
    ],
)
def test_a_pattern_that_cannot_be_registered_is_named_with_its_setting(name, place, said):
    with pytest.raises(ConfigurationError, match=rf"controller\.patterns\.{name}: ") as caught:
        patterns.registered({name: place})
    assert said in caught.value.message
