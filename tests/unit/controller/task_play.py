"""Tasks played at random: plans, what may happen to them, and what must hold of every log."""

from collections import Counter
from typing import Any

from hypothesis import strategies as st
from tests.unit.controller.task_world import LIMITS, TERMINAL, node

from agent_controller.tasks.effects import wake_at_ms
from agent_controller.tasks.fold import fold
from agent_controller.tasks.view import TaskView
from atlas.contracts.errors import ProviderAuthError
from atlas.contracts.tasks import PlannedSubtask


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
