"""The JetStream assets: what they are, made idempotently, checked at start and after reconnects.

An asset that is already there but configured differently is never changed silently: somebody may
have meant it. The error names each difference and what to do; `assets` does it.
"""

import asyncio
from dataclasses import dataclass, replace

from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    KeyValueConfig,
    ObjectStoreConfig,
    RePublish,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import APIError, BadRequestError
from nats.js.errors import NotFoundError as AssetNotFoundError

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.errors import ConnectionFailedError, TopologyError
from atlas.server import check_server
from atlas.settings import TopologySettings

COUNTER_DEDUPLICATION_S = 120.0
"""So long a repeated increment is known by its id; whoever repeats later looks into history."""

UPLOAD_S = 900.0
"""So long the parts of an object wait for its last one."""
_UPLOADED_PARTS = 1_024
"""Half a gigabyte; in parts and not in bytes, which would be reserved on the disk."""

_COUNTER_DAYS = 40.0
"""Longer than a month: a counter is gone when its last increment is."""
_COUNTER_HISTORY = 100_000
"""Increments kept per counter: above what comes in a deduplication window, which a restarted
server builds anew from them."""

_HOUR_S, _DAY_S = 3_600.0, 86_400.0
_MAX_ACK_PENDING = 100_000
"""Running plus paused streams of all routers; the default of 1,000 would cap them."""

_ANSWERS_S = 30.0
"""How long JetStream may not answer when a service starts."""
_STREAM_IN_USE = 10058  # server/errors.json: JSStreamNameExistErr
_COMPARED = (
    "subjects",
    "retention",
    "discard",
    "max_age",
    "max_bytes",
    "max_msgs",
    "max_msgs_per_subject",
    "storage",
    "num_replicas",
    "no_ack",
    "republish",
    "allow_direct",
    "allow_msg_counter",
)


@dataclass(frozen=True, slots=True)
class Expected:
    """What an asset should be; of a bucket, whose stream the server makes, only what we ask for."""

    config: StreamConfig
    compared: tuple[str, ...] = _COMPARED

    @property
    def name(self) -> str:
        """Of its JetStream stream."""
        return self.config.name or ""

    def differences(self, found: StreamConfig) -> list[tuple[str, str, str]]:
        """Each field that is not as it should be, as found and as expected."""
        pairs = [
            (field, _shown(getattr(found, field)), _shown(should))
            for field in self.compared
            if (should := getattr(self.config, field)) is not None
        ]
        return [(field, is_, should) for field, is_, should in pairs if is_ != should]


