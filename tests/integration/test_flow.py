"""A durable consumer by a standing request, and what a controller makes of it."""

import asyncio

import pytest
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from agent_controller.consuming import Consumer
from agent_controller.reports import task_of
from atlas import subjects
from atlas.bus import Bus
from atlas.embedded import NatsProcess
from atlas.pull import Flow
from tests.support.waiting import eventually

HOUR_S = 3_600


@pytest.fixture
async def durable(bus: Bus) -> str:
    """A consumer whose messages come again only when they are handed back."""
    config = ConsumerConfig(
        durable_name="readers",
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=HOUR_S,
        filter_subject=subjects.RESULT_ALL,
    )
    await bus.jetstream.add_consumer(subjects.REPORTS, config)
    return "readers"


async def store(bus: Bus, *names: str, task: str = "t1") -> None:
    for name in names:
        await bus.store(subjects.result("default", task, name), name.encode())


async def take(flow: Flow, count: int) -> list[bytes]:
    found: list[bytes] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            for msg in await flow.take():
                found.append(msg.data)
                await msg.ack()
    return found


async def until_came(flow: Flow, count: int) -> None:
    await eventually(lambda: len(flow.inbox) >= count)


async def test_a_message_is_not_held_back_until_more_have_come(bus: Bus, durable: str):
    flow = await bus.flow(subjects.REPORTS, durable, bound=64)
    await store(bus, "a")
    async with asyncio.timeout(20):
        assert [msg.data for msg in await flow.take(wait_s=HOUR_S)] == [b"a"]
    await flow.close()


async def test_more_messages_than_the_bound_come_in_their_order(bus: Bus, durable: str):
    flow = await bus.flow(subjects.REPORTS, durable, bound=2)
    names = [f"s{number}" for number in range(7)]
    await store(bus, *names)
    assert await take(flow, 7) == [name.encode() for name in names]
    assert await flow.take(wait_s=0.1) == []
    await flow.close()


async def test_no_more_than_the_bound_comes_before_it_is_taken(bus: Bus, durable: str):
    flow = await bus.flow(subjects.REPORTS, durable, bound=2)
    assert await flow.take(wait_s=0.1) == []
    await store(bus, "a", "b", "c", "d")
    await until_came(flow, 2)
    await bus.flush()
    assert len(flow.inbox) == 2
    await flow.close()


async def test_a_flow_goes_on_with_a_server_that_was_killed(
    bus: Bus, durable: str, nats_server: NatsProcess
):
    flow = await bus.flow(subjects.REPORTS, durable, bound=64)
    await store(bus, "a")
    assert await take(flow, 1) == [b"a"]
    await nats_server.kill()
    await nats_server.start()
    await bus.wait_connected(20)
    await store(bus, "b")
    while b"b" not in await take(flow, 1):  # the server may have forgotten that a is done
        pass
    await flow.close()


async def test_what_came_and_was_not_taken_is_handed_back_at_the_end(bus: Bus, durable: str):
    first = await bus.flow(subjects.REPORTS, durable, bound=64)
    assert await first.take(wait_s=0.1) == []
    await store(bus, "a", "b")
    await until_came(first, 2)
    await first.close()
    second = await bus.flow(subjects.REPORTS, durable, bound=64)
    assert sorted(await take(second, 2)) == [b"a", b"b"]
    await second.close()


async def test_what_comes_for_a_task_while_it_is_handled_is_handled_together(
    bus: Bus, durable: str
):
    handled: list[list[bytes]] = []
    began, other_done, all_done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handle(messages: list[Msg]) -> None:
        names = [msg.data for msg in messages]
        if names == [b"a"]:
            began.set()
            await other_done.wait()
        handled.append(names)
        if names == [b"other"]:
            other_done.set()  # it came after b, c and d
        if names[-1] == b"d":
            all_done.set()

    flow = await bus.flow(subjects.REPORTS, durable, bound=64)
    consumer = Consumer(flow, handle, task_of)
    running = asyncio.create_task(consumer.run())
    async with asyncio.timeout(20):
        await store(bus, "a")
        await began.wait()
        await store(bus, "b", "c", "d")
        await store(bus, "other", task="t2")
        await all_done.wait()
        await consumer.drain(5)
        await running
    assert handled == [[b"other"], [b"a"], [b"b", b"c", b"d"]]
