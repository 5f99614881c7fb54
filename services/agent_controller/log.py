"""The log of a task as it is stored: read, and appended to by compare-and-set.

One literal subject per task. An append names the last message of that subject that its writer has
folded; the server refuses it when there is a later one. After a refusal, and after an answer that
got lost, one reads again: the refusal may be one's own success.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from agent_controller.tasks.entries import read_entry
from agent_controller.tasks.fold import fold
from agent_controller.tasks.view import TaskView
from atlas import subjects, telemetry
from atlas.bus import Bus
from atlas.contracts.task_events import (
    TASK_EVENT,
    SubtaskDispatched,
    SubtaskRetried,
    SubtaskStarted,
    TaskEvent,
)
from atlas.wire import trace_of

_PLAIN = (SubtaskDispatched, SubtaskStarted, SubtaskRetried)
"""Events that are read as they were written; in others JSON may change a value, such as NaN."""


@dataclass(frozen=True, slots=True)
class Logged:
    """A task as far as its log was read."""

    view: TaskView
    last_seq: int = 0
    """The JetStream sequence of the last message folded; 0 when there is none."""
    trace: Mapping[str, str] = field(default_factory=dict)
    """The trace context that the task was accepted with: every controller goes on with it."""


class TaskLog:
    """Reads and appends."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def read(self, known: Logged) -> Logged:
        """The task as it stands, from where it is known on.

        Raises:
            LogCorruptError: The log cannot be folded.
            RequestTimeoutError: NATS is silent.
        """
        subject = subjects.task_write(known.view.tenant, known.view.task_id)
        last = await self._bus.last(subjects.TASKS, subject)  # mostly there is nothing new
        if last is None or last.seq <= known.last_seq:
            return known
        async for message in self._bus.read(subjects.TASKS, subject, from_seq=known.last_seq + 1):
            view = fold(known.view, [read_entry(message.data)])
            trace: Mapping[str, str] = known.trace
            if view.version == 1:
                trace = trace_of(message.headers)
            known = Logged(view, message.seq, trace)
        return known

    async def append(self, known: Logged, event: TaskEvent) -> Logged:
        """Store the next event; gives the task after it.

        Raises:
            FencedError: The log went on without us; read again.
            RequestTimeoutError: No answer: it may be stored or not; read again.
        """
        data = TASK_EVENT.dump_json(event, exclude_none=True)
        view = known.view
        # Without a message id: that the same event is not stored twice, the expected sequence sees
        # to, and the server would remember two minutes of ids.
        seq = await self._bus.store(
            subjects.task_write(view.tenant, view.task_id), data, expected_last=known.last_seq
        )
        trace = dict(known.trace)
        if event.version == 1:
            telemetry.inject(trace)
        entry = event if isinstance(event, _PLAIN) else read_entry(data)
        return Logged(fold(view, [entry]), seq, trace)

    async def entries(self, tenant: str, task_id: str) -> AsyncIterator[TaskEvent]:
        """The log from its beginning."""
        async for message in self._bus.read(subjects.TASKS, subjects.task_write(tenant, task_id)):
            yield read_entry(message.data)
