"""Live messages for one reader: bounded, in their order, and cheap."""

import asyncio

import pytest

from atlas.bus import Bus
from atlas.contracts.errors import ConnectionFailedError
from atlas.nats_settings import NatsSettings


async def _publish(bus: Bus, *texts: str) -> None:
    for text in texts:
        await bus.publish("news", text.encode())
    await bus.flush()


async def test_messages_come_in_their_order_and_one_wait_is_enough_for_many(bus: Bus):
    live = await bus.listen("news")
    await _publish(bus, "a", "b", "c")
    assert await live.wait(5)
    assert [live.take() for _ in range(4)] == [b"a", b"b", b"c", None]
    assert not live.is_missing
    await live.close()


async def test_they_pass_by_the_queue_of_the_subscription(bus: Bus):
    live = await bus.listen("news")
    await bus.flush()
    await _publish(bus, "a")
    assert live._subscription is not None
    assert (live.take(), live._subscription.delivered) == (b"a", 0)
    await live.close()
    assert bus.nats.lives == {}


async def test_what_has_no_room_is_dropped_and_told_and_room_comes_back_by_reading(bus: Bus):
    live = await bus.listen("news", bound_bytes=1_000)
    await _publish(bus, *["x" * 400] * 3)
    assert live.is_missing
    assert [bool(live.take()) for _ in range(3)] == [True, True, False]
    await _publish(bus, "y")
    assert live.take() == b"y"


async def test_a_message_above_the_bound_is_held_when_it_is_alone(bus: Bus):
    live = await bus.listen("news", bound_bytes=10)
    await _publish(bus, "x" * 400)
    assert live.take() == b"x" * 400
    assert not live.is_missing


async def test_nothing_in_time_is_no_error(bus: Bus):
    assert not await (await bus.listen("news")).wait(0.01)


async def test_a_reader_that_waits_is_told_at_once_that_its_connection_was_closed(nats_server):
    bus = await Bus.connect(NatsSettings(url=nats_server.url), "test")
    live = await bus.listen("news")
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        waiting = group.create_task(_closed(live.wait(60)))
        await asyncio.sleep(0)
        await bus.close()
    assert waiting.result()


async def _closed(wait) -> bool:
    with pytest.raises(ConnectionFailedError, match="was closed"):
        await wait
    return True
