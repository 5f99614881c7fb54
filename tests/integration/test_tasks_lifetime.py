"""Tasks that are open for as long as a task may, or whose log is gone, against real NATS."""

import asyncio
import json

import pytest

from agent_controller.open_tasks import OpenTasks
from atlas import subjects
from atlas.contracts.base import now_ms
from atlas.contracts.errors import ConflictError, InvalidRequestError, NotFoundError
from atlas.contracts.tasks import TaskState
from atlas.settings import TopologySettings
from tests.support.tasks import SETTINGS, User, controller

KEY = ("default", "t1")
DAY_MS = 24 * 3_600_000


def keeping_logs_for(days: float) -> object:
    topology = TopologySettings(ack_wait_ms=1_000, task_days=days)
    return SETTINGS.model_copy(update={"topology": topology})


@pytest.fixture
def user(bus) -> User:
    return User(bus)


async def test_a_task_that_waits_for_a_person_ends_before_its_log_expires(bus, nats_server, user):
    settings = keeping_logs_for(1 / 86_400)  # a second
    async with controller(nats_server.url, settings=settings):
        task_id = await user.submit(pattern="single", approval="plan")
        status = await user.end(task_id)
    assert (status.state, status.error.code) == (TaskState.FAILED, "timeout")
    assert "the longest that a task may be" in status.error.message
    assert await OpenTasks(bus).list() == []


async def test_a_task_whose_log_lost_its_beginning_while_nobody_ran_ends_and_tells_it(
    bus, nats_server, user
):
    paused = {"task_id": "t1", "version": 7, "at_ms": now_ms(), "type": "task.paused"}
    await bus.store(subjects.task_write(*KEY), json.dumps(paused).encode())
    await OpenTasks(bus).add(KEY)
    failed = await bus.open(subjects.events_of("default", type_="task.failed"))
    await bus.flush()
    async with controller(nats_server.url):
        status = await user.end("t1")
        assert (status.state, status.version) == (TaskState.FAILED, 8)
        assert "open for longer than its log is kept" in status.error.message
        assert json.loads((await failed.next_msg(timeout=5)).data)["data"]["task_id"] == "t1"
        with pytest.raises(NotFoundError, match="it begins with version 7 now; the task is failed"):
            await user.log("t1")
        with pytest.raises(ConflictError, match="stands for another request"):
            await user.submit(task_id="t1")
    assert await OpenTasks(bus).list() == []


async def test_an_open_task_of_which_nothing_is_left_ends_and_one_about_to_begin_does_not(
    bus, nats_server, user
):
    deleted = {"task_id": "t2", "version": 5, "at_ms": now_ms(), "type": "task.deleted"}
    await bus.store(subjects.task_write("default", "t2"), json.dumps(deleted).encode())
    for key in (KEY, ("default", "t2")):
        await OpenTasks(bus).add(key)
    async with controller(nats_server.url), asyncio.timeout(10):
        while await OpenTasks(bus).list() != [KEY]:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
        with pytest.raises(NotFoundError):
            await user.get("t1")
    async with controller(nats_server.url, settings=keeping_logs_for(1e-6)):
        status = await user.end("t1")
    assert "what was asked is not known any more" in status.error.message
    assert await OpenTasks(bus).list() == []


async def test_a_time_that_no_task_can_wait_for_is_refused_at_the_door(nats_server, user):
    async with controller(nats_server.url):
        with pytest.raises(InvalidRequestError, match=r"deadline_ms: it is 40 days from now"):
            await user.submit(deadline_ms=now_ms() + 40 * DAY_MS)
        with pytest.raises(InvalidRequestError, match=r"a task may be open for 27 days"):
            await user.submit(approval="plan", approval_expires_ms=40 * DAY_MS)
