"""How a set of running tasks is brought to its end when a process drains."""

import asyncio
from collections.abc import Collection


async def finish(tasks: Collection[asyncio.Task[object]], timeout_s: float) -> None:
    """Wait for tasks; cancel those that are late, and wait for these too. Raises nothing."""
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=timeout_s)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
