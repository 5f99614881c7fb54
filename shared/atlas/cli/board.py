"""A task as a terminal shows it: one row for each subtask, folded from the log. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from atlas.contracts.inference import Cost, Usage
from atlas.contracts.task_events import (
    SubtaskCancelled,
    SubtaskDispatched,
    SubtaskFailed,
    SubtaskRetried,
    SubtaskSpent,
    SubtaskStarted,
    SubtaskSucceeded,
    TaskAcceptedEvent,
    TaskApprovalRejected,
    TaskApproved,
    TaskAwaitingApproval,
    TaskCancelled,
    TaskCompleted,
    TaskDeletedEvent,
    TaskEvent,
    TaskFailed,
    TaskPaused,
    TaskPlanned,
    TaskReplanned,
    TaskResumed,
    UnknownTaskEvent,
)
from atlas.contracts.tasks import PlannedSubtask, SubtaskState, TaskState

_CHARACTERS_PER_TOKEN = 4
_PER_MTOK = 1_000_000
_TAIL = 400
"""Characters of a running answer that are kept for the screen."""


@dataclass(slots=True)
class Row:
    """One subtask."""

    subtask_id: str
    capability: str
    depends_on: list[str]
    state: SubtaskState = SubtaskState.WAITING
    attempt: int = 0
    worker: str | None = None
    stream_id: str | None = None
    model: str | None = None
    """What answers it now; None until its stream says so."""
    tail: str = ""
    characters: int = 0
    note: str | None = None
    started_at_ms: int | None = None
    ended_at_ms: int | None = None
    usage: Usage | None = None
    """Of the attempts that have ended, failed ones included; so is the cost."""
    cost: Cost | None = None

    def say(self, text: str, *, restart: bool = False) -> None:
        """More of its answer, or with `restart` the answer anew."""
        self.tail = (text if restart else self.tail + text)[-_TAIL:]
        self.characters = len(text) + (0 if restart else self.characters)

    @property
    def coming_tokens(self) -> int:
        """An estimate of what its running attempt has said."""
        return self.characters // _CHARACTERS_PER_TOKEN

    def took_ms(self, now: int) -> int | None:
        """How long it runs, or ran, from its first start on; None before that."""
        if self.started_at_ms is None:
            return None
        return max((self.ended_at_ms or now) - self.started_at_ms, 0)


@dataclass(slots=True)
class Board:
    """The task."""

    task_id: str
    goal: str = ""
    state: TaskState = TaskState.ACCEPTED
    waits_for: str | None = None
    started_at_ms: int | None = None
    ended_at_ms: int | None = None
    rows: dict[str, Row] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)
    """Why the plan was changed, each time."""
    usage: Usage = field(default_factory=Usage)
    """Of all attempts that have ended, also of subtasks that the plan lost; so is the cost."""
    cost: Cost = field(default_factory=Cost)

    prices: Mapping[str, float] = field(default_factory=dict)
    """US dollars for a million tokens of output, by the model's name."""

    def coming_usd(self, row: Row) -> float:
        """An estimate of what the text costs that comes just now; 0 where no price is known."""
        return row.coming_tokens * self.prices.get(row.model or "", 0.0) / _PER_MTOK

    def took_ms(self, now: int) -> int:
        """How long it runs, or ran."""
        return max((self.ended_at_ms or now) - (self.started_at_ms or now), 0)

    def take(self, event: TaskEvent) -> None:
        """Fold one entry of the log."""
        if self.started_at_ms is None:
            self.started_at_ms = event.at_ms
        match event:
            case TaskAcceptedEvent():
                self.goal, self.state = event.request.goal, TaskState.PLANNING
            case TaskPlanned():
                self._plan(event.plan, [])
            case TaskReplanned():
                self._plan(event.added, event.removed)
                self.changes.append(event.reason)
            case TaskAwaitingApproval():
                self.waits_for = event.subtask_id or "the plan"
                self.state = TaskState.AWAITING_APPROVAL
            case TaskApproved() | TaskApprovalRejected() | TaskResumed():
                self.waits_for, self.state = None, TaskState.RUNNING
            case TaskPaused():
                self.state = TaskState.PAUSED
            case TaskCompleted() | TaskFailed() | TaskCancelled():
                self._end(event)
            case TaskDeletedEvent() | UnknownTaskEvent():
                pass  # it had ended, as it shows; of a newer controller: nobody here can say
            case _:
                self._take_subtask(event)

    def _plan(self, added: list[PlannedSubtask], removed: list[str]) -> None:
        self.state = TaskState.RUNNING
        for subtask_id in removed:
            self.rows.pop(subtask_id, None)
        for one in added:
            self.rows[one.id] = Row(one.id, one.capability, one.depends_on)

    def _end(self, event: TaskCompleted | TaskFailed | TaskCancelled) -> None:
        self.ended_at_ms, self.waits_for = event.at_ms, None
        match event:
            case TaskCompleted():
                self.state = TaskState.COMPLETED
            case TaskFailed():
                self.state = TaskState.FAILED
            case TaskCancelled():
                self.state = TaskState.CANCELLED

    def _spend(self, row: Row, usage: Usage | None, cost: Cost | None) -> None:
        """What an attempt used that has ended."""
        if usage is not None:
            row.usage = usage if row.usage is None else row.usage + usage
            self.usage += usage
        if cost is not None:
            row.cost = cost if row.cost is None else row.cost + cost
            self.cost += cost

    def _take_spent(self, event: SubtaskSpent) -> None:
        """What was given up counts, also where its subtask is in the plan no more."""
        row = self.rows.get(event.subtask_id) or Row(event.subtask_id, "", [])
        self._spend(row, event.usage, event.cost)
        if row.attempt == event.attempt:
            row.characters = 0  # its tokens need no estimate any more

    def _take_subtask(
        self,
        event: SubtaskDispatched
        | SubtaskStarted
        | SubtaskSucceeded
        | SubtaskFailed
        | SubtaskRetried
        | SubtaskCancelled
        | SubtaskSpent,
    ) -> None:
        if isinstance(event, SubtaskSpent):
            self._take_spent(event)
            return
        row = self.rows.setdefault(event.subtask_id, Row(event.subtask_id, "", []))
        if isinstance(event, SubtaskSucceeded | SubtaskFailed):
            self._spend(row, event.usage, event.cost)
            row.characters = 0 if event.usage else row.characters  # no estimate any more
        match event:
            case SubtaskDispatched():
                row.state, row.attempt = SubtaskState.DISPATCHED, event.attempt
                row.note = event.warning
                row.capability = event.capability
            case SubtaskStarted():
                row.state, row.worker, row.stream_id = (
                    SubtaskState.RUNNING,
                    event.worker,
                    event.stream_id,
                )
                row.started_at_ms = row.started_at_ms or event.at_ms
                row.note, row.model, row.tail, row.characters = None, None, "", 0
            case SubtaskSucceeded():
                row.state, row.ended_at_ms = SubtaskState.SUCCEEDED, event.at_ms
            case SubtaskFailed():
                row.state, row.note = SubtaskState.FAILED, event.error.message
                row.ended_at_ms = event.at_ms if event.final else None
            case SubtaskRetried():
                row.state, row.note = SubtaskState.RETRYING, event.reason
            case SubtaskCancelled():
                row.state, row.ended_at_ms = SubtaskState.CANCELLED, event.at_ms
                row.note = event.reason
