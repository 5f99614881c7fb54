"""The subtasks of a task as its log tells of them: frozen values, in a mapping by their ids.

They are msgspec's and no dataclasses, because every event of a log makes new ones of them, with a
field or two changed: that takes a tenth of the time.

Each event changes one subtask, and a plan may have ten thousand. A copy of all of them
for each event would make the fold quadratic; here a change copies the few that changed lately, and
whoever goes through all of them merges once. The order is that of the plan.
"""

from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView

from msgspec import Struct

from atlas.contracts.errors import ErrorInfo
from atlas.contracts.tasks import PlannedSubtask, SubtaskState, SubtaskView

_MOST_CHANGED = 64
"""Subtasks kept beside the others before all are merged."""


class SubtaskRecord(Struct, frozen=True):
    """One subtask. `attempt` counts from 1 with the first dispatch; 0 means never dispatched."""

    subtask_id: str
    capability: str
    planned: PlannedSubtask | None = None
    """Its node in the plan; None for the subtasks that make the plan."""
    path: int = 1
    """How many subtasks stand in the longest chain from it to an end of the plan, with itself."""
    state: SubtaskState = SubtaskState.WAITING
    attempt: int = 0
    worker: str | None = None
    stream_id: str | None = None
    """Where the current attempt's tokens stream."""
    paid: tuple[int, ...] = ()
    """The attempts whose usage is in the task's."""
    abandoned: tuple[str, ...] = ()
    """Streams that nobody waits for any more: to be cancelled."""
    output: object = None
    output_ref: str | None = None
    error: ErrorInfo | None = None
    dispatched_at_ms: int | None = None
    started_at_ms: int | None = None
    clock_from_ms: int | None = None
    """From when a started attempt's timeout counts: its start, moved on by every pause."""
    last_heard_ms: int | None = None
    failed_at_ms: int | None = None
    not_before_ms: int | None = None
    """While retrying: when the next attempt may be dispatched; None until that was decided."""
    waits_from_ms: int | None = None
    """Since when it waits for its approval, moved on by every pause."""
    is_approved: bool = False
    is_rejected: bool = False
    replan: str | None = None
    """Why its result asks for another plan; None when that was answered, or it does not."""
    because: tuple[str, ...] = ()
    """Of a subtask that asks a model to change the plan: whose failure or result caused it."""

    @property
    def depends_on(self) -> tuple[str, ...]:
        """The subtasks whose results it needs."""
        return tuple(self.planned.depends_on) if self.planned else ()

    @property
    def has_accepted(self) -> bool:
        """Whether it judged the result of another subtask, and found it good enough."""
        return (
            self.planned is not None
            and self.planned.accepts is not None
            and self.state is SubtaskState.SUCCEEDED
            and isinstance(self.output, dict)
            and self.output.get("accepted") is True
        )

    @property
    def was_given_up_unbegun(self) -> bool:
        """Whether it was stopped before a worker began: its work may lie in the queue."""
        is_sent = self.attempt > 0 and self.started_at_ms is None
        return is_sent and self.state is SubtaskState.CANCELLED

    @property
    def is_live(self) -> bool:
        """Whether a worker has it, or should have it."""
        return self.state in (SubtaskState.DISPATCHED, SubtaskState.RUNNING)

    @property
    def unheard_from_ms(self) -> int:
        """Of a live one: since when nobody spoke of it."""
        is_running = self.state is SubtaskState.RUNNING
        began_ms = self.started_at_ms if is_running else self.dispatched_at_ms
        return self.last_heard_ms or began_ms or 0

    @property
    def _instruction(self) -> str:
        if self.planned is not None:
            return self.planned.instruction
        return "Change the plan." if self.because else "Make a plan for the goal."

    def to_view(self) -> SubtaskView:
        """As `TaskStatus` shows it."""
        return SubtaskView(
            subtask_id=self.subtask_id,
            capability=self.capability,
            instruction=self._instruction,
            depends_on=list(self.depends_on),
            state=self.state,
            attempt=self.attempt,
            worker=self.worker,
            stream_id=self.stream_id,
            output=self.output,
            output_ref=self.output_ref,
            error=self.error,
        )


class Records(Mapping[str, SubtaskRecord]):
    """Made of all of them, changed by `with_changed`."""

    __slots__ = ("_all", "_changed")

    def __init__(
        self,
        all_: dict[str, SubtaskRecord] | None = None,
        changed: dict[str, SubtaskRecord] | None = None,
    ) -> None:
        """Take dicts that nobody changes any more."""
        self._all = all_ or {}
        self._changed = changed or {}

    def with_changed(self, records: Iterable[SubtaskRecord]) -> "Records":
        """The same with these in place of those of their ids; new ones stand at the end."""
        changed = {**self._changed, **{record.subtask_id: record for record in records}}
        if len(changed) > _MOST_CHANGED:
            return Records({**self._all, **changed})
        return Records(self._all, changed)

    def _merged(self) -> dict[str, SubtaskRecord]:
        if self._changed:
            self._all, self._changed = {**self._all, **self._changed}, {}
        return self._all

    def __getitem__(self, subtask_id: str) -> SubtaskRecord:
        """The subtask of this id."""
        found = self._changed.get(subtask_id)
        return self._all[subtask_id] if found is None else found

    def __iter__(self) -> Iterator[str]:
        """The ids in the plan's order."""
        return iter(self._merged())

    def __len__(self) -> int:
        """How many there are."""
        return len(self._merged())

    def values(self) -> ValuesView[SubtaskRecord]:
        """The subtasks in the plan's order."""
        return self._merged().values()

    def items(self) -> ItemsView[str, SubtaskRecord]:
        """Both."""
        return self._merged().items()
