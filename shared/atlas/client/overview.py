"""What runs now: services, queues, providers, streams and tasks, for `atlas top`.

Services tell by themselves (`service.health`, `service.metrics`); for the rest they and the server
are asked, everything at once and each question with a deadline. What does not answer is told as
such beside the others.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from atlas import subjects
from atlas.bus import Bus
from atlas.client.checkup_services import instances
from atlas.client.roll import Roll, RunningStream, ServiceSeen
from atlas.contracts.base import Contract, Count, EpochMs, now_ms
from atlas.contracts.catalogue import GroupInfo, ProviderInfo, ProvidersReply, ProvidersRequest
from atlas.contracts.errors import AtlasError, NotFoundError
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.tasks import SubtaskState, TaskGet, TaskState, TaskStatus
from atlas.queues import QUEUES, durable_consumers
from atlas.settings import Settings
from atlas.wire import read_event

DEADLINE_S = 2.0
_BEATS = 1.2
"""Heartbeats that a first look waits for at most."""
_MOST_NAMED = 10_000
"""Open streams or tasks above which only their number is asked for."""
_MOST_SHOWN = 20


class Queue(Contract):
    """Work that waits in a durable consumer."""

    stream: str
    consumer: str
    waiting: Count
    in_progress: Count
    delivered_again: Count


class RunningTask(Contract):
    """A task that has not ended."""

    task_id: str
    state: TaskState
    goal: str
    subtasks: Count
    subtasks_done: Count
    usage: Usage
    cost: Cost
    accepted_at_ms: EpochMs


class Open[T: Contract](Contract):
    """How many there are, and some of them, the newest last."""

    count: Count
    shown: list[T]


class Providers(Contract):
    """As one router sees them."""

    router: str
    providers: list[ProviderInfo]
    models: dict[str, Count]
    """How many of its models each provider offers."""
    groups: list[GroupInfo]


class Overview(Contract):
    """Everything at one time; a part that did not answer is None, and `unanswered` says why."""

    at_ms: EpochMs
    services: list[ServiceSeen]
    queues: list[Queue] | None
    providers: Providers | None
    streams: Open[RunningStream] | None
    tasks: Open[RunningTask] | None
    unanswered: dict[str, str]


@dataclass(slots=True)
class Lookout:
    """Hears the services and asks for the rest; made by `lookout`."""

    bus: Bus
    settings: Settings
    roll: Roll
    _heard: asyncio.Event = field(default_factory=asyncio.Event)

    async def hear(self, message: Msg) -> None:
        """One event; anyone may publish there, and what is none is no service."""
        try:
            event = read_event(message.subject, message.data)
        except AtlasError:
            return
        self.roll.hear(event, now_ms())
        self._heard.set()

    async def settle(self) -> None:
        """Wait until every service that answers a ping was heard, or should have been."""
        expected = {one.instance for one in await instances(self.bus)}
        try:
            async with asyncio.timeout(_BEATS * self.settings.health_interval_ms / 1000):
                while not expected <= self.roll.instances:
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError:
            return  # it answers and tells nothing; the overview shows those that tell

    async def look(self) -> Overview:
        """Ask everything at once; takes `DEADLINE_S` at most."""
        unanswered: dict[str, str] = {}
        queues, providers, streams, tasks = await asyncio.gather(
            self._asked(unanswered, "queues", self._queues()),
            self._asked(unanswered, "providers", self._providers()),
            self._asked(unanswered, "streams", self._streams()),
            self._asked(unanswered, "tasks", self._tasks()),
        )
        at_ms = now_ms()
        return Overview(
            at_ms=at_ms,
            services=self.roll.services(at_ms),
            queues=queues,
            providers=providers,
            streams=streams,
            tasks=tasks,
            unanswered=unanswered,
        )

    async def _asked[T](
        self, unanswered: dict[str, str], part: str, question: Awaitable[T]
    ) -> T | None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await question
        except AtlasError as error:
            unanswered[part] = error.message
        except TimeoutError:
            silent = "no answer" if self.bus.is_connected else "NATS is away: no answer"
            unanswered[part] = f"{silent} within {DEADLINE_S:g} s"
        except NatsError as error:
            unanswered[part] = str(error) or type(error).__name__
        return None

    async def _queues(self) -> list[Queue]:
        found = await asyncio.gather(*(durable_consumers(self.bus, name) for name in QUEUES))
        return [
            Queue(
                stream=one.stream_name,
                consumer=one.name,
                waiting=one.num_pending or 0,
                in_progress=one.num_ack_pending or 0,
                delivered_again=one.num_redelivered or 0,
            )
            for some in found
            for one in some
        ]

    async def _providers(self) -> Providers:
        door = subjects.api(self.settings.tenant, "providers")
        reply = await self.bus.request(
            door, ProvidersRequest(), ProvidersReply, timeout_s=DEADLINE_S
        )
        models = {one.provider: 0 for one in reply.providers}
        for model in reply.models:
            models[model.provider] = models.get(model.provider, 0) + 1
        return Providers(
            router=reply.router, providers=reply.providers, models=models, groups=reply.groups
        )

    async def _streams(self) -> Open[RunningStream]:
        """A request is in its queue until its stream has ended."""
        prefix = subjects.stream_request(self.settings.tenant, "*", "*")
        names = await self._names(subjects.REQUESTS, prefix)
        streams = sorted(
            (self.roll.stream(subjects.parse(name).id) for name in names),
            key=lambda one: (one.started_at_ms or 0, one.stream_id),
        )
        return Open(count=len(streams), shown=streams[-_MOST_SHOWN:])

    async def _tasks(self) -> Open[RunningTask]:
        tenant = self.settings.tenant
        bucket = subjects.bucket_stream(subjects.OPEN_TASKS)
        prefix = subjects.bucket_key(subjects.OPEN_TASKS, "")
        names = await self._names(bucket, prefix + subjects.open_task(tenant, "*"))
        ids = sorted(name.rpartition(".")[2] for name in names)
        found = await asyncio.gather(*map(self._task, ids[-_MOST_SHOWN:]))
        return Open(count=len(ids), shown=[one for one in found if one is not None])

    async def _task(self, task_id: str) -> RunningTask | None:
        door = subjects.api(self.settings.tenant, "task.get")
        try:
            status = await self.bus.request(
                door, TaskGet(task_id=task_id), TaskStatus, timeout_s=DEADLINE_S
            )
        except NotFoundError:
            return None  # it is about to begin
        done = sum(one.state is SubtaskState.SUCCEEDED for one in status.subtasks)
        return RunningTask(
            task_id=task_id,
            state=status.state,
            goal=status.goal[:200],
            subtasks=len(status.subtasks),
            subtasks_done=done,
            usage=status.usage,
            cost=status.cost,
            accepted_at_ms=status.accepted_at_ms,
        )

    async def _names(self, stream: str, pattern: str) -> list[str]:
        """The subjects under a pattern that something is stored on.

        Raises:
            AtlasError: There are too many to be named.
        """
        state = (await self.bus.jetstream.stream_info(stream)).state
        if state.messages > _MOST_NAMED:
            raise AtlasError(f"{state.messages:,} are open, too many to be named here")
        named = await self.bus.jetstream.stream_info(stream, subjects_filter=pattern)
        return list(named.state.subjects or {})


@asynccontextmanager
async def lookout(settings: Settings) -> AsyncIterator[Lookout]:
    """Hear the services, and streams that begin and end, while the block runs.

    Raises:
        ConnectionFailedError: No NATS answers.
    """
    bus = await Bus.connect(settings.nats, "atlas-top")
    try:
        watch = Lookout(bus, settings, Roll(silent_after_ms=5 * settings.health_interval_ms))
        for told in (
            subjects.events_of("*", "*", "service.*"),
            subjects.events_of(settings.tenant, "provider_router", "stream.*"),
        ):
            await bus.subscribe(told, watch.hear)
        await bus.flush()
        yield watch
    finally:
        await bus.close()
