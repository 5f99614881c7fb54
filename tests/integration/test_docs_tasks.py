"""The reader of docs/tasks.md, while controllers and the NATS server are killed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from atlas.client import Atlas
from atlas.contracts.task_events import SubtaskSucceeded
from atlas.embedded import Stack
from atlas.settings import Settings
from tests.support.documents import reader_of
from tests.support.running import read_by, running_atlas

ENVIRONMENT = {
    "ATLAS_TOPOLOGY__ACK_WAIT_MS": "1000",
    "ATLAS_HEALTH_INTERVAL_MS": "200",
    "ATLAS_CONTROLLER__RECONCILE_INTERVAL_MS": "200",
    "ATLAS_CONTROLLER__DISPATCH_TIMEOUT_MS": "1000",
}
PLAN: list[object] = [
    {"id": f"step-{number}", "capability": "general", "instruction": "Do it."}
    | ({"depends_on": [f"step-{number - 1}"]} if number else {})
    for number in range(5)
]


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Stack]:
    async with running_atlas(tmp_path, ENVIRONMENT, controllers=2) as stack:
        yield stack


@pytest.mark.timeout(150)
async def test_it_reads_the_whole_log_early_and_late_though_a_controller_and_nats_die(
    running: Stack, tmp_path: Path
):
    script = tmp_path / "reader.py"
    script.write_text(reader_of("tasks.md"))

    async def read(task_id: str) -> list[str]:
        return (await read_by(script, task_id, running.nats_url)).splitlines()

    async with (
        asyncio.timeout(120),
        Atlas.connect(running.nats_url, settings=Settings()) as atlas,
        asyncio.TaskGroup() as group,
    ):
        early = group.create_task(read("t1"))  # before there is such a task
        task = await atlas.submit("Go step by step", plan=PLAN, task_id="t1")
        done = 0
        async for event in task.events():
            if not isinstance(event, SubtaskSucceeded):
                continue
            done += 1
            if done == 1:
                victim = next(o for o in running.services.running if o.name == "agent_controller")
                await running.services.kill(victim.pid)
                middle = group.create_task(read("t1"))
            if done == 2:
                assert running.nats is not None
                await running.nats.kill()
                await running.nats.start()
        late = group.create_task(read("t1"))
        log = await task.log()
        output = (await task.result()).output
    assert isinstance(output, str)
    lines = [f"{one.version} {one.type} {getattr(one, 'subtask_id', '')}" for one in log]
    expected = [*lines, *output.splitlines()]
    for reader in (early, middle, late):
        assert reader.result() == expected
