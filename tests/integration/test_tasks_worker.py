"""The worker as it runs, on real NATS, with a router that knows only the contract."""

import asyncio
import json
import shutil
from typing import Any

from atlas import subjects, topology
from atlas.contracts.base import now_ms
from atlas.contracts.errors import ProviderOverloadedError
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.task_events import TaskCancelled
from atlas.contracts.tasks import SubtaskState, TaskState
from atlas.contracts.work import SubtaskReport, SubtaskResult
from atlas.settings import TopologySettings
from tests.support.answering import USAGE, routing
from tests.support.subtasks import (
    SCHEMA,
    failure_of,
    result_of,
    send,
    subtask,
    until_no_work_is_left,
)
from tests.support.tasks import User, controller, plan
from tests.support.waiting import eventually
from tests.support.workers import worker


async def test_a_subtask_becomes_a_stream_and_its_text_the_result(bus, nats_server):
    async with routing(bus, lambda _: "one two three"), worker(nats_server.url):
        await send(bus, subtask())
        result = await result_of(bus, subtask())
        await until_no_work_is_left(bus)
    assert result.output.strip() == "one two three"
    assert result.usage == USAGE
    assert result.cost.total_usd == 0.1
    assert result.worker == "w1"


async def test_a_subtask_is_told_to_have_started_once_its_stream_can_be_found(bus, nats_server):
    told = await bus.open(subjects.report("default", "t1", "s1", 1))
    await bus.flush()
    async with worker(nats_server.url):
        await send(bus, subtask())
        await told.next_msg(timeout=5)  # the claim
        report = SubtaskReport.model_validate_json((await told.next_msg(timeout=5)).data)
        (stream_id,) = report.stream_ids
        door = subjects.stream_request("default", stream_id, "batch")
        assert await bus.last(subjects.REQUESTS, door) is not None
    assert report.type == "started"


async def test_work_that_never_becomes_a_stream_fails_without_a_start(bus, nats_server):
    work = subtask(tools=["browser"])
    async with worker(nats_server.url):
        await send(bus, work)
        await failure_of(bus, work)
    subject = subjects.report("default", "t1", "s1", 1)
    told = [json.loads(one.data)["type"] async for one in bus.read(subjects.REPORTS, subject)]
    assert told == ["progress", "failed"]  # the claim comes first


async def test_an_answer_that_breaks_its_schema_is_a_failure_that_may_be_retried(bus, nats_server):
    work = subtask(output_schema=SCHEMA)
    async with routing(bus, lambda _: "no"), worker(nats_server.url):
        await send(bus, work)
        report = await failure_of(bus, work)
    assert report.error.code == "output_mismatch"
    assert report.error.retryable
    assert report.usage == USAGE


async def test_a_failed_stream_is_reported_with_its_error_and_its_bill(bus, nats_server):
    async with (
        routing(bus, lambda _: ProviderOverloadedError("busy", retry_after_ms=7)),
        worker(nats_server.url),
    ):
        await send(bus, subtask())
        report = await failure_of(bus, subtask())
        await until_no_work_is_left(bus)
    assert (report.error.code, report.error.retry_after_ms) == ("provider_overloaded", 7)
    assert report.stream_ids == ["stream-s1"]


async def test_what_is_no_work_at_all_is_kept_as_a_letter_and_fails_nothing(bus, nats_server):
    """It does not even tell whose it is: no controller sent it."""
    seq = await bus.store(subjects.work("default", "general", "normal"), b"{no json")
    async with routing(bus, lambda _: "x"), worker(nats_server.url):
        await send(bus, subtask())
        await result_of(bus, subtask())
        await until_no_work_is_left(bus)
    letter = await bus.last(subjects.DEAD, subjects.dead("default", "work", str(seq)))
    assert "all of it: " in json.loads(letter.data)["error"]["message"]
    told = [json.loads(one.data) async for one in bus.read(subjects.REPORTS, subjects.REPORT_ALL)]
    assert {one["type"] for one in told} == {"progress", "started"}


