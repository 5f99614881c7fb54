"""Carries out a plan of chaos with tasks: NATS, controllers, workers, routers, and the faults."""

import asyncio
import contextlib
import functools
import json
import traceback
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import IO

from nats.errors import Error as NatsError

from atlas import subjects
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.contracts.errors import (
    ConnectionFailedError,
    InvalidTransitionError,
    NoResponderError,
    NotFoundError,
    RequestTimeoutError,
)
from atlas.contracts.tasks import SubmitRequest, TaskAccepted, TaskAction, TaskControl, TaskState
from atlas.embedded import Services, cluster
from atlas.nats_settings import NatsSettings
from atlas.settings import Settings
from tests.chaos.faults import Processes
from tests.chaos.task_plan import PlannedTask, TaskPlan
from tests.chaos.task_verdict import TASK_ENDS, TaskOutcome
from tests.support.router import TENANT, TERMINAL

_SETTLE_S = 120.0
"""In a world at peace every task ends in far less."""
_AGAIN_S = 0.3
_MAY_PASS = (RequestTimeoutError, NoResponderError, ConnectionFailedError)
_QUEUES = (subjects.SUBMITS, subjects.WORK, subjects.REQUESTS)


class TaskWorld:
    """Everything that a plan touches."""

    def __init__(self, plan: TaskPlan, processes: Processes, bus: Bus, atlas: Atlas) -> None:
        self._plan = plan
        self._processes = processes
        self._bus = bus
        self._atlas = atlas
        self.outcome = TaskOutcome()

    async def run(self) -> TaskOutcome:
        """Carry out the plan; gives what is left when all is quiet."""
        await self._processes.start()
        tasks = [asyncio.create_task(self._task(one)) for one in self._plan.tasks]
        faults = [asyncio.create_task(self._processes.strike(one)) for one in self._plan.faults]
        try:
            await asyncio.gather(*faults)
            await asyncio.wait(tasks, timeout=_SETTLE_S)
            late = [not one.done() for one in tasks]
        finally:
            for task in (*tasks, *faults):
                task.cancel()
            results = await asyncio.gather(*tasks, *faults, return_exceptions=True)
        outcome = self.outcome
        outcome.happened = self._processes.happened
        outcome.errors = [
            "".join(traceback.format_exception(one))
            for one in results
            if isinstance(one, Exception)
        ]
        planned = zip(self._plan.tasks, late, strict=True)
        outcome.unended = [one.task_id for one, is_late in planned if is_late]
        await self._take_stock()
        return outcome

    async def _take_stock(self) -> None:
        outcome = self.outcome
        for task in self._plan.tasks:
            subject = subjects.task_write(TENANT, task.task_id)
            outcome.logs[task.task_id] = [
                json.loads(one.data) async for one in self._bus.read(subjects.TASKS, subject)
            ]
        everything = subjects.STREAM_WRITE_ALL
        async for one in self._bus.read(subjects.STREAMS, everything):
            event = json.loads(one.data)
            if event["type"] in TERMINAL:
                outcome.stream_ends.setdefault(event["stream_id"], []).append(event["type"])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(20):
                while any((await self._left()).values()):  # noqa: ASYNC110 - as in `world`
                    await asyncio.sleep(_AGAIN_S)
        outcome.left = await self._left()

    async def _left(self) -> dict[str, int]:
        info = self._bus.jetstream.stream_info
        return {name: (await info(name)).state.messages for name in _QUEUES}

    async def _task(self, task: PlannedTask) -> None:
        """Submit a task, follow its log and control it, until it has ended."""
        await self._processes.until(task.at_s)
        await self._submit(task)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(task))
            group.create_task(self._control(task))

    async def _submit(self, task: PlannedTask) -> None:
        request = SubmitRequest.model_validate({**task.request, "task_id": task.task_id})
        while True:
            try:
                if task.door == "api":
                    door = subjects.api(TENANT, "task.submit")
                    await self._bus.request(door, request, TaskAccepted, timeout_s=2)
                else:
                    await self._atlas.submit(task_id=task.task_id, **task.request)
            except _MAY_PASS:
                await asyncio.sleep(_AGAIN_S)
            else:
                return

    async def _follow(self, task: PlannedTask) -> None:
        """From the first entry to the last, as a client that notices nothing of the faults."""
        while True:
            seen: list[int] = []
            try:
                async with aclosing(self._atlas.task_handle(task.task_id).events()) as events:
                    async for event in events:
                        seen.append(event.version)
                        if event.type in TASK_ENDS:
                            self.outcome.followed[task.task_id] = seen
                            return
            except (*_MAY_PASS, NotFoundError):  # not taken in yet
                await asyncio.sleep(_AGAIN_S)

    async def _control(self, task: PlannedTask) -> None:
        handle = self._atlas.task_handle(task.task_id)
        for control in task.controls:
            await asyncio.sleep(control.after_s)
            while True:
                try:
                    await handle.control(TaskControl(action=TaskAction(control.action), by="chaos"))
                except (*_MAY_PASS, NotFoundError):
                    await asyncio.sleep(_AGAIN_S)
                except InvalidTransitionError as error:
                    if _is_early(control.action, error):
                        await asyncio.sleep(_AGAIN_S)
                        continue
                    return  # it has ended
                else:
                    break


