"""What tasks outlive: controllers that die, work that was never sent, a server that comes back."""

import asyncio
import shutil
from typing import Any

import pytest

from agent_controller.open_tasks import OpenTasks
from atlas import subjects, topology
from atlas.contracts.errors import NoResponderError
from atlas.contracts.tasks import TaskList, TaskListReply, TaskRequest
from tests.support.tasks import SETTINGS, controller, plan, working


async def test_the_durable_door_takes_work_while_no_controller_runs(bus, nats_server, user):
    request = TaskRequest(goal="g", pattern="single")
    await bus.store(subjects.task_submit("default", "t1"), request.to_json())
    async with working(bus, lambda _: "x"), controller(nats_server.url):
        assert (await user.end("t1")).output == "x"


async def test_a_controller_that_dies_is_replaced_by_any_other(bus, nats_server, user):
    gate = asyncio.Event()

    async def do(subtask) -> Any:
        await gate.wait()
        return subtask.subtask_id

    async with working(bus, do):
        async with controller(nats_server.url, "c1"):
            task_id = await user.submit(plan=plan(["a"], ["b", "a"]))
            await user.until(task_id, lambda one: one.version >= 4)
        gate.set()
        async with controller(nats_server.url, "c2"):
            assert (await user.end(task_id)).output == "b"


async def test_work_that_was_recorded_but_never_sent_is_sent_by_another(bus, nats_server, user):
    async with controller(nats_server.url):
        task_id = await user.submit(pattern="single")
        await user.until(task_id, lambda one: one.version >= 3)
    await bus.jetstream.purge_stream(subjects.WORK)
    async with working(bus, lambda _: "x"), controller(nats_server.url, "c2"):
        assert (await user.end(task_id)).output == "x"


async def test_two_controllers_carry_many_tasks_without_doing_anything_twice(
    bus, nats_server, user
):
    async with (
        controller(nats_server.url, "c1"),
        controller(nats_server.url, "c2"),
        working(bus, lambda one: one.subtask_id, name="w1"),
        working(bus, lambda one: one.subtask_id, name="w2"),
    ):
        shape = plan(["a"], ["b", "a"], ["c", "a"], ["d", "b", "c"])
        ids = await asyncio.gather(*(user.submit(f"g{n}", plan=shape) for n in range(20)))
        ends = await asyncio.gather(*(user.end(id_, 30) for id_ in ids))
        assert {one.output for one in ends} == {"d"}
        for id_ in ids:
            types = [one.type for one in await user.log(id_)]
            assert types.count("subtask.dispatched") == 4
            assert types.count("subtask.succeeded") == 4
            assert types.count("task.completed") == 1
        listed = await user.ask("task.list", TaskList(limit=5), TaskListReply)
    assert len(listed.tasks) == 5
    accepted = [one.accepted_at_ms for one in listed.tasks]
    assert accepted == sorted(accepted, reverse=True)


async def test_a_controller_outlives_a_server_whose_jetstream_is_not_up(bus, nats_server, user):
    async with controller(nats_server.url):
        await nats_server.kill()
        nats_server.jetstream = False
        await nats_server.start()
        await bus.wait_connected(timeout_s=10)
        with pytest.raises(NoResponderError, match="the index cannot be read now"):
            await OpenTasks(bus).list()
        await nats_server.kill()
        nats_server.jetstream = True
        await nats_server.start()
        await bus.wait_connected(timeout_s=10)
        await user.until_door_is_open()
        async with working(bus, lambda _: "x"):
            assert (await user.end(await user.submit(pattern="single"))).output == "x"


async def test_a_task_that_an_emptied_server_forgot_can_be_submitted_again(bus, nats_server, user):
    async with controller(nats_server.url):
        await user.submit(task_id="t1", pattern="single")
        await user.until("t1", lambda one: one.version >= 3)
        await nats_server.kill()
        shutil.rmtree(nats_server.store_dir / "jetstream")
        await nats_server.start()
        await bus.wait_connected(timeout_s=10)
        await topology.ensure(bus, SETTINGS.topology)
        await user.until_door_is_open()
        async with working(bus, lambda _: "x"):
            await user.submit(task_id="t1", pattern="single")
            assert (await user.end("t1")).output == "x"
