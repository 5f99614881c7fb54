"""Work that nobody waits for any more, before a capability without a worker, on real NATS."""

import asyncio
import contextlib
from typing import Any

from atlas import subjects
from atlas.contracts.tasks import TaskState
from atlas.contracts.work import Subtask
from tests.support.tasks import User, controller, limited, lying, wide, working
from tests.support.waiting import eventually


async def until_lying(bus, count, *, tenant="default", capability="late") -> None:
    """Until so much lies in the queue; a dispatch stands in the log a moment before."""

    async def is_so() -> bool:
        return bool(await lying(bus, tenant, capability) == count)

    await eventually(is_so, 40)


async def dispatched(user, capability) -> Any:
    """A task whose only subtask lies in the queue."""
    task_id = await user.submit(plan=wide(1, capability))
    await user.until(task_id, lambda one: one.subtasks and one.subtasks[0].state == "dispatched")
    return task_id


async def left_behind(user, capability) -> None:
    """A subtask that was cancelled in the queue, while its task, which is paused, goes on."""
    task_id = await user.submit(plan=wide(2, capability), max_parallel=1)
    status = await user.until(task_id, lambda one: any(map(is_dispatched, one.subtasks)))
    await user.control(task_id, "pause")
    sent = next(filter(is_dispatched, status.subtasks))
    await user.control(task_id, "cancel", subtask_id=sent.subtask_id)


def is_dispatched(subtask) -> bool:
    return bool(subtask.state == "dispatched")


async def test_what_no_worker_began_leaves_the_queue_with_its_task(bus, nats_server, user):
    async with controller(nats_server.url, settings=limited()):
        stays = await dispatched(user, "nobody")
        for _ in range(3):
            await user.control(await dispatched(user, "nobody"), "cancel")
        await until_lying(bus, 1, capability="nobody")
        left = await bus.last(subjects.WORK, subjects.work("default", "nobody", "normal"))
    assert Subtask.from_json(left.data).task_id == stays


async def test_cancelled_tasks_before_a_missing_capability_leave_their_tenant_its_room(
    bus, nats_server, user
):
    settings = limited(tenant_parallel=3)
    async with (
        controller(nats_server.url, settings=settings),
        working(bus, lambda _: "done", capabilities=["general"]),
    ):
        for _ in range(3):
            await left_behind(user, "nobody")
        await until_lying(bus, 3, capability="nobody")
        after = await user.submit(plan=wide(2))
        assert (await user.end(after, 40)).state is TaskState.COMPLETED
        assert await lying(bus, capability="nobody") < 3


async def test_what_is_waited_for_stays_while_what_is_dead_goes_whoever_looks(
    bus, nats_server, user
):
    done: list[str] = []

    def do(subtask) -> Any:
        done.append(subtask.task_id)
        return "done"

    settings = limited(tenant_waiting=3)
    async with contextlib.AsyncExitStack() as running:
        for name in ("c1", "c2"):
            await running.enter_async_context(controller(nats_server.url, name, settings))
        paused = await dispatched(user, "late")
        await user.control(paused, "pause")
        await left_behind(user, "late")
        live = await dispatched(user, "late")
        await until_lying(bus, 3)
        after = await user.submit(plan=wide(1, "late"))
        await user.until(after, lambda one: one.subtasks[0].state == "dispatched", 40)
        full = await user.submit(plan=wide(1, "late"))  # all that lies there is waited for
        await asyncio.sleep(4)  # long enough for looks, which tell nobody that they found nothing
        assert await lying(bus, capability="late") == 3
        await user.control(paused, "resume")
        await running.enter_async_context(working(bus, do, capabilities=["late"]))
        for task_id in (paused, live, after, full):
            assert (await user.end(task_id, 40)).state is TaskState.COMPLETED
    assert sorted(done) == sorted([paused, live, after, full])


async def test_a_limit_of_a_capability_is_freed_of_another_tenants_dead_work(
    bus, nats_server, user
):
    other = User(bus, "other")
    async with controller(nats_server.url, settings=limited(capabilities={"late": 1})):
        await left_behind(other, "late")
        after = await user.submit(plan=wide(1, "late"))
        await user.until(after, lambda one: one.subtasks[0].state == "dispatched", 40)
        await until_lying(bus, 0, tenant="other")


async def test_a_look_goes_on_where_the_last_one_ended(bus, nats_server, user):
    """More lies there than one look reads, and what is dead lies at the end."""
    async with controller(nats_server.url, settings=limited(tenant_waiting=1_000)):
        for lying_then in range(60, 301, 60):
            await user.submit(plan=wide(60, "late"))
            await until_lying(bus, lying_then)
        await left_behind(user, "late")
        await until_lying(bus, 301)
    async with controller(nats_server.url, "c2", limited(tenant_waiting=301)):
        after = await user.submit(plan=wide(1, "late"))
        await user.until(after, lambda one: one.subtasks[0].state == "dispatched", 40)
        await until_lying(bus, 301)


async def test_of_copies_of_live_work_the_first_is_kept_for_its_worker(bus, nats_server, user):
    """Copies of what no worker takes leave its tenant its room, also behind what a look reads."""
    done: list[str] = []

    def do(subtask) -> Any:
        done.append(subtask.task_id)
        return "done"

    async with controller(nats_server.url, settings=limited(tenant_parallel=2)):
        live = await dispatched(user, "late")
        await until_lying(bus, 1)
        first = await bus.last(subjects.WORK, subjects.work("default", "late", "normal"))
        for _ in range(300):  # as after many days of sending again
            await bus.store(first.subject, first.data)
        async with working(bus, lambda _: "done", capabilities=["general"]):
            # The first may go out by a count that is a moment old.
            after = await user.submit(plan=wide(3))
            assert (await user.end(after, 40)).state is TaskState.COMPLETED
        await until_lying(bus, 1)
        assert (await bus.last(subjects.WORK, first.subject)).seq == first.seq
        async with working(bus, do, capabilities=["late"]):
            assert (await user.end(live, 40)).state is TaskState.COMPLETED
    assert done == [live]
