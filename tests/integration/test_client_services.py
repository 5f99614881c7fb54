"""The client with real routers: what a user of the library sees."""

import asyncio
import subprocess

import pytest

from atlas import subjects
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.contracts.errors import InvalidTransitionError, WorkCancelledError
from atlas.contracts.streams import Ownership, StreamState
from atlas.embedded import Services
from atlas.settings import load_settings


@pytest.fixture
async def services(nats_server):
    environment = {
        "ATLAS_TOPOLOGY__ACK_WAIT_MS": "1000",
        "ATLAS_PROVIDERS__MOCK__KIND": "mock",
        "ATLAS_PROVIDERS__MOCK__MODELS": '["standard"]',
        "ATLAS_PROVIDERS__MOCK__MOCK__TOKEN_MS": "20",
    }
    running = Services(nats_server.url, subprocess.DEVNULL, environment)
    await running.start(["provider_router", "provider_router"])
    yield running
    await running.stop()


@pytest.fixture
async def atlas(services, nats_server):
    assert services.running
    settings = load_settings(tenant="default")
    async with Atlas.connect(nats_server.url, settings=settings) as connected:
        yield connected


async def _owner(bus: Bus, services: Services, stream_id: str) -> int:
    """The pid of the router that writes the stream."""
    stored = await bus.last(subjects.STREAMS, subjects.stream_owner("default", stream_id))
    assert stored is not None
    router = Ownership.model_validate_json(stored.data).router
    return next(one.pid for one in services.running if one.instance == router)


async def test_the_pieces_since_the_last_restart_are_the_answer_whichever_router_dies(
    atlas: Atlas, services: Services, bus: Bus
):
    shown = ""
    async with asyncio.timeout(60), atlas.stream("Why is the sky blue?") as stream:
        async for piece in stream:
            shown = piece if piece.restart else shown + piece
            if len(services.running) == 2 and len(shown) > 100:
                await services.kill(await _owner(bus, services, stream.stream_id))
        response = await stream.result()
    assert shown == response.content
    assert await atlas.generate("Why is the sky blue?", stream_id=stream.stream_id) == response


async def test_a_stream_is_paused_resumed_and_cancelled(atlas: Atlas):
    async with asyncio.timeout(60), atlas.stream("Why is the sky blue?") as stream:
        pieces = aiter(stream)
        await anext(pieces)
        assert (await stream.pause("lunch")).state is StreamState.PAUSED
        assert (await stream.resume()).state is StreamState.ACTIVE
        assert (await stream.cancel("enough")).state is StreamState.CANCELLED
        with pytest.raises(WorkCancelledError, match="enough"):
            await stream.result()
        assert stream.state is StreamState.CANCELLED
        with pytest.raises(InvalidTransitionError):
            await stream.resume()
