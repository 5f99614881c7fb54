"""The life of a task as a pure game: decisions against a world that fails, repeats and forgets."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.controller.task_world import (
    DIAMOND,
    LIMITS,
    PLANNER,
    START_MS,
    TERMINAL,
    World,
    node,
    world,
)

from agent_controller.planning import model_plan
from agent_controller.tasks.control import apply_control
from agent_controller.tasks.decide import decide
from agent_controller.tasks.effects import (
    CloseTask,
    ControlStream,
    SendWork,
    effects,
    subtask_of,
    wake_at_ms,
)
from agent_controller.tasks.entries import LogCorruptError, read_entry
from agent_controller.tasks.fold import fold, heard
from agent_controller.tasks.intake import give_up, take_result
from agent_controller.tasks.view import TaskView
from atlas.contracts.errors import (
    InvalidTransitionError,
    NotFoundError,
    ProviderAuthError,
    ProviderOverloadedError,
)
from atlas.contracts.inference import Budget
from atlas.contracts.task_events import TASK_EVENT
from atlas.contracts.tasks import (
    PlannedSubtask,
    SubtaskResult,
    SubtaskState,
    TaskControl,
    TaskRequest,
    TaskState,
)


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


def test_time_stands_still_while_a_task_is_paused():
    task = world(node("a", timeout_ms=1_000), budget=Budget(max_ms=10_000)).start("a")
    task.wait(900).control("pause").wait(3_600_000).control("resume").wait(50)
    assert task.view.subtasks["a"].is_live
    task.wait(50)
    assert task.view.subtasks["a"].state is SubtaskState.RETRYING


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


def test_pause_holds_back_what_is_new_and_reaches_what_runs():
    task = world(node("a"), node("b", "a")).start("a").control("pause", by="me")
    (pause,) = task.effects()
    assert (pause.action, pause.stream_id) == ("pause", task.view.subtasks["a"].stream_id)
    task.succeed("a")
    assert task.view.subtasks["b"].state is SubtaskState.WAITING
    assert task.view.state is TaskState.PAUSED
    task.control("resume")
    assert set(task.waiting_work()) == {"b"}


def test_resume_reaches_the_streams_that_were_paused():
    task = world(node("a")).start("a").control("pause").control("resume")
    (resume,) = task.effects(ControlStream)
    assert resume.action == "resume"


def test_cancel_is_final_and_reaches_every_running_stream():
    task = world(node("a"), node("b"), node("c", "a")).start("a").start("b").control("cancel")
    assert task.view.state is TaskState.CANCELLED
    assert {one.action for one in task.effects(ControlStream)} == {"cancel"}
    assert len(task.effects(ControlStream)) == 2
    assert isinstance(task.effects()[-1], CloseTask)
    assert task.succeed("a").types()[-1] == "task.cancelled"
    assert task.control("cancel").types().count("task.cancelled") == 1
    with pytest.raises(InvalidTransitionError):
        task.control("resume")


def test_cancel_of_one_subtask_leaves_the_others():
    task = world(node("a"), node("b")).start("a").control("cancel", "a").succeed("b", "B")
    assert task.view.state is TaskState.FAILED
    assert task.view.end.outputs == {"b": "B"}
    with pytest.raises(NotFoundError):
        apply_control(world(node("a")).view, TaskControl(action="cancel", subtask_id="x"), 0)


def test_a_plan_waits_for_its_approval():
    task = world(node("a"), approval="plan")
    assert task.view.state is TaskState.AWAITING_APPROVAL
    assert task.waiting_work() == {}
    task.control("approve", by="me").control("approve")
    assert set(task.waiting_work()) == {"a"}
    assert task.types().count("task.approved") == 1


def test_a_rejected_plan_cancels_the_task_and_says_who():
    task = world(node("a"), approval="plan").control("reject", by="me", reason="too dear")
    assert task.view.state is TaskState.CANCELLED
    assert (task.view.end.by, task.view.end.reason) == ("me", "too dear")


def test_each_subtask_waits_for_its_approval_and_a_rejected_one_takes_its_dependants_along():
    task = world(node("a"), node("b"), node("c", "b"), approval="subtasks")
    assert task.view.state is TaskState.AWAITING_APPROVAL
    task.control("approve", "a").control("reject", "b")
    assert set(task.waiting_work()) == {"a"}
    assert task.view.subtasks["c"].state is SubtaskState.CANCELLED
    with pytest.raises(InvalidTransitionError):
        task.control("approve", "c")
    task.succeed("a", "A")
    assert task.view.end.outputs == {"a": "A"}


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
    with pytest.raises(LogCorruptError, match="cannot be read"):
        read_entry(b'{"task_id":"t1","version":1,"at_ms":5,"type":"task.planned"}')


@st.composite
def plans(draw) -> Any:
    size = draw(st.integers(1, 8))
    return [
        node(
            f"n{here}",
            *(f"n{there}" for there in draw(st.sets(st.integers(0, here - 1), max_size=3)))
            if here
            else (),
            max_attempts=draw(st.integers(1, 3)),
        )
        for here in range(size)
    ]


MOVES = st.sampled_from(
    [
        "start",
        "start",
        "succeed",
        "succeed",
        "fail",
        "fail_hard",
        "wait",
        "repeat",
        "pause",
        "resume",
        "cancel_one",
    ]
)


def enough_of(request, count) -> Any:
    """How many of `count` results the request asks for."""
    asked = {"quorum": request.quorum, "best_so_far": 1}
    return min(count, asked.get(request.on_failure) or count)


def check_the_log(log) -> Any:
    """What must hold of every log, whatever happened."""
    types = Counter(one.type for one in log)
    assert sum(types[kind] for kind in TERMINAL) <= 1
    assert [one.version for one in log] == list(range(1, len(log) + 1))
    plan: list[PlannedSubtask] = next((one.plan for one in log if one.type == "task.planned"), [])
    nodes = {one.id: one for one in plan}
    succeeded: set[str] = set()
    ended: set[str] = set()
    attempts: Counter[str] = Counter()
    for one in log:
        id_ = str(getattr(one, "subtask_id", None))
        match one.type:
            case "subtask.dispatched":
                if (one_of := nodes.get(id_)) is not None:
                    needs = set(one_of.depends_on)
                    assert needs <= ended, "dispatched before its dependencies"
                    enough = one_of.quorum or enough_of(log[0].request, len(needs))
                    assert len(needs & succeeded) >= enough, "dispatched without enough results"
                attempts[id_] += 1
                assert one.attempt == attempts[id_]
            case "subtask.succeeded":
                assert id_ not in ended, "a result was applied twice"
                succeeded.add(id_)
                ended.add(id_)
            case "subtask.failed" if one.final:
                assert id_ not in ended
                ended.add(id_)
            case "subtask.cancelled":
                assert id_ not in ended
                ended.add(id_)


def one_move(task, data) -> None:
    """Something happens: a control, time, or word from a worker about a live subtask."""
    move = data.draw(MOVES)
    live = sorted(one.subtask_id for one in task.view.live)
    if move == "wait":
        task.wait(data.draw(st.sampled_from([1, 700, 20_000, 700_000])))
    elif move in {"pause", "resume"}:
        task.control(move)
    elif live:
        id_ = data.draw(st.sampled_from(live))
        WORDS[move](task, id_)


WORDS: dict[str, Any] = {
    "start": lambda task, id_: task.start(id_, "w1").start(id_, "w2"),
    "succeed": lambda task, id_: task.succeed(id_),
    "fail": lambda task, id_: task.fail(id_),
    "fail_hard": lambda task, id_: task.fail(id_, ProviderAuthError("no")),
    "repeat": lambda task, id_: task.succeed(id_).succeed(id_).fail(id_),
    "cancel_one": lambda task, id_: task.control("cancel", id_),
}


def run_out(task) -> None:
    """From here on everything goes well."""
    if task.view.is_paused:
        task.control("resume")
    for _ in range(200):
        for record in task.view.live:
            task.succeed(record.subtask_id)
        if task.view.end is not None:
            return
        task.wait(max(1, (wake_at_ms(task.view, task.now_ms, LIMITS) or 0) - task.now_ms))


def play(task, data) -> None:
    """Move after move, and then to the end; what must hold of every log holds of each."""
    for _ in range(60):
        if task.view.end is not None:
            break
        one_move(task, data)
        check_the_log(task.log)
    run_out(task)
    check_the_log(task.log)
    assert task.view.end is not None
    assert task.view == fold(TaskView("default", "t1"), task.log), "the log tells everything"


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
