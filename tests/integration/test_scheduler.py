"""Two controllers' schedulers on one log: what one remembers may be old, and does no harm."""

from collections.abc import Callable

import pytest

from agent_controller.log import TaskLog
from agent_controller.open_tasks import OpenTasks
from agent_controller.planning.planner import TaskPlanner
from agent_controller.scheduling.carrier import Carrier
from agent_controller.scheduling.results import result_intake
from agent_controller.scheduling.scheduler import Scheduler
from agent_controller.tasks.control import apply_control
from agent_controller.tasks.intake import Intake
from agent_controller.tasks.limits import Limits
from agent_controller.tasks.shares import ShareLimits, Shares
from agent_controller.tasks.view import TaskView
from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.errors import InvalidTransitionError
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.task_events import TaskAcceptedEvent, TaskEvent
from atlas.contracts.tasks import (
    Approval,
    PlannedSubtask,
    SubtaskState,
    TaskAction,
    TaskControl,
    TaskRequest,
)
from atlas.contracts.work import SubtaskResult
from atlas.objects import Objects
from atlas.service import Events

KEY = ("default", "t1")

type Make = Callable[[], Scheduler]


@pytest.fixture
def a_scheduler(bus: Bus) -> Make:
    def make() -> Scheduler:
        limits, objects = Limits(), Objects(bus)
        events = Events(bus, "agent_controller", "test", "default")
        return Scheduler(
            task_log=TaskLog(bus),
            carrier=Carrier(bus, objects, OpenTasks(bus), events, limits),
            objects=objects,
            events=events,
            planner=TaskPlanner(limits),
            limits=limits,
            shares=Shares(ShareLimits()),
            is_missing=lambda _: False,
            revisit_ms=60_000,
        )

    return make


def accepted(approval: Approval = Approval.NONE) -> Intake:
    plan = [
        PlannedSubtask(id="a", capability="draft", instruction="begin"),
        PlannedSubtask(id="b", capability="draft", instruction="go on", depends_on=["a"]),
    ]
    request = TaskRequest(goal="g", plan=plan, approval=approval)

    def intake(view: TaskView, at_ms: int) -> list[TaskEvent]:
        assert not view.version
        return [
            TaskAcceptedEvent(
                task_id=KEY[1], version=1, at_ms=at_ms, request=request, request_sha256="x"
            )
        ]

    return intake


def controlled(action: TaskAction, subtask_id: str | None = None) -> Intake:
    control = TaskControl(action=action, subtask_id=subtask_id)
    return lambda view, at_ms: apply_control(view, control, at_ms)


def done(subtask_id: str) -> Intake:
    return result_intake(
        SubtaskResult(
            task_id=KEY[1],
            subtask_id=subtask_id,
            attempt=1,
            worker="w",
            output="done",
            usage=Usage(),
            cost=Cost(),
        )
    )


async def types(bus: Bus) -> list[str]:
    return [entry.type async for entry in TaskLog(bus).entries(*KEY)]


async def test_what_looks_needless_on_an_old_view_is_not_taken_for_it(
    a_scheduler: Make, bus: Bus
) -> None:
    one, other = a_scheduler(), a_scheduler()
    await one.advance(KEY, [accepted()])
    await one.advance(KEY, [controlled(TaskAction.PAUSE)])
    await other.advance(KEY, [controlled(TaskAction.RESUME)])
    view = await one.advance(KEY, [controlled(TaskAction.PAUSE)])  # it remembers the first pause
    assert view.is_paused
    assert (await types(bus))[-3:] == ["task.paused", "task.resumed", "task.paused"]


async def test_what_looks_impossible_on_an_old_view_is_not_refused(
    a_scheduler: Make, bus: Bus
) -> None:
    one, other = a_scheduler(), a_scheduler()
    await one.advance(KEY, [accepted(Approval.SUBTASKS)])
    with pytest.raises(InvalidTransitionError):
        await one.advance(KEY, [controlled(TaskAction.APPROVE, "b")])
    await other.advance(KEY, [controlled(TaskAction.APPROVE, "a")])
    await other.advance(KEY, [done("a")])
    view = await one.advance(KEY, [controlled(TaskAction.APPROVE, "b")])
    assert view.subtasks["b"].state is SubtaskState.DISPATCHED
    assert (await types(bus)).count("task.approved") == 2


async def test_a_result_of_what_another_controller_dispatched_is_taken(a_scheduler: Make) -> None:
    one, other = a_scheduler(), a_scheduler()
    await one.advance(KEY, [accepted()])
    await other.advance(KEY, [done("a")])
    view = await one.advance(KEY, [done("b")])  # on its view b was never dispatched
    assert view.state == "completed"


async def test_what_is_possible_on_an_old_view_only_is_refused(a_scheduler: Make) -> None:
    one, other = a_scheduler(), a_scheduler()
    await one.advance(KEY, [accepted()])
    await other.advance(KEY, [controlled(TaskAction.CANCEL)])
    with pytest.raises(InvalidTransitionError):
        await one.advance(KEY, [controlled(TaskAction.PAUSE)])


async def test_a_task_that_is_accepted_again_after_its_end_leaves_the_index_again(
    a_scheduler: Make, bus: Bus
) -> None:
    one = a_scheduler()
    await one.advance(KEY, [accepted()])
    await one.advance(KEY, [done("a")])
    await one.advance(KEY, [done("b")])
    await OpenTasks(bus).add(KEY)  # as a repeated submission does
    await a_scheduler().advance(KEY)
    assert await OpenTasks(bus).list() == []
    assert await bus.last(subjects.TASKS, subjects.task_write(*KEY)) is not None
