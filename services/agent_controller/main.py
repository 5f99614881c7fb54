"""The composition root of the agent controller."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from agent_controller.consuming import AHEAD, Consumer
from agent_controller.deletion import Deletion
from agent_controller.handlers import TaskDoors
from agent_controller.listing import Listing
from agent_controller.log import TaskLog
from agent_controller.object_door import ObjectDoor
from agent_controller.object_upload import UploadDoor
from agent_controller.open_tasks import OpenTasks
from agent_controller.planning.patterns import registered
from agent_controller.planning.planner import TaskPlanner
from agent_controller.presence import Presence
from agent_controller.reports import Reports, task_of
from agent_controller.roll import Roll
from agent_controller.scheduling.carrier import Carrier
from agent_controller.scheduling.dead_work import DeadWork
from agent_controller.scheduling.keeper import Keeper
from agent_controller.scheduling.queue_watch import QueueWatch
from agent_controller.scheduling.scheduler import Scheduler
from agent_controller.stock import Stock
from agent_controller.submissions import Submissions
from agent_controller.tasks.admission import Admission
from agent_controller.tasks.limits import DAY_MS, Limits
from agent_controller.tasks.shares import ShareLimits, Shares
from atlas import gauges, subjects
from atlas.bus import Bus
from atlas.contracts.base import JsonObject
from atlas.contracts.errors import ConfigurationError
from atlas.contracts.inference import Requirements
from atlas.objects import Objects
from atlas.pull import Flow
from atlas.service import Context
from atlas.settings import ControllerSettings
from atlas.telemetry import meters, names

NAME = "agent_controller"
QUEUE = subjects.CONTROLLERS

_REVISITS = 5
"""A task is looked at after so many sweeps at the latest, for what died with another controller."""
_SILENCES = 4
_LEAST_SILENCE_MS = 30_000
"""A started subtask may be silent for so many waits for a start; a worker reports every 5 s."""
_OPEN_PART = 0.9
"""Of the days that a log is kept: so much is left, three days of thirty, for a time without any
controller."""
_VISITS_AT_ONCE = 64
_HEALTHS = 3
"""Every worker that is there has said so within so many intervals of health."""


@dataclass(frozen=True, slots=True)
class ControllerApp:
    """A controller as the service shell sees it."""

    bus: Bus
    scheduler: Scheduler
    consumers: Sequence[Consumer]
    drain_s: float

    async def drain(self) -> None:
        """Finish the steps in progress; every task goes on with another controller."""
        await asyncio.gather(*(consumer.drain(self.drain_s) for consumer in self.consumers))

    def health(self) -> JsonObject:
        """How many tasks it looks after."""
        return {"open_tasks": self.scheduler.cases, "agenda": len(self.scheduler.agenda)}

    def metrics(self) -> JsonObject:
        """How many decisions it wrote into tasks' logs."""
        return {"decisions": self.scheduler.decisions}

    async def look(self) -> None:
        """Tell its gauges."""
        meters.tell(names.TASKS_HELD, [(self.scheduler.cases, {})])
        await gauges.tell_queues(self.bus, gauges.QUEUES_OF_CONTROLLERS)
        await gauges.tell_stored(self.bus, gauges.STORED)

    def troubles(self) -> Sequence[str]:
        """None of its own: all that it needs is NATS."""
        return ()


def limits_from(settings: ControllerSettings, task_days: float) -> Limits:
    """The limits of decisions, from the settings."""
    return Limits(
        max_open_ms=round(task_days * _OPEN_PART * DAY_MS),
        subtask_max_attempts=settings.subtask_max_attempts,
        subtask_timeout_ms=settings.subtask_timeout_ms,
        dispatch_timeout_ms=settings.dispatch_timeout_ms,
        silence_ms=max(_LEAST_SILENCE_MS, settings.dispatch_timeout_ms * _SILENCES),
        retry_base_ms=settings.retry_base_ms,
        max_plan_nodes=settings.max_plan_nodes,
        max_plan_depth=settings.max_plan_depth,
        task_parallel=settings.limits.task_parallel,
        task_waiting=settings.limits.task_waiting,
    )


