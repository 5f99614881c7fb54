"""The client's tasks and events against real NATS and a controller that is told what to say."""

import asyncio
import json

import pytest
from nats.aio.msg import Msg

from atlas import subjects
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.contracts.base import now_ms
from atlas.contracts.errors import (
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
    RequestTimeoutError,
    TaskFailedError,
    WorkCancelledError,
)
from atlas.contracts.events import Event
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.task_events import (
    TaskAcceptedEvent,
    TaskCancelled,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskPaused,
    TaskResumed,
)
from atlas.contracts.tasks import TaskRequest, TaskState, TaskStatus
from tests.integration.client_fakes import FakeController


def _accepted(task_id: str) -> TaskAcceptedEvent:
    return TaskAcceptedEvent(
        task_id=task_id,
        version=1,
        at_ms=now_ms(),
        request=TaskRequest(goal="g"),
        request_sha256="x",
    )


def _completed(task_id: str, version: int, **fields) -> TaskCompleted:
    return TaskCompleted(
        task_id=task_id, version=version, at_ms=now_ms(), usage=Usage(), cost=Cost(), **fields
    )


async def test_a_task_is_stored_while_no_service_runs(atlas: Atlas, bus: Bus):
    task = await atlas.submit("write", inputs={"a.txt": "text"}, pattern="single", task_id="t1")
    stored = await bus.last(subjects.SUBMITS, subjects.task_submit("default", "t1"))
    assert stored is not None
    assert json.loads(stored.data) == {
        "goal": "write",
        "inputs": {"a.txt": "text"},
        "pattern": "single",
    }
    assert task.accepted.log_subject == "atlas.default.task.t1.log"


async def test_a_name_that_no_pattern_can_have_is_refused_here(atlas: Atlas):
    with pytest.raises(InvalidRequestError, match="pattern"):
        await atlas.submit("write", pattern="side ways")


async def test_an_id_that_may_not_stand_in_a_subject_is_refused(atlas: Atlas):
    with pytest.raises(InvalidRequestError, match=r"'a\.b' is no task id"):
        await atlas.submit("write", task_id="a.b")


async def test_inputs_above_what_nats_takes_are_refused_with_what_to_do(atlas: Atlas):
    with pytest.raises(PayloadTooLargeError, match="send less at once"):
        await atlas.submit("write", inputs={"big": "x" * 2**21})


async def test_the_log_is_joined_from_history_and_live_without_a_gap(
    atlas: Atlas, controller: FakeController
):
    changes: list[TaskEvent] = []
    for version in range(2, 8):
        kind = TaskResumed if version % 2 else TaskPaused
        changes.append(kind(task_id="t1", version=version, at_ms=now_ms()))
    await controller.write(_accepted("t1"), *changes[:4])
    async with asyncio.timeout(10):
        seen: list[int] = []
        async for event in atlas.watch_task("t1"):
            if not seen:
                await controller.write(*changes[4:], _completed("t1", 8))
            seen.append(event.version)
    assert seen == [1, 2, 3, 4, 5, 6, 7, 8]


async def test_a_result_waits_for_a_controller_and_gives_the_output(
    atlas: Atlas, controller: FakeController
):
    task = await atlas.submit("write", task_id="t1")
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        result = group.create_task(task.result())
        await controller.write(_accepted("t1"), _completed("t1", 2, output="done"))
        assert (await result).output == "done"


async def test_a_failed_task_raises_with_its_error_and_the_outputs_that_are_there(
    atlas: Atlas, controller: FakeController
):
    error = InvalidRequestError("no model can do it").to_info()
    end = TaskFailed(
        task_id="t1",
        version=2,
        at_ms=now_ms(),
        error=error,
        outputs={"a": 1},
        usage=Usage(),
        cost=Cost(),
    )
    await controller.write(_accepted("t1"), end)
    with pytest.raises(TaskFailedError, match="no model can do it") as raised:
        await atlas.task_handle("t1").result()
    assert raised.value.details is not None
    assert raised.value.details["outputs"] == {"a": 1}
    assert isinstance(raised.value.__cause__, InvalidRequestError)


async def test_a_cancelled_task_says_so(atlas: Atlas, controller: FakeController):
    end = TaskCancelled(
        task_id="t1", version=2, at_ms=now_ms(), by="me", usage=Usage(), cost=Cost()
    )
    await controller.write(_accepted("t1"), end)
    with pytest.raises(WorkCancelledError, match="by me"):
        await atlas.task_handle("t1").result()


@pytest.mark.usefixtures("controller")
async def test_an_unknown_task_is_not_found(atlas: Atlas):
    with pytest.raises(NotFoundError):
        await atlas.task_handle("nobody").result()


async def test_no_controller_is_an_error_after_the_silence_that_was_allowed(atlas: Atlas):
    task = await atlas.submit("write")
    with pytest.raises(RequestTimeoutError, match="atlas up"):
        await task.result()


async def test_a_control_is_answered_with_the_status_also_of_a_failed_task(atlas: Atlas, bus: Bus):
    status = TaskStatus(
        task_id="t1",
        state=TaskState.FAILED,
        version=4,
        goal="g",
        accepted_at_ms=1,
        updated_at_ms=2,
        error=InvalidRequestError("no").to_info(),
    )

    async def respond(msg: Msg) -> None:
        await msg.respond(status.to_json())

    await bus.subscribe(subjects.TASK_CONTROL_ALL, respond)
    await bus.flush()
    assert await atlas.control_task("t1", "cancel", reason="enough") == status


async def test_events_of_services_are_heard(atlas: Atlas, bus: Bus):
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        events = atlas.events("provider_router", "provider.>")
        heard = group.create_task(anext(events))
        event = Event(type="provider.circuit", source="provider_router", at_ms=1, data={"a": 1})
        other = Event(type="service.health", source="provider_router", at_ms=1)
        while not heard.done():
            for one in (other, event):
                await bus.send(subjects.event("default", one.source, one.type), one)
            await asyncio.sleep(0.02)
        assert await heard == event
        await events.aclose()
