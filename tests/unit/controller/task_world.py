"""A task's log and clock in a test: every step goes through bytes, as on the wire."""

from typing import Any

from agent_controller.planning.planner import TaskPlanner
from agent_controller.tasks.control import apply_control
from agent_controller.tasks.decide import decide
from agent_controller.tasks.effects import (
    SendWork,
    effects,
)
from agent_controller.tasks.entries import read_entry
from agent_controller.tasks.fold import fold
from agent_controller.tasks.intake import take_report, take_result
from agent_controller.tasks.limits import Limits
from agent_controller.tasks.view import TaskView
from atlas.contracts.errors import (
    ProviderOverloadedError,
)
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.task_events import TASK_EVENT, TaskAcceptedEvent
from atlas.contracts.tasks import PlannedSubtask, TaskControl, TaskRequest
from atlas.contracts.work import SubtaskReport, SubtaskResult

LIMITS = Limits()
PLANNER = TaskPlanner(LIMITS)
START_MS = 1_000_000
LATEST_MS = START_MS + LIMITS.max_open_ms
"""When a task ends whatever it waits for: no other time wakes it."""
TERMINAL = {"task.completed", "task.failed", "task.cancelled"}


def node(id_, *depends_on, **more) -> Any:
    return PlannedSubtask(
        id=id_, capability="general", instruction="do", depends_on=list(depends_on), **more
    )


class World:
    """A log and a clock; every step goes through bytes, as on the wire."""

    def __init__(self, request, tenant="default") -> None:
        self.now_ms = START_MS
        self.log: list[Any] = []
        self.view: Any = TaskView(tenant, "t1")
        self.append(
            [
                TaskAcceptedEvent(
                    task_id="t1", version=1, at_ms=START_MS, request=request, request_sha256="x"
                )
            ]
        )

    def append(self, events) -> Any:
        for event in events:
            entry = read_entry(TASK_EVENT.dump_json(event, exclude_none=True))
            self.view = fold(self.view, [entry])
            self.log.append(entry)

    def settle(self) -> Any:
        for _ in range(100):
            events = decide(self.view, self.now_ms, LIMITS, PLANNER)
            if not events:
                return self
            self.append(events)
        raise AssertionError("it never settles")

    def effects(self, kind=object) -> Any:
        return [
            one for one in effects(self.view, self.now_ms, LIMITS, PLANNER) if isinstance(one, kind)
        ]

    def waiting_work(self) -> Any:
        return {one.subtask.subtask_id: one.subtask for one in self.effects(SendWork)}

    def start(self, subtask_id, worker="w1") -> Any:
        record = self.view.subtasks[subtask_id]
        report = SubtaskReport(
            task_id="t1",
            subtask_id=subtask_id,
            attempt=record.attempt,
            worker=worker,
            type="started",
            stream_ids=[record.stream_id],
        )
        self.append(take_report(self.view, report, self.now_ms, LIMITS))
        return self.settle()

    def succeed(self, subtask_id, output="done", attempt=None, **more) -> Any:
        attempt = attempt or self.view.subtasks[subtask_id].attempt
        return self.say(subtask_id, output, attempt=attempt, **more)

    def say(self, subtask_id, output, *, attempt=1, schema=None, tokens=5, replan=None) -> Any:
        """A worker's result, whether or not anybody waits for it."""
        result = SubtaskResult(
            task_id="t1",
            subtask_id=subtask_id,
            attempt=attempt,
            worker="w1",
            output=output,
            replan=replan,
            usage=Usage(input_tokens=tokens, output_tokens=tokens),
            cost=Cost(total_usd=0.01),
        )
        self.append(take_result(self.view, result, self.now_ms, schema))
        return self.settle()

    def fail(self, subtask_id, error=None, attempt=None) -> Any:
        report = SubtaskReport(
            task_id="t1",
            subtask_id=subtask_id,
            attempt=attempt or self.view.subtasks[subtask_id].attempt,
            worker="w1",
            type="failed",
            error=(error or ProviderOverloadedError("busy")).to_info(),
            usage=Usage(input_tokens=3),
            cost=Cost(total_usd=0.002),
        )
        self.append(take_report(self.view, report, self.now_ms, LIMITS))
        return self.settle()

    def control(self, action, subtask_id=None, **more) -> Any:
        control = TaskControl(action=action, subtask_id=subtask_id, **more)
        self.append(apply_control(self.view, control, self.now_ms))
        return self.settle()

    def wait(self, ms) -> Any:
        self.now_ms += ms
        return self.settle()

    def types(self) -> Any:
        return [one.type for one in self.log]


def world(*plan, **request) -> Any:
    return World(TaskRequest(goal="g", plan=list(plan) or None, **request)).settle()


DIAMOND = (node("a"), node("b", "a"), node("c", "a"), node("d", "b", "c"))
