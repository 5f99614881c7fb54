"""A rolling restart under load: every process is replaced, and nobody outside notices."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from atlas.bus import Bus
from atlas.client import Atlas
from atlas.embedded import NatsProcess, ServiceProcess, Services
from atlas.nats_settings import NatsSettings
from atlas.settings import Settings
from tests.support.load import stored, under_load

PROCESSES = ("provider_router", "agent_controller", "agent_worker")
PATIENCE_S = 120
_MOCK = {"first_token_ms": 20, "token_ms": 20, "tokens": 50}
_ENVIRONMENT = {
    "ATLAS_TOPOLOGY__ACK_WAIT_MS": "1000",
    "ATLAS_HEALTH_INTERVAL_MS": "200",
    "ATLAS_LOG_LEVEL": "warning",
    "ATLAS_PROVIDERS": json.dumps({"mock": {"kind": "mock", "mock": _MOCK}}),
}


@pytest.fixture
async def services(nats_server: NatsProcess) -> AsyncIterator[Services]:
    one = Services(nats_server.url, environment=_ENVIRONMENT)
    yield one
    await one.stop()


async def _replace(services: Services, old: ServiceProcess) -> int:
    """As Kubernetes does with `maxUnavailable: 0`; gives the old one's exit status."""
    await services.start([old.name])
    return await services.retire(old.pid)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("drain_ms", [20_000, 300], ids=["streams end", "streams are handed over"])
async def test_every_process_is_replaced_under_load_and_nothing_is_lost(
    nats_server: NatsProcess, services: Services, drain_ms: int
):
    services.environment = {
        **_ENVIRONMENT,
        "ATLAS_ROUTER__DRAIN_MS": str(drain_ms),
        "ATLAS_WORKER__DRAIN_MS": str(drain_ms),
    }
    first = await services.start(PROCESSES)
    in_flight = []
    async with (
        asyncio.timeout(PATIENCE_S),
        Atlas.connect(nats_server.url, settings=Settings()) as atlas,
        under_load(atlas) as load,
    ):
        for old in first:
            in_flight.append(load.streams_in_flight + load.tasks_in_flight)
            assert await _replace(services, old) == 0
    assert load.refused == 0
    assert set(load.streams) == {"stop"}
    assert set(load.tasks) == {"task.completed"}
    assert len(load.texts) == 1
    assert min(in_flight) > 0  # there was something to lose
    bus = await Bus.connect(NatsSettings(url=nats_server.url), "test")
    try:
        held = await stored(bus)
    finally:
        await bus.close()
    assert held.wrong(load) == []
    assert (held.types["stream.adopted"] > 0) == (drain_ms < 1_000)
