"""Pieces of work: sent to workers, and what came back of them."""

import asyncio
from typing import Any

from atlas import subjects
from atlas.contracts.base import now_ms
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.task_events import TaskCancelled
from atlas.contracts.work import Subtask, SubtaskReport, SubtaskResult
from atlas.worker.following import StreamFollower

SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}


def subtask(id_="s1", **more) -> Any:
    base = {
        "task_id": "t1",
        "subtask_id": id_,
        "attempt": 1,
        "capability": "general",
        "instruction": "do it",
        "goal": "g",
        "stream_id": f"stream-{id_}",
        "idempotency_key": f"t1:{id_}:1",
    }
    return Subtask.model_validate({**base, **more})


async def send(bus, work, priority="normal") -> Any:
    subject = subjects.work("default", work.capability, priority)
    await bus.store(subject, work.to_json())


async def result_of(bus, work, timeout_s=10) -> Any:
    return await _stored(bus, subjects.result("default", work.task_id, work.subtask_id), timeout_s)


async def _stored(bus, subject, timeout_s=10.0) -> Any:
    sub = await bus.open(subject)
    try:
        await bus.flush()
        if (last := await bus.last(subjects.REPORTS, subject)) is not None:
            return SubtaskResult.model_validate_json(last.data)
        return SubtaskResult.model_validate_json((await sub.next_msg(timeout=timeout_s)).data)
    finally:
        await sub.unsubscribe()


async def failure_of(bus, work, timeout_s=10) -> Any:
    """The failure that is reported; a live message may come before it can be read."""
    subject = subjects.report("default", work.task_id, work.subtask_id, work.attempt)
    sub = await bus.open(subject)
    await bus.flush()
    try:
        told = [one.data async for one in bus.read(subjects.REPORTS, subject)]
        async with asyncio.timeout(timeout_s):
            while True:
                for data in told:
                    report = SubtaskReport.model_validate_json(data)
                    if report.type == "failed":
                        return report
                told = [(await sub.next_msg(timeout=timeout_s)).data]
    finally:
        await sub.unsubscribe()


async def work_left(bus) -> Any:
    return (await bus.jetstream.stream_info(subjects.WORK)).state.messages


async def until_no_work_is_left(bus) -> Any:
    async with asyncio.timeout(10):
        while await work_left(bus):  # noqa: ASYNC110 - nobody tells of an empty queue
            await asyncio.sleep(0.05)


def work(id_="s1", **more) -> Any:
    return subtask(id_, **{"capability": "translate", **more})


async def reports(bus, type_) -> list[SubtaskReport]:
    subject = subjects.report("default", "t1", "s1", 1)
    told = [
        SubtaskReport.model_validate_json(one.data)
        async for one in bus.read(subjects.REPORTS, subject)
    ]
    claims = [one for one in told if one.type == "progress" and one.progress is None]
    return [one for one in told if one.type == type_ and one not in claims]


async def until_reported(bus, type_, count=1) -> list[SubtaskReport]:
    async with asyncio.timeout(15):
        while True:
            if len(told := await reports(bus, type_)) >= count:
                return told
            await asyncio.sleep(0.02)


async def until_ended(bus, stream_id) -> Any:
    """Its last event, and other work was done since: whoever would go on has gone on."""
    follower = StreamFollower(bus, "default", stream_id)
    await follower.open()
    await follower.to_end(10)
    await follower.close()
    later = work("later", task_id="t2", instruction="later")
    await send(bus, later)
    await result_of(bus, later)


async def end_task(bus) -> Any:
    ended = TaskCancelled(task_id="t1", version=1, at_ms=now_ms(), usage=Usage(), cost=Cost())
    await bus.store(subjects.task_write("default", "t1"), ended.to_json())
