"""The demo: what a newcomer runs first ends well and cleanly, also where its NATS server dies."""

import asyncio
import hashlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from atlas.client import Atlas
from atlas.contracts.streams import StreamCompleted
from atlas.contracts.task_events import (
    SubtaskStarted,
    SubtaskSucceeded,
    TaskCompleted,
    TaskEvent,
    TaskPlanned,
)
from atlas.embedded import NatsProcess, Services
from tests.integration import cli_process

ROOT = Path(__file__).parents[2]
GOAL = "Tell a newcomer what this project promises and how it keeps each promise"
MARK = "DEMO_TEST_MARK"
"""A variable that every process of one run inherits, whoever started it."""

_ENVIRONMENT = {"ATLAS_TOPOLOGY__ACK_WAIT_MS": "1000", "ATLAS_LOG_LEVEL": "warning"}
_SETTINGS = ("ATLAS_", "NATS_", "OTEL_", "OPENAI_", "ANTHROPIC_", "OLLAMA_")


@pytest.fixture(autouse=True)
def no_settings_of_the_caller(monkeypatch: pytest.MonkeyPatch):
    for name in list(os.environ):
        if name.startswith(_SETTINGS):
            monkeypatch.delenv(name)


def _demo() -> list[str]:
    """The arguments that `make demo` gives to `atlas`, as the Makefile says them."""
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    recipe = re.search(r"^demo:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe is not None, "the Makefile has no target `demo`"
    (line,) = recipe[1].splitlines()
    command, *arguments = shlex.split(line)
    assert command == "$(BIN)/atlas"
    return arguments


async def _start_demo(mark: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "atlas.cli", *_demo(), "--json"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, MARK: mark},
        cwd=ROOT,
    )


def _marked(mark: str) -> dict[int, str]:
    """Pid and command line of every process that runs with a mark."""
    wanted = f"{MARK}={mark}".encode()
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                shown = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(entry.name)] = shown.decode(errors="replace")
        except OSError:  # it ended while we looked, or is somebody else's
            continue
    return found


def _most_at_once(types: Iterable[str]) -> int:
    """How many subtasks ran at the same time, by the order of the log."""
    running, most = 0, 0
    for type_ in types:
        if type_ == "subtask.started":
            running += 1
        elif type_ in {"subtask.succeeded", "subtask.failed", "subtask.cancelled"}:
            running -= 1
        most = max(most, running)
    return most


async def test_the_demo_plans_works_side_by_side_and_completes():
    ran = await cli_process.ended(await _start_demo(uuid4().hex))
    assert ran.status == 0, ran.err
    types = [one["type"] for one in ran.records]
    assert [one["version"] for one in ran.records] == list(range(1, len(types) + 1))
    assert types[-1] == "task.completed"
    assert ran.records[-1]["output"]
    assert types.count("task.planned") == 1
    assert _most_at_once(types[types.index("task.planned") :]) >= 3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's environment")
async def test_the_demo_leaves_no_process_behind():
    mark = uuid4().hex
    process = await _start_demo(mark)
    assert process.stdout is not None
    async with asyncio.timeout(cli_process.PATIENCE_S):
        while b'"subtask.started"' not in await process.stdout.readline():
            assert process.returncode is None
    during = " ".join(_marked(mark).values())
    for name in ("nats-server", "provider_router", "agent_controller", "agent_worker"):
        assert name in during, "the mark does not find what it is to find"
    ended = await cli_process.ended(process)
    assert ended.status == 0, ended.err
    assert _marked(mark) == {}


async def _follow(
    atlas: Atlas, task_id: str, begun: dict[str, asyncio.Event], group: asyncio.TaskGroup
) -> tuple[list[TaskEvent], dict[str, asyncio.Task[str]]]:
    """The whole log of a task, and a watcher from the start for every stream under it."""
    log: list[TaskEvent] = []
    streams: dict[str, asyncio.Task[str]] = {}
    async for event in atlas.watch_task(task_id):
        log.append(event)
        if not isinstance(event, SubtaskStarted) or event.stream_id is None:
            continue
        if event.stream_id not in streams:
            is_planned = any(isinstance(one, TaskPlanned) for one in log)
            flowing = begun["work" if is_planned else "planning"]
            watching = _whole_text(atlas, event.stream_id, flowing)
            streams[event.stream_id] = group.create_task(watching)
    return log, streams


async def _whole_text(atlas: Atlas, stream_id: str, flowing: asyncio.Event) -> str:
    """The text of a stream as a watcher reads it, checked against what its writer says."""
    async with atlas.watch_stream(stream_id) as stream:
        async for _ in stream:
            flowing.set()
        text = (await stream.result()).content
        end: Any = stream.reading.terminal
    assert isinstance(end, StreamCompleted)
    assert len(text) == end.text_length
    assert hashlib.sha256(text.encode()).hexdigest() == end.text_sha256
    return text


@pytest.mark.parametrize("moment", ["planning", "work"])
async def test_a_nats_server_killed_in_the_middle_costs_the_watcher_nothing(moment, tmp_path):
    nats = NatsProcess(tmp_path / "nats")
    await nats.start()
    services = Services(nats.url, subprocess.DEVNULL, _ENVIRONMENT)
    try:
        await services.start(["provider_router", "agent_controller", "agent_worker"])
        readme = (ROOT / "README.md").read_text()
        async with (
            asyncio.timeout(100),
            Atlas.connect(nats.url, tenant="default") as atlas,
            asyncio.TaskGroup() as group,
        ):
            await atlas.submit(GOAL, inputs={"README.md": readme}, task_id="t1")
            begun = {"planning": asyncio.Event(), "work": asyncio.Event()}
            following = group.create_task(_follow(atlas, "t1", begun, group))
            await begun[moment].wait()
            await nats.kill()
            assert not following.done()
            await nats.start()
            log, streams = await following
    finally:
        await services.stop()
        await nats.stop()
    assert [event.version for event in log] == list(range(1, len(log) + 1))
    assert isinstance(log[-1], TaskCompleted)
    done = [event.subtask_id for event in log if isinstance(event, SubtaskSucceeded)]
    assert len(done) == len(set(done)) >= 4
    assert _most_at_once(event.type for event in log) >= 3
    assert len(streams) >= len(done)
    assert all(text.result() for text in streams.values())
