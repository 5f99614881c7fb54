"""A plan that changes while it runs: what asks for it, what is asked, and what becomes of it."""

import json
from typing import Any

import pytest
from tests.unit.controller.task_world import LIMITS, START_MS, node, world

from agent_controller.planning import model_change
from agent_controller.planning.planner import check_request
from agent_controller.tasks.effects import ControlStream
from atlas.contracts.errors import InvalidRequestError, ProviderAuthError
from atlas.contracts.inference import Budget, Usage
from atlas.contracts.tasks import SubtaskState, TaskRequest, TaskState

NO_KEY = ProviderAuthError("no key")
FORK = (node("a"), node("b"), node("c", "a", "b"))
"""Two side by side, and one that joins them."""


def added(id_, *depends_on, **more) -> Any:
    return {
        "id": id_,
        "capability": "general",
        "instruction": f"do {id_}",
        "depends_on": [*depends_on],
        **more,
    }


def change(*nodes, removed=(), reason="another way") -> Any:
    return {"added": [*nodes], "removed": [*removed], "reason": reason}


MENDED = change(added("b2"), added("c2", "a", "b2"), removed=["b", "c"])


def broken(*plan, **request) -> Any:
    """A task whose subtask b failed for good, after a succeeded."""
    asked = {"max_replans": 1, **request}
    return world(*(plan or FORK), **asked).succeed("a", "A").fail("b", NO_KEY)


def replanned(task) -> Any:
    (event,) = [one for one in task.log if one.type == "task.replanned"]
    return event


def test_a_model_is_asked_for_another_plan_where_a_failure_would_end_the_task():
    task = broken(inputs={"file": "text"})
    assert task.view.subtasks["c"].state is SubtaskState.WAITING, "it may still be saved"
    (work,) = task.waiting_work().values()
    assert (work.subtask_id, work.capability, work.goal) == ("replan-1", "planning", "g")
    assert "`b` failed for good" in work.instruction
    assert work.inputs["task"]["file"] == "text"
    so_far = work.inputs["task"][model_change.PROGRESS]["subtasks"]
    assert [(one["id"], one["state"]) for one in so_far] == [
        ("b", "failed"),
        ("c", "waiting"),
        ("a", "succeeded"),
    ]
    assert (so_far[0]["error"], so_far[2]["result"]) == ("no key", "A")


def test_finished_work_is_kept_and_the_difference_and_its_reason_are_in_the_log():
    task = broken().succeed("replan-1", MENDED)
    event = replanned(task)
    assert [one.id for one in event.added] == ["b2", "c2"]
    assert (event.removed, event.reason, event.because) == (["b", "c"], "another way", ["b"])
    assert set(task.waiting_work()) == {"b2"}
    task.succeed("b2", "B")
    assert task.waiting_work()["c2"].inputs == {"a": "A", "b2": "B"}
    end = task.succeed("c2", "C").view.end
    assert (end.type, end.output, end.lost, end.cause) == ("task.completed", "C", [], None)
    assert end.usage.output_tokens == 4 * 5, "what failed and the planning are paid for too"


def test_only_a_plan_that_a_model_made_is_changed_by_default_and_only_once():
    task = world(*FORK).fail("b", NO_KEY).succeed("a")
    assert "task.failed" in task.types()
    task = world()
    task.succeed("plan", {"subtasks": [added("a"), added("b"), added("c", "a", "b")]})
    task.fail("b", NO_KEY).succeed("replan-1", MENDED).fail("b2", NO_KEY).succeed("a")
    assert task.types().count("task.replanned") == 1
    assert task.view.end.error.details["failed"] == ["b2"]


def test_a_failure_that_the_task_outlives_changes_nothing():
    task = world(*FORK, max_replans=1, on_failure="quorum", quorum=1).fail("b", NO_KEY)
    assert "replan-1" not in task.view.subtasks
    assert task.succeed("a").succeed("c").view.state is TaskState.COMPLETED
    task = world(node("a"), node("b"), max_replans=1, on_failure="best_so_far").fail("b", NO_KEY)
    assert task.succeed("a").view.end.lost == ["b"]


def test_what_a_person_stopped_is_no_reason_for_another_plan():
    task = world(*FORK, max_replans=1).control("cancel", "b").succeed("a")
    assert task.view.state is TaskState.FAILED
    assert "replan-1" not in task.view.subtasks


