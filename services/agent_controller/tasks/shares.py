"""What tasks may put into the queues beside each other: fair shares, and limits that they share.

Pure. Nothing is reserved and nothing must be given back, so that nothing leaks with a controller
that dies: how much is out is counted anew, again and again, in the queue itself (`Counts`), and a
count together with what went out since says how much room there is.

A queue is a capability and a priority; a lane is what one tenant has in it. Beyond what workers run
a lane may hold what they take within a moment, and a fixed amount at least: enough that no worker
is ever idle, and so little that another tenant's work is not long behind it.

Where there is no room, tasks stand in line, and what becomes free is dealt out in turns: between
priorities by `precedence`, between tenants and between tasks one for each. A task leaves the line
with what it was granted, which is kept for the step that it is woken for.

Several controllers count for themselves. Those that count at the same moment may together exceed a
limit for that moment by what one of them sends; the next count of each sees it.
"""

from collections import Counter, deque
from collections.abc import Iterable, KeysView, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from atlas.contracts.tasks import Priority
from atlas.turns import precedence

_FRESH_MS = 50
"""How old a count may be when a limit is asked for; a full lane is no harm, and may be older."""
_INTEREST_MS = 5_000
_MOMENT_MS = 1_000
_HALF_MS = 1_000
_QUANTUM = 16
"""What a task in line gets at a time at most: nobody knows what it needs."""
_STUCK_MS = 2_000
_GRANT_MS = 30_000
"""How long room is kept for a task that was woken and does not come."""

type Task = tuple[str, str]
"""A tenant and a task id."""


class Queue(NamedTuple):
    """What workers of a capability take at one priority."""

    capability: str
    priority: Priority


class Lane(NamedTuple):
    """What a tenant has in a queue."""

    tenant: str
    queue: Queue


@dataclass(frozen=True, slots=True)
class ShareLimits:
    """How much may be out: waiting in the queues, or running."""

    lane_waiting: int = 64
    """Of a lane, beyond what runs of its queue; more when workers take more within a moment."""
    tenant: int | None = None
    """Of each tenant."""
    capabilities: Mapping[str, int] = field(default_factory=dict)
    """Of a capability, of all tenants together."""


class Taken(NamedTuple):
    """What workers took of a queue."""

    running: int
    """What they have now."""
    ever: int
    """All that they ever took."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What the queues held when somebody looked."""

    out: Mapping[Lane, int]
    """Messages, those that run included."""
    taken: Mapping[Queue, Taken]
    """As far as it was asked."""


@dataclass(slots=True)
class _Drain:
    """How fast a queue is emptied; of bursts the fastest counts, for about a second."""

    running: int = 0
    ever: int = 0
    at_ms: int = 0
    per_ms: float = 0.0

    def see(self, taken: Taken, now_ms: int) -> None:
        """Workers took so much until now."""
        passed_ms = now_ms - self.at_ms
        if self.at_ms and passed_ms > 0:
            faded = self.per_ms * 0.5 ** (passed_ms / _HALF_MS)
            self.per_ms = max(faded, (taken.ever - self.ever) / passed_ms)
        self.running, self.ever, self.at_ms = taken.running, taken.ever, now_ms


_NO_DRAIN = _Drain()


@dataclass(slots=True)
class _Grant:
    """Room that is kept for a task that stood in line."""

    lanes: Counter[Lane]
    until_ms: int
    is_claimed: bool = False
    """Whether a step that began since may use it: what is left at its end is not needed."""


