"""examples/watcher.mjs: another language watches every token, with nothing but a NATS client."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from atlas.client import Atlas
from atlas.embedded import Stack
from tests.support.running import beside, running_atlas

FAST_FAILOVER = {"ATLAS_TOPOLOGY__ACK_WAIT_MS": "1000"}
MOCK_ONLY = {"OPENAI_API_KEY": "", "ANTHROPIC_API_KEY": "", "OLLAMA_HOST": ""}


@dataclass(frozen=True, slots=True)
class Watched:
    """What the watcher did."""

    status: int
    out: str

    @property
    def whole_streams(self) -> int:
        """How many streams it read to the end with the right SHA-256."""
        found = re.search(r"(\d+) whole streams", self.out)
        return int(found[1]) if found else 0


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """All of Atlas, with two routers."""
    async with running_atlas(tmp_path, FAST_FAILOVER | MOCK_ONLY, routers=2) as running:
        yield running


def _watcher(
    examples: Path, stack: Stack
) -> contextlib.AbstractAsyncContextManager[asyncio.subprocess.Process]:
    return beside(stack, "node", "watcher.mjs", "Compare three lakes", cwd=examples)


async def _watched(process: asyncio.subprocess.Process) -> Watched:
    async with asyncio.timeout(90):
        out, _ = await process.communicate()
    assert process.returncode is not None
    return Watched(process.returncode, out.decode())


async def _answer(stack: Stack) -> object:
    """What the only task came to, as Atlas says."""
    async with Atlas.connect(stack.nats_url) as atlas:
        (task,) = await atlas.tasks()
        return (await atlas.task(task.task_id)).output


async def test_a_watcher_in_javascript_ends_with_the_tasks_answer(
    node_examples: Path, stack: Stack
) -> None:
    async with _watcher(node_examples, stack) as process:
        watched = await _watched(process)
    assert watched.status == 0, watched.out
    assert watched.out.endswith(f"{await _answer(stack)}\n")


async def test_a_watcher_in_javascript_reads_every_stream_whole_when_a_router_is_killed(
    node_examples: Path, stack: Stack
) -> None:
    async with _watcher(node_examples, stack) as process:
        assert process.stdout is not None
        await process.stdout.readuntil(b"] ")  # tokens flow
        router = next(one for one in stack.services.running if one.name == "provider_router")
        await stack.services.kill(router.pid)
        watched = await _watched(process)
    assert watched.status == 0, watched.out
    assert watched.whole_streams >= 1
