"""Queued workflows of DBOS that do nothing; run by `benchmarks.tasks` in an environment of its own.

Prints one line of JSON: queued workflows a second by themselves and in fan-outs, and the times of
fan-outs in milliseconds. A fan-out is what its documentation shows: a workflow that enqueues others
and waits for their results. Enqueuing and doing share this process, as they do by default.
"""

import asyncio
import json
import sys
import time

from dbos import DBOS, DBOSConfig, WorkflowHandleAsync  # type: ignore[import-not-found] # in its own environment

_QUEUE = "idle"
_WARM = 20
_AT_ONCE = 64


class _Done:
    """How many workflows came to their end in this process."""

    count = 0


@DBOS.workflow()  # type: ignore[untyped-decorator] # as above
async def nothing(number: int) -> int:
    """Do nothing, durably."""
    _Done.count += 1
    return number


@DBOS.workflow()  # type: ignore[untyped-decorator] # as above
async def fan_out(wide: int) -> int:
    """Enqueue so many, and wait for them all."""
    handles = [await DBOS.enqueue_workflow_async(_QUEUE, nothing, one) for one in range(wide)]
    return len([await handle.get_result() for handle in handles])


async def many(tasks: int, wide: int) -> float:
    """So many fan-outs, a bounded number at a time; gives the seconds that all took."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def one() -> None:
        async with room:
            handle = await DBOS.start_workflow_async(fan_out, wide)
            await handle.get_result()

    began_s = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(tasks)))
    return time.perf_counter() - began_s


async def queued(count: int, poll_s: float) -> float:
    """Workflows a second, from the first that is enqueued to the last that is done."""
    room, wanted = asyncio.Semaphore(_AT_ONCE), _Done.count + count

    async def one(number: int) -> WorkflowHandleAsync[int]:
        async with room:
            return await DBOS.enqueue_workflow_async(_QUEUE, nothing, number)

    began_s = time.perf_counter()
    handles = await asyncio.gather(*(one(number) for number in range(count)))
    while _Done.count < wanted:  # noqa: ASYNC110 - they run in loops of DBOS's own
        await asyncio.sleep(0.005)
    await handles[-1].get_result(polling_interval_sec=poll_s)
    return count / (time.perf_counter() - began_s)


async def fanned(wide: int, rounds: int) -> list[float]:
    """Times of fan-outs, one after the other."""
    times_ms = []
    for _ in range(rounds):
        began_s = time.perf_counter()
        handle = await DBOS.start_workflow_async(fan_out, wide)
        if await handle.get_result() != wide:
            raise RuntimeError("not all results came")
        times_ms.append((time.perf_counter() - began_s) * 1000)
    return times_ms


async def main(url: str, poll_s: float, count: int, wide: int, rounds: int) -> None:
    """Measure."""
    config: DBOSConfig = {
        "name": "benchmark",
        "system_database_url": url,
        "log_level": "ERROR",
    }
    DBOS(config=config)
    DBOS.launch()
    await DBOS.register_queue_async(
        _QUEUE, polling_interval_sec=poll_s, on_conflict="always_update"
    )
    await queued(_WARM, poll_s)
    tasks = count // wide
    result = {
        "queued_per_s": await queued(count, poll_s),
        "subtasks_per_s": tasks * wide / await many(tasks, wide),
        "tasks_per_s": tasks / await many(tasks, 1),
        "fan_out_ms": await fanned(wide, rounds),
    }
    print(json.dumps(result), flush=True)
    DBOS.destroy()


if __name__ == "__main__":
    _, url, poll_s, *numbers = sys.argv
    asyncio.run(main(url, float(poll_s), *map(int, numbers)))
