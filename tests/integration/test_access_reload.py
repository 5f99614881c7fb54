"""A tenant that is added while everything runs, as docs/operate.md tells it."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from atlas import access_folder, subjects, topology
from atlas.contracts.errors import NoResponderError
from atlas.embedded import find_nats_server
from tests.support.access import ASSETS, Installation
from tests.support.waiting import eventually

LATE = "late"
PUBLISHER, WATCHER = f"{LATE}-publisher", f"{LATE}-watcher"
_PATIENCE_S = 20


@pytest_asyncio.fixture
async def installation(tmp_path: Path) -> AsyncIterator[Installation]:
    """A server and a controller that ran before the tenant was added and reloaded."""
    made = Installation.made(tmp_path)
    await made.server.start()
    try:
        async with made.bus("operator") as bus:
            await topology.ensure(bus, ASSETS)
        await made.start_service("agent_controller")
        access_folder.make(made.folder, [LATE], listen="127.0.0.1:0", url="nats://unused:1")
        for _ in range(2):
            await _reload(made)
        yield made
    finally:
        await made.stop()


async def _reload(installation: Installation) -> None:
    """Tell the server to read its users again, and wait until it says that it did."""
    done = "Reloaded server configuration"
    before = installation.server.log_path.read_text().count(done)
    (ports,) = installation.server.store_dir.glob("*.ports")
    command = [str(find_nats_server()), "--signal", f"reload={ports.stem.rsplit('_', 1)[1]}"]
    await asyncio.to_thread(subprocess.run, command, check=True, timeout=_PATIENCE_S)
    await eventually(lambda: installation.server.log_path.read_text().count(done) > before)


async def test_a_tenant_that_was_added_is_answered_after_two_reloads(
    installation: Installation,
) -> None:
    async with installation.bus(PUBLISHER) as bus:
        try:
            answer = await bus.ask(subjects.api(LATE, "task.list"), b"{}")
        except NoResponderError as error:
            raise AssertionError(installation.server.log_path.read_text()) from error
    assert b'"tasks"' in answer.data


async def test_a_dashboard_that_was_added_hears_after_two_reloads(
    installation: Installation,
) -> None:
    log = subjects.task_log(LATE, "t1")
    async with installation.bus(WATCHER) as watcher, installation.bus("operator") as operator:
        heard = await watcher.open(log)
        await watcher.flush()
        await operator.publish(log, b"{}")
        await operator.flush()
        msg = await heard.next_msg(timeout=_PATIENCE_S)
    assert msg.subject == log
