"""Models that use tools: functions of one's own, granted to those who may call them.

Run `python examples/14_tools.py`: it starts a NATS server and all services of its own, and a worker
beside them, with a mock that costs nothing and calls every tool that it is offered.

This file is three things: the task; the worker that books, whose functions are tools; and a module
with `tide`, which `14_tools.yaml` grants to a specialisation of the built-in worker, and to no
other.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import DEVNULL
from typing import Annotated

from pydantic import Field

from atlas.client import Atlas
from atlas.embedded import standalone
from atlas.worker import Subtask, ToolContext, WorkContext, Worker

HERE = Path(__file__).parent
NO_KEYS = {"ANTHROPIC_API_KEY": "", "OPENAI_API_KEY": "", "OLLAMA_HOST": ""}

worker = Worker()


@worker.tool
def seats(
    ferry: Annotated[str, Field(examples=["Aurora"])],
    day: Annotated[str, Field(examples=["Monday"])],
) -> dict[str, object]:
    """How many seats of a ferry are free.

    Args:
        ferry: Its name.
        day: Of the week.
    """
    return {"ferry": ferry, "day": day, "free": 42}


@worker.tool(timeout_ms=5_000)
async def book(count: Annotated[int, Field(ge=1, le=6)], context: ToolContext) -> str:
    """Book so many seats."""
    context.progress(booking=count)
    # Whoever books gets the key, so that a call that is made again books nothing twice.
    return f"booked {count}, reference {context.idempotency_key.split(':')[0][:8]}"


@worker.handles("booking")
async def do_booking(subtask: Subtask, ctx: WorkContext) -> str:
    answer = await ctx.agent(f"{subtask.instruction}\n\n{ctx.inputs}")
    return answer.content


def tide(harbour: Annotated[str, Field(examples=["Ystad"])]) -> str:
    """When the tide is high in a harbour."""
    return f"high tide in {harbour} at 06:40"


PLAN = [
    {"id": "tides", "capability": "harbour_master", "instruction": "When can the ferry leave?"},
    {
        "id": "seats",
        "capability": "booking",
        "instruction": "Book two seats on it.",
        "depends_on": ["tides"],
    },
    {
        "id": "forbidden",
        "capability": "draft",
        "instruction": "Say when the tide is high.",
        "tools": ["tide"],
        "max_attempts": 1,
    },
]


@asynccontextmanager
async def own_worker(nats_url: str) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "worker"), env={"NATS_URL": nats_url}, stderr=DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def main() -> None:
    environment = {
        **NO_KEYS,
        "ATLAS_CONFIG": str(HERE / "14_tools.yaml"),
        "PYTHONPATH": str(HERE),  # where the built-in worker finds the module of `tide`
    }
    async with (
        standalone(environment=environment, log_to=DEVNULL) as stack,
        own_worker(stack.nats_url),
        Atlas.connect(stack.nats_url) as atlas,
    ):
        task = await atlas.submit("Travel by ferry", plan=PLAN, on_failure="best_so_far")
        done = await task.result()
        for subtask in (await task.status()).subtasks:
            said = str(subtask.output) if subtask.error is None else subtask.error.message
            print(f"{subtask.subtask_id}: {said}")
        print(f"lost: {', '.join(done.lost)}")


if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        worker.run()
    else:
        asyncio.run(main())
