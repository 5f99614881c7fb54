"""Every control in every state of a task and of a subtask: what the log says, and the state then.

A control that only repeats what is so says nothing; one that the state does not allow is refused
and leaves no entry. Either way the task goes on to one end.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from agent_controller.tasks.control import apply_control
from atlas.contracts.errors import (
    InvalidRequestError,
    InvalidTransitionError,
    NotFoundError,
    ProviderKeyRefusedError,
)
from atlas.contracts.tasks import SubtaskState, TaskAction, TaskControl, TaskRequest, TaskState

from .task_world import TERMINAL, World, node, world

ACTIONS = tuple(TaskAction)
REFUSED, SILENT = "refused", ""
NO_KEY = ProviderKeyRefusedError("no")


def failed(*plan: Any) -> Any:
    return world(*plan).fail(plan[0].id, NO_KEY)


TASKS: dict[str, Callable[[], World]] = {
    "accepted": lambda: World(TaskRequest(goal="g", plan=[node("a")])),
    "planning": lambda: world(pattern="auto"),
    "plan awaits approval": lambda: world(node("a"), approval="plan"),
    "subtask awaits approval": lambda: world(node("a"), node("b", "a"), approval="subtasks"),
    "plan approved": lambda: world(node("a"), approval="plan").control("approve"),
    "running": lambda: world(node("a")).start("a"),
    "plan changes": lambda: world(node("a"), max_replans=1).fail("a", NO_KEY),
    "paused": lambda: world(node("a")).start("a").control("pause"),
    "completed": lambda: world(node("a")).succeed("a"),
    "failed": lambda: failed(node("a")),
    "cancelled": lambda: world(node("a")).control("cancel"),
}

# fmt: off
TASK_TABLE = {
    # state                     pause        resume       cancel       approve      reject
    "accepted":                ("paused",    SILENT,      "cancelled", REFUSED,     REFUSED),
    "planning":                ("paused",    SILENT,      "cancelled", REFUSED,     REFUSED),
    "plan awaits approval":    ("paused",    SILENT,      "cancelled", "approved",  "rejected"),
    "subtask awaits approval": ("paused",    SILENT,      "cancelled", "approved",  "rejected"),
    "plan approved":           ("paused",    SILENT,      "cancelled", SILENT,      REFUSED),
    "running":                 ("paused",    SILENT,      "cancelled", REFUSED,     REFUSED),
    "plan changes":            ("paused",    SILENT,      "cancelled", REFUSED,     REFUSED),
    "paused":                  (SILENT,      "resumed",   "cancelled", REFUSED,     REFUSED),
    "completed":               (REFUSED,     REFUSED,     REFUSED,     REFUSED,     REFUSED),
    "failed":                  (REFUSED,     REFUSED,     REFUSED,     REFUSED,     REFUSED),
    "cancelled":               (REFUSED,     REFUSED,     SILENT,      REFUSED,     REFUSED),
}
# fmt: on

SUBTASKS: dict[SubtaskState, Callable[[], World]] = {
    SubtaskState.WAITING: lambda: world(node("b"), node("a", "b")),
    SubtaskState.AWAITING_APPROVAL: lambda: world(node("a"), node("b"), approval="subtasks"),
    SubtaskState.DISPATCHED: lambda: world(node("a"), node("b")),
    SubtaskState.RUNNING: lambda: world(node("a"), node("b")).start("a"),
    SubtaskState.RETRYING: lambda: world(node("a"), node("b")).start("a").fail("a"),
    SubtaskState.SUCCEEDED: lambda: world(node("a"), node("b")).succeed("a"),
    SubtaskState.FAILED: lambda: failed(node("a"), node("b")),
    SubtaskState.CANCELLED: lambda: world(node("a"), node("b")).control("cancel", "a"),
}

# fmt: off
SUBTASK_TABLE = {
    # state                          cancel       approve      reject
    SubtaskState.WAITING:            ("cancelled", REFUSED,     REFUSED),
    SubtaskState.AWAITING_APPROVAL:  ("cancelled", "approved",  "rejected"),
    SubtaskState.DISPATCHED:         ("cancelled", REFUSED,     REFUSED),
    SubtaskState.RUNNING:            ("cancelled", REFUSED,     REFUSED),
    SubtaskState.RETRYING:           ("cancelled", REFUSED,     REFUSED),
    SubtaskState.SUCCEEDED:          (REFUSED,     REFUSED,     REFUSED),
    SubtaskState.FAILED:             (REFUSED,     REFUSED,     REFUSED),
    SubtaskState.CANCELLED:          (SILENT,      REFUSED,     REFUSED),
}
# fmt: on


@dataclass(frozen=True, slots=True)
class Case:
    """One control of one state, and what it says."""

    state: str
    action: TaskAction
    says: str


TASK_CASES = [
    Case(state, action, says)
    for state, row in TASK_TABLE.items()
    for action, says in zip(ACTIONS, row, strict=True)
]
SUBTASK_CASES = [
    Case(state, action, says)
    for state, row in SUBTASK_TABLE.items()
    for action, says in zip(
        (TaskAction.CANCEL, TaskAction.APPROVE, TaskAction.REJECT), row, strict=True
    )
]


def named(case: Case) -> str:
    return f"{case.state}-{case.action}"


def said(task: World, action: TaskAction, subtask_id: str | None = None) -> str:
    """What a control says, and nothing else in the log."""
    control = TaskControl(action=action, subtask_id=subtask_id, by="me", reason="because")
    refused, events = None, list[Any]()
    try:
        events += apply_control(task.view, control, task.now_ms)
    except InvalidTransitionError as error:
        refused = error
    if refused is not None:
        assert str(action) in refused.message
        assert refused.details == {"state": str(task.view.state)}
        return REFUSED
    assert {(event.by, event.reason) for event in events} <= {("me", "because")}
    task.append(events)
    return " ".join(event.type.rpartition(".")[2].removeprefix("approval_") for event in events)


def carried_to_its_end(task: World) -> Any:
    """Whatever it still needs: to be resumed, approved, and answered."""
    for _ in range(10):
        task.settle()
        if task.view.state.is_terminal:
            return task.view.state
        if task.view.is_paused:
            task.control("resume")
        elif task.view.state is TaskState.AWAITING_APPROVAL:
            task.control("approve")
        for work in list(task.waiting_work().values()):
            task.succeed(work.subtask_id, (work.output_schema or {}).get("examples", ["done"])[0])
        task.wait(60_000)
    raise AssertionError("it has no end")


@pytest.mark.parametrize("case", TASK_CASES, ids=named)
def test_a_control_of_a_task(case: Case):
    task = TASKS[case.state]()
    assert said(task, case.action) == case.says
    end = carried_to_its_end(task)
    assert [one for one in task.types() if one in TERMINAL] == [f"task.{end}"]


@pytest.mark.parametrize("case", SUBTASK_CASES, ids=named)
def test_a_control_of_a_subtask(case: Case):
    task = SUBTASKS[SubtaskState(case.state)]()
    assert task.view.subtasks["a"].state == case.state
    assert said(task, case.action, "a") == case.says
    assert carried_to_its_end(task).is_terminal


@pytest.mark.parametrize("state", TASKS)
@pytest.mark.parametrize("action", ACTIONS)
def test_a_control_that_is_sent_again_says_nothing_more(state: str, action: TaskAction):
    task = TASKS[state]()
    if said(task, action) == REFUSED:
        return
    task.settle()
    before = len(task.log)
    assert said(task, action) in {SILENT, REFUSED, "approved", "rejected"}
    assert len(task.log) - before <= 1


@pytest.mark.parametrize("action", [TaskAction.PAUSE, TaskAction.RESUME])
def test_only_a_whole_task_is_paused(action: TaskAction):
    with pytest.raises(InvalidRequestError, match="reaches a whole task"):
        said(TASKS["running"](), action, "a")


@pytest.mark.parametrize(
    "action", [TaskAction.CANCEL, TaskAction.APPROVE, TaskAction.REJECT], ids=str
)
def test_a_subtask_that_is_not_there_is_named(action: TaskAction):
    with pytest.raises(NotFoundError, match="has no subtask 'z'"):
        said(TASKS["running"](), action, "z")


def test_the_tables_name_every_state():
    assert set(SUBTASK_TABLE) == set(SubtaskState)
    shown = {TASKS[state]().view.state for state in TASKS}
    assert shown == set(TaskState)
