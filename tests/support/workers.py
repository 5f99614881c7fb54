"""Workers as they run: the built-in one, and those of one's own."""

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import Any

from agent_worker.main import compose
from atlas import process
from atlas.bus import Bus
from atlas.nats_settings import NatsSettings
from atlas.settings import Settings, TopologySettings
from atlas.worker import Worker
from atlas.worker_settings import WorkerSettings


def settings(**worker) -> Any:
    return Settings(
        topology=TopologySettings(ack_wait_ms=1_000),
        worker=WorkerSettings(**{"drain_ms": 3_000, **worker}),
    )


@contextlib.asynccontextmanager
async def worker(url, name="w1", **more) -> Any:
    bus = await Bus.connect(NatsSettings(url=url), name)
    try:
        async with (
            process.open_context("agent_worker", name, "workers", settings(**more), bus) as context,
            compose(context) as app,
        ):
            yield app
            await app.drain()
    finally:
        await bus.close()


PROCESS = """
import asyncio

from atlas.worker import Worker
from atlas.worker.following import StreamFollower

worker = Worker()


@worker.handles("translate"{offer})
async def translate(subtask, ctx):
    answer = await ctx.stream(subtask.instruction)
    await ctx.progress(asked=answer.stream_id)
    second = await ctx.stream(f"better than {answer.content}")
    return second.content


worker.run()
"""


@contextlib.asynccontextmanager
async def at_work(url, handler, name="own", **more) -> Any:
    """A worker with one handler, in this process."""
    own = Worker()
    own.handles("translate")(handler)
    bus = await Bus.connect(NatsSettings(url=url), name)
    try:
        async with (
            process.open_context("agent_worker", name, "workers", settings(**more), bus) as context,
            own.compose(context) as app,
        ):
            yield app
            await app.drain()
    finally:
        await bus.close()


@contextlib.asynccontextmanager
async def processes(url, tmp_path: Path, count=1, offer="") -> Any:
    """Workers as they run: scripts of their own."""
    script = tmp_path / "own_worker.py"
    script.write_text(PROCESS.replace("{offer}", f", {offer}" if offer else ""))
    environment = {**os.environ, "NATS_URL": url, "ATLAS_TOPOLOGY__ACK_WAIT_MS": "1000"}
    running = [
        await asyncio.create_subprocess_exec(sys.executable, str(script), env=environment)
        for _ in range(count)
    ]
    try:
        yield running
    finally:
        for process in running:
            if process.returncode is None:
                process.kill()
            await process.wait()
