"""What waits in the durable consumers of a JetStream stream."""

from nats.js.api import ConsumerInfo

from atlas.bus import Bus

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
