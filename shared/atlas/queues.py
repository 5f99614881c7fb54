"""What waits in the durable consumers of JetStream streams, and for how long."""

from contextlib import aclosing

from nats.js.api import ConsumerInfo

from atlas import subjects
from atlas.bus import Bus

QUEUES = (subjects.REQUESTS, subjects.SUBMITS, subjects.WORK, subjects.REPORTS)

_PAGE = 256
"""Consumers in one answer of the server."""
_MOST_CONSUMERS = 4 * _PAGE


async def durable_consumers(bus: Bus, stream: str) -> list[ConsumerInfo]:
    """Those of a stream, by name; the others are somebody's reading."""
    found: list[ConsumerInfo] = []
    for offset in range(0, _MOST_CONSUMERS, _PAGE):
        page = await bus.jetstream.consumers_info(stream, offset)
        found += [one for one in page if one.config.durable_name]
        if len(page) < _PAGE:
            break
    return sorted(found, key=lambda one: one.name)


async def oldest_waiting_ms(bus: Bus, queue: ConsumerInfo) -> int | None:
    """When the message was stored that waits longest to be taken, by the server's clock."""
    taken = queue.delivered.stream_seq if queue.delivered else 0
    subject = queue.config.filter_subject or ">"
    waiting = bus.read(queue.stream_name, subject, from_seq=taken + 1, page=1)
    async with aclosing(waiting) as messages:
        async for one in messages:
            return one.at_ms
    return None