@dataclass(frozen=True, slots=True)
class Topology:
    """All assets, for the given sizes."""

    settings: TopologySettings

    def expected(self) -> list[Expected]:
        """Every JetStream stream, those of the buckets too."""
        return [*(Expected(one) for one in self.streams()), *self.buckets().values()]

    def buckets(self) -> dict[str, Expected]:
        """The buckets by their names."""
        replicas = self.settings.replicas
        values = {
            bucket: Expected(
                StreamConfig(name=subjects.bucket_stream(bucket), num_replicas=replicas),
                ("num_replicas",),
            )
            for bucket in (subjects.OPEN_TASKS, subjects.CIRCUITS)
        }
        objects = StreamConfig(
            name=subjects.objects_stream(subjects.OBJECTS),
            num_replicas=replicas,
            max_age=self.settings.task_days * _DAY_S,
        )
        return {**values, subjects.OBJECTS: Expected(objects, ("num_replicas", "max_age"))}

    def streams(self) -> list[StreamConfig]:
        """Every JetStream stream."""
        history = self.settings.replay_hours * _HOUR_S
        return [
            self._queue(
                subjects.REQUESTS, [subjects.lane_requests(lane) for lane in subjects.LANES]
            ),
            self._log(
                subjects.STREAMS,
                [subjects.STREAM_OWNER_ALL, subjects.STREAM_WRITE_ALL],
                max_age_s=history,
                max_bytes=self.settings.max_bytes,
                republish=RePublish(
                    src=subjects.STREAM_WRITE_ALL, dest=subjects.STREAM_CHUNK_REPUBLISHED
                ),
            ),
            self._log(
                subjects.CONTROL,
                [subjects.STREAM_CONTROL_ALL, subjects.TASK_CONTROL_ALL],
                max_age_s=_DAY_S,
                max_msgs_per_subject=64,
                no_ack=True,  # so that only a service answers the request
            ),
            replace(
                self._queue(subjects.SUBMITS, [subjects.TASK_SUBMIT_ALL]),
                discard=DiscardPolicy.NEW,  # whoever submits is told
                max_msgs=self.settings.max_submissions,
                max_bytes=self.settings.max_submission_bytes,
            ),
            self._log(
                subjects.TASKS,
                [subjects.TASK_WRITE_ALL],
                max_age_s=self.settings.task_days * _DAY_S,
                republish=RePublish(
                    src=subjects.TASK_WRITE_ALL, dest=subjects.TASK_LOG_REPUBLISHED
                ),
            ),
            self._queue(subjects.WORK, [subjects.WORK_ALL]),
            self._log(
                subjects.REPORTS,
                [subjects.REPORT_ALL, subjects.RESULT_ALL],
                max_age_s=self.settings.task_days * _DAY_S,
            ),
            self._log(
                subjects.EVENTS, [subjects.EVENT_ALL], max_age_s=_DAY_S, max_bytes=256 * 2**20
            ),
            self._log(
                subjects.DEAD, [subjects.DEAD_ALL], max_age_s=30 * _DAY_S, max_bytes=256 * 2**20
            ),
            self._counters(subjects.BUDGETS, [subjects.BUDGET_ALL, subjects.USAGE_ALL]),
            self._log(
                subjects.RESERVATIONS,
                [subjects.RESERVATION_ALL],
                max_age_s=self._counter_age_s,
                max_msgs_per_subject=1,
            ),
            replace(
                self._log(subjects.UPLOADS, [subjects.UPLOAD_ALL], max_age_s=UPLOAD_S),
                discard=DiscardPolicy.NEW,  # whoever uploads is told
                max_msgs=_UPLOADED_PARTS,
            ),
        ]

    def consumers(self) -> list[tuple[str, ConsumerConfig]]:
        """Every durable pull consumer with its stream, but for those of capabilities."""
        lanes = [
            (
                subjects.REQUESTS,
                self._consumer(subjects.lane_consumer(lane), subjects.lane_requests(lane)),
            )
            for lane in subjects.LANES
        ]
        return [
            *lanes,
            (subjects.SUBMITS, self._consumer(subjects.CONTROLLERS, subjects.TASK_SUBMIT_ALL)),
            (subjects.REPORTS, self._consumer(subjects.CONTROLLERS, None)),
        ]

    def work_consumer(self, capability: str, priority: str) -> ConsumerConfig:
        """The consumer through which workers pull one capability and priority."""
        return self._consumer(
            subjects.work_consumer(capability, priority),
            subjects.capability_work(capability, priority),
        )

    def _queue(self, name: str, names: list[str]) -> StreamConfig:
        return StreamConfig(
            name=name,
            subjects=names,
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            max_age=0,
            max_bytes=-1,
            max_msgs_per_subject=-1,
            num_replicas=self.settings.replicas,
            allow_direct=True,
        )

    def _log(
        self,
        name: str,
        names: list[str],
        *,
        max_age_s: float,
        max_bytes: int = -1,
        max_msgs_per_subject: int = -1,
        no_ack: bool = False,
        republish: RePublish | None = None,
    ) -> StreamConfig:
        return StreamConfig(
            name=name,
            subjects=names,
            retention=RetentionPolicy.LIMITS,
            discard=DiscardPolicy.OLD,
            storage=StorageType.FILE,
            num_replicas=self.settings.replicas,
            max_age=max_age_s,
            max_bytes=max_bytes,
            max_msgs_per_subject=max_msgs_per_subject,
            no_ack=no_ack,
            republish=republish,
            allow_direct=True,
        )

    @property
    def _counter_age_s(self) -> float:
        return max(_COUNTER_DAYS, self.settings.task_days) * _DAY_S

    def _counters(self, name: str, names: list[str]) -> StreamConfig:
        """Counters. Without a bound in bytes, which would drop counters that rest to zero."""
        counters = self._log(
            name, names, max_age_s=self._counter_age_s, max_msgs_per_subject=_COUNTER_HISTORY
        )
        return replace(counters, allow_msg_counter=True, duplicate_window=COUNTER_DEDUPLICATION_S)

    def _consumer(self, name: str, filter_subject: str | None) -> ConsumerConfig:
        return ConsumerConfig(
            durable_name=name,
            filter_subject=filter_subject,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self.settings.ack_wait_ms / 1000,
            max_deliver=-1,
            max_ack_pending=_MAX_ACK_PENDING,
        )


