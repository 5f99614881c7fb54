"""When which task must be looked at again. A value of one process; lost with it, and made anew."""

import heapq
from dataclasses import dataclass, field

from agent_controller.open_tasks import Key


@dataclass(slots=True)
class Agenda:
    """At most one time per task; an earlier one replaces a later one, `reset` any."""

    _due: dict[Key, int] = field(default_factory=dict)
    _heap: list[tuple[int, Key]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, key: Key) -> bool:
        return key in self._due

    def reset(self, key: Key, at_ms: int) -> None:
        """Look at the task at this time."""
        if self._due.get(key) == at_ms:
            return
        self._due[key] = at_ms
        heapq.heappush(self._heap, (at_ms, key))

    def drop(self, key: Key) -> None:
        """Do not look at the task again."""
        self._due.pop(key, None)

    def next_at_ms(self) -> int | None:
        """When the first of them is due."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now_ms: int, limit: int) -> list[Key]:
        """The tasks that are due, at most `limit`; they leave the agenda."""
        due: list[Key] = []
        while len(due) < limit and (at_ms := self.next_at_ms()) is not None and at_ms <= now_ms:
            _, key = heapq.heappop(self._heap)
            del self._due[key]
            due.append(key)
        return due
