"""The scheduler: one step at a time for each task, many tasks side by side.

A step takes what came in, decides, appends, and sees to the effects. It is the same step whatever
caused it: a submission, a report, a control, a time that came, or the sweep over open tasks. What
this process remembers only saves work: it may be lost at any time, and be old. An append proves
that it is not; without one the log is read before anything is taken for needless or impossible.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from agent_controller.log import Logged, TaskLog
from agent_controller.open_tasks import Key
from agent_controller.scheduling.agenda import Agenda
from agent_controller.scheduling.carrier import Carrier
from agent_controller.scheduling.large import fit_event
from agent_controller.scheduling.measuring import measure
from agent_controller.tasks.decide import Planner, decide
from agent_controller.tasks.effects import CloseTask, Effect, effects, wake_at_ms
from agent_controller.tasks.fold import heard
from agent_controller.tasks.intake import Intake
from agent_controller.tasks.limits import Limits
from agent_controller.tasks.shares import Shares, lane_of
from agent_controller.tasks.view import TaskView
from atlas import telemetry
from atlas.contracts.base import now_ms
from atlas.contracts.errors import AtlasError, FencedError, OverloadedError, RequestTimeoutError
from atlas.contracts.task_events import SubtaskDispatched, TaskEvent
from atlas.contracts.tasks import Priority
from atlas.objects import Objects
from atlas.service import Events

_TRIES = 64
"""How often a step reads again after it lost a race; each loss is another controller's progress."""
_STEPS = 10_000
"""Rounds of decisions in one step: a bound on what can only be a mistake."""
_EFFECTS_AT_ONCE = 64
_AGAIN_MS = 1_000
"""After an effect that could not be carried out."""

log = structlog.get_logger("agent_controller.scheduling")


