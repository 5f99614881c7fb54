"""A worker of one's own, made with `atlas.worker`, on real NATS, also killed without a word."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from atlas import process, subjects
from atlas.bus import Bus
from atlas.contracts.base import now_ms
from atlas.contracts.errors import ProviderOverloadedError
from atlas.contracts.events import Event
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.task_events import SubtaskCancelled, TaskCancelled, TaskPaused, TaskResumed
from atlas.contracts.tasks import SubtaskReport
from atlas.nats_settings import NatsSettings
from atlas.objects import Objects
from atlas.worker import Worker
from atlas.worker.following import StreamFollower
from tests.integration.test_tasks import User, controller
from tests.integration.test_tasks_worker import (
    SCHEMA,
    USAGE,
    failure_of,
    result_of,
    routing,
    send,
    settings,
    subtask,
    until_no_work_is_left,
)
from tests.integration.test_tasks_worker import worker as built_in_worker

PROCESS = """
import asyncio

from atlas.worker import Worker
from atlas.worker.following import StreamFollower

worker = Worker()


@worker.handles("translate"{offer})
async def translate(subtask, ctx):
    answer = await ctx.stream(subtask.instruction)
    await ctx.progress(asked=answer.stream_id)
    second = await ctx.stream(f"better than {answer.content}")
    return second.content


