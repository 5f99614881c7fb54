"""What an operator does with the JetStream assets: look, change, back up, restore."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.errors import Error as NatsError

from agent_controller.open_tasks import OpenTasks
from atlas import assets, backup, subjects, topology
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.contracts.base import now_ms
from atlas.contracts.errors import (
    ConfigurationError,
    InvalidRequestError,
    NotFoundError,
    StoreRefusedError,
    TopologyError,
)
from atlas.embedded import NatsProcess, Services, cluster
from atlas.nats_settings import NatsSettings
from atlas.objects import Objects
from atlas.settings import Settings, TopologySettings
from tests.integration.cli_process import Ended
from tests.integration.cli_process import atlas as run_cli
from tests.support.tasks import User, controller, working

ONE = TopologySettings(ack_wait_ms=1_000)
THREE = TopologySettings(ack_wait_ms=1_000, replicas=3)
TENANT = "default"


@contextlib.asynccontextmanager
async def other_servers(folder: Path, count: int) -> AsyncIterator[tuple[str, Bus]]:
    """Another NATS server, or a cluster, with nothing on it: its URL, and a connection."""
    async with contextlib.AsyncExitStack() as undo:
        servers = cluster(folder, count)
        for one in servers:
            undo.push_async_callback(one.stop)
        await asyncio.gather(*(one.start() for one in servers))
        url = ",".join(one.url for one in servers)
        connection = await Bus.connect(NatsSettings(url=url), "test")
        undo.push_async_callback(connection.close)
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(NatsError, TimeoutError):
                    await connection.jetstream.account_info()
                    break
                await asyncio.sleep(0.1)  # a cluster chooses who leads it
        yield url, connection


async def stored(bus: Bus) -> dict[str, int]:
    """How many messages each stream holds."""
    return {one.config.name or "": one.state.messages for one in await bus.jetstream.streams_info()}


@pytest.mark.parametrize("servers", [1, 3])
async def test_a_backup_of_one_server_is_restored_on_another_or_on_a_cluster(
    bus: Bus, tmp_path: Path, servers: int
):
    subject = subjects.task_write(TENANT, "t1")
    for number in range(300):
        await bus.store(subject, b"%d" % number * 500)
    await Objects(bus).put("large", ["x"] * 100_000)
    before = await stored(bus)
    await backup.save(bus, ONE, tmp_path / "saved")
    async with other_servers(tmp_path / "other", servers) as (_, other):
        settings = ONE if servers == 1 else THREE
        await backup.restore(other, settings, tmp_path / "saved")
        async with asyncio.timeout(20):  # servers of a cluster hear of new streams in turn
            while await stored(other) != before:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.1)
        await topology.ensure(other, settings)  # as a service does when it starts
        found = [one.data async for one in other.read(subjects.TASKS, subject)]
        assert found == [b"%d" % number * 500 for number in range(300)]
        assert await Objects(other).get("large") == ["x"] * 100_000
        assert {one.state for one in await assets.survey(other, settings)} == {"ok"}


async def test_a_task_that_was_only_submitted_is_done_after_a_restore(
    nats_server: NatsProcess, bus: Bus, tmp_path: Path
):
    await bus.store(
        subjects.task_submit(TENANT, "t1"), b'{"goal": "Compare", "pattern": "parallel"}'
    )
    await backup.save(bus, ONE, tmp_path / "saved")
    async with other_servers(tmp_path / "other", 1) as (url, other):
        await backup.restore(other, ONE, tmp_path / "saved")
        services = Services(url, environment={"ATLAS_TOPOLOGY__ACK_WAIT_MS": "1000"})
        try:
            await services.start(["provider_router", "agent_controller", "agent_worker"])
            async with Atlas.connect(url, settings=Settings()) as atlas, asyncio.timeout(60):
                while True:
                    with contextlib.suppress(NotFoundError):  # not taken in yet
                        assert (await atlas.task_handle("t1").result()).output
                        break
                    await asyncio.sleep(0.1)
        finally:
            await services.stop()
    assert nats_server.is_running


def log_entry(type_: str, version: int = 1) -> bytes:
    said = {"task_id": "t", "version": version, "at_ms": now_ms(), "type": type_}
    if type_ == "task.accepted":
        said |= {"request": {"goal": "Compare", "pattern": "single"}, "request_sha256": "x"}
    return json.dumps(said).encode()


async def test_every_task_that_has_not_ended_is_open_after_a_restore_and_no_other(
    bus: Bus, tmp_path: Path
):
    for task_id, types in {
        "open": ["task.accepted", "task.paused"],
        "entered": ["task.accepted"],
        "done": ["task.accepted", "task.completed"],
        "deleted": ["task.deleted"],
    }.items():
        for version, type_ in enumerate(types, start=1):
            await bus.store(subjects.task_write(TENANT, task_id), log_entry(type_, version))
    for task_id in ("entered", "done", "deleted", "never"):  # as taken at another moment
        await OpenTasks(bus).add((TENANT, task_id))
    await backup.save(bus, ONE, tmp_path / "saved")
    await backup.restore(bus, ONE, tmp_path / "saved", replace=True)
    assert sorted(await OpenTasks(bus).list()) == [(TENANT, "entered"), (TENANT, "open")]


async def test_a_task_that_the_index_of_a_backup_lacks_is_carried_on_after_a_restore(
    bus: Bus, nats_server: NatsProcess, tmp_path: Path
):
    await bus.store(subjects.task_write(TENANT, "t"), log_entry("task.accepted"))
    await backup.save(bus, ONE, tmp_path / "saved")
    await backup.restore(bus, ONE, tmp_path / "saved", replace=True)
    user = User(bus)
    async with controller(nats_server.url), working(bus, lambda _: "done"):
        assert (await user.end("t")).output == "done"


async def test_a_backup_takes_queues_before_what_is_made_of_them_and_objects_last(
    bus: Bus, tmp_path: Path
):
    """What keeps a backup whole that is taken while services run; see `backup.save`."""
    order = [one.name for one in await backup.save(bus, ONE, tmp_path / "saved")]
    requests = [subjects.REQUESTS, subjects.STREAMS]
    tasks = [subjects.SUBMITS, subjects.TASKS, subjects.WORK, subjects.REPORTS]
    for ordered in (requests, tasks):
        assert [name for name in order if name in ordered] == ordered
    assert order[-1] == subjects.objects_stream(subjects.OBJECTS)


async def test_a_backup_goes_into_a_new_folder_only(bus: Bus, tmp_path: Path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    with pytest.raises(ConfigurationError, match="is not empty; name a new folder"):
        await backup.save(bus, ONE, tmp_path / "used")


async def test_streams_that_are_there_are_replaced_only_when_that_is_said(bus: Bus, tmp_path: Path):
    subject = subjects.task_write(TENANT, "t1")
    await bus.store(subject, b"saved")
    await backup.save(bus, ONE, tmp_path / "saved")
    await bus.store(subject, b"later")
    with pytest.raises(InvalidRequestError, match=r"ATLAS_TASKS.*--replace"):
        await backup.restore(bus, ONE, tmp_path / "saved")
    await backup.restore(bus, ONE, tmp_path / "saved", replace=True)
    assert [one.data async for one in bus.read(subjects.TASKS, subject)] == [b"saved"]


async def test_what_is_no_backup_is_refused_before_anything_is_removed(bus: Bus, tmp_path: Path):
    with pytest.raises(ConfigurationError, match="holds no backup of Atlas"):
        await backup.restore(bus, ONE, tmp_path, replace=True)
    await backup.save(bus, ONE, tmp_path / "saved")
    about = tmp_path / "saved" / "ATLAS_TASKS" / "backup.json"
    kept = about.read_text()
    about.write_text("{")
    with pytest.raises(ConfigurationError, match="cannot be read as a backup"):
        await backup.restore(bus, ONE, tmp_path / "saved", replace=True)
    about.write_text(kept)
    (about.parent / "stream.tar.s2").unlink()
    with pytest.raises(ConfigurationError, match=r"is not complete: stream\.tar\.s2 is missing"):
        await backup.restore(bus, ONE, tmp_path / "saved", replace=True)
    assert {one.state for one in await assets.survey(bus, ONE)} == {"ok"}


async def test_a_broken_file_of_a_backup_is_told_with_its_stream(bus: Bus, tmp_path: Path):
    await backup.save(bus, ONE, tmp_path / "saved")
    (tmp_path / "saved" / "ATLAS_TASKS" / "stream.tar.s2").write_bytes(b"nonsense" * 1000)
    with pytest.raises(StoreRefusedError, match="ATLAS_TASKS cannot be restored"):
        await backup.restore(bus, ONE, tmp_path / "saved", replace=True)


async def test_what_differs_is_shown_and_changed_as_far_as_nothing_is_lost(bus: Bus):
    for number in range(3):
        await bus.store(subjects.event(TENANT, "x", "y"), b"%d" % number)
    wanted = TopologySettings(ack_wait_ms=1_000, replay_hours=1, max_bytes=8 * 2**30)
    found = {one.name: one for one in await assets.survey(bus, wanted)}
    assert {it.field: it.effect for it in found[subjects.STREAMS].differences} == {
        "max_age": "loses",
        "max_bytes": "safe",
    }
    found = {one.name: one for one in await assets.bring_into_line(bus, wanted)}
    assert [it.field for it in found[subjects.STREAMS].differences] == ["max_age"]
    changed = await assets.bring_into_line(bus, wanted, may_lose=True)
    assert {one.state for one in changed} == {"ok"}
    await topology.ensure(bus, wanted)
    config = (await bus.jetstream.stream_info(subjects.STREAMS)).config
    assert config.republish is not None  # what was not asked for stays
    assert (await stored(bus))[subjects.EVENTS] == 3


async def test_a_bound_below_what_is_stored_loses_and_one_above_it_does_not(bus: Bus):
    for number in range(3):
        await bus.store(subjects.task_submit(TENANT, f"t{number}"), b"x" * 700_000)

    async def effects(**fields: int) -> dict[str, str]:
        wanted = TopologySettings.model_validate({"ack_wait_ms": 1_000, **fields})
        found = {one.name: one for one in await assets.survey(bus, wanted)}
        return {it.field: it.effect for it in found[subjects.SUBMITS].differences}

    assert await effects(max_submissions=3) == {"max_msgs": "safe"}
    assert await effects(max_submissions=2) == {"max_msgs": "loses"}
    assert await effects(max_submission_bytes=2**21 + 2**20) == {"max_bytes": "safe"}
    assert await effects(max_submission_bytes=2**20) == {"max_bytes": "loses"}


async def test_what_is_missing_is_made(bus: Bus):
    await bus.jetstream.delete_stream(subjects.WORK)
    await bus.jetstream.delete_stream(subjects.bucket_stream(subjects.CIRCUITS))
    missing = [one.name for one in await assets.survey(bus, ONE) if one.state == "missing"]
    assert missing == [subjects.WORK, "KV_ATLAS_CIRCUITS"]
    assert {one.state for one in await assets.bring_into_line(bus, ONE)} == {"ok"}


async def test_what_jetstream_refuses_to_change_is_said_with_its_words(bus: Bus):
    found = {one.name: one for one in await assets.survey(bus, THREE)}
    assert found["KV_ATLAS_OPEN"].differences[0].effect == "safe"
    with pytest.raises(TopologyError, match="num_replicas of ATLAS_REQUESTS: replicas"):
        await assets.bring_into_line(bus, THREE)


async def test_the_commands_say_what_they_did(nats_server: NatsProcess, bus: Bus, tmp_path: Path):
    async def atlas(*arguments: str) -> Ended:
        return await run_cli(*arguments, nats_url=nats_server.url, cwd=tmp_path, settings=longer)

    longer = {"ATLAS_TOPOLOGY__REPLAY_HOURS": "30"}
    shown = await atlas("admin", "assets")
    assert shown.status == 1
    assert "max_age is 86400, expected 108000: --apply changes it" in shown.out
    assert "ATLAS_STREAMS is configured differently" in (await atlas("doctor")).out
    applied = await atlas("admin", "assets", "--apply", "--json")
    assert applied.status == 0
    assert {one["state"] for one in applied.records} == {"ok"}
    folder = str(tmp_path / "saved")
    saved = await atlas("admin", "backup", folder)
    assert saved.status == 0
    assert f"15 streams saved to {folder}" in saved.err
    refused = await atlas("admin", "restore", folder)
    assert refused.status == 2
    assert "--replace" in refused.err
    assert (await atlas("admin", "restore", folder, "--replace")).status == 0
    assert bus.is_connected