def test_while_it_is_asked_for_what_runs_goes_on_and_nothing_new_starts():
    plan = (node("a"), node("b"), node("x"), node("y", "x"), node("c", "a", "b"))
    task = broken(*plan)
    assert set(task.waiting_work()) == {"x", "replan-1"}
    task.succeed("x", "X")
    assert set(task.waiting_work()) == {"replan-1"}
    task.succeed("replan-1", MENDED)
    assert set(task.waiting_work()) == {"y", "b2"}


def test_what_runs_and_is_removed_is_stopped_with_its_stream():
    task = broken(node("a"), node("b"), node("x"), node("c", "a", "b", "x")).start("x")
    stream_id = task.view.subtasks["x"].stream_id
    task.succeed("replan-1", change(added("d", "a"), removed=["b", "c", "x"]))
    (stopped,) = [one for one in task.log if one.type == "subtask.cancelled"]
    assert (stopped.subtask_id, stopped.by) == ("x", "controller")
    assert stopped.reason == "the plan changes: another way"
    assert [(one.stream_id, one.action) for one in task.effects(ControlStream)] == [
        (stream_id, "cancel")
    ]
    assert set(task.view.removed) == {"b", "c", "x"}
    assert task.succeed("d", "D").view.end.output == "D"


def test_what_finished_before_the_answer_came_stays_although_the_answer_removes_it():
    task = broken(node("a"), node("b"), node("x"), node("c", "a", "b", "x")).succeed("x", "X")
    task.succeed("replan-1", change(added("d", "a"), removed=["b", "c", "x", "a"]))
    assert replanned(task).removed == ["b", "c"]
    assert task.view.subtasks["x"].output == "X"
    assert task.succeed("d", "D").view.end.output == "D", "x was never a result of the task"


def test_a_result_may_say_that_the_plan_must_change():
    task = world(node("a"), node("b", "a"), max_replans=2)
    task.succeed("a", "A", replan="the source is in Dutch")
    work = task.waiting_work()["replan-1"]
    assert "the result of `a` showed that it must" in work.instruction
    (first, _) = work.inputs["task"][model_change.PROGRESS]["subtasks"][::-1]
    assert first["says_that_the_plan_must_change"] == "the source is in Dutch"
    task.succeed("replan-1", change(added("t", "a"), added("b2", "t"), removed=["b"]))
    assert replanned(task).because == ["a"]
    assert set(task.waiting_work()) == {"t"}
    assert task.succeed("t").succeed("b2", "B").view.end.output == "B"


def test_a_result_that_asks_while_the_plan_changes_is_answered_by_another_change():
    task = world(node("a"), node("x"), node("b", "a", "x"), max_replans=2)
    task.succeed("a", replan="one").succeed("x", replan="two").succeed("replan-1", change())
    assert replanned(task).because == ["a"]
    assert set(task.waiting_work()) == {"replan-2"}


def test_a_change_that_changes_nothing_lets_the_plan_go_on():
    task = world(node("a"), node("b", "a"), max_replans=1, approval="plan").control("approve")
    task.succeed("a", replan="perhaps").succeed("replan-1", change(reason="it fits"))
    assert replanned(task).reason == "it fits"
    assert set(task.waiting_work()) == {"b"}, "the plan is the one that was approved"


def test_a_result_may_ask_at_the_end_and_what_is_added_becomes_the_answer():
    task = world(node("a"), max_replans=1).succeed("a", "draft", replan="not good enough")
    assert task.types()[-1] == "subtask.dispatched", "it has not ended"
    task.succeed("replan-1", change(added("better", "a"))).succeed("better", "fine")
    assert task.view.end.output == "fine"


def test_a_result_that_asks_where_no_change_is_allowed_changes_nothing():
    task = world(node("a"), node("b", "a")).succeed("a", "A", replan="please")
    assert set(task.waiting_work()) == {"b"}
    assert task.log[-2].replan == "please"


