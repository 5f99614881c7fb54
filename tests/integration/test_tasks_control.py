"""Controls of tasks on real NATS: in the log before the answer, and kept until they arrive."""

import asyncio
import json
from typing import Any

import pytest

from agent_controller.open_tasks import OpenTasks
from atlas import subjects, topology
from atlas.contracts.errors import InvalidTransitionError
from atlas.contracts.tasks import TaskState
from tests.support.tasks import SETTINGS, controller, plan, until_none_is_open, working


async def test_cancel_is_in_the_log_before_the_answer_and_reaches_the_stream(
    bus, nats_server, user
):
    async with controller(nats_server.url), working(bus, lambda _: None):
        task_id = await user.submit(pattern="single")
        running = await user.until(
            task_id, lambda one: one.subtasks and one.subtasks[0].state == "running"
        )
        stream_id = running.subtasks[0].stream_id
        heard = await bus.open(subjects.stream_control("default", stream_id))
        await bus.flush()
        status = await user.control(task_id, "cancel", by="me", reason="enough")
        assert status.state is TaskState.CANCELLED
        assert json.loads((await heard.next_msg(timeout=5)).data)["action"] == "cancel"
        assert (await user.control(task_id, "cancel")).state is TaskState.CANCELLED
        with pytest.raises(InvalidTransitionError):
            await user.control(task_id, "pause")


async def test_a_control_is_answered_although_no_router_answers_for_the_many_streams_under_it(
    bus, nats_server, user
):
    many = [f"s{number}" for number in range(20)]
    async with controller(nats_server.url), working(bus, lambda _: None):
        task_id = await user.submit(plan=plan(*([one] for one in many)))
        await user.until(task_id, lambda one: [x.state for x in one.subtasks] == ["running"] * 20)
        assert (await user.control(task_id, "pause")).state is TaskState.PAUSED
        status = await user.control(task_id, "cancel")
    for one in status.subtasks:
        subject = subjects.stream_control("default", one.stream_id)
        kept = [json.loads(each.data) async for each in bus.read(subjects.CONTROL, subject)]
        assert [each["action"] for each in kept] == ["pause", "cancel"]


async def test_a_control_that_nobody_keeps_is_repeated_until_it_is_kept(bus, nats_server, user):
    async with controller(nats_server.url), working(bus, lambda _: None):
        task_id = await user.submit(pattern="single")
        running = await user.until(
            task_id, lambda one: one.subtasks and one.subtasks[0].state == "running"
        )
        await bus.jetstream.delete_stream(subjects.CONTROL)
        await user.control(task_id, "cancel")
        assert await OpenTasks(bus).list() == [("default", task_id)]
        await topology.ensure(bus, SETTINGS.topology)
        await until_none_is_open(bus)
    subject = subjects.stream_control("default", running.subtasks[0].stream_id)
    kept = await bus.last(subjects.CONTROL, subject)
    assert json.loads(kept.data)["action"] == "cancel"


async def test_pause_holds_what_follows_until_resume(bus, nats_server, user):
    gate = asyncio.Event()

    async def do(_subtask) -> Any:
        await gate.wait()
        return "x"

    async with controller(nats_server.url), working(bus, do) as worker:
        task_id = await user.submit(plan=plan(["a"], ["b", "a"]))
        await user.until(task_id, lambda one: one.subtasks and one.subtasks[0].worker)
        assert (await user.control(task_id, "pause")).state is TaskState.PAUSED
        gate.set()
        await user.until(task_id, lambda one: one.subtasks[0].state == "succeeded")
        await user.end(await user.submit(pattern="single"))  # which is later than `b` would be
        assert {one.subtask_id for one in worker.seen if one.task_id == task_id} == {"a"}
        await user.control(task_id, "resume")
        assert (await user.end(task_id)).state is TaskState.COMPLETED


async def test_a_plan_waits_for_approval(bus, nats_server, user):
    async with controller(nats_server.url), working(bus, lambda _: "x"):
        task_id = await user.submit(pattern="single", approval="plan")
        await user.until(task_id, lambda one: one.state is TaskState.AWAITING_APPROVAL)
        await user.control(task_id, "approve", by="me")
        assert (await user.end(task_id)).state is TaskState.COMPLETED
