"""The durable consumers: submissions, and what workers report. Shared by all controllers.

A message is acknowledged after what it says stands in a log. What fails because of NATS is handed
back after a moment; what can never be read is kept as a dead letter.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from pydantic import ValidationError

from agent_controller.open_tasks import Key
from agent_controller.scheduling.results import end_intake, read_result, result_intake
from agent_controller.scheduling.scheduler import Scheduler
from agent_controller.submissions import Submissions
from agent_controller.tasks.intake import Intake, take_report
from agent_controller.tasks.limits import Limits
from agent_controller.tasks.view import TaskView
from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.errors import AtlasError, InvalidRequestError
from atlas.contracts.tasks import SubtaskReport, TaskEvent
from atlas.dead_letters import bury
from atlas.finishing import finish
from atlas.objects import Objects
from atlas.pull import Pull

_BATCH = 256
_WAIT_S = 1.0
_AT_ONCE_S = 0.002
_BACKLOG_WAIT_S = 0.02
_HAND_BACK_S = 1.0
_CONCURRENT = 64

log = structlog.get_logger("agent_controller.consuming")


class Consumer:
    """One durable consumer: fetches while there is room, and owns what it started."""

    def __init__(self, pull: Pull) -> None:
        self._pull = pull
        self._stopping = asyncio.Event()
        self._room = asyncio.Semaphore(_CONCURRENT)
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Fetch until `drain`."""
        while not self._stopping.is_set():
            for group in self.groups(await self._fetch()):
                await self._room.acquire()
                task = asyncio.create_task(self._guarded(group))
                self._running.add(task)
                task.add_done_callback(self._done)
        await self._pull.close()

    async def _fetch(self) -> list[Msg]:
        """One message as soon as it comes; all that wait when there seems to be a backlog.

        A fetch of many may hold back the first of them until its time is over (nats-py asks for a
        full batch), so it gets little time, and only when a message was there at once.
        """
        began = time.monotonic()
        messages = await self._pull.fetch(1, wait_s=_WAIT_S)
        if messages and time.monotonic() - began < _AT_ONCE_S:
            messages += await self._pull.fetch(_BATCH, wait_s=_BACKLOG_WAIT_S)
        return messages

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new and finish what was taken; the rest is delivered elsewhere."""
        self._stopping.set()
        await finish(self._running, timeout_s)

    def groups(self, messages: Sequence[Msg]) -> list[list[Msg]]:
        """Messages that are handled together, in their order."""
        return [[msg] for msg in messages]

    async def handle(self, messages: list[Msg]) -> None:
        """Do what the messages say."""
        raise NotImplementedError

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._room.release()

    async def _guarded(self, messages: list[Msg]) -> None:
        try:
            await self.handle(messages)
            for msg in messages:
                await msg.ack()
        except (AtlasError, NatsError, TimeoutError) as error:
            log.warning("handed_back", subject=messages[0].subject, error=str(error))
            await _hand_back(messages)
        except Exception:
            log.exception("failed_inside", subject=messages[0].subject)
            await _hand_back(messages)


async def _hand_back(messages: list[Msg]) -> None:
    with contextlib.suppress(NatsError):  # NATS is away: redelivered after the ack wait
        for msg in messages:
            await msg.nak(delay=_HAND_BACK_S)


class SubmitConsumer(Consumer):
    """Takes submissions from `ATLAS_SUBMITS`."""

    def __init__(self, pull: Pull, submissions: Submissions) -> None:
        super().__init__(pull)
        self._submissions = submissions

    async def handle(self, messages: list[Msg]) -> None:
        """Accept or reject each."""
        for msg in messages:
            await self._submissions.take(msg)


class ReportConsumer(Consumer):
    """Takes reports and results from `ATLAS_REPORTS`, all that wait for one task at once."""

    def __init__(
        self,
        pull: Pull,
        bus: Bus,
        scheduler: Scheduler,
        objects: Objects,
        limits: Limits,
    ) -> None:
        super().__init__(pull)
        self._bus = bus
        self._scheduler = scheduler
        self._objects = objects
        self._limits = limits

    def groups(self, messages: Sequence[Msg]) -> list[list[Msg]]:
        """By task, in their order."""
        found: dict[Key, list[Msg]] = {}
        for msg in messages:
            parsed = subjects.parse(msg.subject)
            found.setdefault((parsed.tenant, parsed.id), []).append(msg)
        return list(found.values())

    async def handle(self, messages: list[Msg]) -> None:
        """Fold all of them into the task, then take the next decision."""
        parsed = subjects.parse(messages[0].subject)
        intakes: list[Intake] = []
        for msg in messages:
            try:
                intake = await self._read(msg)
            except InvalidRequestError as error:
                await self._bury(msg, error)
                if subjects.parse(msg.subject).kind == "result":
                    intakes.append(end_intake(subjects.parse(msg.subject).rest, error.to_info()))
                continue
            if intake is not None:
                intakes.append(intake)
        if intakes:
            await self._scheduler.advance((parsed.tenant, parsed.id), intakes)

    async def _read(self, msg: Msg) -> Intake | None:
        """What a message does to its task; progress does nothing: it stands in the stream."""
        parsed = subjects.parse(msg.subject)
        if parsed.kind == "result":
            return result_intake(await read_result(self._objects, msg.subject, msg.data))
        try:
            report = SubtaskReport.model_validate_json(msg.data)
        except ValidationError as error:
            raise InvalidRequestError(
                f"{msg.subject}: no SubtaskReport: {error.error_count()} problems"
            ) from error
        return None if report.type == "progress" else self._report(report)

    def _report(self, report: SubtaskReport) -> Intake:
        def intake(view: TaskView, at_ms: int) -> list[TaskEvent]:
            return take_report(view, report, at_ms, self._limits)

        return intake

    async def _bury(self, msg: Msg, error: InvalidRequestError) -> None:
        tenant = subjects.parse(msg.subject).tenant
        id_ = str(msg.metadata.sequence.stream)
        await bury(self._bus, msg, "report", tenant, id_, error.to_info())
        log.error("report_buried", subject=msg.subject, error=error.message)
