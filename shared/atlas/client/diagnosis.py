"""What is running and what is wrong: for `atlas doctor` and container health checks.

Each `checkup_…` module looks at one part; here is the order, and the time between two looks.
"""

import asyncio

from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from atlas.bus import Bus
from atlas.client import checkup_providers, checkup_queues, checkup_services, checkup_store
from atlas.client.finding import Finding, problem, worst_first
from atlas.contracts.base import now_ms
from atlas.contracts.errors import AtlasError, ConfigurationError
from atlas.settings import Settings

_APART_S = 2.5
"""Between two looks at the queues; the services are heard meanwhile."""
_BEATS = 1.2


async def diagnose(settings: Settings) -> list[Finding]:
    """Look at NATS, its assets, the services and the providers' keys; the worst comes first.

    Raises:
        ConnectionFailedError: No NATS answers, or not to this user, so nothing can be looked at.
    """
    bus = await Bus.connect(settings.nats, "atlas-doctor")
    try:
        server = await checkup_store.server(bus, settings)
        async with checkup_services.listening(bus) as told:
            (running, routing), stored = await asyncio.gather(
                _live(bus, settings),
                _stored(bus, settings, told) if server.level == "ok" else _nothing(),
            )
        found = [
            server,
            *stored,
            *checkup_services.presence(running),
            *checkup_services.versions(running),
            *checkup_services.clocks(told.ahead_ms),
            *checkup_services.refused_configurations(told),
            *checkup_providers.providers(settings),
            *routing,
        ]
    finally:
        await bus.close()
    return worst_first(found)


async def _nothing() -> list[Finding]:
    """Of a server that is none for Atlas."""
    return []


async def _live(
    bus: Bus, settings: Settings
) -> tuple[list[checkup_services.Instance], list[Finding]]:
    """Who answers a ping, and what a router says; every service is heard once meanwhile."""
    running, routing, _ = await asyncio.gather(
        checkup_services.instances(bus),
        checkup_providers.routing(bus, settings),
        asyncio.sleep(_BEATS * settings.health_interval_ms / 1000),
    )
    return running, routing


async def _stored(bus: Bus, settings: Settings, told: checkup_services.Told) -> list[Finding]:
    """What JetStream holds, and how that changes while the services are heard."""
    try:
        return await _store(bus, settings, told)
    except (AtlasError, JetStreamError, NatsError, TimeoutError) as error:
        message = f"JetStream stopped answering: {error}; look at the server's log"
        return [problem("jetstream", message)]


async def _store(bus: Bus, settings: Settings, told: checkup_services.Told) -> list[Finding]:
    first, began_ms = await checkup_queues.look(bus), now_ms()
    found = await checkup_store.made(bus, settings.topology)
    found += await checkup_store.room(bus)
    found += await checkup_store.dead_letters(bus)
    if (ahead_ms := await checkup_store.ahead_ms(bus)) is not None:
        told.ahead_ms["NATS"] = round(ahead_ms)
    await asyncio.sleep(max(_APART_S, _BEATS * settings.health_interval_ms / 1000))
    then, at_ms = await checkup_queues.look(bus), now_ms()
    found += checkup_queues.unserved(first, then, told.capabilities)
    clock_ms = at_ms + (ahead_ms or 0)
    found += await checkup_queues.backlog(bus, first, then, clock_ms, at_ms - began_ms)
    return found


async def is_serving(settings: Settings, service: str) -> bool:
    """Whether an instance of a service on this host answers.

    Raises:
        ConfigurationError: There is no service of that name.
        ConnectionFailedError: No NATS answers.
    """
    name = service.replace("-", "_").removeprefix("atlas_")
    if name not in checkup_services.SERVICES:
        raise ConfigurationError(
            f"there is no service {service!r}; name one of {checkup_services.SERVICES}"
        )
    bus = await Bus.connect(settings.nats, "atlas-doctor")
    try:
        running = await checkup_services.instances(bus, service=name)
    finally:
        await bus.close()
    return any(one.service == name and one.is_here for one in running)