worker.run()
"""


@contextlib.asynccontextmanager
async def at_work(url, handler, name="own", **more) -> Any:
    """A worker with one handler, in this process."""
    own = Worker()
    own.handles("translate")(handler)
    bus = await Bus.connect(NatsSettings(url=url), name)
    try:
        async with (
            process.open_context("agent_worker", name, "workers", settings(**more), bus) as context,
            own.compose(context) as app,
        ):
            yield app
            await app.drain()
    finally:
        await bus.close()


@contextlib.asynccontextmanager
async def processes(url, tmp_path: Path, count=1, offer="") -> Any:
    """Workers as they run: scripts of their own."""
    script = tmp_path / "own_worker.py"
    script.write_text(PROCESS.replace("{offer}", f", {offer}" if offer else ""))
    environment = {**os.environ, "NATS_URL": url, "ATLAS_TOPOLOGY__ACK_WAIT_MS": "1000"}
    running = [
        await asyncio.create_subprocess_exec(sys.executable, str(script), env=environment)
        for _ in range(count)
    ]
    try:
        yield running
    finally:
        for process in running:
            if process.returncode is None:
                process.kill()
            await process.wait()


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
    """Its last event, a moment ago: time enough for whoever would go on."""
    follower = StreamFollower(bus, "default", stream_id)
    await follower.open()
    await follower.to_end(10)
    await follower.close()
    await asyncio.sleep(0.3)


async def end_task(bus) -> Any:
    ended = TaskCancelled(task_id="t1", version=1, at_ms=now_ms(), usage=Usage(), cost=Cost())
    await bus.store(subjects.task_write("default", "t1"), ended.to_json())


async def test_a_function_is_a_worker_also_without_any_model(bus, nats_server):
    async def count(given, ctx):
        await ctx.progress(done=1, of=2)
        return {"n": len(ctx.inputs["a"]), "goal": given.goal, "unit": ctx.task_inputs["unit"]}

    given = work(inputs={"task": {"unit": "letters"}, "a": "four"}, output_schema=SCHEMA)
    async with at_work(nats_server.url, count):
        await send(bus, given)
        result = await result_of(bus, given)
        await until_no_work_is_left(bus)
    assert result.output == {"n": 4, "goal": "g", "unit": "letters"}
    assert (result.worker, result.usage) == ("own", Usage())
    (progress,) = await reports(bus, "progress")
    assert progress.progress == {"done": 1, "of": 2}
    (started,) = await reports(bus, "started")
    assert started.stream_ids == []


async def test_a_model_answers_under_the_stream_that_the_controller_chose(bus, nats_server):
    async def translate(given, ctx):
        answer = await ctx.stream(f"{given.instruction} in French", temperature=0.5)
        return answer.content

    asked = []

    def say(request):
        asked.append(request)
        return "un deux"

    async with routing(bus, say) as router, at_work(nats_server.url, translate):
        await send(bus, work())
        result = await result_of(bus, work())
    assert (result.output.strip(), result.usage, result.cost.total_usd) == ("un deux", USAGE, 0.1)
    assert router.paid == ["stream-s1"]
    assert asked[0].temperature == 0.5
    assert asked[0].metadata["subtask_id"] == "s1"
    (started,) = await reports(bus, "started")
    assert started.stream_ids == ["stream-s1"]


async def test_further_streams_are_paid_from_what_the_first_left_of_the_budget(bus, nats_server):
    async def thrice(_given, ctx):
        answers = [await ctx.stream("again") for _ in range(3)]
        return [one.content for one in answers]

    budgets = []

    def say(request):
        budgets.append(request.budget)
        return "x"

    async with routing(bus, say) as router, at_work(nats_server.url, thrice):
        given = work(budget={"max_tokens": 20})
        await send(bus, given)
        result = await result_of(bus, given)
    assert result.output == ["x", "x", "x"]
    assert [one.max_tokens for one in budgets] == [20, 15, 10]
    assert result.usage.output_tokens == 3 * USAGE.output_tokens
    assert len(set(router.paid)) == len(router.paid) == 3


async def test_an_input_in_the_object_store_is_there_when_the_handler_is_called(bus, nats_server):
    async def give(_given, ctx):
        return ctx.inputs["a"]

    ref = await Objects(bus).put("default.t1.s0.1", {"k": "v"})
    given = work(inputs={"a": {"output_ref": ref}})
    async with at_work(nats_server.url, give):
        await send(bus, given)
        assert (await result_of(bus, given)).output == {"k": "v"}


async def test_no_input_reads_what_is_stored_for_another_tenant(bus, nats_server):
    async def give(_given, ctx):
        return ctx.inputs["a"]

    ref = await Objects(bus).put("other.t1.s1.1", "secret")
    given = work(inputs={"a": {"output_ref": ref}})
    async with at_work(nats_server.url, give):
        await send(bus, given)
        assert (await result_of(bus, given)).output == {"output_ref": ref}


async def test_copies_of_work_that_come_at_once_are_done_once(bus, nats_server):
    begun = []

    async def act(given, _ctx):
        begun.append(given.idempotency_key)
        await asyncio.sleep(0.5)
        return "x"

    for _ in range(4):
        await send(bus, work())
    async with at_work(nats_server.url, act, concurrency=4):
        await result_of(bus, work())
        await until_no_work_is_left(bus)
    assert begun == ["t1:s1:1"]


async def test_an_error_of_the_contract_is_why_the_attempt_failed(bus, nats_server):
    async def refuse(_given, _ctx):
        raise ProviderOverloadedError("no dictionary now", retry_after_ms=7)

    async with at_work(nats_server.url, refuse) as app:
        await send(bus, work())
        report = await failure_of(bus, work())
        await until_no_work_is_left(bus)
    assert (report.error.code, report.error.retry_after_ms) == ("provider_overloaded", 7)
    assert app.metrics() == {"subtasks": {"succeeded": 0, "failed": 1}}


async def test_any_other_exception_is_a_failure_that_may_be_retried(bus, nats_server):
    async def break_(given, _ctx):
        return given.inputs["dictionary"]

    async with at_work(nats_server.url, break_):
        await send(bus, work())
        report = await failure_of(bus, work())
    assert (report.error.code, report.error.retryable) == ("handler_failed", True)
    assert "KeyError: 'dictionary'" in report.error.message


async def test_a_handler_that_gives_nothing_or_no_json_fails(bus, nats_server):
    gives = {"s1": None, "s2": object()}

    async def give(given, _ctx):
        return gives[given.subtask_id]

    async with at_work(nats_server.url, give):
        for id_, says in (("s1", "gave nothing"), ("s2", "gave a object that is no JSON")):
            await send(bus, work(id_))
            report = await failure_of(bus, work(id_))
            assert report.error.code == "output_mismatch"
            assert says in report.error.message


async def test_a_handler_may_catch_how_a_stream_ended_and_its_cost_counts(bus, nats_server):
    def say(request):
        is_first = request.messages[0].content == "first"
        return ProviderOverloadedError("busy") if is_first else "x"

    async def fall_back(_given, ctx):
        try:
            return (await ctx.stream("first")).content
        except ProviderOverloadedError:
            return (await ctx.stream("second")).content

    async with routing(bus, say), at_work(nats_server.url, fall_back):
        await send(bus, work())
        result = await result_of(bus, work())
    assert result.output == "x"
    assert result.usage.input_tokens == 2 * USAGE.input_tokens


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
        assert len(router.paid) == 2  # the third does not begin
        await bus.store(log, TaskResumed(version=2, **base).to_json())
        assert (await result_of(bus, work())).output == ["x", "x", "x"]
    assert len(router.paid) == 3


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
        async with asyncio.timeout(10):
            while not router.paid:  # noqa: ASYNC110 - the fake tells nobody
                await asyncio.sleep(0.02)
        await until_ended(bus, "stream-s2")
        assert (begun, router.paid) == (["s2"], ["stream-s2"])  # the second does not begin
        await bus.store(log, TaskResumed(version=4, **base).to_json())
        assert (await result_of(bus, work("s2"))).output == ["x", "x"]


async def test_what_it_can_do_is_told_to_everybody(bus, nats_server):
    told = await bus.open(subjects.events_of("default", "agent_worker", "worker.*"))
    await bus.flush()

    async def translate(_given, _ctx):
        return "x"

    async with at_work(nats_server.url, translate):
        registered = Event.model_validate_json((await told.next_msg(timeout=5)).data)
    gone = Event.model_validate_json((await told.next_msg(timeout=5)).data)
    assert (registered.type, gone.type) == ("worker.registered", "worker.gone")
    assert registered.data["capabilities"] == ["translate"]


async def test_one_plan_is_shared_by_own_and_built_in_workers(bus, nats_server):
    async def shout(_given, ctx):
        return ctx.inputs["draft"].upper()

    plan = [
        {"id": "draft", "capability": "draft", "instruction": "write"},
        {"id": "loud", "capability": "translate", "instruction": "shout", "depends_on": ["draft"]},
    ]
    user = User(bus)
    async with (
        routing(bus, lambda _: "hello"),
        controller(nats_server.url),
        built_in_worker(nats_server.url),
        at_work(nats_server.url, shout),
    ):
        status = await user.end(await user.submit("g", plan=plan))
    assert status.output == "HELLO"


async def test_of_two_workers_one_is_killed_in_the_middle_and_nothing_is_lost_or_paid_twice(
    bus, nats_server, tmp_path
):
    go_on = asyncio.Event()

    async def say(request):
        if request.messages[0].content == "do it":
            return "one"
        await go_on.wait()
        return "two"

    async with routing(bus, say) as router, processes(nats_server.url, tmp_path, 2) as running:
        await send(bus, work())
        (told,) = await until_reported(bus, "progress")
        pid = int(told.worker.split("-")[-2])
        victim = next(process for process in running if process.pid == pid)
        victim.kill()
        await until_reported(bus, "progress", 2)  # the other one is as far
        go_on.set()
        result = await result_of(bus, work())
        await until_no_work_is_left(bus)
    assert result.output == "two"
    assert result.worker != told.worker
    assert result.usage.output_tokens == 2 * USAGE.output_tokens
    assert len(router.paid) == len(set(router.paid)) == 2


async def test_on_sigterm_a_worker_finishes_what_it_does_and_ends(bus, nats_server, tmp_path):
    go_on = asyncio.Event()

    async def say(_request):
        await go_on.wait()
        return "x"

    async with routing(bus, say), processes(nats_server.url, tmp_path) as (process,):
        await send(bus, work())
        await until_reported(bus, "started")
        process.send_signal(signal.SIGTERM)
        go_on.set()
        async with asyncio.timeout(15):
            assert await process.wait() == 0
        assert (await result_of(bus, work())).output == "x"
        await until_no_work_is_left(bus)


async def test_a_model_may_plan_with_what_a_worker_announces(bus, nats_server, tmp_path):
    def say(request):
        if request.response_format is None:
            return "x"
        node = request.response_format.json_schema["properties"]["subtasks"]["items"]["properties"]
        offered = "translate" if "translate" in node["capability"]["enum"] else "draft"
        step = {"id": "a", "capability": offered, "instruction": "do it", "depends_on": []}
        return json.dumps({"subtasks": [step]})

    user = User(bus)
    health = await bus.open(subjects.events_of("default", "agent_worker", "service.health"))
    await bus.flush()
    async with (
        routing(bus, say),
        controller(nats_server.url),
        built_in_worker(nats_server.url),
        processes(nats_server.url, tmp_path),
    ):
        await health.next_msg(timeout=20)  # the controller was ready before, and heard it too
        status = await user.end(await user.submit("a poem"))
    planned = next(one for one in status.subtasks if one.subtask_id == "a")
    assert (planned.capability, planned.state, status.output) == ("translate", "succeeded", "x")
