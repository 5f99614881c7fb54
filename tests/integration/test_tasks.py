"""Tasks against real NATS: the controller as it runs, and a worker that knows only the contract."""

import asyncio
import contextlib
import json
import shutil
from typing import Any

import pytest

from agent_controller.main import compose
from agent_controller.open_tasks import OpenTasks
from atlas import process, subjects, topology
from atlas.bus import Bus
from atlas.contracts.base import Contract
from atlas.contracts.errors import (
    AtlasError,
    ConflictError,
    FencedError,
    InvalidTransitionError,
    NoResponderError,
    NotFoundError,
    ProviderOverloadedError,
    RequestTimeoutError,
)
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.task_events import TaskHistory, TaskHistoryReply
from atlas.contracts.tasks import (
    PlannedSubtask,
    SubmitRequest,
    Subtask,
    SubtaskReport,
    SubtaskResult,
    TaskAccepted,
    TaskControl,
    TaskGet,
    TaskList,
    TaskListReply,
    TaskRequest,
    TaskState,
    TaskStatus,
)
from atlas.nats_settings import NatsSettings
from atlas.settings import ControllerSettings, Settings, TopologySettings

SETTINGS = Settings(
    topology=TopologySettings(ack_wait_ms=1_000),
    controller=ControllerSettings(
        reconcile_interval_ms=200, dispatch_timeout_ms=500, retry_base_ms=50
    ),
)


@contextlib.asynccontextmanager
async def controller(url, name="c1", settings=SETTINGS) -> Any:
    """A controller on a connection of its own, as `main` composes it."""
    bus = await Bus.connect(NatsSettings(url=url), name)
    try:
        async with (
            process.open_context("agent_controller", name, "controllers", settings, bus) as context,
            compose(context) as app,
        ):
            yield app
            await app.drain()
    finally:
        await bus.close()


class FakeWorker:
    """Takes work of some capabilities; what it does with it, a function of the subtask says."""

    def __init__(self, bus, do, capabilities=("general", "planning", "draft"), name="fake") -> None:
        self.bus = bus
        self.do = do
        self.capabilities = capabilities
        self.name = name
        self.seen: list[Subtask] = []

    async def run(self) -> Any:
        async with asyncio.TaskGroup() as group:
            for capability in self.capabilities:
                for priority in ("high", "normal", "low"):
                    consumer = await topology.ensure_work_consumer(
                        self.bus, SETTINGS.topology, capability, priority
                    )
                    group.create_task(self._pull(consumer))

    async def _pull(self, consumer) -> Any:
        pull = await self.bus.pull(subjects.WORK, consumer)
        while True:
            for msg in await pull.fetch(10, wait_s=0.5):
                subtask = Subtask.model_validate_json(msg.data)
                self.seen.append(subtask)
                tenant = msg.subject.split(".")[1]
                await self.report(tenant, subtask, "started")
                answer = self.do(subtask)
                if asyncio.iscoroutine(answer):
                    answer = await answer
                if isinstance(answer, AtlasError):
                    await self.report(tenant, subtask, "failed", error=answer.to_info())
                elif answer is not None:
                    result = SubtaskResult(
                        task_id=subtask.task_id,
                        subtask_id=subtask.subtask_id,
                        attempt=subtask.attempt,
                        worker=self.name,
                        output=answer,
                        usage=Usage(input_tokens=1, output_tokens=2),
                        cost=Cost(total_usd=0.5),
                    )
                    with contextlib.suppress(FencedError):  # the first one wins
                        await self.bus.store(
                            subjects.result(tenant, subtask.task_id, subtask.subtask_id),
                            result.to_json(),
                            expected_last=0,
                        )
                await msg.ack()

    async def report(self, tenant, subtask, type_, **more) -> Any:
        report = SubtaskReport(
            task_id=subtask.task_id,
            subtask_id=subtask.subtask_id,
            attempt=subtask.attempt,
            worker=self.name,
            type=type_,
            stream_ids=[subtask.stream_id],
            **more,
        )
        await self.bus.store(
            subjects.report(tenant, subtask.task_id, subtask.subtask_id, subtask.attempt),
            report.to_json(),
        )


