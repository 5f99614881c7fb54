"""A task between two controllers that crash, are late and lose acknowledgements: all in memory.

The server keeps one log and takes an append only from who knows its last entry. Controllers are the
pure core of the real ones: each folds what it has read, decides on that, and appends one event at a
time. Between any two of these the other may act, or either may die. Workers do what was sent, also
what nobody waits for any more; what they say is delivered in any order, late and again and again.
"""

import contextlib
from dataclasses import dataclass, field
from typing import Any

from tests.unit.controller.progress_scan import check_progress
from tests.unit.controller.task_world import LIMITS, PLANNER, START_MS

from agent_controller.tasks import losses
from agent_controller.tasks.control import apply_control
from agent_controller.tasks.decide import decide
from agent_controller.tasks.effects import CloseTask, SendWork, effects
from agent_controller.tasks.entries import read_entry
from agent_controller.tasks.fold import fold
from agent_controller.tasks.intake import take_report, take_result
from agent_controller.tasks.view import TaskView
from atlas.contracts.errors import InvalidRequestError
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.task_events import TASK_EVENT, TaskAcceptedEvent
from atlas.contracts.tasks import TaskControl, TaskRequest
from atlas.contracts.work import Subtask, SubtaskReport, SubtaskResult

EMPTY = TaskView("default", "t1")
type Said = SubtaskReport | SubtaskResult


@dataclass
class Server:
    """What is stored: the log, work, and what workers said."""

    log: list[bytes] = field(default_factory=list)
    work: dict[str, Subtask] = field(default_factory=dict)
    said: list[Said] = field(default_factory=list)
    places: dict[str, SubtaskResult] = field(default_factory=dict)
    """The result of each subtask: the first that was put there."""
    is_closed: bool = False

    def append(self, event: Any, *, after: int) -> bool:
        """Store an event, if its writer knows the last one."""
        if len(self.log) != after:
            return False
        self.log.append(TASK_EVENT.dump_json(event, exclude_none=True))
        return True

    def entries(self) -> list[Any]:
        return [read_entry(data) for data in self.log]

    def put_result(self, result: SubtaskResult) -> None:
        if result.subtask_id not in self.places:
            self.places[result.subtask_id] = result
            self.said.append(result)


@dataclass
class Controller:
    """The pure core of a controller, with what it remembers."""

    server: Server
    skew_ms: int = 0
    view: TaskView = EMPTY
    pending: list[Any] = field(default_factory=list)
    """What it decided and has not appended yet."""
    carried_out: set[str] = field(default_factory=set)

    def read(self) -> None:
        self.view = fold(self.view, map(read_entry, self.server.log[self.view.version :]))
        self.pending = []

    def crash(self) -> None:
        self.view, self.pending, self.carried_out = EMPTY, [], set()

    def decide(self, now_ms: int) -> None:
        if not self.pending:
            self.pending = decide(self.view, now_ms + self.skew_ms, LIMITS, PLANNER)

    def take(self, said: Said, now_ms: int) -> None:
        if self.pending or not self.view.version:
            return
        at_ms = now_ms + self.skew_ms
        if isinstance(said, SubtaskReport):
            self.pending = take_report(self.view, said, at_ms, LIMITS)
        else:
            self.pending = take_result(self.view, said, at_ms, None)

    def control(self, control: TaskControl, now_ms: int) -> None:
        if self.pending or not self.view.version:
            return
        with contextlib.suppress(InvalidRequestError):
            self.pending = apply_control(self.view, control, now_ms + self.skew_ms)

    def append(self, *, is_ack_lost: bool = False) -> bool:
        """Append the next event that it decided; says whether it was stored."""
        if not self.pending:
            return False
        event = self.pending.pop(0)
        is_stored = self.server.append(event, after=self.view.version)
        if not is_stored:
            self.read()  # somebody was faster
        elif is_ack_lost:
            self.pending = []  # it must read again, and does not know yet what
        else:
            self.view = fold(self.view, [read_entry(self.server.log[-1])])
        return is_stored

    def carry_out(self, now_ms: int) -> None:
        at_ms = now_ms + self.skew_ms
        for effect in effects(self.view, at_ms, LIMITS, PLANNER, self.carried_out):
            match effect:
                case SendWork():
                    missed = self.server.places.get(effect.subtask.subtask_id)
                    if effect.resend and missed is not None:
                        self.take(missed, now_ms)
                        continue
                    self.server.work.setdefault(effect.key, effect.subtask)
                case CloseTask():
                    self.server.is_closed = True
                case _:
                    pass
            self.carried_out.add(effect.key)

    def settle(self, now_ms: int) -> None:
        """Undisturbed: read, decide and append until nothing is left."""
        self.read()
        for _ in range(200):
            self.decide(now_ms)
            if not self.append():
                self.carry_out(now_ms)
                if not self.append():
                    return
        raise AssertionError("it never settles")


