"""A stream whose request is gone has nobody who would end it: the sweep does, and only then."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from atlas import subjects
from atlas.bus import Bus
from atlas.client import Atlas, Stream
from atlas.contracts.errors import AtlasError
from atlas.contracts.inference import UsageSource
from atlas.contracts.streams import Ownership, StreamCancelled, StreamControl, StreamFailed
from atlas.embedded import NatsProcess, Services
from atlas.settings import Settings
from provider_router.streaming.store import StreamAddress, StreamStore
from tests.support.folding import told_by
from tests.support.provider_server import ProviderServer, Reply, serving
from tests.support.router import TENANT, TERMINAL, chat_chunk

BEGUN = Reply(chat_chunk("Once upon "), then_silent=True)


@dataclass(frozen=True)
class Rig:
    """A router process, and a client of it."""

    bus: Bus
    atlas: Atlas
    services: Services
    server: ProviderServer

    async def begun(self) -> Stream:
        """A stream in the middle of its answer, whose watcher has left."""
        async with self.atlas.stream("Hello", model="acme/some-model") as stream:
            await anext(aiter(stream))
        return stream

    async def kill(self) -> None:
        """SIGKILL the router."""
        await self.services.kill(self.services.running[0].pid)

    async def lose_request(self, stream_id: str) -> None:
        """What a purge does, or a disk that is lost."""
        queued = await StreamStore(self.bus, "test").queued_request(
            StreamAddress(TENANT, stream_id)
        )
        assert queued is not None
        await self.bus.jetstream.delete_msg(subjects.REQUESTS, queued.seq)

    async def types(self, stream_id: str) -> list[object]:
        """The types of what is stored; it has no gap."""
        subject = subjects.stream_write(TENANT, stream_id)
        stored = [json.loads(one.data) async for one in self.bus.read(subjects.STREAMS, subject)]
        assert not told_by(stored).problems
        return [event["type"] for event in stored]


@pytest.fixture
async def rig(bus: Bus, nats_server: NatsProcess) -> AsyncIterator[Rig]:
    async with serving(BEGUN) as server:
        providers = {"acme": {"kind": "openai", "base_url": server.url, "api": "chat"}}
        environment = {
            "ATLAS_TOPOLOGY__ACK_WAIT_MS": "1000",
            "ATLAS_HEALTH_INTERVAL_MS": "200",
            "ATLAS_PROVIDERS": json.dumps(providers),
        }
        services = Services(nats_server.url, subprocess.DEVNULL, environment)
        await services.start(["provider_router"])
        async with Atlas.connect(nats_server.url, settings=Settings()) as atlas:
            yield Rig(bus, atlas, services, server)
        await services.stop()


async def test_a_stream_whose_router_died_and_whose_request_is_gone_ends_with_one_clear_error(
    rig: Rig,
):
    stream = await rig.begun()
    await rig.kill()
    await rig.lose_request(stream.stream_id)
    await rig.services.start(["provider_router", "provider_router"])
    async with asyncio.timeout(60), rig.atlas.watch_stream(stream.stream_id) as watched:
        with pytest.raises(AtlasError, match="no longer in ATLAS_REQUESTS"):
            await watched.result()
    end = watched.reading.terminal
    assert isinstance(end, StreamFailed)
    assert (end.error.code, end.error.retryable) == ("request_lost", True)
    assert end.usage.source is UsageSource.ESTIMATED
    assert end.usage.output_tokens > 0
    types = await rig.types(stream.stream_id)
    assert [one for one in types if one in TERMINAL] == ["stream.failed"]


async def test_a_stream_that_was_cancelled_before_its_request_was_lost_ends_as_cancelled(rig: Rig):
    stream = await rig.begun()
    await rig.kill()
    control = StreamControl(action="cancel", by="ada", reason="enough").to_json()
    await rig.bus.publish(subjects.stream_control(TENANT, stream.stream_id), control)
    await rig.lose_request(stream.stream_id)
    await rig.services.start(["provider_router"])
    async with asyncio.timeout(60), rig.atlas.watch_stream(stream.stream_id) as watched:
        async for _ in watched.events():
            pass
    end = watched.reading.terminal
    assert isinstance(end, StreamCancelled)
    assert (end.by, end.reason) == ("ada", "enough")


async def test_a_stream_whose_router_is_well_is_left_alone_although_its_request_is_gone(rig: Rig):
    owned = await rig.begun()
    await rig.lose_request(owned.stream_id)
    ghost = Ownership(epoch=1, router="ghost", at_ms=1)
    await rig.bus.store(subjects.stream_owner(TENANT, "orphan"), ghost.to_json())
    async with asyncio.timeout(60), rig.atlas.watch_stream("orphan") as orphan:
        async for _ in orphan.events():
            pass  # once it has ended, the other one was swept too
    assert await rig.types("orphan") == ["stream.failed"]
    assert not set(await rig.types(owned.stream_id)) & TERMINAL
    assert (await rig.atlas.control_stream(owned.stream_id, "cancel")).state == "cancelled"
