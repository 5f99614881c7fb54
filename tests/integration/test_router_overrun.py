"""Publishers that together exceed what JetStream takes in: routers slow down, and lose nothing."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from atlas import subjects
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.embedded import NatsProcess, Services
from atlas.nats_settings import NatsSettings
from atlas.reading import text_digest
from atlas.settings import Settings
from tests.support.folding import Event, told_by
from tests.support.router import TENANT

STREAMS = 40
TOKENS = 300
INGEST = 50
"""Messages that the server holds until they are stored; by default it is 10,000."""
QUICK = {"kind": "mock", "models": ["m"]}
PACE = {"first_token_ms": 0, "token_ms": 0, "tokens": TOKENS}


@pytest.fixture
async def narrow(tmp_path: Path) -> AsyncIterator[NatsProcess]:
    """A server that takes in little at a time, with two routers."""
    config = tmp_path / "nats.conf"
    config.write_text(f"jetstream {{ max_buffered_msgs: {INGEST} }}\n")
    nats = NatsProcess(tmp_path / "nats", extra=("-c", str(config)))
    async with AsyncExitStack() as undo:
        await nats.start()
        undo.push_async_callback(nats.stop)
        providers = {"quick": {**QUICK, "mock": PACE}}
        environment = {"ATLAS_PROVIDERS": json.dumps(providers)}
        services = Services(nats.url, subprocess.DEVNULL, environment)
        undo.push_async_callback(services.stop)
        await services.start(["provider_router"] * 2)
        yield nats


async def stored(bus: Bus, stream_id: str) -> list[Event]:
    subject = subjects.stream_write(TENANT, stream_id)
    return [json.loads(one.data) async for one in bus.read(subjects.STREAMS, subject)]


@pytest.fixture
async def watching(narrow: NatsProcess) -> AsyncIterator[Bus]:
    bus = await Bus.connect(NatsSettings(url=narrow.url), "test")
    yield bus
    await bus.close()


async def test_every_history_is_whole_although_jetstream_dropped_what_it_could_not_take(
    narrow: NatsProcess, watching: Bus
):
    asking = asyncio.Semaphore(INGEST // 2)  # who asks must not be refused for the same reason
    async with Atlas.connect(narrow.url, settings=Settings()) as atlas:

        async def read(number: int) -> tuple[str, str]:
            stream = atlas.stream(f"{number}", model="quick/fast", buffer={"coalesce": "off"})
            async with AsyncExitStack() as undo:
                async with asking:
                    await undo.enter_async_context(stream)
                return stream.stream_id, (await stream.result()).content

        answers = dict(await asyncio.gather(*map(read, range(STREAMS))))
    assert "Dropping messages due to excessive stream ingest" in narrow.log_path.read_text()
    for stream_id, text in answers.items():
        told = told_by(await stored(watching, stream_id))
        assert not told.problems
        assert told.terminal is not None
        assert told.terminal["events"] == len(told.counting)
        assert (told.terminal["text_length"], told.terminal["text_sha256"]) == text_digest(text)
        assert told.text == text
        restarts = [event for event in told.counting if event.get("next") == "restart"]
        assert not restarts, "the answer had to be asked for again"