@dataclass(slots=True)
class _Case:
    """What this process remembers of a task."""

    logged: Logged
    is_current: bool = False
    """Whether that was the whole log at some moment of the step that runs."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    carried_out: set[str] = field(default_factory=set)
    missed: list[Intake] = field(default_factory=list)
    """What effects found that the log lacks."""
    waiting: int = 0
    decided_at_ms: int = 0


class Scheduler:
    """Carries tasks on."""

    def __init__(
        self,
        *,
        task_log: TaskLog,
        carrier: Carrier,
        objects: Objects,
        events: Events,
        planner: Planner,
        limits: Limits,
        shares: Shares,
        is_missing: Callable[[str], bool],
        revisit_ms: int,
    ) -> None:
        self._log = task_log
        self._carrier = carrier
        self._objects = objects
        self._events = events
        self._planner = planner
        self._limits = limits
        self._shares = shares
        self._is_missing = is_missing
        self._revisit_ms = revisit_ms
        self._cases: dict[Key, _Case] = {}
        self.decisions = 0
        self.agenda = Agenda()
        self.agenda_changed = asyncio.Event()
        self.room_wanted = asyncio.Event()
        """A task stands in line for room in a queue."""

    @property
    def cases(self) -> int:
        """How many tasks this process remembers."""
        return len(self._cases)

    def forget(self) -> None:
        """Read every log anew: after a reconnect the server may be another one, or an empty one."""
        self._cases.clear()

    async def view(self, key: Key) -> TaskView:
        """The task as its log tells it now; version 0 when there is none."""
        case = self._cases.get(key)
        known = case.logged if case is not None else Logged(TaskView(*key))
        return (await self._log.read(known)).view

    async def advance(self, key: Key, intakes: Sequence[Intake] = ()) -> TaskView:
        """One step: take what came in, decide until nothing is left, see to the effects.

        Raises:
            AtlasError: NATS failed; the step may be repeated.
        """
        case = self._cases.setdefault(key, _Case(Logged(TaskView(*key))))
        case.waiting += 1
        try:
            async with case.lock:
                self._shares.begin(key)
                try:
                    await self._step(key, case, intakes)
                finally:
                    self._shares.settle(key)
                return case.logged.view
        finally:
            if self._shares.is_line:
                self.room_wanted.set()
            case.waiting -= 1
            if not case.waiting and not case.lock.locked():
                self._tidy(key, case)

    async def _step(self, key: Key, case: _Case, intakes: Sequence[Intake]) -> None:
        case.is_current = False
        if not case.logged.view.version:
            await self._read(case)
        trace = case.logged.trace
        with telemetry.remote_parent(trace) if trace else contextlib.nullcontext():
            for intake in intakes:
                await self._record(case, intake)
            for _ in range(_STEPS):
                case.decided_at_ms = now_ms()
                if not await self._record(case, self._decide):
                    break
            else:
                raise AtlasError(f"task {key[1]!r} does not settle; this is a mistake of ours")
            is_all_done = await self._carry_out(case)
        if case.logged.view.version:
            self._plan_next_visit(key, case, is_all_done=is_all_done)
        else:
            self.agenda.drop(key)  # it was deleted

    async def _read(self, case: _Case) -> None:
        case.logged = await self._log.read(case.logged)
        case.is_current = True

    def _decide(self, view: TaskView, at_ms: int) -> list[TaskEvent]:
        priority = view.request.priority if view.request is not None else Priority.NORMAL

        def room(capability: str) -> bool:
            lane = lane_of(view.tenant, capability, priority)
            return self._shares.ask((view.tenant, view.task_id), lane, at_ms)

        events = decide(view, at_ms, self._limits, self._planner, room)
        return [self._with_warning(event) for event in events]

    def _with_warning(self, event: TaskEvent) -> TaskEvent:
        """Say it at once where a subtask may wait long for a worker."""
        if not isinstance(event, SubtaskDispatched) or not self._is_missing(event.capability):
            return event
        warning = f"no running worker announces {event.capability!r}; it waits until one takes it"
        return event.model_copy(update={"warning": warning})

    async def _record(self, case: _Case, intake: Intake) -> bool:
        """Append what `intake` makes of the view, again after each lost race. Says if any."""
        for _ in range(_TRIES):
            events = await self._drafts(case, intake)
            if not events:
                return False
            try:
                for event in events:
                    await self._append(case, event)
            except (FencedError, RequestTimeoutError):
                await self._read(case)
            else:
                return True
        raise OverloadedError(
            f"task {case.logged.view.task_id!r}: lost {_TRIES} races for its log; try again",
            retry_after_ms=_AGAIN_MS,
        )

    async def _drafts(self, case: _Case, intake: Intake) -> list[TaskEvent]:
        """What `intake` makes of the task; only of the whole log its "nothing" or error counts."""
        if not case.is_current:
            with contextlib.suppress(AtlasError):
                if events := intake(case.logged.view, now_ms()):
                    return events
            await self._read(case)
        return intake(case.logged.view, now_ms())

    async def _append(self, case: _Case, event: TaskEvent) -> None:
        tenant = case.logged.view.tenant
        fitting = await fit_event(self._objects, tenant, event)
        case.logged = await self._log.append(case.logged, fitting)
        case.is_current = True
        self.decisions += 1
        measure(case.logged.view, event)
        data: dict[str, object] = {"task_id": event.task_id, "version": event.version}
        for name in ("subtask_id", "attempt", "worker", "stream_id", "warning"):
            if (value := getattr(event, name, None)) is not None:
                data[name] = value
        await self._events.emit(event.type, data, tenant=tenant)

    async def _carry_out(self, case: _Case) -> bool:
        """See to every effect that this process did not see to; says whether all are done.

        Side by side, because a stream whose router died answers late, and a fan-out has many.
        """
        view = case.logged.view
        found = effects(view, now_ms(), self._limits, self._planner, case.carried_out)
        if not found:
            return True
        room = asyncio.Semaphore(_EFFECTS_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            tries = [
                group.create_task(self._try(case, view, effect, room))
                for effect in found
                if not isinstance(effect, CloseTask)
            ]
        is_all_done = all(one.result() for one in tries)
        missed, case.missed = case.missed, []
        for intake in missed:
            await self._record(case, intake)
        for effect in found:
            if isinstance(effect, CloseTask) and is_all_done:
                is_all_done = await self._try(case, view, effect, room)
        return is_all_done

    async def _try(
        self, case: _Case, view: TaskView, effect: Effect, room: asyncio.Semaphore
    ) -> bool:
        """See to one effect; says whether it is done."""
        try:
            async with room:
                word = await self._carrier.carry_out(view, effect)
        except AtlasError as error:
            log.warning(
                "effect_failed", task_id=view.task_id, effect=effect.key, error=error.message
            )
            return False
        match word:
            case None:
                case.carried_out.add(effect.key)
            case int():
                self._heard(case, effect.key, word)
            case _:
                case.missed.append(word)
                return False
        return True

    @staticmethod
    def _heard(case: _Case, key: str, at_ms: int) -> None:
        _, _, subtask_id, attempt, _ = key.split(":", 4)
        view = heard(case.logged.view, subtask_id, int(attempt), at_ms)
        case.logged = Logged(view, case.logged.last_seq, case.logged.trace)

    def _plan_next_visit(self, key: Key, case: _Case, *, is_all_done: bool) -> None:
        view, at_ms = case.logged.view, now_ms()
        if view.end is not None:
            self._shares.leave(key)
        if view.end is not None and is_all_done:
            self.agenda.drop(key)
            return
        next_ms = at_ms + (self._revisit_ms if is_all_done else _AGAIN_MS)
        if self._shares.is_awaited(key):
            next_ms = at_ms
        wake_ms = wake_at_ms(view, case.decided_at_ms, self._limits)
        self.agenda.reset(key, min(next_ms, wake_ms or next_ms))
        self.agenda_changed.set()

    def _tidy(self, key: Key, case: _Case) -> None:
        """Forget what is closed, and what never was."""
        view = case.logged.view
        if not view.version or (view.end is not None and key not in self.agenda):
            self._cases.pop(key, None)