REFUSED = {
    "no object": ("removed `b`", "the answer is no object"),
    "no list": ({"added": [], "removed": "b", "reason": ""}, "the answer is no object"),
    "no subtask": (change({"id": "b2"}), "added[0].capability"),
    "blank": (change(added("b2", instruction=" ")), "added[0].instruction: it is blank"),
    "capability": (change(added("b2", capability="fly")), "no worker knows 'fly'"),
    "reserved": (change(added("replan-2")), "'replan-2' is reserved"),
    "twice": (change(added("x"), added("x")), "added[1].id: 'x' is the id of added[0] already"),
    "id of the plan": (change(added("b"), removed=["b", "c"]), "the id of an earlier subtask"),
    "planning id": (change(added("plan"), removed=["b", "c"]), "'plan' is reserved"),
    "unknown dependency": (change(added("d", "aa")), "there is no subtask 'aa'; did you mean 'a'?"),
    "removed dependency": (change(added("d", "b"), removed=["b"]), "there is no subtask 'b'"),
    "failed dependency": (
        change(added("d", "b"), removed=["c"]),
        "added[0].depends_on: it depends on 'b', which is failed; leave it out",
    ),
    "cycle": (change(added("x", "y"), added("y", "x")), "a cycle: x → y → x"),
    "unknown removed": (change(removed=["bb"]), "removed[0]: the plan has no subtask 'bb'"),
    "stranded": (
        change(added("b2"), removed=["b"]),
        "'c' could not begin: it depends on 'b', which is removed; remove 'c' too",
    ),
    "nothing done": (change(), "'c' could not begin: it depends on 'b', which is failed"),
    "too many": (change(*(added(f"n{one}") for one in range(51))), "51 subtasks, and at most 50"),
    "too deep": (
        change(*(added(f"n{one}", *([f"n{one - 1}"] if one else [])) for one in range(21))),
        "21 subtasks wait for each other in a row, and at most 20 may",
    ),
}


@pytest.mark.parametrize(("answer", "said"), REFUSED.values(), ids=REFUSED)
def test_a_change_that_cannot_be_made_is_named_and_asked_for_again(answer, said):
    task = broken().succeed("replan-1", answer)
    work = task.waiting_work()["replan-1-repair"]
    assert said in work.instruction
    assert "`b` failed for good" in work.instruction
    assert task.view.subtasks["b"].state is SubtaskState.FAILED, "nothing is changed yet"
    task.succeed("replan-1-repair", work.output_schema["examples"][0])
    assert set(task.waiting_work()) == {"b-2"}
    assert replanned(task).because == ["b"]


def test_an_old_id_that_would_close_a_circle_is_named_like_any_other():
    task = broken(node("a"), node("b"), node("c", "a", "b", quorum=1), node("d", "b"))
    task.succeed("replan-1", change(added("b", "c"), removed=["b", "d"]))
    work = task.waiting_work()["replan-1-repair"]
    assert "added[0].id: 'b' is the id of an earlier subtask" in work.instruction


def test_the_id_of_what_an_earlier_change_removed_is_not_used_again():
    task = broken(max_replans=2).succeed("replan-1", MENDED).fail("b2", NO_KEY)
    again = change(added("b"), added("c3", "a", "b"), removed=["b2", "c2"])
    work = task.succeed("replan-2", again).waiting_work()["replan-2-repair"]
    assert "added[0].id: 'b' is the id of an earlier subtask" in work.instruction


def test_a_plan_of_one_that_failed_needs_something_in_its_place():
    task = world(node("a"), max_replans=1).fail("a", NO_KEY)
    task.succeed("replan-1", change(removed=["a"]))
    assert "nothing would be left to do" in task.waiting_work()["replan-1-repair"].instruction


def test_a_lost_result_of_the_task_must_leave_the_plan():
    task = world(node("a"), node("b"), max_replans=1).fail("b", NO_KEY)
    task.succeed("replan-1", change(added("d")))
    assert (
        "the task could still only fail because of 'b' (failed)"
        in task.waiting_work()["replan-1-repair"].instruction
    )


def test_nonsense_twice_ends_the_task_as_it_would_have_and_says_so():
    task = broken().succeed("replan-1", "no").succeed("replan-1-repair", "no")
    end = task.view.end
    assert end.type == "task.failed"
    assert "'b' failed after 1 attempts: no key" in end.error.message
    assert "the plan could not be changed: the model's change was refused twice" in (
        end.error.message
    )
    assert end.outputs == {"a": "A"}


@pytest.mark.parametrize("by_whom", ["failure", "person"])
def test_a_planner_that_gives_no_change_ends_the_task_as_it_would_have(by_whom):
    task = broken()
    task.fail("replan-1", NO_KEY) if by_whom == "failure" else task.control("cancel", "replan-1")
    assert task.view.state is TaskState.FAILED
    assert "the subtask 'replan-1' gave no change" in task.view.end.error.message


def test_where_only_a_result_asked_the_plan_goes_on_as_it_was():
    task = world(node("a"), node("b", "a"), max_replans=1).succeed("a", replan="please")
    task.fail("replan-1", NO_KEY)
    assert set(task.waiting_work()) == {"b"}
    assert task.succeed("b", "B").view.end.output == "B"


