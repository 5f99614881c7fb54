"""A worker that does nothing: `python -m benchmarks.idle_worker`, for `tasks`.

It takes subtasks of the capability `idle` and answers each at once, by the contract and nothing
else: report, result, acknowledgement. No model is asked. What it leaves out is what there is no
time for, the marks of progress.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import TimeoutError as NatsTimeoutError

from atlas import process, service, subjects, topology
from atlas.bus import Bus
from atlas.contracts.base import JsonObject
from atlas.contracts.errors import FencedError
from atlas.contracts.work import Subtask, SubtaskReport, SubtaskResult

CAPABILITY = "idle"
SILENT = "BENCHMARK_SILENT"
"""A variable: when set, results come without a report of the start before them."""

_PRIORITY = "normal"
_BATCH = 256
_EXPIRES_S = 5
_AT_ONCE = 256
_OUTPUT = "nothing"


@dataclass(slots=True)
class IdleWorker:
    """Takes work in batches, as it comes, and answers it."""

    bus: Bus
    name: str
    is_silent: bool
    done: int = 0
    _room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    async def run(self, consumer: str) -> None:
        """Until cancelled."""
        question = json.dumps({"batch": _BATCH, "expires": _EXPIRES_S * 10**9}).encode()
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{subjects.WORK}.{consumer}"
        answers = await self.bus.open(self.bus.nats.new_inbox())
        async with asyncio.TaskGroup() as group:
            while True:
                await self.bus.publish(subject, question, reply=answers.subject)
                async for msg in _batch(answers):
                    await self._room.acquire()
                    group.create_task(self._answer(msg))

    async def _answer(self, msg: Msg) -> None:
        """What a worker does with a piece of work, but for the work."""
        try:
            tenant = subjects.parse(msg.subject).tenant
            subtask = Subtask.model_validate_json(msg.data)
            names = {
                "task_id": subtask.task_id,
                "subtask_id": subtask.subtask_id,
                "attempt": subtask.attempt,
                "worker": self.name,
            }
            if not self.is_silent:
                report = SubtaskReport.model_validate({**names, "type": "started"})
                subject = subjects.report(
                    tenant, subtask.task_id, subtask.subtask_id, subtask.attempt
                )
                await self.bus.store(subject, report.to_json())
            result = SubtaskResult.model_validate({**names, "output": _OUTPUT})
            subject = subjects.result(tenant, subtask.task_id, subtask.subtask_id)
            with contextlib.suppress(FencedError):  # it was answered already
                await self.bus.store(subject, result.to_json(), expected_last=0)
            await msg.ack()
            self.done += 1
        finally:
            self._room.release()

    async def drain(self) -> None:
        """Nothing is worth finishing: what is not acknowledged is delivered again."""

    def health(self) -> JsonObject:
        """What it can do."""
        return {"worker": self.name, "capabilities": [CAPABILITY]}

    def metrics(self) -> JsonObject:
        """How much it answered."""
        return {"done": self.done}

    async def look(self) -> None:
        """It has no gauges."""

    def troubles(self) -> Sequence[str]:
        """None."""
        return ()


async def _batch(answers: Subscription) -> AsyncIterator[Msg]:
    """The messages of one request, each as it comes, until it is filled or its time is over."""
    for _ in range(_BATCH):
        try:
            msg = await answers.next_msg(timeout=_EXPIRES_S + 1)
        except NatsTimeoutError:
            return
        if "Status" in (msg.headers or {}):
            return
        yield msg


@contextlib.asynccontextmanager
async def compose(context: service.Context) -> AsyncIterator[service.App]:
    """The worker on a context, running."""
    consumer = await topology.ensure_work_consumer(
        context.bus, context.settings.topology, CAPABILITY, _PRIORITY
    )
    worker = IdleWorker(context.bus, context.instance, SILENT in os.environ)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(worker.run(consumer))
        try:
            yield worker
        finally:
            running.cancel()


if __name__ == "__main__":
    process.run("idle_worker", "workers", compose)