async def test_a_cancelled_stream_is_a_cancelled_attempt(bus, nats_server):
    async with routing(bus, lambda _: None), worker(nats_server.url):
        await send(bus, subtask())
        report = await failure_of(bus, subtask())
    assert report.error.category == "cancelled"


async def test_work_whose_worker_dies_attaches_to_the_same_stream(bus, nats_server):
    go_on = asyncio.Event()

    async def say(_request) -> Any:
        await go_on.wait()
        return "x"

    async with routing(bus, say) as router:
        async with worker(nats_server.url, "w1", drain_ms=100) as first:
            await send(bus, subtask())
            await eventually(lambda: router.paid)
            assert first.desk.running == 1
        async with worker(nats_server.url, "w2"):
            subject = subjects.report("default", "t1", "s1", 1)

            async def is_taken_over() -> bool:
                last = await bus.last(subjects.REPORTS, subject)
                return last is not None and json.loads(last.data)["worker"] == "w2"

            await eventually(is_taken_over)
            go_on.set()
            result = await result_of(bus, subtask())
    assert result.worker == "w2"
    assert router.paid == ["stream-s1"]


async def test_work_that_has_a_result_or_an_end_is_not_done_again(bus, nats_server):
    done = SubtaskResult(task_id="t1", subtask_id="s1", attempt=1, worker="other", output="first")
    await bus.store(subjects.result("default", "t1", "s1"), done.to_json(), expected_last=0)
    ended = TaskCancelled(task_id="t2", version=1, at_ms=now_ms(), usage=Usage(), cost=Cost())
    await bus.store(subjects.task_write("default", "t2"), ended.to_json())
    async with routing(bus, lambda _: "second") as router, worker(nats_server.url):
        await send(bus, subtask())
        await send(bus, subtask(task_id="t2"))
        await until_no_work_is_left(bus)
    assert router.paid == []


async def test_a_task_that_ends_stops_the_work_on_it(bus, nats_server):
    async def say(_request) -> Any:
        await asyncio.sleep(60)

    async with routing(bus, say) as router, worker(nats_server.url) as app:
        await send(bus, subtask())
        await eventually(lambda: router.paid)
        ended = TaskCancelled(task_id="t1", version=1, at_ms=now_ms(), usage=Usage(), cost=Cost())
        await bus.store(subjects.task_write("default", "t1"), ended.to_json())
        await until_no_work_is_left(bus)
        assert app.desk.running <= 1


async def test_a_worker_takes_only_what_it_has_hands_for_and_the_urgent_first(bus, nats_server):
    gate = asyncio.Event()

    async def say(_request) -> Any:
        await gate.wait()
        return "x"

    for name in ("low", "normal", "high"):
        await send(bus, subtask(name), name)
    one_hand = {"concurrency": 1, "capabilities": ["general"]}
    async with routing(bus, say) as router, worker(nats_server.url, "w1", **one_hand):
        await eventually(lambda: router.paid)
        async with worker(nats_server.url, "w2", **one_hand):
            await eventually(lambda: len(router.paid) == 2)
            gate.set()
            await until_no_work_is_left(bus)
    assert router.paid == ["stream-high", "stream-normal", "stream-low"]
    by = [(await result_of(bus, subtask(name))).worker for name in ("high", "normal")]
    assert by == ["w1", "w2"], "what the first had no hand for was left to the second"


async def test_a_stream_that_falls_silent_is_given_up_and_cancelled(bus, nats_server):
    async def say(_request) -> Any:
        await asyncio.sleep(60)

    control = await bus.open(subjects.stream_control("default", "stream-s1"))
    await bus.flush()
    async with routing(bus, say), worker(nats_server.url, stream_timeout_ms=300):
        await send(bus, subtask())
        report = await failure_of(bus, subtask())
        assert json.loads((await control.next_msg(timeout=5)).data)["action"] == "cancel"
    assert report.error.code == "provider_timeout"


