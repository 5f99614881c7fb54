"""From a message of work to its acknowledgement.

A hand is freed first and work is fetched for it, so that nothing waits behind a busy worker. The
message is acknowledged last, after the result is stored: whoever dies before that leaves the work
to another, who attaches to the same stream.
"""

import asyncio
import contextlib
import functools
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Never

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from pydantic import ValidationError

from atlas import subjects, telemetry
from atlas.bus import Bus
from atlas.contracts.errors import AtlasError, InvalidRequestError
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.work import Subtask, SubtaskResult
from atlas.dead_letters import bury
from atlas.finishing import finish
from atlas.objects import Objects
from atlas.service import Events
from atlas.telemetry import meters, names
from atlas.worker.attempt import Attempt, Attempts, Outcome
from atlas.worker.keeping import until_stored
from atlas.worker.queue import WorkQueue
from atlas.worker.reporting import BEAT_S, Reporter, Voice
from atlas.worker.streaming import InterruptedWorkError
from atlas.worker.task_log import TaskLog

_LARGE_BYTES = 256 * 1024
"""An output above it goes into the object store."""
_HAND_BACK_S = 1.0
_TEMPLATE = "atlas.{tenant}.work.{capability}.{priority}"

log = structlog.get_logger("atlas.worker")


@dataclass(slots=True, kw_only=True)
class Desk:
    """Takes work while a hand is free, and sees each piece through."""

    worker: str
    bus: Bus
    queue: WorkQueue
    attempts: Attempts
    reporter: Reporter
    objects: Objects
    events: Events
    concurrency: int
    bounds: Mapping[str, int]
    """How many of a capability at a time, where fewer than there are hands."""
    ack_wait_s: float
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _running: set[asyncio.Task[None]] = field(default_factory=set)
    load: Counter[str] = field(default_factory=Counter)
    """Subtasks in progress, by capability; those that have any."""
    done: int = 0
    succeeded: int = 0
    failed: int = 0

    @property
    def running(self) -> int:
        """Subtasks in progress."""
        return len(self._running)

    async def run(self) -> None:
        """Take work until `drain`."""
        hands = asyncio.Semaphore(self.concurrency)
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(1):
                    await hands.acquire()
            except TimeoutError:
                continue
            msg = await self._take()
            if msg is None:
                hands.release()
                continue
            if self._stopping.is_set():
                await _hand_back(msg, delay_s=0)
                return
            task = asyncio.create_task(self._see_through(msg))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            task.add_done_callback(lambda _: hands.release())
            self._count(msg.subject, task)

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new; finish what runs, or hand it back when the time is over."""
        self._stopping.set()
        await finish(self._running, timeout_s)

    def _count(self, subject: str, task: asyncio.Task[None]) -> None:
        """Count it until it is done, and take more of what was full then."""
        capability = subject.split(".")[3]

        def end(_: asyncio.Task[None]) -> None:
            self.load -= Counter({capability: 1})
            if capability in self.bounds:
                self.queue.ask_again(capability)

        self.load[capability] += 1
        task.add_done_callback(end)

    async def _take(self) -> Msg | None:
        full = {one for one, bound in self.bounds.items() if self.load[one] >= bound}
        try:
            return await self.queue.take(without=full)
        except (AtlasError, NatsError) as error:
            log.warning("no_work_taken", error=str(error))
            await asyncio.sleep(_HAND_BACK_S)
            return None

    async def _see_through(self, msg: Msg) -> None:
        try:
            await self._work(msg)
        except asyncio.CancelledError:
            await _hand_back(msg, delay_s=0)
            raise
        except (AtlasError, InterruptedWorkError, NatsError, TimeoutError) as error:
            log.warning("handed_back", subject=msg.subject, error=str(error))
            await _hand_back(msg, delay_s=_HAND_BACK_S)
        except Exception:
            log.exception("work_failed_inside", subject=msg.subject)
            await _hand_back(msg, delay_s=_HAND_BACK_S)

    async def _work(self, msg: Msg) -> None:
        _, tenant, _, capability, priority = msg.subject.split(".")
        try:
            subtask = Subtask.from_json(msg.data)
        except ValidationError as error:
            await self._bury(tenant, msg, error)
            return
        attributes: dict[str, telemetry.Attribute] = {
            names.TENANT: tenant,
            names.TASK_ID: subtask.task_id,
            names.SUBTASK_ID: subtask.subtask_id,
            names.ATTEMPT: subtask.attempt,
            names.STREAM_ID: subtask.stream_id,
        }
        delivery = msg.metadata.num_delivered or 1
        task_log = TaskLog(self.bus, tenant, subtask, msg.metadata.timestamp)
        await task_log.catch_up()
        if task_log.is_over or not await self.reporter.is_wanted(tenant, subtask, delivery):
            await msg.ack()
            return
        before = {} if delivery == 1 else await self.reporter.trace(tenant, subtask)
        with (
            telemetry.processing(_TEMPLATE, msg.headers, attributes, goes_on_from=before),
            _invoked(capability, attributes) as labels,
        ):
            lane = "interactive" if priority == "high" else "batch"
            voice = Voice(self.reporter, self.events, tenant, subtask)
            attempt = self.attempts.of(tenant, subtask, lane, voice)
            outcome = await self._until_done_or_pointless(msg, attempt, task_log)
            if outcome.error is not None:
                telemetry.mark_failed(outcome.error.code)
                labels[names.ERROR_TYPE] = outcome.error.code
            deliver = functools.partial(self._deliver, attempt, outcome)
            await until_stored(deliver, msg, every_s=self.ack_wait_s / 3)
        await msg.ack_sync(timeout=5)
        self.done += 1

    async def _until_done_or_pointless(
        self, msg: Msg, attempt: Attempt, task_log: TaskLog
    ) -> Outcome:
        """The outcome; it is given up when the task's log says that nobody waits for it."""
        await attempt.heed(task_log)
        doing = asyncio.create_task(attempt.run())
        others = [
            asyncio.create_task(self._watch_log(attempt, task_log)),
            asyncio.create_task(beat(msg, attempt.voice, self.ack_wait_s)),
        ]
        try:
            await asyncio.wait([doing, *others], return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                return doing.result()
            for ended in others:
                if ended.done():
                    ended.result()
        finally:
            for task in (doing, *others):
                task.cancel()
            await asyncio.gather(doing, *others, return_exceptions=True)
        return await attempt.abandon()

    async def _watch_log(self, attempt: Attempt, task_log: TaskLog) -> None:
        """Return when the log ends this attempt."""
        tenant, task_id = attempt.tenant, attempt.subtask.task_id
        sub = await self.bus.open(subjects.task_log(tenant, task_id), pending=4_096)
        try:
            while True:
                await task_log.catch_up()
                with contextlib.suppress(NatsTimeoutError, TimeoutError):
                    while not await attempt.heed(task_log):
                        await task_log.hear(await sub.next_msg(timeout=BEAT_S))
                    return
        finally:
            with contextlib.suppress(NatsError):  # the connection is closed already
                await sub.unsubscribe()

    async def _deliver(self, attempt: Attempt, outcome: Outcome) -> None:
        if outcome.is_given_up:
            if outcome.usage != Usage() or outcome.cost != Cost():
                await attempt.voice.given_up(outcome.usage, outcome.cost)
            return
        if outcome.error is not None:
            await attempt.voice.failed(outcome.error, outcome.usage, outcome.cost)
            self.failed += 1
            return
        tenant, subtask = attempt.tenant, attempt.subtask
        result = SubtaskResult(
            task_id=subtask.task_id,
            subtask_id=subtask.subtask_id,
            attempt=subtask.attempt,
            worker=self.worker,
            output=outcome.output,
            replan=outcome.replan,
            usage=outcome.usage,
            cost=outcome.cost,
        )
        if len(result.to_json()) > _LARGE_BYTES:
            name = f"{tenant}.{subtask.task_id}.{subtask.subtask_id}.{subtask.attempt}"
            ref = await self.objects.put(name, outcome.output)
            result = result.model_copy(update={"output": None, "output_ref": ref})
        if await self.reporter.result(tenant, result):
            self.succeeded += 1
            await attempt.voice.event("subtask.succeeded")

    async def _bury(self, tenant: str, msg: Msg, cause: ValidationError) -> None:
        """Keep what is no subtask as a dead letter, and fail the attempt that it is of.

        It would be no subtask the next time either.
        """
        first = cause.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "all of it"
        error = InvalidRequestError(
            f"{msg.subject}: worker {self.worker} can read no Subtask there: {where}: "
            f"{first['msg']}; see that controllers and workers are of releases that go together; a "
            "dead letter keeps the message"
        )
        place = msg.metadata
        await bury(self.bus, msg, "work", tenant, str(place.sequence.stream), error.to_info())
        await self.reporter.refuse(tenant, msg.data, place.num_delivered or 1, error.to_info())
        log.error("work_buried", subject=msg.subject, error=error.message)
        await msg.term()


async def beat(msg: Msg, voice: Voice, ack_wait_s: float) -> Never:
    """Keep the message ours, and tell that we are at it."""
    beat_s = min(ack_wait_s / 3, BEAT_S)
    since_report_s = 0.0
    while True:
        await asyncio.sleep(beat_s)
        since_report_s += beat_s
        try:
            await msg.in_progress()
        except NatsError as error:  # the next beat may get through
            log.debug("beat_lost", error=str(error))
        if since_report_s >= BEAT_S:
            since_report_s = 0.0
            await voice.progress({})


@contextlib.contextmanager
def _invoked(
    capability: str, attributes: Mapping[str, telemetry.Attribute]
) -> Iterator[dict[str, telemetry.Attribute]]:
    """The span of an attempt and how long it took; gives the labels, for what became of it."""
    labels: dict[str, telemetry.Attribute] = {
        names.OPERATION: "invoke_agent",
        names.AGENT_NAME: capability,
    }
    began_s = time.monotonic()
    with telemetry.span(names.invoke_agent(capability), attributes={**labels, **attributes}):
        try:
            yield labels
        except BaseException:
            labels[names.ERROR_TYPE] = names.OTHER
            raise
        finally:
            meters.record(names.AGENT_DURATION, time.monotonic() - began_s, labels)


async def _hand_back(msg: Msg, *, delay_s: float) -> None:
    """Let another worker have it; while NATS is away, it will after the ack wait."""
    with contextlib.suppress(NatsError):
        await msg.nak(delay=delay_s)
