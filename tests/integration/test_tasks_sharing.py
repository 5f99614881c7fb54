"""Tasks beside each other on real NATS: whose work goes first, and limits that they share."""

import asyncio
import contextlib
from collections import Counter
from typing import Any

import pytest

from atlas import subjects, topology
from atlas.client import Atlas
from atlas.contracts.base import now_ms
from atlas.contracts.errors import OverloadedError
from atlas.contracts.events import Event
from atlas.contracts.ids import new_id
from atlas.contracts.tasks import TaskRequest, TaskState
from tests.integration import cli_process
from tests.support.tasks import SETTINGS, User, controller, limited, lying, wide, working


async def test_a_small_task_is_done_long_before_a_huge_one_that_came_first(bus, nats_server, user):
    order: list[str] = []

    def do(subtask) -> Any:
        order.append(subtask.task_id)
        return "done"

    settings = limited(task_waiting=10)
    async with controller(nats_server.url, settings=settings):
        huge = await user.submit(plan=wide(300))
        await user.until(huge, lambda one: any(sub.state == "dispatched" for sub in one.subtasks))
        small = await user.submit(plan=wide(3))
        await user.until(small, lambda one: bool(one.subtasks))
        assert await lying(bus) <= 10 + 3
        async with working(bus, do):
            assert (await user.end(small)).state is TaskState.COMPLETED
            assert (await user.end(huge, 60)).state is TaskState.COMPLETED
    assert order.index(small) <= 10
    assert len(order) - order[::-1].index(small) <= 100
    assert Counter(order) == {huge: 300, small: 3}


async def test_many_tasks_of_one_tenant_leave_the_queue_open_to_another(bus, nats_server, user):
    order: list[str] = []

    def do(subtask) -> Any:
        order.append(subtask.task_id)
        return "done"

    other = User(bus, "other")
    async with controller(nats_server.url, settings=limited(tenant_waiting=5)):
        many = [await user.submit(plan=wide(1)) for _ in range(40)]
        await user.until(many[-1], lambda one: one.state is TaskState.RUNNING)
        small = await other.submit(plan=wide(1))
        await other.until(small, lambda one: one.subtasks and one.subtasks[0].state == "dispatched")
        assert await lying(bus) == 5
        async with working(bus, do):
            await other.end(small)
            for task_id in many:
                assert (await user.end(task_id, 60)).state is TaskState.COMPLETED
    assert order.index(small) <= 5
    assert len(order) == 41


async def test_a_limit_of_a_capability_holds_over_tasks_and_a_controller_that_comes_anew(
    bus, nats_server, user
):
    running = most = 0
    begun = asyncio.Event()
    go_on = asyncio.Event()

    async def do(_) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        begun.set()
        await go_on.wait()
        running -= 1
        return "done"

    settings = limited(capabilities={"general": 2})
    async with contextlib.AsyncExitStack() as workers:
        for number in range(4):
            await workers.enter_async_context(working(bus, do, name=f"w{number}"))
        async with controller(nats_server.url, "c1", settings):
            tasks = [await user.submit(plan=wide(3)) for _ in range(3)]
            await begun.wait()
            await user.until(tasks[-1], lambda one: one.state is TaskState.RUNNING)
        async with controller(nats_server.url, "c2", settings):
            await user.until_door_is_open()
            assert await lying(bus) == 2
            go_on.set()
            for task_id in tasks:
                assert (await user.end(task_id, 30)).state is TaskState.COMPLETED
    assert most == 2


async def test_a_task_asks_for_one_subtask_at_a_time(bus, nats_server, user):
    running = most = 0

    async def do(_) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return "done"

    async with (
        controller(nats_server.url, "c1"),
        controller(nats_server.url, "c2"),
        working(bus, do, name="w1"),
        working(bus, do, name="w2"),
    ):
        task_id = await user.submit(plan=wide(8), max_parallel=1)
        assert (await user.end(task_id)).state is TaskState.COMPLETED
        log = await user.log(task_id)
    assert most == 1
    open_now, widest = 0, 0
    for event in log:
        open_now += (event.type == "subtask.dispatched") - (event.type == "subtask.succeeded")
        widest = max(widest, open_now)
    assert widest == 1


async def test_a_tenant_with_too_many_open_tasks_is_told_to_come_again(bus, nats_server, user):
    other = User(bus, "other")
    async with controller(nats_server.url, settings=limited(open_tasks=2)):
        first = await user.submit(task_id="first", plan=wide(1))
        await user.get(first)
        second = await user.submit(plan=wide(1))
        await user.get(second)
        with pytest.raises(OverloadedError, match="tenant 'default' has 2 open tasks") as told:
            await user.submit(plan=wide(1))
        assert told.value.retry_after_ms
        assert await user.submit(task_id="first", plan=wide(1)) == "first"  # it is there already
        await other.submit(plan=wide(1))
        late = subjects.task_submit("default", "late")  # the durable door keeps it
        await bus.store(late, TaskRequest(goal="g", plan=wide(1)).to_json())
        asked = await user.get("late")  # which is no way around
        assert (asked.state, asked.version) == (TaskState.ACCEPTED, 0)
        assert (await bus.last(subjects.SUBMITS, late)) is not None
        async with working(bus, lambda _: "done"):
            assert (await user.end(first)).state is TaskState.COMPLETED
            assert (await user.end("late", 30)).state is TaskState.COMPLETED


async def test_a_full_door_says_so_and_the_command_line_ends_with_one(bus, nats_server, tmp_path):
    """Nobody takes submissions, as while all controllers are away, until the stream is full."""
    config = next(
        one
        for one in topology.Topology(SETTINGS.topology).streams()
        if one.name == subjects.SUBMITS
    )
    config.max_msgs = 1
    await bus.jetstream.update_stream(config)
    async with Atlas.connect(nats_server.url) as atlas:
        await atlas.submit("one")
        with pytest.raises(OverloadedError, match="maximum messages exceeded") as told:
            await atlas.submit("another")
    assert told.value.retry_after_ms
    failed = await cli_process.atlas(
        *("task", "submit", "--goal", "a third"), nats_url=nats_server.url, cwd=tmp_path
    )
    assert failed.status == 1
    assert "maximum messages exceeded" in failed.err


async def test_a_capability_without_a_worker_is_told_at_once_and_waits_until_one_comes(
    bus, nats_server, user
):
    settings = limited().model_copy(update={"health_interval_ms": 50})
    async with controller(nats_server.url, settings=settings):
        health = {"instance": "w1", "state": "ready", "capabilities": ["draft"]}
        event = Event(id=new_id(), type="service.health", at_ms=now_ms(), source="w1", data=health)
        subject = subjects.event("default", "agent_worker", "service.health")

        async def dispatched(capability) -> Any:
            await bus.publish(subject, event.to_json())
            task_id = await user.submit(plan=wide(1, capability))
            await user.until(task_id, lambda one: one.subtasks and one.subtasks[0].attempt)
            log = await user.log(task_id)
            return task_id, next(one for one in log if one.type == "subtask.dispatched").warning

        warning = None
        async with asyncio.timeout(10):  # a controller that just came does not know yet
            while warning is None:
                task_id, warning = await dispatched("general")
        assert warning == "no running worker announces 'general'; it waits until one takes it"
        assert (await dispatched("draft"))[1] is None
        async with working(bus, lambda _: "done"):
            assert (await user.end(task_id)).state is TaskState.COMPLETED
