"""What a service looks at every few seconds, where metrics are exported: what is, not what happens.

Exporters ask from threads of their own and get what was seen last. While NATS is away queues and
budgets stay as they were seen, and `atlas.nats.connected` says why.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from nats.errors import Error as NatsError

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.errors import AtlasError
from atlas.queues import durable_consumers
from atlas.telemetry import meters, names
from atlas.telemetry.meters import Labels, Reading

LOOK_S = 5.0
_TICK_S = 0.25
_TICKS = int(LOOK_S / _TICK_S)
_MOST_QUEUES = 200
"""Consumers of one stream that are told; workers make them, one for each capability."""

log = structlog.get_logger("atlas.gauges")


async def look_on(bus: Bus, look: Callable[[], Awaitable[None]]) -> None:
    """Tell what every service has, and what `look` tells of its own. Until cancelled."""
    while True:
        meters.tell(names.NATS_RECONNECTS, [(bus.reconnects, {})])
        meters.tell(names.NATS_CONNECTED, [(int(bus.is_connected), {})])
        if bus.is_connected:
            try:
                async with asyncio.timeout(LOOK_S):
                    await look()
            except (AtlasError, NatsError, TimeoutError) as error:
                log.debug("not_looked_at", error=str(error) or type(error).__name__)
        meters.tell(names.LOOP_LATENESS, [(await _lateness_s(), {})])


async def _lateness_s() -> float:
    """The longest that something due waited for the loop, over the time until the next look."""
    loop = asyncio.get_running_loop()
    longest = 0.0
    for _ in range(_TICKS):
        due_s = loop.time() + _TICK_S
        await asyncio.sleep(_TICK_S)
        longest = max(longest, loop.time() - due_s)
    return longest


async def tell_queues(bus: Bus, streams: tuple[str, ...]) -> None:
    """Tell what waits in the durable consumers of these streams, and what was taken of it.

    Raises:
        NatsError: JetStream did not answer.
    """
    waiting: list[Reading] = []
    taken: list[Reading] = []
    for stream in streams:
        for one in (await durable_consumers(bus, stream))[:_MOST_QUEUES]:
            labels = _labels(_called(stream), one.config.filter_subject or "")
            waiting.append((one.num_pending or 0, labels))
            taken.append((one.num_ack_pending or 0, labels))
    meters.tell(names.QUEUE_DEPTH, waiting)
    meters.tell(names.QUEUE_IN_PROGRESS, taken)


async def tell_stored(bus: Bus, streams: tuple[str, ...]) -> None:
    """Tell how much these streams hold, and what they may hold.

    Raises:
        NatsError: JetStream did not answer.
    """
    messages: list[Reading] = []
    sizes: list[Reading] = []
    limits: list[Reading] = []
    for stream in streams:
        info = await bus.jetstream.stream_info(stream)
        labels = {names.JETSTREAM: _called(stream)}
        messages.append((info.state.messages, labels))
        sizes.append((info.state.bytes, labels))
        if (limit := info.config.max_bytes or -1) > 0:
            limits.append((limit, labels))
    meters.tell(names.STORED_MESSAGES, messages)
    meters.tell(names.STORED_BYTES, sizes)
    meters.tell(names.STORED_LIMIT, limits)


def _called(stream: str) -> str:
    return stream.removeprefix("ATLAS_").lower()


def _labels(queue: str, filter_subject: str) -> Labels:
    """What a consumer's work is called, by the subjects that it filters."""
    match filter_subject.split("."):
        case [_, _, "work", capability, priority]:
            return {names.QUEUE: queue, names.CAPABILITY: capability, names.PRIORITY: priority}
        case [_, _, "stream", _, "request", lane]:
            return {names.QUEUE: queue, names.LANE: lane}
        case _:
            return {names.QUEUE: queue}


QUEUES_OF_ROUTERS = (subjects.REQUESTS,)
QUEUES_OF_CONTROLLERS = (subjects.SUBMITS, subjects.WORK, subjects.REPORTS)
STORED = (
    subjects.REQUESTS,
    subjects.STREAMS,
    subjects.SUBMITS,
    subjects.TASKS,
    subjects.WORK,
    subjects.REPORTS,
    subjects.EVENTS,
    subjects.DEAD,
)
"""The streams that grow with what is done."""
