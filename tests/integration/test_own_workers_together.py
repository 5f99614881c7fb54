"""One task, three kinds of worker: built in, `examples/10_own_worker.py`, `examples/worker.mjs`."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from atlas import subjects
from atlas.bus import Bus
from atlas.client import Atlas, Task
from atlas.contracts.errors import NotFoundError, RequestTimeoutError
from atlas.contracts.events import Event
from atlas.contracts.task_events import SubtaskDispatched, SubtaskStarted
from atlas.embedded import Stack
from atlas.nats_settings import NatsSettings
from tests.support.running import beside, running_atlas

EXAMPLES = Path(__file__).parents[2] / "examples"
PLAN = json.loads((EXAMPLES / "10_shared_plan.json").read_text())
ENVIRONMENT = {
    "ATLAS_TOPOLOGY__ACK_WAIT_MS": "1000",
    "OPENAI_API_KEY": "",
    "ANTHROPIC_API_KEY": "",
    "OLLAMA_HOST": "",
}


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with running_atlas(tmp_path, ENVIRONMENT) as running:
        yield running


@contextlib.asynccontextmanager
async def python_worker(stack: Stack) -> AsyncIterator[asyncio.subprocess.Process]:
    bus = await Bus.connect(NatsSettings(url=stack.nats_url), "test")
    told = await bus.open(subjects.events_of("default", "agent_worker", "worker.registered"))
    await bus.flush()
    own = (sys.executable, "10_own_worker.py")
    async with beside(stack, *own, cwd=EXAMPLES, environment=ENVIRONMENT) as running:
        event = Event.model_validate_json((await told.next_msg(timeout=20)).data)
        assert event.data["capabilities"] == ["translate"]
        await bus.close()
        yield running


@contextlib.asynccontextmanager
async def node_worker(stack: Stack, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    async with beside(stack, "node", "worker.mjs", cwd=folder) as running:
        assert running.stdout is not None
        async with asyncio.timeout(20):
            assert (await running.stdout.readline()).startswith(b"ready ")
        yield running


async def ended(running: asyncio.subprocess.Process) -> int:
    """Its exit status after SIGTERM."""
    running.send_signal(signal.SIGTERM)
    async with asyncio.timeout(20):
        return await running.wait()


async def started(task: Task, subtask_id: str, times: int) -> SubtaskStarted:
    """The start of a subtask, for the first time or a later one."""
    async with asyncio.timeout(60):
        async for event in task.events():
            if isinstance(event, SubtaskStarted) and event.subtask_id == subtask_id:
                times -= 1
                if not times:
                    return event
    raise AssertionError(f"{subtask_id} did not start so often")


async def paused(atlas: Atlas, stream_id: str) -> None:
    """Hold a stream that is about to be asked for; the pause may be lost in its beginning."""
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(NotFoundError, RequestTimeoutError):
                await atlas.control_stream(stream_id, "pause")
                return
            await asyncio.sleep(0.01)


async def test_a_worker_of_ten_lines_does_its_step_of_a_task(stack: Stack):
    async with python_worker(stack) as running, Atlas.connect(stack.nats_url) as atlas:
        task = await atlas.submit("Announce the ferry", plan=PLAN[:2])
        async with asyncio.timeout(60):
            done = await task.result()
        assert isinstance(done.output, dict)
        assert done.output["by"].startswith("mock/")
        translated = next(
            one for one in (await task.status()).subtasks if one.subtask_id == "french"
        )
        assert str(running.pid) in (translated.worker or "")
        assert await ended(running) == 0


async def test_a_worker_in_javascript_and_one_in_python_share_a_task(
    stack: Stack, node_examples: Path
):
    async with (
        python_worker(stack) as python,
        node_worker(stack, node_examples) as node,
        Atlas.connect(stack.nats_url) as atlas,
    ):
        task = await atlas.submit("Announce the ferry", plan=PLAN)
        async with asyncio.timeout(60):
            done = await task.result()
        assert isinstance(done.output, dict)
        assert (done.output["of"], bool(done.output["headline"])) == ("french", True)
        by = {one.subtask_id: one.worker or "" for one in (await task.status()).subtasks}
        assert f"-{python.pid}-" in by["french"]
        assert f"-{node.pid}-js" in by["headline"]
        assert len(set(by.values())) == 3
        assert (await ended(node), await ended(python)) == (0, 0)


async def test_a_worker_in_javascript_announces_what_it_can_do(stack: Stack, node_examples: Path):
    bus = await Bus.connect(NatsSettings(url=stack.nats_url), "test")
    told = await bus.open(subjects.events_of("default", "agent_worker", "service.health"))
    gone = await bus.open(subjects.events_of("default", "*", "worker.gone"))
    await bus.flush()
    async with node_worker(stack, node_examples) as first:
        assert await ended(first) == 0
        itself = Event.model_validate_json((await gone.next_msg(timeout=20)).data)
        assert (itself.source, itself.data["reason"]) == ("agent_worker", "stopped")
    async with node_worker(stack, node_examples) as node:
        async with asyncio.timeout(20):
            while True:
                event = Event.model_validate_json((await told.next_msg()).data)
                if event.data["capabilities"] == ["headline"] and str(node.pid) in str(event.data):
                    break
        assert event.data["offers"] == {
            "headline": {"description": "A headline for the text that it depends on."}
        }
        node.kill()
        lost = Event.model_validate_json((await gone.next_msg(timeout=20)).data)
    await bus.close()
    assert (lost.source, lost.data["worker"]) == ("agent_controller", event.data["instance"])


async def test_a_worker_in_javascript_that_is_killed_loses_nothing(
    stack: Stack, node_examples: Path
):
    async with python_worker(stack), Atlas.connect(stack.nats_url) as atlas:
        async with node_worker(stack, node_examples) as victim:
            task = await atlas.submit("Announce the ferry", plan=PLAN)
            begun = await started(task, "headline", 1)
            assert begun.stream_id is not None
            await paused(atlas, begun.stream_id)
            victim.kill()
        async with node_worker(stack, node_examples) as other:
            again = await started(task, "headline", 2)
            assert again.worker == f"{begun.worker.split('-')[0]}-{other.pid}-js"
            await atlas.control_stream(begun.stream_id, "resume")
            async with asyncio.timeout(60):
                done = await task.result()
        asked = [one async for one in task.events() if isinstance(one, SubtaskDispatched)]
    assert isinstance(done.output, dict)
    assert [one.attempt for one in asked] == [1, 1, 1]
