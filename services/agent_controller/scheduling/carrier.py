"""Seeing to effects: work goes to the queue, controls go to streams, ended tasks are closed."""

import structlog

from agent_controller.open_tasks import OpenTasks
from agent_controller.queued_work import queued_work
from agent_controller.scheduling.large import fit_work
from agent_controller.scheduling.results import end_intake, read_result, result_intake
from agent_controller.tasks.effects import CloseTask, ControlStream, Effect, SendWork
from agent_controller.tasks.intake import Intake
from agent_controller.tasks.limits import Limits
from agent_controller.tasks.view import TaskView
from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.base import now_ms
from atlas.contracts.errors import (
    InvalidRequestError,
    NoResponderError,
    PayloadTooLargeError,
    RequestTimeoutError,
)
from atlas.contracts.streams import StreamControl, StreamStatus
from atlas.contracts.tasks import Priority, SubtaskState
from atlas.contracts.work import Subtask
from atlas.erasing import remove
from atlas.objects import Objects
from atlas.service import Events

_CONTROL_S = 2.0
_BY = "agent_controller"

log = structlog.get_logger("agent_controller.scheduling")


type Word = int | Intake | None
"""What came of an effect: None, it is done; when a worker was heard, so that it need not be done;
or what the log lacks."""


class Carrier:
    """Carries out effects. Each of them may be carried out again without harm."""

    def __init__(
        self, bus: Bus, objects: Objects, open_tasks: OpenTasks, events: Events, limits: Limits
    ) -> None:
        self._bus = bus
        self._objects = objects
        self._open_tasks = open_tasks
        self._events = events
        self._limits = limits

    async def carry_out(self, view: TaskView, effect: Effect) -> Word:
        """Do it, unless something that the log does not know makes it needless.

        Raises:
            AtlasError: It could not be done now.
        """
        match effect:
            case SendWork():
                return await self._send_work(view, effect)
            case ControlStream():
                await self._control(view, effect)
            case CloseTask():
                await self._drop_work(view)
                await self._open_tasks.remove((view.tenant, view.task_id))
        return None

    async def _send_work(self, view: TaskView, effect: SendWork) -> Word:
        subtask = effect.subtask
        if effect.resend:
            if (missed := await self._missed_result(view, subtask)) is not None:
                return missed
            heard_at_ms = await self._last_heard_ms(view, effect)
            if heard_at_ms is not None:
                return heard_at_ms
            await self._tell_resend(view, effect)
        fitting = await fit_work(self._objects, view.tenant, subtask)
        subject = subjects.work(view.tenant, subtask.capability, effect.priority)
        try:
            await self._bus.store(subject, fitting.to_json(), msg_id=effect.key)
        except PayloadTooLargeError as error:
            return end_intake(subtask.subtask_id, error.to_info())
        return None

    async def _drop_work(self, view: TaskView) -> None:
        """Take out of the queues what no worker began before the task ended."""
        priority = view.request.priority if view.request else Priority.NORMAL
        unbegun = [one for one in view.subtasks.values() if one.was_given_up_unbegun]
        for capability in {one.capability for one in unbegun}:
            subject = subjects.work(view.tenant, capability, priority)
            async for work in queued_work(self._bus, subject):
                if work.key == (view.tenant, view.task_id):
                    await remove(self._bus, subjects.WORK, work.seq)

    async def _missed_result(self, view: TaskView, subtask: Subtask) -> Intake | None:
        """What stands in the place of the result although the log lacks it.

        As long as it stands there, no worker does the subtask again.
        """
        subject = subjects.result(view.tenant, subtask.task_id, subtask.subtask_id)
        stored = await self._bus.last(subjects.REPORTS, subject)
        if stored is None:
            return None
        log.warning("result_missed", task_id=view.task_id, subtask_id=subtask.subtask_id)
        try:
            return result_intake(await read_result(self._objects, subject, stored.data))
        except InvalidRequestError as error:
            return end_intake(subtask.subtask_id, error.to_info())

    async def _last_heard_ms(self, view: TaskView, effect: SendWork) -> int | None:
        """When a worker last spoke of a started attempt, if that is not long ago.

        Reports go to whichever controller is free; the stream of reports knows of all of them.
        """
        subtask = effect.subtask
        if view.subtasks[subtask.subtask_id].state is not SubtaskState.RUNNING:
            return None
        subject = subjects.report(view.tenant, subtask.task_id, subtask.subtask_id, subtask.attempt)
        last = await self._bus.last(subjects.REPORTS, subject)
        if last is None:
            return None
        return last.at_ms if now_ms() - last.at_ms < self._limits.silence_ms else None

    async def _tell_resend(self, view: TaskView, effect: SendWork) -> None:
        subtask = effect.subtask
        log.warning(
            "work_sent_again",
            task_id=view.task_id,
            subtask_id=subtask.subtask_id,
            capability=subtask.capability,
            resend=effect.resend,
        )
        await self._events.emit(
            "subtask.redelivered",
            {
                "task_id": view.task_id,
                "subtask_id": subtask.subtask_id,
                "attempt": subtask.attempt,
                "capability": subtask.capability,
                "resend": effect.resend,
                "hint": f"is a worker for {subtask.capability!r} running and free?",
            },
            tenant=view.tenant,
        )

    async def _control(self, view: TaskView, effect: ControlStream) -> None:
        """Tell a stream.

        JetStream keeps the control, so that a router that takes the stream later finds it too; an
        answer that refuses it says that it is needless. Where nobody answers it may be lost.
        """
        subject = subjects.stream_control(view.tenant, effect.stream_id)
        control = StreamControl(action=effect.action, reason=effect.reason[:1024], by=_BY)
        try:
            await self._bus.request(subject, control, StreamStatus, timeout_s=_CONTROL_S)
        except InvalidRequestError as error:
            log.debug("control_refused", stream_id=effect.stream_id, error=error.message)
        except (NoResponderError, RequestTimeoutError):
            kept = await self._bus.last(subjects.CONTROL, subject)
            if kept is None or kept.data != control.to_json():
                raise
