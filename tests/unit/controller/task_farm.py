"""Tenants, tasks, queues, workers and controllers in virtual time: real decisions, no broker."""

import heapq
import itertools
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

from tests.unit.controller.task_world import PLANNER, node

from agent_controller.tasks.decide import decide
from agent_controller.tasks.fold import fold
from agent_controller.tasks.intake import take_report, take_result
from agent_controller.tasks.limits import Limits
from agent_controller.tasks.shares import Counts, Queue, ShareLimits, Shares, Taken, lane_of
from agent_controller.tasks.view import TaskView
from atlas.contracts.task_events import SubtaskDispatched, TaskAcceptedEvent
from atlas.contracts.tasks import TaskRequest
from atlas.contracts.work import SubtaskReport, SubtaskResult
from atlas.turns import precedence

WORK_MS = 1_000
_LOOK_MS = 250


@dataclass
class Farm:
    """Everything that is there; `run` goes on until nothing is left to do."""

    limits: Limits = field(default_factory=lambda: Limits(task_waiting=8))
    share_limits: ShareLimits = field(default_factory=lambda: ShareLimits(lane_waiting=16))
    workers: int = 4
    controllers: int = 1
    visit_ms: int = 0
    """How late a controller comes to a task that it woke."""
    now_ms: int = 1_000
    ended_at_ms: dict[Any, int] = field(default_factory=dict)
    begun: list[Any] = field(default_factory=list)
    """The tasks of the subtasks in the order in which workers took them."""
    most_waiting: Counter[Any] = field(default_factory=Counter)
    """Of each lane, the most that ever lay in its queue."""
    most_out: Counter[Any] = field(default_factory=Counter)
    """Of each tenant and each capability."""

    def __post_init__(self) -> None:
        self.views: dict[Any, Any] = {}
        self.queues: dict[Any, deque[Any]] = defaultdict(deque)
        self.running: Counter[Any] = Counter()
        self.taken: Counter[Any] = Counter()
        self.shares = [Shares(self.share_limits) for _ in range(self.controllers)]
        self.idle = self.workers
        self.turn = 0
        self._due: list[Any] = []
        self._submitted = 0
        self._number = itertools.count()
        for shares in self.shares:
            self._at(0, self._look, shares)

    def submit(self, task_id, size, tenant="default", *, after_ms=0, plan=None, **more) -> Any:
        """A task of so many subtasks side by side, or of a plan."""
        self._submitted += 1
        nodes = plan or [node(f"s{place}") for place in range(size)]
        self._at(
            after_ms, self._accept, (tenant, task_id), TaskRequest(goal="g", plan=nodes, **more)
        )
        return (tenant, task_id)

    def run(self, until=lambda _: False) -> Any:
        """Until everything is done, or what was waited for has happened."""
        while self._due and not until(self):
            self.now_ms, _, do, *what = heapq.heappop(self._due)
            do(*what)
        return self

    def _at(self, in_ms, do, *what) -> None:
        heapq.heappush(self._due, (self.now_ms + in_ms, next(self._number), do, *what))

    def _accept(self, key, request) -> None:
        self.views[key] = TaskView(*key)
        self._append(
            key,
            [
                TaskAcceptedEvent(
                    task_id=key[1],
                    version=1,
                    at_ms=self.now_ms,
                    request=request,
                    request_sha256="x",
                )
            ],
        )
        self._step(key)

    def _append(self, key, events) -> None:
        self.views[key] = fold(self.views[key], events)

    def _step(self, key, shares=None) -> None:
        """What a controller does whenever something happened: any of them, by turns."""
        shares = shares or self.shares[next(self._number) % self.controllers]
        priority = self.views[key].request.priority
        shares.begin(key)
        while True:
            events = decide(
                self.views[key],
                self.now_ms,
                self.limits,
                PLANNER,
                lambda name: shares.ask(key, lane_of(key[0], name, priority), self.now_ms),
            )
            if not events:
                break
            self._append(key, events)
            for event in events:
                if isinstance(event, SubtaskDispatched):
                    queue = Queue(event.capability, priority)
                    self.queues[queue].append((key, event.subtask_id))
        if self.views[key].end is not None:
            shares.leave(key)
        shares.settle(key)
        self._note()
        if self.views[key].end is not None:
            self.ended_at_ms.setdefault(key, self.now_ms)
        self._work()

    def _work(self) -> None:
        while self.idle:
            order = precedence(self.turn)
            waiting = [queue for queue, line in self.queues.items() if line]
            if not waiting:
                return
            queue = min(waiting, key=lambda one: order.index(one.priority))
            self.turn += 1
            self.taken[queue] += 1
            key, subtask_id = self.queues[queue].popleft()
            self.idle -= 1
            self.running[lane_of(key[0], *queue)] += 1
            self.begun.append(key)
            report = SubtaskReport(
                task_id=key[1], subtask_id=subtask_id, attempt=1, worker="w", type="started"
            )
            self._append(key, take_report(self.views[key], report, self.now_ms, self.limits))
            self._at(WORK_MS, self._done, key, subtask_id, queue)
            self._at(0, self._step, key)

    def _done(self, key, subtask_id, queue) -> None:
        self.idle += 1
        self.running[lane_of(key[0], *queue)] -= 1
        result = SubtaskResult(
            task_id=key[1], subtask_id=subtask_id, attempt=1, worker="w", output="done"
        )
        self._append(key, take_result(self.views[key], result, self.now_ms, None))
        self._step(key)

    def _out(self) -> Counter[Any]:
        out = Counter(self.running)
        for queue, line in self.queues.items():
            out.update(lane_of(key[0], *queue) for key, _ in line)
        return out

    def _look(self, shares) -> None:
        running: Counter[Any] = Counter()
        for lane, count in self.running.items():
            running[lane.queue] += count
        taken = {
            queue: Taken(running[queue], self.taken[queue]) for queue in shares.queues(self.now_ms)
        }
        for task in list(shares.take(Counts(self._out(), taken), self.now_ms)):
            self._at(self.visit_ms, self._step, task, shares)
        if len(self.ended_at_ms) < self._submitted:
            self._at(_LOOK_MS, self._look, shares)

    def _note(self) -> None:
        out = self._out()
        by_name: Counter[Any] = Counter()
        for lane, count in out.items():
            self.most_waiting[lane] = max(self.most_waiting[lane], count - self.running[lane])
            by_name[lane.tenant] += count
            by_name[lane.queue.capability] += count
        self.most_out |= by_name
