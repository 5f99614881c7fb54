"""The life of a task as a pure game: decisions against a world that fails, repeats and forgets."""

import pytest
from tests.unit.controller.task_world import DIAMOND, LIMITS, PLANNER, START_MS, World, node, world

from agent_controller.planning import model_plan
from agent_controller.tasks.effects import ControlStream, SendWork, subtask_of, wake_at_ms
from agent_controller.tasks.entries import LogCorruptError, read_entry
from agent_controller.tasks.fold import fold, heard
from agent_controller.tasks.intake import give_up
from agent_controller.tasks.view import TaskView
from atlas.contracts.errors import ProviderAuthError, ProviderOverloadedError
from atlas.contracts.inference import Budget
from atlas.contracts.task_events import TASK_EVENT
from atlas.contracts.tasks import SubtaskState, TaskRequest, TaskState


def test_every_ready_subtask_is_dispatched_at_once():
    task = world(*DIAMOND)
    assert set(task.waiting_work()) == {"a"}
    task.succeed("a")
    assert set(task.waiting_work()) == {"b", "c"}


def test_a_subtask_gets_the_results_that_it_depends_on_and_the_inputs_of_the_task():
    task = world(*DIAMOND, inputs={"file": "text"}).succeed("a", "A").succeed("b", "B")
    task.succeed("c", {"x": 1})
    assert task.waiting_work()["d"].inputs == {"task": {"file": "text"}, "b": "B", "c": {"x": 1}}


def test_the_output_of_the_only_sink_is_the_output_of_the_task():
    task = world(*DIAMOND)
    for id_ in "abcd":
        task.start(id_).succeed(id_, f"out-{id_}")
    assert task.view.state is TaskState.COMPLETED
    assert task.view.end.output == "out-d"
    assert task.view.end.usage.input_tokens == 20


def test_several_sinks_give_a_mapping_by_id():
    task = world(node("a"), node("b")).succeed("a", 1).succeed("b", 2)
    assert task.view.end.output == {"a": 1, "b": 2}


def test_a_failed_attempt_is_retried_after_its_back_off():
    task = world(node("a")).start("a").fail("a")
    assert task.view.subtasks["a"].state is SubtaskState.RETRYING
    assert task.waiting_work() == {}
    wake = wake_at_ms(task.view, task.now_ms, LIMITS)
    assert 250 <= wake - task.now_ms <= 500
    task.wait(wake - task.now_ms)
    assert task.waiting_work()["a"].attempt == 2
    assert task.waiting_work()["a"].stream_id != task.log[2].stream_id


def test_a_retry_waits_for_as_long_as_the_provider_asks():
    task = world(node("a")).fail("a", ProviderOverloadedError("busy", retry_after_ms=90_000))
    assert wake_at_ms(task.view, task.now_ms, LIMITS) == task.now_ms + 90_000


def test_an_error_that_would_come_again_is_not_retried():
    task = world(node("a")).fail("a", ProviderAuthError("no key"))
    assert task.view.state is TaskState.FAILED
    assert "no key" in task.view.end.error.message
    assert task.view.end.error.category == "auth"


def test_a_lost_subtask_does_not_discard_its_finished_siblings():
    task = world(node("a"), node("b"), node("c", "b"), node("d", "c"), node("e", "a"))
    task.fail("b", ProviderAuthError("no key"))
    assert task.view.subtasks["c"].state is SubtaskState.CANCELLED
    assert task.view.subtasks["d"].state is SubtaskState.CANCELLED
    assert not task.view.state.is_terminal
    task.succeed("a", "A").succeed("e", "E")
    assert task.view.state is TaskState.FAILED
    assert task.view.end.outputs == {"a": "A", "e": "E"}
    assert task.view.end.cost.total_usd == pytest.approx(0.022)


def test_a_timeout_counts_from_the_start_and_gives_its_stream_up():
    task = world(node("a", timeout_ms=1_000, max_attempts=1)).wait(60_000).start("a")
    stream_id = task.view.subtasks["a"].stream_id
    assert task.wait(999).view.end is None
    task.wait(1)
    assert task.view.end.error.category == "timeout"
    assert [(one.stream_id, one.action) for one in task.effects(ControlStream)] == [
        (stream_id, "cancel")
    ]


