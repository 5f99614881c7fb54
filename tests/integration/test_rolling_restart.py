"""A rolling restart under load: every process is replaced, and nobody outside notices."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from atlas import subjects
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.embedded import NatsProcess, ServiceProcess, Services
from atlas.nats_settings import NatsSettings
from atlas.settings import Settings
from tests.support.load import Load

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
    stop, in_flight = asyncio.Event(), []
    async with Atlas.connect(nats_server.url, settings=Settings()) as atlas:
        load = Load(atlas)
        async with asyncio.timeout(PATIENCE_S):
            running = asyncio.create_task(load.run(stop))
            for old in first:
                in_flight.append(load.at_work)
                assert await _replace(services, old) == 0
            stop.set()
            await running
    assert set(load.stream_states) == {"stop"}
    assert set(load.task_states) == {"task.completed"}
    assert len(load.texts) == 1
    assert min(in_flight[1:]) > 0  # there was something to lose
    bus = await Bus.connect(NatsSettings(url=nats_server.url), "test")
    try:
        written = [
            json.loads(one.data)["type"]
            async for one in bus.read(subjects.STREAMS, subjects.STREAM_WRITE_ALL)
        ]
    finally:
        await bus.close()
    adopted = Counter(written)["stream.adopted"]
    assert (adopted > 0) == (drain_ms < 1_000)
