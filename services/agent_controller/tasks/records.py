"""The subtasks of a task by their ids: an immutable mapping that is cheap to change a little.

Each event of a log changes one subtask, and a plan may have ten thousand. A copy of all of them
for each event would make the fold quadratic; here a change copies the few that changed lately, and
whoever goes through all of them merges once. The order is that of the plan.
"""

from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView

from agent_controller.tasks.view import SubtaskRecord

_MOST_CHANGED = 64
"""Subtasks kept beside the others before all are merged."""


class Records(Mapping[str, SubtaskRecord]):
    """Made by `Records.of`, changed by `with_changed`."""

    __slots__ = ("_all", "_changed")

    def __init__(
        self, all_: dict[str, SubtaskRecord], changed: dict[str, SubtaskRecord] | None = None
    ) -> None:
        """Take dicts that nobody changes any more."""
        self._all = all_
        self._changed = changed or {}

    @classmethod
    def of(cls, records: Mapping[str, SubtaskRecord]) -> "Records":
        """As they are, whatever mapping they stand in."""
        return records if isinstance(records, Records) else cls(dict(records))

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