async def test_a_deadline_bounds_an_attempt(bus, nats_server):
    async def say(_request) -> Any:
        await asyncio.sleep(60)

    async with routing(bus, say), worker(nats_server.url):
        work = subtask(deadline_ms=now_ms() + 700)
        await send(bus, work)
        report = await failure_of(bus, work)
    assert report.error.category == "timeout"


async def test_a_worker_finds_work_on_a_server_that_came_back_empty(bus, nats_server):
    async with routing(bus, lambda _: "x"), worker(nats_server.url):
        await nats_server.kill()
        shutil.rmtree(nats_server.store_dir / "jetstream")
        await nats_server.start()
        await bus.wait_connected(timeout_s=10)
        await topology.ensure(bus, TopologySettings(ack_wait_ms=1_000))
        await send(bus, subtask())
        assert (await result_of(bus, subtask())).output.strip() == "x"


async def test_a_report_that_nobody_can_read_keeps_no_worker_from_its_work(bus, nats_server):
    await bus.store(subjects.report("default", "t1", "s1", 1), b"no json")
    async with routing(bus, lambda _: "x"), worker(nats_server.url):
        await send(bus, subtask())
        assert (await result_of(bus, subtask())).output.strip() == "x"


async def test_what_is_no_subtask_becomes_a_dead_letter(bus, nats_server):
    await bus.store(subjects.work("default", "general", "normal"), b"{}")
    async with worker(nats_server.url):
        await until_no_work_is_left(bus)
    assert (await bus.jetstream.stream_info(subjects.DEAD)).state.messages == 1


async def test_controller_and_worker_carry_a_planned_goal_to_its_end(bus, nats_server):
    def say(request) -> Any:
        if request.response_format is not None:
            return json.dumps(request.response_format.json_schema["examples"][0])
        return "text"

    user = User(bus)
    async with routing(bus, say) as router, controller(nats_server.url), worker(nats_server.url):
        status = await user.end(await user.submit("a poem"))
    assert status.output.strip() == "text"
    assert len(router.paid) == len(set(router.paid)) == 5
    assert status.usage.output_tokens == 15


async def test_what_a_cancelled_subtask_had_used_is_in_the_sums_of_its_task(bus, nats_server):
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def say(_request) -> Any:
        begun.set()
        await go_on.wait()
        return "x"

    user = User(bus)
    async with routing(bus, say), controller(nats_server.url), worker(nats_server.url):
        task_id = await user.submit(plan=plan(["a"], ["b"]), approval="subtasks")
        await user.until(task_id, lambda one: one.state is TaskState.AWAITING_APPROVAL)
        await user.control(task_id, "approve", subtask_id="a")
        async with asyncio.timeout(10):
            await begun.wait()
        cancelling = asyncio.create_task(user.control(task_id, "cancel", subtask_id="a"))
        await user.until(task_id, lambda one: one.subtasks[0].state is SubtaskState.CANCELLED)
        go_on.set()  # the router sends its bill
        status = await user.until(task_id, lambda one: one.usage.input_tokens)
        spent = [one for one in await user.log(task_id) if one.type == "subtask.spent"]
        await cancelling
    assert (status.usage, status.cost.total_usd) == (USAGE, 0.1)
    assert [(one.subtask_id, one.attempt, one.usage) for one in spent] == [("a", 1, USAGE)]


async def test_many_tasks_run_side_by_side_on_two_workers_and_two_controllers(bus, nats_server):
    user = User(bus)
    shape = plan(["a"], ["b", "a"], ["c", "a"], ["d", "b", "c"])
    async with (
        routing(bus, lambda _: "x") as router,
        controller(nats_server.url, "c1"),
        controller(nats_server.url, "c2"),
        worker(nats_server.url, "w1"),
        worker(nats_server.url, "w2"),
    ):
        ids = await asyncio.gather(*(user.submit(f"g{n}", plan=shape) for n in range(15)))
        ends = await asyncio.gather(*(user.end(id_, 40) for id_ in ids))
    assert {one.state for one in ends} == {"completed"}
    assert len(router.paid) == len(set(router.paid)) == 60
