"""A model works with tools in a worker that is killed."""

import asyncio
import contextlib
import json
import os
import sys
from collections import Counter
from typing import Any

import pytest

from atlas.contracts.inference import Role
from tests.support.answering import USAGE, routing
from tests.support.subtasks import result_of, send, until_reported, work

PROCESS = """
from pathlib import Path

from atlas.worker import ToolContext, Worker

worker = Worker()


@worker.tool
def act(n: int, context: ToolContext) -> str:
    \"\"\"Acts on the world.\"\"\"
    with Path("acts").open("a") as file:
        file.write(context.idempotency_key + "\\n")
    return f"act {n}"


@worker.handles("translate")
async def translate(subtask, ctx):
    return (await ctx.agent(subtask.instruction)).content


worker.run()
"""


@pytest.mark.timeout(90)
async def test_a_worker_killed_in_the_loop_leaves_no_round_and_no_call_to_be_done_twice(
    bus, nats_server, tmp_path
):
    (tmp_path / "own.py").write_text(PROCESS)
    environment = {
        **os.environ,
        "NATS_URL": nats_server.url,
        "ATLAS_TOPOLOGY__ACK_WAIT_MS": "1000",
    }

    async def start() -> Any:
        return await asyncio.create_subprocess_exec(
            sys.executable, "own.py", cwd=tmp_path, env=environment
        )

    third, go_on = asyncio.Event(), asyncio.Event()

    async def say(request):
        rounds = sum(one.role is Role.TOOL for one in request.messages)
        if rounds == 2:
            third.set()
            await go_on.wait()
            return "done after " + request.messages[-1].content[0].content
        return [("act", json.dumps({"n": 2 * rounds + n})) for n in range(2)]

    async with routing(bus, say) as router:
        first = await start()
        try:
            await send(bus, work())
            async with asyncio.timeout(30):
                await third.wait()
            first.kill()
            await first.wait()
            second = await start()
            try:
                await until_reported(bus, "started", 2)  # it goes through the rounds that are there
                go_on.set()
                result = await result_of(bus, work(), 30)
            finally:
                second.terminate()
                await second.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                first.kill()
    assert result.output.strip() == "done after act 2"
    assert len(router.paid) == len(set(router.paid)) == 3
    assert result.usage.output_tokens == 3 * USAGE.output_tokens
    acts = (tmp_path / "acts").read_text().split()
    assert sorted(Counter(acts).values()) == [1, 1, 1, 1]