@contextlib.asynccontextmanager
async def working(bus, do, **more) -> Any:
    worker = FakeWorker(bus, do, **more)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class User:
    """What anyone with a NATS client can do."""

    def __init__(self, bus, tenant="default") -> None:
        self.bus = bus
        self.tenant = tenant

    async def ask(self, door, body: Contract, answer) -> Any:
        return await self.bus.request(subjects.api(self.tenant, door), body, answer, timeout_s=5)

    async def submit(self, goal="g", **more) -> Any:
        request = SubmitRequest(goal=goal, **more)
        return (await self.ask("task.submit", request, TaskAccepted)).task_id

    async def until_door_is_open(self) -> None:
        """Until a controller answers; no event tells that it is connected again."""
        async with asyncio.timeout(15):
            while True:
                with contextlib.suppress(NoResponderError, RequestTimeoutError):
                    await self.ask("task.list", TaskList(), TaskListReply)
                    return
                await asyncio.sleep(0.05)

    async def get(self, task_id) -> Any:
        return await self.ask("task.get", TaskGet(task_id=task_id), TaskStatus)

    async def control(self, task_id, action, **more) -> Any:
        return await self.bus.request(
            subjects.task_control(self.tenant, task_id),
            TaskControl(action=action, **more),
            TaskStatus,
            timeout_s=5,
        )

    async def log(self, task_id) -> Any:
        ask = TaskHistory(task_id=task_id)
        return (await self.ask("task.history", ask, TaskHistoryReply)).events

    async def until(self, task_id, is_reached, timeout_s=15.0) -> Any:
        """Follow the log until the status is as wanted."""
        sub = await self.bus.open(subjects.task_log(self.tenant, task_id))
        await self.bus.flush()
        status = None
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    with contextlib.suppress(NotFoundError, NoResponderError, RequestTimeoutError):
                        status = await self.get(task_id)
                        if is_reached(status):
                            return status
                    with contextlib.suppress(TimeoutError):
                        await sub.next_msg(timeout=1)
        except TimeoutError:
            raise AssertionError(f"not reached: {status}") from None
        finally:
            await sub.unsubscribe()

    async def end(self, task_id, timeout_s=15.0) -> Any:
        return await self.until(task_id, lambda one: one.state.is_terminal, timeout_s)


def plan(*nodes) -> Any:
    return [
        PlannedSubtask(id=id_, capability="general", instruction=f"do {id_}", depends_on=needs)
        for id_, *needs in nodes
    ]


@pytest.fixture
async def user(bus) -> Any:
    return User(bus)


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


async def test_the_durable_door_takes_work_while_no_controller_runs(bus, nats_server, user):
    request = TaskRequest(goal="g", pattern="single")
    await bus.store(subjects.task_submit("default", "t1"), request.to_json())
    async with working(bus, lambda _: "x"), controller(nats_server.url):
        assert (await user.end("t1")).output == "x"


async def test_a_controller_that_dies_is_replaced_by_any_other(bus, nats_server, user):
    gate = asyncio.Event()

    async def do(subtask) -> Any:
        await gate.wait()
        return subtask.subtask_id

    async with working(bus, do):
        async with controller(nats_server.url, "c1"):
            task_id = await user.submit(plan=plan(["a"], ["b", "a"]))
            await user.until(task_id, lambda one: one.version >= 4)
        gate.set()
        async with controller(nats_server.url, "c2"):
            assert (await user.end(task_id)).output == "b"


async def test_work_that_was_recorded_but_never_sent_is_sent_by_another(bus, nats_server, user):
    async with controller(nats_server.url):
        task_id = await user.submit(pattern="single")
        await user.until(task_id, lambda one: one.version >= 3)
    await bus.jetstream.purge_stream(subjects.WORK)
    async with working(bus, lambda _: "x"), controller(nats_server.url, "c2"):
        assert (await user.end(task_id)).output == "x"