async def ensure(bus: Bus, settings: TopologySettings) -> None:
    """Make every asset that is missing, and check those that are there.

    A cluster that chooses the leader of a stream does not answer for it meanwhile, and is asked
    again.

    Raises:
        TopologyError: The server is too old, has no JetStream, or an asset differs.
        ConnectionFailedError: JetStream does not answer.
    """
    await check_server(bus)
    loop = asyncio.get_running_loop()
    until_s = loop.time() + _ANSWERS_S
    while True:
        try:
            await _ensure_all(bus.jetstream, Topology(settings))
        except NatsTimeoutError as error:
            if loop.time() >= until_s:
                raise ConnectionFailedError(
                    "JetStream does not answer for the streams of Atlas; see that most servers of "
                    "the cluster are up and see each other, and look at their logs"
                ) from error
        else:
            return


async def _ensure_all(jetstream: JetStreamContext, topology: Topology) -> None:
    for stream in topology.streams():
        await ensure_stream(jetstream, stream)
    for name, consumer in topology.consumers():
        await jetstream.add_consumer(name, consumer)
    for bucket, expected in topology.buckets().items():
        await ensure_bucket(jetstream, bucket, expected)


async def ensure_work_consumer(
    bus: Bus, settings: TopologySettings, capability: str, priority: str
) -> str:
    """Make the consumer of one capability and priority; gives its name."""
    config = Topology(settings).work_consumer(capability, priority)
    await bus.jetstream.add_consumer(subjects.WORK, config)
    return subjects.work_consumer(capability, priority)


async def ensure_stream(jetstream: JetStreamContext, wanted: StreamConfig) -> None:
    """Make a stream that is missing, and check one that is there.

    Raises:
        TopologyError: It is configured differently, or JetStream refuses it.
    """
    try:
        await jetstream.add_stream(wanted)
    except BadRequestError as error:
        if error.err_code != _STREAM_IN_USE:
            raise TopologyError(
                f"JetStream refuses the stream {wanted.name}: {error.description}"
            ) from error
        await _check(jetstream, Expected(wanted))
    except APIError as error:
        try:  # a server without room says so before it looks whether the stream is there
            await _check(jetstream, Expected(wanted))
        except AssetNotFoundError:
            raise TopologyError(
                f"JetStream cannot make the stream {wanted.name}: {error.description}; give it "
                "room for what the streams may hold (`max_bytes` and others of `topology`), by "
                "`max_file_store` of the server or `max_file` of the account"
            ) from error


async def _check(jetstream: JetStreamContext, expected: Expected) -> None:
    """Raise for an asset that is there and not as it should be; NotFoundError when it is not."""
    name = expected.name
    found = expected.differences((await jetstream.stream_info(name)).config)
    if not found:
        return
    told = "; ".join(f"{field} is {is_}, expected {should}" for field, is_, should in found)
    raise TopologyError(
        f"the JetStream stream {name} is configured differently: {told}. Set Atlas's `topology` "
        "settings to match, or change it with `atlas admin assets --apply`, or, if its content is "
        f"not needed, remove it with `nats stream rm {name}`"
    )


def _shown(value: object) -> str:
    if isinstance(value, RePublish):
        return f"{value.src} -> {value.dest}"
    if isinstance(value, list):
        return ",".join(sorted(str(one) for one in value))
    if isinstance(value, float | int) and not isinstance(value, bool):
        return f"{value:.12g}"
    return str(getattr(value, "value", value))


async def ensure_bucket(jetstream: JetStreamContext, bucket: str, expected: Expected) -> None:
    """Make a bucket that is missing, and check one that is there.

    Raises:
        TopologyError: It is configured differently.
    """
    replicas = expected.config.num_replicas or 1
    try:
        await _check(jetstream, expected)
    except AssetNotFoundError:
        if bucket == subjects.OBJECTS:
            store = ObjectStoreConfig(bucket=bucket, ttl=expected.config.max_age, replicas=replicas)
            await jetstream.create_object_store(bucket, store)
        else:
            values = KeyValueConfig(bucket=bucket, history=1, replicas=replicas, direct=True)
            await jetstream.create_key_value(values)
