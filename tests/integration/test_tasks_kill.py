"""A task outlives its processes: real controllers and workers, killed without a word."""

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from atlas import subjects
from atlas.contracts.tasks import TaskState
from tests.support.answering import routing
from tests.support.running import services
from tests.support.tasks import User, plan

SHAPE = plan(["a"], ["b", "a"], ["c", "a"], ["d", "b", "c"])


async def a_word_at_last(_request) -> Any:
    await asyncio.sleep(random.uniform(0.05, 0.6))
    return "x"


async def check_that_nothing_was_done_twice(user, router, ids) -> Any:
    for id_ in ids:
        log = await user.log(id_)
        types = Counter(one.type for one in log)
        assert [one.version for one in log] == list(range(1, len(log) + 1))
        assert types["task.accepted"] == types["task.completed"] == 1
        assert types["subtask.dispatched"] == types["subtask.succeeded"] == 4
        assert types["subtask.failed"] == 0
    assert max(Counter(router.paid).values()) == 1, "a stream was paid twice"
    assert len(router.paid) == 4 * len(ids)


@pytest.mark.timeout(120)
async def test_controllers_and_workers_killed_again_and_again_lose_nothing(bus, nats_server):
    user = User(bus)
    chance = random.Random(7)
    names = ["agent_controller"] * 2 + ["agent_worker"] * 2
    async with routing(bus, a_word_at_last) as router, services(nats_server.url, *names) as all_:
        ids = [await user.submit(f"g{n}", plan=SHAPE) for n in range(12)]
        for _ in range(6):
            victim = chance.choice(all_.running)
            await all_.kill(victim.pid)
            await asyncio.sleep(chance.uniform(0.0, 0.3))
            await all_.start([victim.name])
        ends = await asyncio.gather(*(user.end(id_, 60) for id_ in ids))
        assert {one.output.strip() for one in ends} == {"x"}
        await check_that_nothing_was_done_twice(user, router, ids)


@pytest.mark.timeout(120)
async def test_everything_killed_at_once_goes_on_where_it_was(bus, nats_server):
    user = User(bus)
    async with routing(bus, a_word_at_last) as router:
        async with services(nats_server.url, "agent_controller", "agent_worker") as first:
            ids = [await user.submit(f"g{n}", plan=SHAPE) for n in range(6)]
            await user.until(ids[-1], lambda one: one.version >= 4)
            for victim in list(first.running):
                await first.kill(victim.pid)
        async with services(nats_server.url, "agent_controller", "agent_worker"):
            await asyncio.gather(*(user.end(id_, 60) for id_ in ids))
            await check_that_nothing_was_done_twice(user, router, ids)


@pytest.mark.timeout(120)
async def test_work_goes_on_after_the_nats_server_was_killed(bus, nats_server):
    user = User(bus)
    names = ["provider_router", "agent_controller", "agent_worker"]
    async with services(nats_server.url, *names):
        ids = [await user.submit(f"g{n}", plan=SHAPE) for n in range(4)]
        await nats_server.kill()
        await nats_server.start()
        await bus.wait_connected(timeout_s=20)
        for id_ in ids:
            assert (await user.end(id_, 60)).state is TaskState.COMPLETED
        async with asyncio.timeout(20):  # an ack that died with the server is given once more
            while (await bus.jetstream.stream_info(subjects.SUBMITS)).state.messages:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.1)
