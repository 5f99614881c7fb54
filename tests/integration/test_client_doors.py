"""The durable doors while NATS starts and restarts: what is asked for is stored, and once."""

import asyncio

import pytest

from atlas import subjects, topology
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.contracts.errors import NoResponderError, RequestTimeoutError
from atlas.embedded import NatsProcess
from atlas.nats_settings import NatsSettings
from atlas.settings import TopologySettings
from tests.support.router import stop, stopped
from tests.support.waiting import eventually

GOAL = "Compare three lakes"


async def submissions(bus: Bus) -> int:
    return (await bus.jetstream.stream_info(subjects.SUBMITS)).state.messages


async def asked(bus: Bus) -> None:
    """Wait until something was sent after this call began."""
    before = bus.nats.stats["out_msgs"]
    await eventually(lambda: bus.nats.stats["out_msgs"] > before)


def submitting(bus: Bus, group: asyncio.TaskGroup) -> asyncio.Task[None]:
    """Submit a task in the group; what is given ends when the question was sent."""
    sent = group.create_task(asked(bus))
    group.create_task(Atlas(bus, "default").submit(GOAL))
    return sent


async def test_a_server_that_stores_nothing_yet_is_asked_again_until_it_does(
    nats_server: NatsProcess,
):
    settings = NatsSettings(url=nats_server.url)
    bus, other = await Bus.connect(settings, "test"), await Bus.connect(settings, "other")
    async with asyncio.TaskGroup() as group:
        await submitting(bus, group)
        await topology.ensure(other, TopologySettings())
    assert await submissions(bus) == 1
    await bus.close()
    await other.close()


async def test_where_nothing_ever_stores_it_the_error_says_what_to_start(
    nats_server: NatsProcess,
):
    async with Atlas.connect(nats_server.url) as atlas:
        with pytest.raises(NoResponderError, match="start one with `atlas up`"):
            await atlas.submit(GOAL)


async def test_what_a_server_was_asked_that_died_is_asked_of_the_next_one(
    nats_server: NatsProcess, bus: Bus
):
    stop(nats_server)
    async with asyncio.TaskGroup() as group:
        await submitting(bus, group)
        await nats_server.kill()
        await nats_server.start()
    assert await submissions(bus) == 1


async def test_what_is_asked_again_because_the_answer_was_late_is_stored_once(
    nats_server: NatsProcess, bus: Bus
):
    async with asyncio.TaskGroup() as group:
        with stopped(nats_server):
            await submitting(bus, group)
            await asked(bus)
    assert await submissions(bus) == 1


async def test_a_server_that_never_answers_is_told_as_such_in_time(nats_server: NatsProcess):
    bus = await Bus.connect(NatsSettings(url=nats_server.url, request_timeout_ms=300), "test")
    await topology.ensure(bus, TopologySettings())
    with stopped(nats_server), pytest.raises(RequestTimeoutError, match=r"within 0\.3 s; it may"):
        await Atlas(bus, "default").submit(GOAL)
    await bus.close()