def shares_from(settings: ControllerSettings) -> Shares:
    """What tasks share, by the settings."""
    limits = settings.limits
    return Shares(
        ShareLimits(
            lane_waiting=limits.tenant_waiting,
            tenant=limits.tenant_parallel,
            capabilities=limits.capabilities,
        )
    )


def _planner_requirements(settings: ControllerSettings) -> Requirements | None:
    if settings.planner_requirements is None:
        return None
    try:
        return Requirements.model_validate(settings.planner_requirements)
    except ValidationError as error:
        raise ConfigurationError(
            f"controller.planner_requirements: {error.errors()[0]['msg']}; "
            "give task_type and capabilities as in a request"
        ) from error


async def _flow(bus: Bus, stream: str) -> Flow:
    return await bus.flow(stream, subjects.CONTROLLERS, bound=AHEAD)


@contextlib.asynccontextmanager
async def compose(context: Context) -> AsyncIterator[ControllerApp]:
    """Build the controller on a context, and run it."""
    settings, bus = context.settings.controller, context.bus
    limits = limits_from(settings, context.settings.topology.task_days)
    roll = Roll(context.instance, context.settings.health_interval_ms)
    presence = Presence(
        bus, context.events, roll, settle_ms=context.settings.health_interval_ms * _HEALTHS
    )
    planner = TaskPlanner(
        limits,
        _planner_requirements(settings),
        presence.offers,
        registered(settings.patterns),
    )
    objects, open_tasks, task_log = Objects(bus), OpenTasks(bus), TaskLog(bus)
    shares = shares_from(settings)
    admission = Admission(settings.limits.open_tasks, settings.limits.submissions)
    scheduler = Scheduler(
        task_log=task_log,
        carrier=Carrier(bus, objects, open_tasks, context.events, limits),
        objects=objects,
        events=context.events,
        planner=planner,
        limits=limits,
        shares=shares,
        is_missing=presence.is_missing,
        revisit_ms=settings.reconcile_interval_ms * _REVISITS,
    )
    bus.on_reconnect(scheduler.forget)
    submissions = Submissions(
        bus, scheduler, open_tasks, context.events, planner, admission=admission
    )
    doors = TaskDoors(
        bus, task_log, Listing(bus, scheduler), scheduler, submissions, admission=admission
    )
    deletion = Deletion(bus, task_log, objects, open_tasks, context.events)
    reports = Reports(bus, scheduler, objects, limits)
    consumers = [
        Consumer(await _flow(bus, subjects.SUBMITS), submissions.take, task_of),
        Consumer(await _flow(bus, subjects.REPORTS), reports.take, task_of),
    ]
    keeper = Keeper(
        scheduler,
        open_tasks,
        admission,
        interval_ms=settings.reconcile_interval_ms,
        concurrency=_VISITS_AT_ONCE,
        max_open_ms=limits.max_open_ms,
    )
    health = await presence.listen()  # before anything is planned
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(consumer.run()) for consumer in consumers]
        watch = QueueWatch(Stock(bus), scheduler, shares, admission)
        dead_work = DeadWork(bus, shares, scheduler.view)
        running += [group.create_task(one.run()) for one in (keeper, watch, dead_work)]
        running.append(group.create_task(presence.run(health)))
        await deletion.open(context.doors)
        await ObjectDoor(bus, objects).open(context.doors)
        most_bytes = context.settings.media.max_object_bytes
        await UploadDoor(bus, objects, most_bytes).open(context.doors)
        await doors.open(context.doors)
        try:
            yield ControllerApp(bus, scheduler, consumers, settings.drain_ms / 1000)
        finally:
            for task in running:
                task.cancel()
