"""The reader of docs/streams.md, while what it reads from is killed."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from atlas import subjects
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.contracts.streams import Ownership, StreamAdopted, TextDelta
from atlas.embedded import Stack
from atlas.nats_settings import NatsSettings
from atlas.settings import Settings
from tests.support.documents import reader_of
from tests.support.running import read_by, running_atlas

PACE = {"first_token_ms": 20, "token_ms": 25}
PROVIDERS = {
    "flaky": {
        "kind": "mock",
        "models": ["m"],
        "mock": {**PACE, "fault": {"break_after_chunks": 8, "times": 1}},
    },
    "steady": {"kind": "mock", "models": ["m"], "mock": PACE},
}
ENVIRONMENT = {
    "ATLAS_PROVIDERS": json.dumps(PROVIDERS),
    "ATLAS_GROUPS": json.dumps({"robust": {"members": ["flaky/m", "steady/m"]}}),
    "ATLAS_TOPOLOGY__ACK_WAIT_MS": "1000",
    "ATLAS_HEALTH_INTERVAL_MS": "200",
}


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Stack]:
    async with running_atlas(tmp_path, ENVIRONMENT, routers=2, controllers=0, workers=0) as stack:
        yield stack


async def _kill_owner(stack: Stack, stream_id: str) -> None:
    bus = await Bus.connect(NatsSettings(url=stack.nats_url), "test")
    stored = await bus.last(subjects.STREAMS, subjects.stream_owner("default", stream_id))
    await bus.close()
    assert stored is not None
    owner = Ownership.model_validate_json(stored.data).router
    await stack.services.kill(
        next(one.pid for one in stack.services.running if one.instance == owner)
    )


async def test_it_reads_the_whole_text_early_late_and_though_a_provider_a_router_and_nats_die(
    running: Stack, tmp_path: Path
):
    script = tmp_path / "reader.py"
    script.write_text(reader_of("streams.md"))

    async def read(stream_id: str) -> str:
        return await read_by(script, stream_id, running.nats_url)

    async with (
        asyncio.timeout(90),
        asyncio.TaskGroup() as group,
        Atlas.connect(running.nats_url, settings=Settings()) as atlas,
        atlas.stream("Tell me about the sea", model="robust") as stream,
    ):
        readers = []
        seen = []
        async for event in stream.events():
            seen.append(event)
            if event.seq == 3:
                readers.append(group.create_task(read(stream.stream_id)))
            texts_again = sum(isinstance(one, TextDelta) for one in seen) - 8
            if texts_again == 10 and len(running.services.running) == 2:
                await _kill_owner(running, stream.stream_id)
            if isinstance(event, StreamAdopted) and len(readers) == 1:
                readers.append(group.create_task(read(stream.stream_id)))
                assert running.nats is not None
                await running.nats.kill()
                await running.nats.start()
        readers.append(group.create_task(read(stream.stream_id)))
        response = await stream.result()
    assert {one.type for one in seen} >= {"attempt.failed", "stream.adopted"}
    assert len(readers) == 3
    assert [one.result() for one in readers] == [f"{response.content}\n"] * 3