@dataclass(slots=True)
class Shares:
    """Says who may dispatch. Lost with its process, and counted anew."""

    limits: ShareLimits
    _out: Counter[Lane] = field(default_factory=Counter)
    """By the last count, with what was granted since."""
    _out_of_tenant: Counter[str] = field(default_factory=Counter)
    _out_of_capability: Counter[str] = field(default_factory=Counter)
    _drains: dict[Queue, _Drain] = field(default_factory=dict)
    _counted_at_ms: int | None = None
    _on_the_way: dict[Task, Counter[Lane]] = field(default_factory=dict)
    """Granted in steps that are not over: perhaps not yet in the queue."""
    _settled: Counter[Lane] = field(default_factory=Counter)
    """Of steps that ended since the count began: perhaps too late for it."""
    _granted: dict[Task, _Grant] = field(default_factory=dict)
    _lines: dict[Lane, dict[Task, None]] = field(default_factory=dict)
    _moved_at_ms: dict[Lane, int] = field(default_factory=dict)
    """When a line began, or something of it went out the last time."""
    _asked_at_ms: dict[Queue, int] = field(default_factory=dict)
    _turn: int = 0

    @property
    def is_line(self) -> bool:
        """Whether any task waits for room, or was granted it and did not come yet."""
        return bool(self._lines or self._granted)

    def is_awaited(self, task: Task) -> bool:
        """Whether a step of the task must follow: it was granted room since the last one began."""
        granted = self._granted.get(task)
        return granted is not None and not granted.is_claimed

    def begin(self, task: Task) -> None:
        """A step of the task begins."""
        if (granted := self._granted.get(task)) is not None:
            granted.is_claimed = True

    def ask(self, task: Task, lane: Lane, now_ms: int) -> bool:
        """Whether one more subtask may go out; who gets a no stands in line, and is woken."""
        self._asked_at_ms[lane.queue] = now_ms
        granted = self._granted.get(task)
        if granted is not None and granted.lanes[lane]:
            granted.lanes[lane] -= 1  # dealt out, and counted, when the room was found
        elif lane not in self._lines and self._is_known(lane, now_ms) and self._has_room(lane):
            self._count(lane)
        else:
            self._lines.setdefault(lane, {}).setdefault(task)
            self._moved_at_ms.setdefault(lane, now_ms)
            return False
        self._on_the_way.setdefault(task, Counter())[lane] += 1
        return True

    def settle(self, task: Task) -> None:
        """A step of the task is over: what it was granted is in the queue, or will not be."""
        self._settled += self._on_the_way.pop(task, Counter())
        if not self.is_awaited(task):
            self._granted.pop(task, None)

    def leave(self, task: Task) -> None:
        """The task has ended, and needs no room."""
        self._granted.pop(task, None)
        for line in self._lines.values():
            line.pop(task, None)
        self._lines = {lane: line for lane, line in self._lines.items() if line}

    def stuck(self, now_ms: int) -> list[Lane]:
        """The lanes for which tasks stand in line and nothing went out for a while."""
        return [
            lane
            for lane in self._lines
            if now_ms - self._moved_at_ms.get(lane, now_ms) >= _STUCK_MS
        ]

    def queues(self, now_ms: int) -> list[Queue]:
        """A count begins: the queues in which it is of interest how much runs."""
        self._settled.clear()
        waited_for = {lane.queue for lane in self._lines}
        old = [one for one, at_ms in self._asked_at_ms.items() if now_ms - at_ms > _INTEREST_MS]
        for queue in old:
            if queue in waited_for:
                continue
            del self._asked_at_ms[queue]
            self._drains.pop(queue, None)
        return list(self._asked_at_ms)

    def take(self, counts: Counts, now_ms: int) -> KeysView[Task]:
        """The queues were counted: deal out the room; gives the tasks that may go on."""
        self._counted_at_ms = now_ms
        for queue, taken in counts.taken.items():
            self._drains.setdefault(queue, _Drain()).see(taken, now_ms)
        self._out.clear()
        self._out_of_tenant.clear()
        self._out_of_capability.clear()
        for lane, count in counts.out.items():
            self._count(lane, count)
        for lanes in (self._settled, *self._on_the_way.values()):
            for lane, count in lanes.items():
                self._count(lane, count)
        self._keep(now_ms)
        return self._deal(now_ms)

    def _keep(self, now_ms: int) -> None:
        """Count what was granted and not used yet.

        Another controller may have used the room: whoever loses by that is first in line again.
        Whoever did not come in time stands at its end.
        """
        lost: dict[Lane, dict[Task, None]] = {}
        for task, granted in list(self._granted.items()):
            is_late = now_ms >= granted.until_ms
            for lane, count in list(granted.lanes.items()):
                kept = 0
                while kept < count and not is_late and self._has_room(lane):
                    self._count(lane)
                    kept += 1
                granted.lanes[lane] = kept
                if kept < count and is_late:
                    self._lines.setdefault(lane, {}).setdefault(task)
                elif kept < count:
                    lost.setdefault(lane, {})[task] = None
            if not granted.lanes.total():
                del self._granted[task]
        for lane, tasks in lost.items():
            self._lines[lane] = tasks | self._lines.get(lane, {})

    def _deal(self, now_ms: int) -> KeysView[Task]:
        """One for the first in line of a lane, then for that of the next, for as long as it goes.

        Whoever got something leaves the line; asking for more, it stands at its end.
        """
        rounds = {priority: deque[Lane]() for priority in Priority}
        for waiting in self._lines:
            rounds[waiting.queue.priority].append(waiting)
        lines = {lane: deque(line) for lane, line in self._lines.items()}
        woken: dict[Task, None] = {}
        while (lane := self._next_lane(rounds)) is not None:
            task = lines[lane].popleft()
            granted = self._granted.setdefault(task, _Grant(Counter(), 0))
            granted.until_ms, granted.is_claimed = now_ms + _GRANT_MS, False
            granted.lanes[lane] += 1
            self._count(lane)
            self._moved_at_ms[lane] = now_ms
            woken[task] = None
            self._lines[lane].pop(task, None)
            self._lines[lane] = self._lines.pop(lane)  # with the next count the others come first
            if granted.lanes[lane] < _QUANTUM:
                lines[lane].append(task)
            if lines[lane]:
                rounds[lane.queue.priority].append(lane)
            self._turn += 1
        self._lines = {lane: line for lane, line in self._lines.items() if line}
        self._moved_at_ms = {lane: self._moved_at_ms.get(lane, now_ms) for lane in self._lines}
        return woken.keys()

    def _next_lane(self, rounds: Mapping[Priority, deque[Lane]]) -> Lane | None:
        """The lane whose turn it is; those without room have none until the next count."""
        for priority in precedence(self._turn):
            while rounds[priority]:
                lane = rounds[priority].popleft()
                if self._has_room(lane):
                    return lane
        return None

    def _count(self, lane: Lane, count: int = 1) -> None:
        self._out[lane] += count
        self._out_of_tenant[lane.tenant] += count
        self._out_of_capability[lane.queue.capability] += count

    def _is_known(self, lane: Lane, now_ms: int) -> bool:
        """Whether the last count says enough: a limit asks for a new one, a full lane for none."""
        if not self._is_limited(lane):
            return True
        return self._counted_at_ms is not None and now_ms - self._counted_at_ms <= _FRESH_MS

    def _is_limited(self, lane: Lane) -> bool:
        return self.limits.tenant is not None or lane.queue.capability in self.limits.capabilities

    def _has_room(self, lane: Lane) -> bool:
        capability = lane.queue.capability
        most = self.limits.capabilities.get(capability)
        if most is not None and self._out_of_capability[capability] >= most:
            return False
        of_tenant = self._out_of_tenant[lane.tenant]
        if self.limits.tenant is not None and of_tenant >= self.limits.tenant:
            return False
        drain = self._drains.get(lane.queue, _NO_DRAIN)
        waiting = max(self.limits.lane_waiting, round(drain.per_ms * _MOMENT_MS))
        return self._out[lane] - drain.running < waiting


def lane_of(tenant: str, capability: str, priority: Priority) -> Lane:
    """The lane that a subtask goes into."""
    return Lane(tenant, Queue(capability, priority))


def counted(subjects: Iterable[tuple[str, str, str, int]]) -> dict[Lane, int]:
    """Lanes from tenant, capability, priority and count; what is no priority is left out."""
    known = set(Priority)
    return {
        lane_of(tenant, capability, Priority(priority)): count
        for tenant, capability, priority, count in subjects
        if priority in known
    }