def accepted(request: TaskRequest) -> Server:
    """A server with the first entry of a task's log."""
    server = Server()
    event = TaskAcceptedEvent(
        task_id="t1", version=1, at_ms=START_MS, request=request, request_sha256="x"
    )
    assert server.append(event, after=0)
    return server


def report(subtask: Subtask, type_: str, worker: str, error: Any = None) -> SubtaskReport:
    return SubtaskReport.model_validate(
        {
            "task_id": "t1",
            "subtask_id": subtask.subtask_id,
            "attempt": subtask.attempt,
            "worker": worker,
            "type": type_,
            "stream_ids": [subtask.stream_id],
            "error": error.to_info() if error else None,
            "usage": Usage(input_tokens=1) if error else None,
        }
    )


def result(subtask: Subtask, output: object, worker: str, replan: str | None) -> SubtaskResult:
    """A result that used up all that its subtask may use, or ten tokens."""
    tokens = (subtask.budget.max_tokens if subtask.budget else None) or 10
    return SubtaskResult(
        task_id="t1",
        subtask_id=subtask.subtask_id,
        attempt=subtask.attempt,
        worker=worker,
        output=output,
        replan=replan,
        usage=Usage(output_tokens=tokens),
        cost=Cost(total_usd=0.01),
    )


@dataclass
class Ledger:
    """What must hold of every log, followed entry by entry."""

    view: TaskView = EMPTY
    succeeded: dict[str, Any] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    attempts: dict[str, int] = field(default_factory=dict)
    paid: set[tuple[str, int]] = field(default_factory=set)

    def take(self, entry: Any) -> None:
        """Check one entry against all before it."""
        before, self.view = self.view, fold(self.view, [entry])
        check_progress(self.view)
        assert before.end is None, f"{entry.type} after the end"
        assert entry.version == before.version + 1
        id_ = str(getattr(entry, "subtask_id", None))
        if self.view.usage != before.usage:
            assert (id_, entry.attempt) not in self.paid, "an attempt was paid twice"
            self.paid.add((id_, entry.attempt))
        match entry.type:
            case "subtask.dispatched":
                self._dispatched(before, entry)
            case "subtask.succeeded":
                assert id_ not in self.ended, "a result was applied twice, or after its end"
                self.succeeded[id_] = entry.output
                self.ended.add(id_)
            case "subtask.failed" if entry.final:
                assert id_ not in self.ended
                self.ended.add(id_)
            case "subtask.cancelled":
                assert id_ not in self.ended
                self.ended.add(id_)
            case "task.replanned":
                self._replanned(before, entry)
        for done, output in self.succeeded.items():
            assert self.view.subtasks[done].output == output, "finished work was lost"

    def _dispatched(self, before: TaskView, entry: Any) -> None:
        assert not before.is_paused, "dispatched while it was paused"
        assert entry.subtask_id not in self.ended
        self.attempts[entry.subtask_id] = self.attempts.get(entry.subtask_id, 0) + 1
        assert entry.attempt == self.attempts[entry.subtask_id]
        budget = before.request.budget if before.request else None
        if budget is not None and budget.max_tokens is not None:
            used = before.usage.input_tokens + before.usage.output_tokens
            assert used <= budget.max_tokens, "dispatched although the budget is spent"
        record = before.subtasks.get(entry.subtask_id)
        if record is None or record.planned is None or entry.attempt > 1:
            return
        states = [before.subtasks[one] for one in record.depends_on if one in before.subtasks]
        assert all(one.state.is_terminal for one in states), "before its dependencies"
        there = sum(one.state == "succeeded" for one in states)
        assert there >= enough(before, record), "without enough results"
        if before.request and before.request.approval == "subtasks":
            assert record.is_approved, "without its approval"
        if before.request and before.request.approval == "plan":
            assert before.is_plan_approved, "without the approval of its plan"

    def _replanned(self, before: TaskView, entry: Any) -> None:
        assert before.request is not None
        assert before.replans < (before.request.max_replans or 0), "more often than allowed"
        assert not set(entry.removed) & set(self.succeeded), "finished work was removed"
        assert not {one.id for one in entry.added} & {*before.subtasks, *before.removed}
        for id_ in entry.removed:
            assert not before.subtasks[id_].is_live, "removed while it runs"
        assert not losses.is_doomed(self.view), "changed to what can only fail"


def enough(view: TaskView, record: Any) -> int:
    """How many results a subtask needs, as the request says."""
    request, count = view.request, len(record.depends_on)
    if record.planned.quorum is not None:
        return int(record.planned.quorum)
    if request is None or request.on_failure is None:
        return count
    asked = {"quorum": request.quorum, "best_so_far": 1}
    return min(count, asked.get(request.on_failure) or count)
