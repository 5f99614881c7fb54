"""What a worker tells about a subtask, and what it must know before it begins one."""

import asyncio

import structlog
from nats.errors import Error as NatsError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.base import JsonObject, now_ms
from atlas.contracts.errors import AtlasError, ErrorInfo, FencedError, WorkCancelledError
from atlas.contracts.ids import SubtaskId, TaskId
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.work import Subtask, SubtaskReport, SubtaskResult
from atlas.service import Events
from atlas.wire import Stored, trace_of

_ENDS = ("task.completed", "task.failed", "task.cancelled", "task.deleted")
_FRESH_S = 15.0
"""A worker that reported within this time is at work; it reports every `BEAT_S`."""

BEAT_S = 5.0
"""How often a worker tells that it is still at it."""

log = structlog.get_logger("atlas.worker")


class _LogLine(BaseModel):
    """As much of a task event as tells whether an attempt is still wanted."""

    model_config = ConfigDict(extra="ignore")

    type: str
    subtask_id: str | None = None
    attempt: int | None = None


class _Names(BaseModel):
    """As much of a message of work as tells whose it is, whatever else is wrong with it."""

    model_config = ConfigDict(extra="ignore")

    task_id: TaskId
    subtask_id: SubtaskId
    attempt: int = Field(ge=1)


class Reporter:
    """Reports of one worker, and the questions it asks of the streams."""

    def __init__(self, bus: Bus, worker: str) -> None:
        self._bus = bus
        self._worker = worker

    async def result(self, tenant: str, result: SubtaskResult) -> bool:
        """Put the result; the first one wins. Says whether it was this one."""
        subject = subjects.result(tenant, result.task_id, result.subtask_id)
        try:
            await self._bus.store(subject, result.to_json(), expected_last=0)
        except FencedError:
            return False
        return True

    async def is_wanted(self, tenant: str, subtask: Subtask | _Names, delivery: int) -> bool:
        """Whether there is anything to do: no result, no failure, nobody at it.

        Whoever is at it counts only on the first delivery, of work that was sent twice: a
        redelivery means that its worker died. Of several first deliveries at once only the one is
        wanted whose claim is stored first.
        """
        result = subjects.result(tenant, subtask.task_id, subtask.subtask_id)
        if await self._bus.last(subjects.REPORTS, result) is not None:
            return False
        said = await self._last(tenant, subtask)
        report = None if said is None else _read(said)
        if report is not None and report.type == "failed":
            return False
        if delivery > 1:
            return True
        if said is not None and report is not None and age_s(said) < _FRESH_S:
            return False
        return await self._claim(tenant, subtask, 0 if said is None else said.seq)

    async def refuse(self, tenant: str, work: bytes, delivery: int, error: ErrorInfo) -> None:
        """Fail the attempt that work is of which cannot be read, so that it is not sent again.

        What does not even tell whose it is comes from no controller, and no task waits for it.

        Raises:
            AtlasError: It could not be told.
        """
        try:
            names = _Names.model_validate_json(work)
        except ValidationError:
            return
        if await self.is_wanted(tenant, names, delivery):
            await self.report(tenant, names, "failed", [], error=error)

    async def _claim(self, tenant: str, subtask: Subtask | _Names, expected_last: int) -> bool:
        """Be the one who begins; whether it is."""
        try:
            await self.report(tenant, subtask, "progress", [], expected_last=expected_last)
        except FencedError:
            return False
        return True

    async def trace(self, tenant: str, subtask: Subtask) -> dict[str, str]:
        """The trace context of whoever was at the attempt last, if anybody told of it."""
        said = await self._last(tenant, subtask)
        return {} if said is None else trace_of(said.headers)

    async def _last(self, tenant: str, subtask: Subtask | _Names) -> Stored | None:
        """What was reported last of an attempt."""
        subject = subjects.report(tenant, subtask.task_id, subtask.subtask_id, subtask.attempt)
        return await self._bus.last(subjects.REPORTS, subject)

    async def report(
        self,
        tenant: str,
        subtask: Subtask | _Names,
        type_: str,
        stream_ids: list[str],
        *,
        progress: JsonObject | None = None,
        error: ErrorInfo | None = None,
        usage: Usage | None = None,
        cost: Cost | None = None,
        expected_last: int | None = None,
    ) -> None:
        """Put one report on an attempt; where another came after `expected_last`, it is fenced."""
        report = SubtaskReport.model_validate(
            {
                "task_id": subtask.task_id,
                "subtask_id": subtask.subtask_id,
                "attempt": subtask.attempt,
                "worker": self._worker,
                "type": type_,
                "stream_ids": stream_ids,
                "progress": progress,
                "error": error,
                "usage": usage,
                "cost": cost,
            }
        )
        subject = subjects.report(tenant, subtask.task_id, subtask.subtask_id, subtask.attempt)
        await self._bus.store(subject, report.to_json(), expected_last=expected_last)


