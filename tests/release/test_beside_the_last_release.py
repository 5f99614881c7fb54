"""A rolling upgrade from the last release to this one and back, as its users would do it.

`make release-check` installs both, each in an environment of its own. Every process is replaced in
turn while streams and tasks go on, so that each service of the one works with those of the other.
"""

import asyncio
import contextlib
import json
import os
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from atlas import subjects
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.embedded import NatsProcess
from atlas.nats_settings import NatsSettings
from atlas.settings import Settings
from tests.support.load import stored, under_load
from tests.support.releases import ROOT

OLDER = ROOT / "build" / "older" / "venv" / "bin"
NEWER = ROOT / "build" / "released" / "bin"
SERVICES = ("routers", "controllers", "workers")
_READY_S = 60
_PATIENCE_S = 240
_TOGETHER_S = 1.0
"""How long both versions of a service share its work before the first one goes."""
_MOCK = {"first_token_ms": 20, "token_ms": 20, "tokens": 50}
_SETTINGS = {
    "ATLAS_TOPOLOGY__ACK_WAIT_MS": "1000",
    "ATLAS_HEALTH_INTERVAL_MS": "200",
    "ATLAS_LOG_LEVEL": "warning",
    "ATLAS_PROVIDERS": json.dumps({"mock": {"kind": "mock", "mock": _MOCK}}),
}

pytestmark = [pytest.mark.release, pytest.mark.timeout(300)]


@dataclass
class Deployment:
    """Services of either version on one NATS server, each an `atlas up` of its own."""

    nats_url: str
    folder: Path
    running: dict[str, Process] = field(default_factory=dict)

    async def run(self, version: Path, *arguments: str, output: int = PIPE) -> Process:
        """Start `atlas` of a version, with nothing of this checkout in reach."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return await asyncio.create_subprocess_exec(
            version / "atlas",
            *arguments,
            cwd=self.folder,
            env={**kept, **_SETTINGS, "NATS_URL": self.nats_url},
            stdin=DEVNULL,
            stdout=output,
        )

    async def replace(self, service: str, version: Path) -> None:
        """Start one of a version, let both work, then let the one before drain."""
        counts = [f"--{one}={int(one == service)}" for one in SERVICES]
        started = await self.run(version, "up", "--json", *counts)
        assert started.stdout is not None
        before, self.running[service] = self.running.get(service), started
        try:
            async with asyncio.timeout(_READY_S):
                line = await started.stdout.readline()
            assert json.loads(line)["ready"]
            if before is not None:
                await asyncio.sleep(_TOGETHER_S)
        finally:
            if before is not None:
                assert await end(before) == 0

    async def carries_a_task(self, version: Path) -> bool:
        """Whether the command line of a version has a task done here."""
        asked = await self.run(version, "task", "run", "--goal", "Compare three lakes", "--json")
        try:
            async with asyncio.timeout(_READY_S):
                told, _ = await asked.communicate()
        finally:
            await end(asked)
        return bool(json.loads(told.splitlines()[-1])["type"] == "task.completed")


async def end(process: Process) -> int:
    """SIGTERM, and its exit status."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    async with asyncio.timeout(_READY_S):
        return await process.wait()


@pytest.fixture
async def deployment(nats_server: NatsProcess, tmp_path: Path) -> AsyncIterator[Deployment]:
    for folder in (OLDER, NEWER):
        assert (folder / "atlas").exists(), f"no {folder}; run `make release-check`"
    one = Deployment(nats_server.url, tmp_path)
    yield one
    for process in one.running.values():
        await end(process)


async def test_nothing_is_lost_from_the_last_release_to_this_one_and_back(
    nats_server: NatsProcess, deployment: Deployment
):
    for service in SERVICES:
        await deployment.replace(service, OLDER)
    async with (
        asyncio.timeout(_PATIENCE_S),
        Atlas.connect(nats_server.url, settings=Settings()) as atlas,
        under_load(atlas) as load,
    ):
        for version, other in ((NEWER, OLDER), (OLDER, NEWER)):
            for service in SERVICES:
                await deployment.replace(service, version)
            assert await deployment.carries_a_task(other)
    assert set(load.streams) == {"stop"}
    assert set(load.tasks) == {"task.completed"}
    assert len(load.texts) == 1
    bus = await Bus.connect(NatsSettings(url=nats_server.url), "test")
    try:
        dead = [one.subject async for one in bus.read(subjects.DEAD, subjects.DEAD_ALL)]
        held = await stored(bus)
    finally:
        await bus.close()
    assert dead == []
    assert held.wrong(load) == []
