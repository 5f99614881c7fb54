"""When a handler of one's own holds or ends: deadlines, pauses and ends of its task."""

import asyncio
import json

from atlas import subjects
from atlas.contracts.base import now_ms
from atlas.contracts.task_events import SubtaskCancelled, TaskPaused, TaskResumed
from tests.support.answering import routing
from tests.support.subtasks import (
    end_task,
    failure_of,
    result_of,
    send,
    until_ended,
    until_no_work_is_left,
    work,
)
from tests.support.waiting import eventually
from tests.support.workers import at_work


async def test_a_deadline_ends_the_handler_and_cancels_its_stream(bus, nats_server):
    async def say(_request):
        await asyncio.sleep(60)

    async def translate(given, ctx):
        return (await ctx.stream(given.instruction)).content

    control = await bus.open(subjects.stream_control("default", "stream-s1"))
    await bus.flush()
    async with routing(bus, say), at_work(nats_server.url, translate):
        given = work(deadline_ms=now_ms() + 700)
        await send(bus, given)
        report = await failure_of(bus, given)
        assert json.loads((await control.next_msg(timeout=5)).data)["action"] == "cancel"
    assert report.error.category == "timeout"


async def test_what_nobody_waits_for_any_more_is_stopped_with_all_its_streams(bus, nats_server):
    second, stopped = asyncio.Event(), asyncio.Event()

    async def say(request):
        if request.messages[0].content == "second":
            second.set()
            await asyncio.sleep(60)
        return "x"

    async def translate(_given, ctx):
        try:
            await ctx.stream("first")
            await ctx.stream("second")
        finally:
            stopped.set()

    async with routing(bus, say) as router, at_work(nats_server.url, translate) as app:
        await send(bus, work())
        async with asyncio.timeout(10):
            await second.wait()
            control = await bus.open(subjects.stream_control("default", router.paid[1]))
            await bus.flush()
            await end_task(bus)
            await stopped.wait()
            assert json.loads((await control.next_msg()).data)["action"] == "cancel"
        await until_no_work_is_left(bus)
    assert app.metrics() == {"subtasks": {"succeeded": 0, "failed": 0}}


async def test_further_streams_pause_and_go_on_with_their_task(bus, nats_server):
    second, go_on = asyncio.Event(), asyncio.Event()

    async def say(request):
        if request.messages[0].content == "second":
            second.set()
            await go_on.wait()
        return "x"

    async def thrice(_given, ctx):
        return [(await ctx.stream(which)).content for which in ("first", "second", "third")]

    log = subjects.task_write("default", "t1")
    base = {"task_id": "t1", "at_ms": now_ms()}
    async with routing(bus, say) as router, at_work(nats_server.url, thrice):
        await send(bus, work())
        async with asyncio.timeout(10):
            await second.wait()
        control = await bus.open(subjects.stream_control("default", router.paid[1]))
        await bus.flush()
        await bus.store(log, TaskPaused(version=1, **base).to_json())
        assert json.loads((await control.next_msg(timeout=10)).data)["action"] == "pause"
        go_on.set()
        await until_ended(bus, router.paid[1])
        assert len(router.paid) == 2 + 3  # the third does not begin
        await bus.store(log, TaskResumed(version=2, **base).to_json())
        assert (await result_of(bus, work())).output == ["x", "x", "x"]
    assert len(router.paid) == 3 + 3


async def test_what_stands_before_the_last_entry_of_the_log_counts_too(bus, nats_server):
    begun = []

    async def act(given, ctx):
        begun.append(given.subtask_id)
        return [(await ctx.stream(which)).content for which in ("first", "second")]

    log = subjects.task_write("default", "t1")
    base = {"task_id": "t1", "at_ms": now_ms()}
    gone = SubtaskCancelled(version=1, subtask_id="s1", attempt=1, **base)
    other = SubtaskCancelled(version=3, subtask_id="other", attempt=1, **base)
    for entry in (gone, TaskPaused(version=2, **base), other):
        await bus.store(log, entry.to_json())
    for id_ in ("s1", "s2"):
        await send(bus, work(id_))
    async with routing(bus, lambda _: "x") as router, at_work(nats_server.url, act):
        await eventually(lambda: router.paid)
        await until_ended(bus, "stream-s2")
        assert begun == ["s2", "later"]
        assert len(router.paid) == 1 + 2  # the second does not begin
        await bus.store(log, TaskResumed(version=4, **base).to_json())
        assert (await result_of(bus, work("s2"))).output == ["x", "x"]
