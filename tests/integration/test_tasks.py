"""Tasks against real NATS: the controller as it runs, and a worker that knows only the contract."""

import asyncio
import json
from typing import Any

import pytest

from atlas import subjects
from atlas.contracts.errors import ConflictError, NotFoundError, ProviderOverloadedError
from atlas.contracts.task_events import TaskHistory, TaskHistoryReply
from atlas.contracts.tasks import TaskList, TaskListReply, TaskRequest, TaskState
from tests.support.tasks import User, controller, plan, until_none_is_open, working


async def test_a_plan_of_ones_own_runs_side_by_side_and_gives_its_sink(bus, nats_server, user):
    together = asyncio.Barrier(2)

    async def do(subtask) -> Any:
        if subtask.subtask_id in ("b", "c"):
            async with asyncio.timeout(5):
                await together.wait()
        return {"id": subtask.subtask_id, "from": sorted(subtask.inputs)}

    async with (
        controller(nats_server.url),
        working(bus, do, name="w1"),
        working(bus, do, name="w2"),
    ):
        task_id = await user.submit(plan=plan(["a"], ["b", "a"], ["c", "a"], ["d", "b", "c"]))
        status = await user.end(task_id)
    assert status.state is TaskState.COMPLETED
    assert status.output == {"id": "d", "from": ["b", "c"]}
    assert status.usage.output_tokens == 8
    assert status.cost.total_usd == 2.0


async def test_a_goal_is_planned_by_a_subtask_whose_example_is_a_plan(bus, nats_server, user):
    def do(subtask) -> Any:
        if subtask.output_schema is not None:
            return subtask.output_schema["examples"][0]
        return f"{subtask.subtask_id} of {subtask.goal}"

    capabilities = ("planning", "research", "analysis", "draft")
    async with controller(nats_server.url), working(bus, do, capabilities=capabilities):
        status = await user.end(await user.submit("a poem"))
    assert status.output == "answer of a poem"
    assert [one.subtask_id for one in status.subtasks] == [
        "plan",
        "research",
        "analysis",
        "outline",
        "answer",
    ]


async def test_the_log_is_live_for_anyone_and_is_the_history(bus, nats_server, user):
    sub = await bus.open(subjects.task_log("default", "t1"))
    await bus.flush()
    async with controller(nats_server.url), working(bus, lambda _: "x"):
        await user.submit(task_id="t1", pattern="single")
        live: list[Any] = []
        while not live or live[-1]["type"] != "task.completed":
            live.append(json.loads((await sub.next_msg(timeout=5)).data))
        history = await user.log("t1")
        first = await user.ask("task.history", TaskHistory(task_id="t1", limit=2), TaskHistoryReply)
    assert [one["version"] for one in live] == list(range(1, len(live) + 1))
    assert [one.type for one in history] == [one["type"] for one in live]
    assert [one.type for one in history] == [
        "task.accepted",
        "task.planned",
        "subtask.dispatched",
        "subtask.started",
        "subtask.succeeded",
        "task.completed",
    ]
    assert first.next_version == 3


async def test_the_same_id_with_the_same_body_is_the_same_task(bus, nats_server, user):
    async with controller(nats_server.url), working(bus, lambda _: "x"):
        for _ in range(3):
            assert await user.submit("a", task_id="t1", pattern="single") == "t1"
        await user.end("t1")
        assert await user.submit("a", task_id="t1", pattern="single") == "t1"
        with pytest.raises(ConflictError):
            await user.submit("b", task_id="t1", pattern="single")
        assert [one.type for one in await user.log("t1")].count("task.accepted") == 1


async def test_many_who_submit_the_same_at_once_make_one_task(nats_server, user):
    async with controller(nats_server.url), controller(nats_server.url, "c2"):
        submits = [user.submit("a", task_id="t1", pattern="single") for _ in range(20)]
        assert set(await asyncio.gather(*submits)) == {"t1"}
        await user.until("t1", lambda one: one.version >= 3)
        assert [one.type for one in await user.log("t1")] == [
            "task.accepted",
            "task.planned",
            "subtask.dispatched",
        ]


async def test_a_log_without_its_beginning_is_listed_and_one_with_a_gap_hides_no_other(
    bus, nats_server, user
):
    async with controller(nats_server.url), working(bus, lambda _: "x"):
        for task_id in ("old", "new"):
            await user.end(await user.submit(task_id=task_id, pattern="single"))
        await bus.jetstream.delete_msg(subjects.TASKS, 1)  # as if its time were over
        listed = await user.ask("task.list", TaskList(), TaskListReply)
        told = {(one.task_id, one.state) for one in listed.tasks}
        assert told == {("old", TaskState.COMPLETED), ("new", TaskState.COMPLETED)}
        await bus.jetstream.delete_msg(subjects.TASKS, 3)
        listed = await user.ask("task.list", TaskList(), TaskListReply)
    assert [one.task_id for one in listed.tasks] == ["new"]


async def test_a_finished_task_leaves_the_index_of_open_ones(bus, nats_server, user):
    async with controller(nats_server.url), working(bus, lambda _: "x"):
        await user.end(await user.submit(pattern="single"))
        await until_none_is_open(bus)


async def test_a_failed_attempt_is_retried_and_its_cost_is_counted(bus, nats_server, user):
    def do(subtask) -> Any:
        return ProviderOverloadedError("busy") if subtask.attempt < 3 else "x"

    async with controller(nats_server.url), working(bus, do) as worker:
        status = await user.end(await user.submit(pattern="single"))
    assert status.output == "x"
    assert [one.attempt for one in worker.seen] == [1, 2, 3]
    assert len({one.stream_id for one in worker.seen}) == 3


async def test_a_large_result_goes_by_reference_and_comes_whole(bus, nats_server, user):
    text = "x" * 400_000

    def do(subtask) -> Any:
        return text if subtask.subtask_id == "a" else subtask.inputs

    async with controller(nats_server.url), working(bus, do):
        status = await user.end(await user.submit(plan=plan(["a"], ["b", "a"])))
    ref = status.output["a"]["output_ref"]
    store = await bus.jetstream.object_store(subjects.OBJECTS)
    assert json.loads((await store.get(ref)).data) == text


async def test_work_that_is_large_by_goal_and_inputs_together_still_reaches_its_worker(
    bus, nats_server, user
):
    def do(subtask) -> Any:
        return sorted(subtask.inputs) if subtask.subtask_id == "d" else "x" * 210_000

    async with controller(nats_server.url), working(bus, do):
        shape = plan(["a"], ["b"], ["c"], ["d", "a", "b", "c"])
        status = await user.end(await user.submit("g" * 430_000, plan=shape))
    assert status.output == ["a", "b", "c"]


async def test_every_event_of_a_task_carries_the_trace_it_was_submitted_with(
    bus, nats_server, user
):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    request = TaskRequest(goal="g", pattern="single")
    await bus.store(
        subjects.task_submit("default", "t1"), request.to_json(), headers={"traceparent": trace}
    )
    async with controller(nats_server.url), working(bus, lambda _: "x"):
        await user.end("t1")
    subject = subjects.task_write("default", "t1")
    headers = [one.headers async for one in bus.read(subjects.TASKS, subject)]
    assert all(trace[3:35] in one["traceparent"] for one in headers)


async def test_tenants_do_not_see_each_other(bus, nats_server, user):
    async with controller(nats_server.url), working(bus, lambda _: "x"):
        other = User(bus, "acme")
        task_id = await other.submit(task_id="t1", pattern="single")
        assert (await other.end(task_id)).output == "x"
        with pytest.raises(NotFoundError):
            await user.get("t1")
