"""A router that tells how much it holds: `python -m benchmarks.measured_router`, for `leaks`."""

import asyncio
import contextlib
import gc
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

from nats.aio.msg import Msg

from atlas import process, service, subjects
from provider_router import main

FIGURES = "benchmark.figures"
"""Asked here, it answers; garbage is collected first when the question is `COLLECTED`."""
COLLECTED = b"collected"


def _figures() -> dict[str, int]:
    links = []
    for one in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # that of the listing itself
            links.append(str(one.readlink()))
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "sockets": sum(link.startswith("socket:") for link in links),
        "files": len(links),
        "tasks": len(asyncio.all_tasks()),
        "objects": len(gc.get_objects()),
        "rss_bytes": pages * os.sysconf("SC_PAGE_SIZE"),
    }


@contextlib.asynccontextmanager
async def compose(context: service.Context) -> AsyncIterator[service.App]:
    """The router as it is, and one more subscription."""

    async def tell(msg: Msg) -> None:
        if msg.data == COLLECTED:
            gc.collect()
        await context.bus.publish(msg.reply, json.dumps(_figures()).encode())

    async with main.compose(context) as router:
        await context.bus.subscribe(FIGURES, tell)
        yield router


if __name__ == "__main__":
    process.run("provider_router", subjects.ROUTERS, compose)