def test_a_deadline_ends_the_task_and_its_streams():
    task = world(node("a"), node("b"), deadline_ms=START_MS + 500).succeed("a", "A").start("b")
    assert wake_at_ms(task.view, task.now_ms, LIMITS) == START_MS + 500
    task.wait(500)
    assert task.view.end.error.category == "timeout"
    assert task.view.end.outputs == {"a": "A"}
    assert len(task.effects(ControlStream)) == 1


@pytest.mark.parametrize("budget", [{"max_tokens": 9}, {"max_usd": 0.005}, {"max_ms": 100}])
def test_a_spent_budget_ends_the_task(budget):
    task = world(node("a"), node("b", "a"), budget=Budget(**budget)).succeed("a").wait(100)
    assert task.view.end.error.category == "budget"


def test_a_budget_is_shared_among_the_subtasks_that_are_not_finished():
    task = world(*DIAMOND, budget=Budget(max_tokens=1_000))
    assert task.waiting_work()["a"].budget.max_tokens == 250
    task.succeed("a")
    assert task.waiting_work()["b"].budget.max_tokens == 330
    assert task.waiting_work()["b"].task_budget == Budget(max_tokens=1_000)


def test_a_subtask_gets_what_is_left_of_the_tasks_time_and_pauses_leave_it_alone():
    task = world(node("a"), node("b", "a"), budget=Budget(max_ms=10_000)).start("a")
    task.wait(1_000).control("pause").wait(3_600_000).control("resume").wait(500).succeed("a")
    work = task.waiting_work()["b"]
    assert work.budget == Budget(max_ms=8_500)
    assert work.deadline_ms is None


def test_planning_is_a_subtask_like_any_other():
    task = world(pattern="auto")
    (work,) = task.waiting_work().values()
    assert (work.subtask_id, work.capability, work.goal) == ("plan", "planning", "g")
    task.succeed("plan", work.output_schema["examples"][0])
    assert task.view.planner == "model"
    assert set(task.waiting_work()) == {"research", "analysis", "outline"}


def test_a_nonsense_plan_is_repaired_once_with_its_problems_named():
    task = world().succeed(
        "plan", {"subtasks": [{"id": "a", "capability": "x", "instruction": "y"}]}
    )
    (work,) = task.waiting_work().values()
    assert work.subtask_id == "plan-repair"
    assert "no worker knows 'x'" in work.instruction
    task.succeed("plan-repair", work.output_schema["examples"][0])
    assert task.view.planner == "model"


def test_nonsense_again_ends_in_a_plan_of_one():
    task = world().succeed("plan", "no").succeed("plan-repair", "no")
    assert (task.view.planner, len(task.view.plan)) == ("last_resort", 1)
    task.succeed("answer", "42")
    assert task.view.end.output == "42"


def test_a_planner_that_fails_for_good_ends_in_a_plan_of_one():
    task = world().fail("plan", ProviderAuthError("no key"))
    assert task.view.planner == "last_resort"
    assert set(task.waiting_work()) == {"answer"}


def test_a_result_that_breaks_its_schema_fails_the_subtask():
    task = world(node("a")).succeed("a", "text", schema={"type": "object"})
    assert task.view.state is TaskState.FAILED
    assert "$: 'text' is not of type 'object'" in task.view.end.error.message


def test_a_late_result_of_an_earlier_attempt_counts_and_ends_the_later_one():
    task = world(node("a")).start("a").fail("a").wait(500).start("a")
    later = task.view.subtasks["a"].stream_id
    task.succeed("a", "first", attempt=1)
    assert task.view.end.output == "first"
    assert [one.stream_id for one in task.effects(ControlStream)] == [later]


def test_a_late_report_of_an_earlier_attempt_changes_nothing():
    task = world(node("a")).fail("a").wait(500)
    before = task.view
    assert task.fail("a", attempt=1).view == before


@pytest.mark.parametrize("why", ["timeout", "cancelled"])
def test_what_a_given_up_attempt_had_used_counts_once_and_for_the_budget(why):
    task = world(node("a", timeout_ms=1_000), node("b"), budget=Budget(max_usd=0.003)).start("a")
    if why == "timeout":
        task.wait(1_000).wait(500).start("a")
    else:
        task.control("cancel", "a")
    assert task.view.usage.input_tokens == 0
    task.fail("a", attempt=1)
    assert (task.log[-1].type, task.view.usage.input_tokens) == ("subtask.spent", 3)
    after = task.view
    assert task.fail("a", attempt=1).view == after
    task.fail("b")
    assert task.view.end.error.code == "budget_exceeded"