class Voice:
    """Everything that is told of one attempt: reports for the controllers, events for anyone."""

    def __init__(self, reporter: Reporter, events: Events, tenant: str, subtask: Subtask) -> None:
        self._reporter = reporter
        self._events = events
        self._tenant = tenant
        self._subtask = subtask
        self._stream_ids: list[str] = []
        self._has_begun = False
        self._beginning = asyncio.Lock()

    async def stream(self, stream_id: str) -> None:
        """Tell that a stream was asked for, and so that the attempt has begun.

        Raises:
            AtlasError: It could not be told.
        """
        if stream_id not in self._stream_ids:
            self._stream_ids.append(stream_id)
        await self._begin()

    async def progress(self, progress: JsonObject) -> None:
        """Tell that it is still at it; what is lost, the next one makes good."""
        try:
            await self._begin()
            await self._report("progress", progress=progress)
        except (AtlasError, NatsError) as error:
            log.debug("progress_lost", error=str(error))

    async def failed(self, error: ErrorInfo, usage: Usage, cost: Cost) -> None:
        """Tell that the attempt failed; the controller decides what follows.

        Raises:
            AtlasError: It could not be told.
        """
        await self._report("failed", error=error, usage=usage, cost=cost)
        await self.event("subtask.failed", code=error.code)

    async def given_up(self, usage: Usage, cost: Cost) -> None:
        """Tell what the attempt had used when nobody waited for it any more.

        Raises:
            AtlasError: It could not be told.
        """
        error = WorkCancelledError("nobody waited for this attempt any more")
        await self._report("failed", error=error.to_info(), usage=usage, cost=cost)

    async def event(self, type_: str, **more: object) -> None:
        """Let anyone know what became of it."""
        subtask = self._subtask
        data: JsonObject = {
            "task_id": subtask.task_id,
            "subtask_id": subtask.subtask_id,
            "attempt": subtask.attempt,
            "capability": subtask.capability,
            "stream_id": subtask.stream_id,
            **more,
        }
        await self._events.emit(type_, data, tenant=self._tenant)

    async def _begin(self) -> None:
        async with self._beginning:
            if not self._has_begun:
                await self._report("started")
                self._has_begun = True
                await self.event("subtask.started")

    async def _report(
        self,
        type_: str,
        *,
        progress: JsonObject | None = None,
        error: ErrorInfo | None = None,
        usage: Usage | None = None,
        cost: Cost | None = None,
    ) -> None:
        await self._reporter.report(
            self._tenant,
            self._subtask,
            type_,
            list(self._stream_ids),
            progress=progress,
            error=error,
            usage=usage,
            cost=cost,
        )


def _read(stored: Stored) -> SubtaskReport | None:
    """A report; None where nobody can say what it meant: the controllers bury it."""
    try:
        return SubtaskReport.from_json(stored.data)
    except ValidationError:
        return None


def type_of(event: bytes) -> str:
    """What happened, as an event of the task's log says."""
    return _LogLine.model_validate_json(event).type


def ends(event: bytes, subtask: Subtask) -> bool:
    """Whether an event of the task's log makes this attempt pointless."""
    line = _LogLine.model_validate_json(event)
    if line.type in _ENDS:
        return True
    if line.subtask_id != subtask.subtask_id:
        return False
    match line.type:
        case "subtask.succeeded" | "subtask.cancelled":
            return True
        case "subtask.failed":
            return line.attempt is None or line.attempt >= subtask.attempt
        case "subtask.dispatched" | "subtask.retried":
            return line.attempt is not None and line.attempt > subtask.attempt
        case _:
            return False


def age_s(stored: Stored) -> float:
    """How long ago the server stored a message."""
    return (now_ms() - stored.at_ms) / 1000