def test_a_failure_while_the_plan_changes_is_told_to_the_model_in_the_second_question():
    plan = (node("a"), node("b"), node("x"), node("c", "a", "b"), node("y", "x"))
    task = broken(*plan).fail("x", NO_KEY).succeed("replan-1", MENDED)
    work = task.waiting_work()["replan-1-repair"]
    assert "`b` failed for good and `x` failed for good" in work.instruction
    answer = change(*MENDED["added"], removed=["b", "c", "x", "y"])
    task.succeed("replan-1-repair", answer)
    assert replanned(task).because == ["b", "x"]


def test_a_changed_plan_waits_for_its_approval_again():
    task = world(*FORK, max_replans=1, approval="plan").control("approve")
    task.succeed("a").fail("b", NO_KEY).succeed("replan-1", MENDED)
    assert task.view.state is TaskState.AWAITING_APPROVAL
    assert task.waiting_work() == {}
    assert set(task.control("approve").waiting_work()) == {"b2"}


def test_a_paused_task_asks_nobody_and_changes_nothing_until_it_goes_on():
    task = world(*FORK, max_replans=1).start("b").control("pause").fail("b", NO_KEY)
    assert "replan-1" not in task.view.subtasks
    assert set(task.control("resume").waiting_work()) >= {"replan-1"}


def test_the_deadline_and_the_budget_hold_while_the_plan_changes():
    task = broken(deadline_ms=START_MS + 500).wait(500)
    assert task.view.end.error.category == "timeout"
    task = broken(budget=Budget(max_tokens=25)).succeed("replan-1", MENDED, tokens=20)
    assert task.view.end.error.category == "budget"
    assert task.view.end.outputs == {"a": "A"}


def test_a_late_result_of_what_was_removed_counts_for_what_it_used_once():
    task = broken(node("a"), node("b"), node("x"), node("c", "a", "b", "x")).start("x")
    task.succeed("replan-1", change(added("d", "a"), removed=["b", "c", "x"]))
    before = task.view
    spent = task.say("x", "late", tokens=7).log[-1]
    assert (spent.type, spent.subtask_id, spent.attempt) == ("subtask.spent", "x", 1)
    assert task.view.usage == before.usage + Usage(input_tokens=7, output_tokens=7)
    assert (task.view.plan, task.view.subtasks) == (before.plan, before.subtasks)
    after = task.view
    assert task.say("x", "again", tokens=7).view == after


def test_the_ids_of_planning_are_refused_in_a_plan_that_may_change():
    request = TaskRequest(goal="g", plan=[node("replan-1")], max_replans=1)
    with pytest.raises(InvalidRequestError, match="'replan-1' is reserved"):
        check_request(request)
    check_request(request.model_copy(update={"max_replans": None}))


def test_what_the_model_is_shown_is_bounded():
    plan = [*(node(f"n{one}") for one in range(400)), node("bad"), node("z", "bad")]
    task = world(*plan, max_replans=1)
    for one in range(300):
        task.succeed(f"n{one}", {"text": "x" * 10_000})
    task.fail("bad", NO_KEY)
    work = task.waiting_work()["replan-1"]
    shown = work.inputs["task"][model_change.PROGRESS]
    assert len(work.to_json()) < 128 * 1024
    assert {"bad", "z", "n399"} <= {one["id"] for one in shown["subtasks"]}
    assert shown["not_shown"].startswith("202 more")


def test_the_example_of_the_answer_can_always_be_made():
    task = broken(node("a"), node("b"), node("c", "a", "b"), node("d", "c"))
    example = model_change.change_schema(task.view, LIMITS)["examples"]
    assert isinstance(example, list)
    made = model_change.read_change(task.view, example[0], LIMITS)
    assert (made.removed, [one.id for one in made.added]) == (
        ("b", "c", "d"),
        ["b-2", "c-2", "d-2"],
    )


def test_the_example_of_a_large_plan_is_a_short_one():
    long = [
        node(f"n{number}", "b").model_copy(update={"instruction": "x" * 1_000})
        for number in range(300)
    ]
    task = broken(node("a"), node("b"), *long, node("z", *(one.id for one in long)))
    schema = model_change.change_schema(task.view, LIMITS)
    assert len(json.dumps(schema)) < 16 * 1024
    example: Any = schema["examples"]
    (example,) = example
    assert example["removed"][0] == "b"
    assert [one["id"] for one in example["added"]][:2] == ["b-2", "n0-2"]


def test_a_question_about_the_plan_needs_no_approval_and_is_tried_again():
    task = world(node("a"), node("b", "a"), max_replans=1, approval="subtasks")
    task.control("approve", "a").fail("a", NO_KEY)
    assert "replan-1" in task.waiting_work()
    task.fail("replan-1")
    task.wait(60_000)
    assert task.waiting_work()["replan-1"].attempt == 2
