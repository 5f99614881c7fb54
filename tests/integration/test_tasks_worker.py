"""The worker as it runs, on real NATS, with a router that knows only the contract."""

import asyncio
import contextlib
import json
import shutil
from typing import Any

from agent_worker.main import compose
from atlas import process, subjects, topology
from atlas.bus import Bus
from atlas.contracts.base import now_ms
from atlas.contracts.errors import AtlasError, FencedError, ProviderOverloadedError
from atlas.contracts.inference import Cost, FinishReason, ModelRequest, StreamMetrics, Usage
from atlas.contracts.streams import (
    STREAM_EVENT,
    Ownership,
    StreamCancelled,
    StreamCompleted,
    StreamFailed,
    StreamStarted,
    TextDelta,
    ToolCallDelta,
)
from atlas.contracts.task_events import TaskCancelled
from atlas.contracts.tasks import Subtask, SubtaskReport, SubtaskResult
from atlas.nats_settings import NatsSettings
from atlas.reading import text_digest
from atlas.settings import Settings, TopologySettings
from atlas.worker_settings import WorkerSettings
from tests.integration.test_tasks import User, controller, plan

SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
USAGE = Usage(input_tokens=2, output_tokens=3)


def settings(**worker) -> Any:
    return Settings(
        topology=TopologySettings(ack_wait_ms=1_000),
        worker=WorkerSettings(**{"drain_ms": 3_000, **worker}),
    )


@contextlib.asynccontextmanager
async def worker(url, name="w1", **more) -> Any:
    bus = await Bus.connect(NatsSettings(url=url), name)
    try:
        async with (
            process.open_context("agent_worker", name, "workers", settings(**more), bus) as context,
            compose(context) as app,
        ):
            yield app
            await app.drain()
    finally:
        await bus.close()


class FakeRouter:
    """Answers requests with what `say` makes of them; counts how often each stream was paid."""

    def __init__(self, bus, say) -> None:
        self.bus = bus
        self.say = say
        self.paid: list[str] = []

    async def run(self) -> Any:
        async with asyncio.TaskGroup() as group:
            for lane in subjects.LANES:
                group.create_task(self._pull(lane))

    async def _pull(self, lane) -> Any:
        pull = await self.bus.pull(subjects.REQUESTS, subjects.lane_consumer(lane))
        async with asyncio.TaskGroup() as group:
            while True:
                for msg in await pull.fetch(10, wait_s=0.5):
                    group.create_task(self._answer(msg))

    async def _answer(self, msg) -> Any:
        parsed = subjects.parse(msg.subject)
        request = ModelRequest.model_validate_json(msg.data)
        owner = Ownership(epoch=now_ms(), router="fake", at_ms=now_ms())
        address = subjects.stream_owner(parsed.tenant, parsed.id)
        try:
            await self.bus.store(address, owner.to_json(), expected_last=0)
        except FencedError:
            return  # delivered again to us, who are at it
        self.paid.append(parsed.id)
        writer = Writer(self.bus, parsed.tenant, parsed.id, owner.epoch)
        await writer.write(StreamStarted, provider="p", model="m", attempt=1, reason="r")
        said = self.say(request)
        if asyncio.iscoroutine(said):
            said = await said
        if isinstance(said, AtlasError):
            await writer.write(StreamFailed, error=said.to_info(), usage=USAGE, cost=Cost())
        elif said is None:
            await writer.write(StreamCancelled, by="me", usage=USAGE, cost=Cost())
        elif isinstance(said, list):  # calls of tools: their names and arguments
            for index, (name, arguments) in enumerate(said):
                call = {"index": index, "id": f"{parsed.id[:8]}-{index}", "name": name}
                await writer.write(ToolCallDelta, **call, arguments=arguments)
            await writer.complete(FinishReason.TOOL_CALLS)
        else:
            for word in said.split(" "):
                await writer.write(TextDelta, text=word if word is said else word + " ")
            await writer.complete()
        await msg.ack()


class Writer:
    def __init__(self, bus, tenant, stream_id, epoch) -> None:
        self.bus, self.tenant, self.stream_id, self.epoch = bus, tenant, stream_id, epoch
        self.seq = 0
        self.text = ""

    async def write(self, kind, **more) -> Any:
        self.seq += 1
        self.text += more.get("text", "")
        event = kind(
            stream_id=self.stream_id, seq=self.seq, epoch=self.epoch, at_ms=now_ms(), **more
        )
        await self.bus.store(
            subjects.stream_write(self.tenant, self.stream_id), STREAM_EVENT.dump_json(event)
        )

    async def complete(self, finish_reason=FinishReason.STOP) -> Any:
        length, digest = text_digest(self.text)
        await self.write(
            StreamCompleted,
            finish_reason=finish_reason,
            usage=USAGE,
            cost=Cost(total_usd=0.1),
            metrics=StreamMetrics(),
            events=self.seq + 1,
            text_length=length,
            text_sha256=digest,
        )


@contextlib.asynccontextmanager
async def routing(bus, say) -> Any:
    router = FakeRouter(bus, say)
    task = asyncio.create_task(router.run())
    try:
        yield router
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


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
            async with asyncio.timeout(5):
                while not router.paid:  # noqa: ASYNC110 - the fake tells nobody
                    await asyncio.sleep(0.02)
            assert first.desk.running == 1
        async with worker(nats_server.url, "w2"):
            async with asyncio.timeout(5):
                subject = subjects.report("default", "t1", "s1", 1)
                while True:
                    last = await bus.last(subjects.REPORTS, subject)
                    if last is not None and json.loads(last.data)["worker"] == "w2":
                        break
                    await asyncio.sleep(0.02)
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
        async with asyncio.timeout(5):
            while not router.paid:  # noqa: ASYNC110 - the fake tells nobody
                await asyncio.sleep(0.02)
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
    async with (
        routing(bus, say) as router,
        worker(nats_server.url, concurrency=1, capabilities=["general"]),
    ):
        async with asyncio.timeout(5):
            while not router.paid:  # noqa: ASYNC110 - the fake tells nobody
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)
        assert router.paid == ["stream-high"]
        gate.set()
        await until_no_work_is_left(bus)
        assert router.paid == ["stream-high", "stream-normal", "stream-low"]


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