def _is_early(action: str, error: InvalidTransitionError) -> bool:
    """Whether there is nothing to approve yet."""
    state = TaskState(str((error.details or {})["state"]))
    return action in {"approve", "reject"} and not state.is_terminal


@asynccontextmanager
async def task_world(plan: TaskPlan, directory: Path, log: IO[bytes]) -> AsyncIterator[TaskWorld]:
    """A world for a plan; everything in it ends with the block, also what is stopped."""
    async with AsyncExitStack() as undo:
        servers = cluster(directory, plan.servers)
        for server in servers:
            undo.push_async_callback(server.stop)
        await asyncio.gather(*(server.start() for server in servers))
        url = ",".join(server.url for server in servers)
        bus = await Bus.connect(NatsSettings(url=url), "chaos")
        undo.push_async_callback(bus.close)
        replicas = {"ATLAS_TOPOLOGY__REPLICAS": str(plan.servers)}
        services = Services(url, log, _ENVIRONMENT | replicas)
        undo.push_async_callback(services.stop)
        recovered = functools.partial(_caught_up, bus) if plan.servers > 1 else None
        processes = Processes(servers, services, plan.processes, recovered=recovered)
        undo.callback(processes.wake_all)
        await _until_jetstream_is_there(bus)
        atlas = await undo.enter_async_context(Atlas.connect(url, settings=Settings()))
        yield TaskWorld(plan, processes, bus, atlas)


async def _until_jetstream_is_there(bus: Bus) -> None:
    """A cluster needs a moment to choose who leads it."""
    async with asyncio.timeout(_SETTLE_S):
        while True:
            with contextlib.suppress(NatsError, TimeoutError):
                await bus.jetstream.account_info()
                return
            await asyncio.sleep(_AGAIN_S)


async def _caught_up(bus: Bus) -> None:
    """Wait until every server has all of every stream again, so that the next may be killed."""
    async with asyncio.timeout(_SETTLE_S):
        while True:
            with contextlib.suppress(NatsError, TimeoutError):
                clusters = [one.cluster for one in await bus.jetstream.streams_info()]
                peers = [one for it in clusters if it for one in it.replicas or []]
                led = all(it is not None and it.leader for it in clusters)
                if led and peers and all(one.current and not one.offline for one in peers):
                    return
            await asyncio.sleep(_AGAIN_S)


_MOCK = {"first_token_ms": 40, "token_ms": 4, "tokens": 40}
_ENVIRONMENT = {
    "ATLAS_TOPOLOGY__ACK_WAIT_MS": "1000",
    "ATLAS_HEALTH_INTERVAL_MS": "200",
    "ATLAS_CONTROLLER__RECONCILE_INTERVAL_MS": "200",
    "ATLAS_CONTROLLER__DISPATCH_TIMEOUT_MS": "1000",
    "ATLAS_CONTROLLER__RETRY_BASE_MS": "100",
    "ATLAS_CONTROLLER__SUBTASK_MAX_ATTEMPTS": "20",
    "ATLAS_ROUTER__CIRCUIT__COOL_DOWN_MS": "100",
    "ATLAS_ROUTER__CIRCUIT__LONGEST_COOL_DOWN_MS": "500",
    "ATLAS_LOG_LEVEL": "warning",
    "ATLAS_PROVIDERS": json.dumps(
        {
            "mock": {"kind": "mock", "mock": _MOCK},
            "flaky": {
                "kind": "mock",
                "mock": {**_MOCK, "fault": {"break_after_chunks": 5, "times": 10}},
            },
        }
    ),
}
"""Processes that notice soon, and a second account that breaks its first calls."""
