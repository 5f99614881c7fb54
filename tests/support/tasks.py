"""Tasks as whoever has a NATS client meets them: controllers, users, workers told what to do."""

import asyncio
import contextlib
from typing import Any

from agent_controller.main import compose
from agent_controller.open_tasks import OpenTasks
from atlas import process, subjects, topology
from atlas.bus import Bus
from atlas.contracts.base import Contract
from atlas.contracts.errors import (
    AtlasError,
    FencedError,
    NoResponderError,
    NotFoundError,
    RequestTimeoutError,
)
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.task_events import TaskHistory, TaskHistoryReply
from atlas.contracts.tasks import (
    PlannedSubtask,
    SubmitRequest,
    TaskAccepted,
    TaskControl,
    TaskGet,
    TaskList,
    TaskListReply,
    TaskStatus,
)
from atlas.contracts.work import Subtask, SubtaskReport, SubtaskResult
from atlas.limit_settings import TaskLimitSettings
from atlas.nats_settings import NatsSettings
from atlas.settings import ControllerSettings, Settings, TopologySettings
from tests.support.waiting import eventually

SETTINGS = Settings(
    topology=TopologySettings(ack_wait_ms=1_000),
    controller=ControllerSettings(
        reconcile_interval_ms=200, dispatch_timeout_ms=500, retry_base_ms=50
    ),
)


@contextlib.asynccontextmanager
async def controller(url, name="c1", settings=SETTINGS) -> Any:
    """A controller on a connection of its own, as `main` composes it."""
    bus = await Bus.connect(NatsSettings(url=url), name)
    try:
        async with (
            process.open_context("agent_controller", name, "controllers", settings, bus) as context,
            compose(context) as app,
        ):
            yield app
            await app.drain()
    finally:
        await bus.close()


class FakeWorker:
    """Takes work of some capabilities; what it does with it, a function of the subtask says."""

    def __init__(self, bus, do, capabilities=("general", "planning", "draft"), name="fake") -> None:
        self.bus = bus
        self.do = do
        self.capabilities = capabilities
        self.name = name
        self.seen: list[Subtask] = []

    async def run(self) -> Any:
        async with asyncio.TaskGroup() as group:
            for capability in self.capabilities:
                for priority in ("high", "normal", "low"):
                    consumer = await topology.ensure_work_consumer(
                        self.bus, SETTINGS.topology, capability, priority
                    )
                    group.create_task(self._pull(consumer))

    async def _pull(self, consumer) -> Any:
        pull = await self.bus.pull(subjects.WORK, consumer)
        while True:
            for msg in await pull.fetch(10, wait_s=0.5):
                subtask = Subtask.model_validate_json(msg.data)
                self.seen.append(subtask)
                tenant = msg.subject.split(".")[1]
                await self.report(tenant, subtask, "started")
                answer = self.do(subtask)
                if asyncio.iscoroutine(answer):
                    answer = await answer
                if isinstance(answer, AtlasError):
                    await self.report(tenant, subtask, "failed", error=answer.to_info())
                elif answer is not None:
                    result = SubtaskResult(
                        task_id=subtask.task_id,
                        subtask_id=subtask.subtask_id,
                        attempt=subtask.attempt,
                        worker=self.name,
                        output=answer,
                        usage=Usage(input_tokens=1, output_tokens=2),
                        cost=Cost(total_usd=0.5),
                    )
                    with contextlib.suppress(FencedError):  # the first one wins
                        await self.bus.store(
                            subjects.result(tenant, subtask.task_id, subtask.subtask_id),
                            result.to_json(),
                            expected_last=0,
                        )
                await msg.ack()

    async def report(self, tenant, subtask, type_, **more) -> Any:
        report = SubtaskReport(
            task_id=subtask.task_id,
            subtask_id=subtask.subtask_id,
            attempt=subtask.attempt,
            worker=self.name,
            type=type_,
            stream_ids=[subtask.stream_id],
            **more,
        )
        await self.bus.store(
            subjects.report(tenant, subtask.task_id, subtask.subtask_id, subtask.attempt),
            report.to_json(),
        )


@contextlib.asynccontextmanager
async def working(bus, do, **more) -> Any:
    worker = FakeWorker(bus, do, **more)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class User:
    """What anyone with a NATS client can do."""

    def __init__(self, bus, tenant="default") -> None:
        self.bus = bus
        self.tenant = tenant

    async def ask(self, door, body: Contract, answer) -> Any:
        return await self.bus.request(subjects.api(self.tenant, door), body, answer, timeout_s=5)

    async def submit(self, goal="g", **more) -> Any:
        request = SubmitRequest(goal=goal, **more)
        return (await self.ask("task.submit", request, TaskAccepted)).task_id

    async def until_door_is_open(self) -> None:
        """Until a controller answers; no event tells that it is connected again."""
        async with asyncio.timeout(15):
            while True:
                with contextlib.suppress(NoResponderError, RequestTimeoutError):
                    await self.ask("task.list", TaskList(), TaskListReply)
                    return
                await asyncio.sleep(0.05)

    async def get(self, task_id) -> Any:
        return await self.ask("task.get", TaskGet(task_id=task_id), TaskStatus)

    async def control(self, task_id, action, **more) -> Any:
        return await self.bus.request(
            subjects.task_control(self.tenant, task_id),
            TaskControl(action=action, **more),
            TaskStatus,
            timeout_s=5,
        )

    async def log(self, task_id) -> Any:
        ask = TaskHistory(task_id=task_id)
        return (await self.ask("task.history", ask, TaskHistoryReply)).events

    async def until(self, task_id, is_reached, timeout_s=15.0) -> Any:
        """Follow the log until the status is as wanted."""
        sub = await self.bus.open(subjects.task_log(self.tenant, task_id))
        await self.bus.flush()
        status = None
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    with contextlib.suppress(NotFoundError, NoResponderError, RequestTimeoutError):
                        status = await self.get(task_id)
                        if is_reached(status):
                            return status
                    with contextlib.suppress(TimeoutError):
                        await sub.next_msg(timeout=1)
        except TimeoutError:
            raise AssertionError(f"not reached: {status}") from None
        finally:
            await sub.unsubscribe()

    async def end(self, task_id, timeout_s=15.0) -> Any:
        return await self.until(task_id, lambda one: one.state.is_terminal, timeout_s)


def plan(*nodes) -> Any:
    return [
        PlannedSubtask(id=id_, capability="general", instruction=f"do {id_}", depends_on=needs)
        for id_, *needs in nodes
    ]


def limited(**limits) -> Any:
    """Settings with these limits; nothing is sent again while a test holds its workers."""
    return SETTINGS.model_copy(
        update={
            "controller": SETTINGS.controller.model_copy(
                update={"limits": TaskLimitSettings(**limits), "dispatch_timeout_ms": 60_000}
            )
        }
    )


def wide(count, capability="general") -> Any:
    return [
        PlannedSubtask(id=f"s{number}", capability=capability, instruction="do it")
        for number in range(count)
    ]


async def lying(bus, tenant="default", capability="general") -> Any:
    """How much of a tenant's work is in the queue or runs."""
    subject = subjects.work(tenant, capability, "normal")
    info = await bus.jetstream.stream_info(subjects.WORK, subjects_filter=subject)
    return (info.state.subjects or {}).get(subject, 0)


async def until_none_is_open(bus) -> None:
    """Until the index of open tasks is empty."""

    async def is_empty() -> bool:
        return not await OpenTasks(bus).list()

    await eventually(is_empty)