async def test_two_controllers_carry_many_tasks_without_doing_anything_twice(
    bus, nats_server, user
):
    async with (
        controller(nats_server.url, "c1"),
        controller(nats_server.url, "c2"),
        working(bus, lambda one: one.subtask_id, name="w1"),
        working(bus, lambda one: one.subtask_id, name="w2"),
    ):
        shape = plan(["a"], ["b", "a"], ["c", "a"], ["d", "b", "c"])
        ids = await asyncio.gather(*(user.submit(f"g{n}", plan=shape) for n in range(20)))
        ends = await asyncio.gather(*(user.end(id_, 30) for id_ in ids))
        assert {one.output for one in ends} == {"d"}
        for id_ in ids:
            types = [one.type for one in await user.log(id_)]
            assert types.count("subtask.dispatched") == 4
            assert types.count("subtask.succeeded") == 4
            assert types.count("task.completed") == 1
        listed = await user.ask("task.list", TaskList(limit=5), TaskListReply)
    assert len(listed.tasks) == 5
    accepted = [one.accepted_at_ms for one in listed.tasks]
    assert accepted == sorted(accepted, reverse=True)


async def test_a_log_without_its_beginning_hides_no_other_task_from_the_list(
    bus, nats_server, user
):
    async with controller(nats_server.url), working(bus, lambda _: "x"):
        for task_id in ("old", "new"):
            await user.end(await user.submit(task_id=task_id, pattern="single"))
        await bus.jetstream.delete_msg(subjects.TASKS, 1)  # as if its time were over
        listed = await user.ask("task.list", TaskList(), TaskListReply)
    assert [one.task_id for one in listed.tasks] == ["new"]


async def test_a_finished_task_leaves_the_index_of_open_ones(bus, nats_server, user):
    async with controller(nats_server.url), working(bus, lambda _: "x"):
        await user.end(await user.submit(pattern="single"))
        async with asyncio.timeout(5):
            while await OpenTasks(bus).list():  # noqa: ASYNC110 - nobody tells of an index
                await asyncio.sleep(0.05)


async def test_a_controller_outlives_a_server_whose_jetstream_is_not_up(bus, nats_server, user):
    async with controller(nats_server.url):
        await nats_server.kill()
        nats_server.jetstream = False
        await nats_server.start()
        await bus.wait_connected(timeout_s=10)
        with pytest.raises(NoResponderError, match="the index cannot be read now"):
            await OpenTasks(bus).list()
        await nats_server.kill()
        nats_server.jetstream = True
        await nats_server.start()
        await bus.wait_connected(timeout_s=10)
        await user.until_door_is_open()
        async with working(bus, lambda _: "x"):
            assert (await user.end(await user.submit(pattern="single"))).output == "x"


async def test_a_task_that_an_emptied_server_forgot_can_be_submitted_again(bus, nats_server, user):
    async with controller(nats_server.url):
        await user.submit(task_id="t1", pattern="single")
        await user.until("t1", lambda one: one.version >= 3)
        await nats_server.kill()
        shutil.rmtree(nats_server.store_dir / "jetstream")
        await nats_server.start()
        await bus.wait_connected(timeout_s=10)
        await topology.ensure(bus, SETTINGS.topology)
        await user.until_door_is_open()
        async with working(bus, lambda _: "x"):
            await user.submit(task_id="t1", pattern="single")
            assert (await user.end("t1")).output == "x"


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
        async with asyncio.timeout(10):
            while await OpenTasks(bus).list():  # noqa: ASYNC110 - nobody tells of an index
                await asyncio.sleep(0.05)
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
        await asyncio.sleep(0.5)
        assert {one.subtask_id for one in worker.seen} == {"a"}
        await user.control(task_id, "resume")
        assert (await user.end(task_id)).state is TaskState.COMPLETED


async def test_a_plan_waits_for_approval(bus, nats_server, user):
    async with controller(nats_server.url), working(bus, lambda _: "x"):
        task_id = await user.submit(pattern="single", approval="plan")
        await user.until(task_id, lambda one: one.state is TaskState.AWAITING_APPROVAL)
        await user.control(task_id, "approve", by="me")
        assert (await user.end(task_id)).state is TaskState.COMPLETED


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
