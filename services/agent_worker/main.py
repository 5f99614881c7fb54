"""The composition root of the agent worker."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from agent_worker.execution import Executor
from agent_worker.handlers import Desk, Tools
from agent_worker.queue import WorkQueue
from agent_worker.reporting import Reporter
from agent_worker.specialists import SPECIALISTS
from agent_worker.wishes import Wishes
from atlas.contracts.base import JsonObject
from atlas.objects import Objects
from atlas.service import Context

NAME = "agent_worker"
QUEUE = "workers"


@dataclass(frozen=True, slots=True)
class WorkerApp:
    """A worker as the service shell sees it."""

    context: Context
    desk: Desk
    capabilities: list[str]

    async def drain(self) -> None:
        """Take nothing new; finish what runs within `drain_ms`, or hand it back."""
        await self.desk.drain(self.context.settings.worker.drain_ms / 1000)
        await self.context.events.emit("worker.gone", self._who())

    def health(self) -> JsonObject:
        """What it can do and how busy it is."""
        return {
            **self._who(),
            "running": self.desk.running,
            "concurrency": self.desk.concurrency,
            "done": self.desk.done,
        }

    def metrics(self) -> JsonObject:
        """How the subtasks ended that ended here."""
        return {"subtasks": {"succeeded": self.desk.succeeded, "failed": self.desk.failed}}

    def _who(self) -> JsonObject:
        return {"worker": self.context.instance, "capabilities": list(self.capabilities)}


@contextlib.asynccontextmanager
async def compose(context: Context) -> AsyncIterator[WorkerApp]:
    """Build the worker on a context, and run it."""
    settings = context.settings
    capabilities = settings.worker.capabilities or list(SPECIALISTS)
    objects = Objects(context.bus)
    queue = WorkQueue(context.bus, settings.topology, capabilities)
    executor = Executor(
        context.bus,
        objects,
        Wishes(context.bus),
        default_model=settings.worker.model,
        silence_ms=settings.worker.stream_timeout_ms,
    )
    reporter = Reporter(context.bus, context.instance)
    tools = Tools(context.bus, queue, executor, reporter, objects, context.events)
    desk = Desk(
        context.instance,
        tools,
        settings.worker.concurrency,
        settings.topology.ack_wait_ms / 1000,
    )
    await queue.open()
    app = WorkerApp(context, desk, capabilities)
    async with asyncio.TaskGroup() as group:
        taking = group.create_task(desk.run())
        await context.events.emit(
            "worker.registered", {"worker": context.instance, "capabilities": list(capabilities)}
        )
        try:
            yield app
        finally:
            taking.cancel()
            await queue.close()