def test_an_attempt_of_which_two_workers_tell_is_paid_once():
    """Both had the same stream: one says that it failed, the other has its result."""
    task = world(node("a")).fail("a")
    told = (task.view.usage, task.view.cost)
    task.succeed("a", attempt=1)
    assert task.log[-1].type == "task.completed"
    assert (task.view.usage, task.view.cost) == told


def test_work_that_nobody_starts_is_sent_again_ever_more_rarely():
    task = world(node("a"))
    keys: list[str] = []
    for _ in range(300):
        keys.extend(one.key for one in task.effects(SendWork))
        task.wait(1_000)
    assert len(set(keys)) == 1 + 5  # at 15, 30, 60, 120 and 240 seconds
    assert keys[0] == "default:t1:a:1"


def test_work_that_falls_silent_is_sent_again_and_word_resets_the_wait():
    task = world(node("a")).start("a").wait(59_000)
    task.view = heard(task.view, "a", 1, task.now_ms)
    assert task.wait(59_000).effects(SendWork) == []
    (again,) = task.wait(1_000).effects(SendWork)
    assert again.resend == 1
    assert again.subtask.attempt == 1


def test_a_repeated_dispatch_names_the_same_stream():
    one, other = world(node("a")), world(node("a"))
    assert one.waiting_work()["a"].stream_id == other.waiting_work()["a"].stream_id
    assert one.waiting_work()["a"].idempotency_key == "t1:a:1"


def test_status_and_summary_tell_the_whole_tree():
    task = world(*DIAMOND).start("a").succeed("a", "A")
    status = task.view.to_status()
    assert [one.state for one in status.subtasks] == [
        "succeeded",
        "dispatched",
        "dispatched",
        "waiting",
    ]
    assert status.subtasks[0].worker == "w1"
    summary = task.view.to_summary()
    assert (summary.subtasks, summary.subtasks_done) == (4, 1)


def test_an_event_of_a_newer_version_is_passed_over_and_a_gap_is_not():
    view = TaskView("default", "t1")
    unknown = read_entry(b'{"task_id":"t1","version":1,"at_ms":5,"type":"task.sang","x":1}')
    view = fold(view, [unknown])
    assert (view.version, view.updated_at_ms) == (1, 5)
    with pytest.raises(LogCorruptError, match="from version 1 to 3"):
        fold(view, [unknown.model_copy(update={"version": 3})])
    with pytest.raises(LogCorruptError, match=r"task\.planned"):
        read_entry(b'{"task_id":"t1","version":1,"at_ms":5,"type":"task.planned"}')


def test_every_dispatched_subtask_can_be_told_to_a_worker():
    task = world(pattern="auto")
    subtask = subtask_of(task.view, task.view.subtasks["plan"], task.now_ms, PLANNER)
    assert subtask.output_schema == model_plan.plan_schema(LIMITS)


def test_a_workers_endless_error_is_shortened_so_that_the_tasks_end_fits_a_message():
    world = World(TaskRequest(goal="g", pattern="single")).settle()
    world.fail("answer", ProviderAuthError("no " * 300_000, details={"why": "x" * 300_000}))
    end = TASK_EVENT.dump_json(world.log[-1])
    assert world.view.state is TaskState.FAILED
    assert b"no no no" in end
    assert len(end) < 64 * 1024


def test_a_subtask_that_can_come_to_no_result_fails_for_good_and_gives_up_its_stream():
    world = World(TaskRequest(goal="g", plan=[node("a"), node("b")])).settle()
    world.start("a")
    error = ProviderOverloadedError("would be retried").to_info()
    world.append(give_up(world.view, "a", error, world.now_ms))
    world.settle()
    assert world.view.subtasks["a"].state is SubtaskState.FAILED
    assert [one.action for one in world.effects(ControlStream)] == ["cancel"]
    assert give_up(world.view, "a", error, world.now_ms) == []
    assert give_up(world.view, "nobody", error, world.now_ms) == []
