"""What a worker tells about a subtask, and what it must know before it begins one."""

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, ValidationError

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.base import JsonObject
from atlas.contracts.errors import ErrorInfo, FencedError
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.tasks import Subtask, SubtaskReport, SubtaskResult
from atlas.wire import Stored

_ENDS = ("task.completed", "task.failed", "task.cancelled")
_FRESH_S = 15.0
"""A worker that reported within this time is at work; it reports every `BEAT_S`."""

BEAT_S = 5.0
"""How often a worker tells that it is still at it."""


class _LogLine(BaseModel):
    """As much of a task event as tells whether an attempt is still wanted."""

    model_config = ConfigDict(extra="ignore")

    type: str
    subtask_id: str | None = None
    attempt: int | None = None


class Reporter:
    """Reports of one worker, and the questions it asks of the streams."""

    def __init__(self, bus: Bus, worker: str) -> None:
        self._bus = bus
        self._worker = worker

    async def started(self, tenant: str, subtask: Subtask) -> None:
        """Tell that it has begun, and where its tokens stream: after the stream was asked for."""
        await self._report(tenant, subtask, "started")

    async def progress(self, tenant: str, subtask: Subtask, progress: JsonObject) -> None:
        """Tell that it is still at it."""
        await self._report(tenant, subtask, "progress", progress=progress)

    async def failed(
        self, tenant: str, subtask: Subtask, error: ErrorInfo, usage: Usage, cost: Cost
    ) -> None:
        """Tell that the attempt failed; the controller decides what follows."""
        await self._report(tenant, subtask, "failed", error=error, usage=usage, cost=cost)

    async def result(self, tenant: str, result: SubtaskResult) -> bool:
        """Put the result; the first one wins. Says whether it was this one."""
        subject = subjects.result(tenant, result.task_id, result.subtask_id)
        try:
            await self._bus.store(subject, result.to_json(), expected_last=0)
        except FencedError:
            return False
        return True

    async def is_wanted(self, tenant: str, subtask: Subtask, delivery: int) -> bool:
        """Whether there is anything to do: no result, no end, no failure, nobody at it.

        Whoever is at it counts only on the first delivery, of work that was sent twice: a
        redelivery means that its worker died.
        """
        result = subjects.result(tenant, subtask.task_id, subtask.subtask_id)
        if await self._bus.last(subjects.REPORTS, result) is not None:
            return False
        log = await self._bus.last(subjects.TASKS, subjects.task_write(tenant, subtask.task_id))
        if log is not None and ends(log.data, subtask):
            return False
        said = await self._bus.last(
            subjects.REPORTS,
            subjects.report(tenant, subtask.task_id, subtask.subtask_id, subtask.attempt),
        )
        if said is None:
            return True
        try:
            report = SubtaskReport.model_validate_json(said.data)
        except ValidationError:
            return True  # nobody can say what it meant; the controllers bury it
        if report.type == "failed":
            return False
        return delivery > 1 or age_s(said) >= _FRESH_S

    async def _report(
        self,
        tenant: str,
        subtask: Subtask,
        type_: str,
        *,
        progress: JsonObject | None = None,
        error: ErrorInfo | None = None,
        usage: Usage | None = None,
        cost: Cost | None = None,
    ) -> None:
        report = SubtaskReport.model_validate(
            {
                "task_id": subtask.task_id,
                "subtask_id": subtask.subtask_id,
                "attempt": subtask.attempt,
                "worker": self._worker,
                "type": type_,
                "stream_ids": [subtask.stream_id],
                "progress": progress,
                "error": error,
                "usage": usage,
                "cost": cost,
            }
        )
        subject = subjects.report(tenant, subtask.task_id, subtask.subtask_id, subtask.attempt)
        await self._bus.store(subject, report.to_json())


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
    at = datetime.fromisoformat(stored.headers["Nats-Time-Stamp"])
    return (datetime.now(UTC) - at).total_seconds()
