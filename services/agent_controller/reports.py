"""What workers report, and how it reaches a task; what can never be read is a dead letter."""

import structlog
from nats.aio.msg import Msg
from pydantic import ValidationError

from agent_controller.open_tasks import Key
from agent_controller.scheduling.results import end_intake, read_result, result_intake
from agent_controller.scheduling.scheduler import Scheduler
from agent_controller.tasks.intake import Intake, take_report
from agent_controller.tasks.limits import Limits
from agent_controller.tasks.view import TaskView
from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.errors import InvalidRequestError
from atlas.contracts.task_events import TaskEvent
from atlas.contracts.work import SubtaskReport
from atlas.dead_letters import bury
from atlas.erasing import purge
from atlas.objects import Objects

log = structlog.get_logger("agent_controller.reports")


def task_of(msg: Msg) -> Key:
    """The task that a message is about."""
    parsed = subjects.parse(msg.subject)
    return parsed.tenant, parsed.id


class Reports:
    """Folds what workers say into their tasks."""

    def __init__(self, bus: Bus, scheduler: Scheduler, objects: Objects, limits: Limits) -> None:
        self._bus = bus
        self._scheduler = scheduler
        self._objects = objects
        self._limits = limits

    async def take(self, messages: list[Msg]) -> None:
        """Fold messages of one task into it, all of them, then take the next decision."""
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
        if not intakes:
            return
        view = await self._scheduler.advance((parsed.tenant, parsed.id), intakes)
        if view.is_deleted:
            await self._erase_late((parsed.tenant, parsed.id))

    async def _erase_late(self, key: Key) -> None:
        """Remove what a worker said that did not know that its task was deleted."""
        for subject in (subjects.reports_of(*key), subjects.results_of(*key)):
            await purge(self._bus, subjects.REPORTS, subject)
        await self._objects.remove([f"{key[0]}.{key[1]}."])
        log.info("late_report_removed", task_id=key[1])

    async def _read(self, msg: Msg) -> Intake | None:
        """What a message does to its task; progress does nothing: it stands in the stream."""
        parsed = subjects.parse(msg.subject)
        if parsed.kind == "result":
            return result_intake(await read_result(self._objects, msg.subject, msg.data))
        try:
            report = SubtaskReport.from_json(msg.data)
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
