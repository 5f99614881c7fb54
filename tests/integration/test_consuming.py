"""What a controller takes of a durable consumer, and how one slow task leaves room to others."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from agent_controller.consuming import AHEAD, Consumer, Handle
from agent_controller.reports import task_of
from atlas import subjects
from atlas.bus import Bus

HOUR_S = 3_600
MANY = 2 * AHEAD + 64


async def store(bus: Bus, task: str, count: int) -> None:
    await asyncio.gather(
        *(
            bus.store(subjects.result("default", task, f"s{number}"), b"done")
            for number in range(count)
        )
    )


@contextlib.asynccontextmanager
async def consuming(bus: Bus, handle: Handle) -> AsyncIterator[None]:
    """A consumer whose messages come again only when they are handed back."""
    config = ConsumerConfig(
        durable_name="readers",
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=HOUR_S,
        max_ack_pending=100_000,  # as the topology says it
        filter_subject=subjects.RESULT_ALL,
    )
    await bus.jetstream.add_consumer(subjects.REPORTS, config)
    flow = await bus.flow(subjects.REPORTS, "readers", bound=AHEAD)
    consumer = Consumer(flow, handle, task_of)
    running = asyncio.create_task(consumer.run())
    try:
        yield
        await consumer.drain(5)
        await running
    finally:
        running.cancel()


@pytest.mark.parametrize("slow", [["t1"], ["t1", "t2", "t3"]])
async def test_tasks_that_are_slow_hold_up_no_other_one(bus: Bus, slow: list[str]):
    go_on, other_done, all_done = asyncio.Event(), asyncio.Event(), asyncio.Event()
    handled: Counter[str] = Counter()
    most_in_hand = 0

    async def handle(messages: list[Msg]) -> None:
        nonlocal most_in_hand
        task = task_of(messages[0])[1]
        if task in slow:
            most_in_hand = max(most_in_hand, len(messages))
            await go_on.wait()
        handled.update(msg.subject for msg in messages)
        if task == "other":
            other_done.set()
        if len(handled) == MANY * len(slow) + 1:
            all_done.set()

    async with asyncio.timeout(60), consuming(bus, handle):
        for task in slow:
            await store(bus, task, MANY)
        await store(bus, "other", 1)
        await other_done.wait()
        assert sum(handled.values()) == 1
        go_on.set()
        await all_done.wait()
    assert set(handled.values()) == {1}
    assert most_in_hand <= AHEAD


async def test_a_task_that_is_quick_has_nothing_put_off(bus: Bus):
    deliveries: list[int] = []
    all_done = asyncio.Event()

    async def handle(messages: list[Msg]) -> None:
        await asyncio.sleep(0.01)
        deliveries.extend(msg.metadata.num_delivered or 0 for msg in messages)
        if len(deliveries) >= MANY:
            all_done.set()

    async with asyncio.timeout(60), consuming(bus, handle):
        await store(bus, "t1", MANY)
        await all_done.wait()
    assert deliveries == [1] * MANY
