"""The JetStream assets of an older release: refused with what to do, then brought up to date.

The fixture is what a server told of the assets that a release without bounds of submissions made.
"""

import asyncio
import contextlib
import json
from pathlib import Path

import pytest

from atlas import subjects, topology
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.contracts.base import now_ms
from atlas.contracts.errors import NotFoundError, TopologyError
from atlas.contracts.streams import Ownership
from atlas.embedded import NatsProcess, Services
from atlas.nats_settings import NatsSettings
from atlas.objects import Objects
from atlas.settings import Settings, TopologySettings
from tests.integration import cli_process
from tests.support.router import TENANT

OLD = Path(__file__).parents[1] / "fixtures" / "assets_of_an_older_release.json"


async def make(bus: Bus, subject: str, config: object) -> None:
    answer = json.loads((await bus.ask(subject, json.dumps(config).encode())).data)
    assert "error" not in answer, answer


async def old_assets(bus: Bus) -> None:
    """Everything as the older release made it."""
    old = json.loads(OLD.read_text())
    for stream in old["streams"]:
        await make(bus, f"$JS.API.STREAM.CREATE.{stream['name']}", stream)
    for consumer in old["consumers"]:
        name = consumer["config"]["durable_name"]
        place = f"$JS.API.CONSUMER.DURABLE.CREATE.{consumer['stream_name']}.{name}"
        await make(bus, place, consumer)


async def test_assets_of_an_older_release_are_refused_then_migrated_and_keep_what_they_hold(
    nats_server: NatsProcess, tmp_path: Path
):
    settings = TopologySettings()
    bus = await Bus.connect(NatsSettings(url=nats_server.url), "test")
    try:
        await old_assets(bus)
        log = subjects.task_write(TENANT, "old")
        for number in range(5):
            await bus.store(log, b"%d" % number)
        await Objects(bus).put("kept", ["large"])
        owner = Ownership(epoch=1, router="r", at_ms=now_ms())
        await bus.store(subjects.stream_owner(TENANT, "s1"), owner.to_json())
        request = b'{"goal": "Compare", "pattern": "single"}'
        await bus.store(subjects.task_submit(TENANT, "waits"), request)

        with pytest.raises(TopologyError, match=r"ATLAS_SUBMITS.*max_msgs.*assets --apply"):
            await topology.ensure(bus, settings)
        services = Services(nats_server.url)
        with pytest.raises(Exception, match="agent_controller"):
            await services.start(["agent_controller"])
        plain = {"ATLAS_TOPOLOGY__ACK_WAIT_MS": str(settings.ack_wait_ms)}
        shown = await cli_process.atlas(
            *("admin", "assets"), nats_url=nats_server.url, cwd=tmp_path, settings=plain
        )
        assert (shown.status, "--apply changes it" in shown.out) == (1, True)
        applied = await cli_process.atlas(
            *("admin", "assets", "--apply", "--json"),
            nats_url=nats_server.url,
            cwd=tmp_path,
            settings=plain,
        )
        assert applied.status == 0, applied.out + applied.err
        assert {one["state"] for one in applied.records} == {"ok"}

        await topology.ensure(bus, settings)
        assert [one.data async for one in bus.read(subjects.TASKS, log)] == [
            b"0",
            b"1",
            b"2",
            b"3",
            b"4",
        ]
        assert await Objects(bus).get("kept") == ["large"]
        assert await bus.last(subjects.STREAMS, subjects.stream_owner(TENANT, "s1"))
        try:
            await services.start(["provider_router", "agent_controller", "agent_worker"])
            async with Atlas.connect(nats_server.url, settings=Settings()) as atlas:
                async with asyncio.timeout(60):
                    while True:
                        with contextlib.suppress(NotFoundError):  # not taken in yet
                            assert (await atlas.task_handle("waits").result()).output
                            break
                        await asyncio.sleep(0.1)
        finally:
            await services.stop()
    finally:
        await bus.close()
