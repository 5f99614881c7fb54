"""A task's budget reaches every stream of it: controller, worker and router with priced mocks."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from atlas import subjects
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.contracts.errors import BudgetExceededError, InvalidRequestError
from atlas.contracts.inference import (
    Budget,
    FinishReason,
    GenerateRequest,
    Message,
    ModelResponse,
    Role,
)
from atlas.contracts.streams import STREAM_EVENT, StreamCompleted, StreamEvent, StreamFailed
from atlas.contracts.tasks import SubtaskState, TaskState, TaskStatus
from atlas.contracts.work import Subtask
from atlas.embedded import NatsProcess
from atlas.provider_settings import ProviderSettings
from atlas.settings import Settings
from atlas.wire import TASK_BUDGET_HEADER, TASK_HEADER, outgoing_headers, read_reply, task_headers
from provider_router.accounting.budgets import amounts, task_limits
from provider_router.accounting.counters import Counters
from provider_router.accounting.reservations import Reservations
from tests.support.router import TENANT, TERMINAL, routing
from tests.support.tasks import User, controller, plan
from tests.support.workers import worker

PRICE = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 10.0}
HELLO = GenerateRequest(messages=[Message(role=Role.USER, content="Hello")], model="mock/standard")


@contextlib.asynccontextmanager
async def services(nats: NatsProcess, *, tokens: int, token_ms: int = 1) -> AsyncIterator[None]:
    """A router with a mock that takes money, a worker that asks it, and a controller."""
    mock = ProviderSettings.model_validate(
        {
            "kind": "mock",
            "models": [{"name": "standard", "price": PRICE}],
            "mock": {"tokens": tokens, "token_ms": token_ms, "first_token_ms": 10},
        }
    )
    async with (
        routing(nats, {"mock": mock}),
        controller(nats.url),
        worker(nats.url, model="mock/standard"),
    ):
        yield


async def stream_ends(bus: Bus, status: TaskStatus) -> list[StreamEvent]:
    """The terminal events of a task's streams."""
    found = []
    for one in status.subtasks:
        assert one.stream_id is not None
        subject = subjects.stream_write(TENANT, one.stream_id)
        async with asyncio.timeout(10):
            while True:
                stored = await bus.last(subjects.STREAMS, subject)
                assert stored is not None
                event = STREAM_EVENT.validate_json(stored.data)
                if event.type in TERMINAL:
                    break
                await asyncio.sleep(0.05)
        found.append(event)
    return found


async def counted(bus: Bus, task_id: str, budget: Budget) -> dict[str, int]:
    """What the counters of a task's budget come to, by unit."""
    async with asyncio.timeout(10):
        while [one async for one in Reservations(bus).all()]:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
    counters = Counters(bus)
    return {
        limit.unit.value: await counters.value(limit.subject)
        for limit in task_limits(TENANT, task_id, budget)
    }


async def generate(bus: Bus, headers: dict[str, str]) -> ModelResponse:
    """What anyone may ask of the door with headers."""
    head = outgoing_headers() | headers
    door = subjects.api(TENANT, "generate")
    reply = await bus.ask(door, HELLO.to_json(), head, timeout_s=20)
    return read_reply(reply.data, ModelResponse)


async def test_all_streams_of_a_task_are_counted_against_its_budget(bus, nats_server):
    budget = Budget(max_tokens=100_000, max_usd=1.0)
    user = User(bus)
    async with services(nats_server, tokens=30):
        task_id = await user.submit(plan=plan(["a"], ["b"], ["c", "a", "b"]), budget=budget)
        status = await user.end(task_id)
        assert status.state is TaskState.COMPLETED
        ends = await stream_ends(bus, status)
        assert len(ends) == 3
        spent = [amounts(end.usage, end.cost) for end in ends if isinstance(end, StreamCompleted)]
        assert await counted(bus, task_id, budget) == {
            "tokens": sum(one.tokens for one in spent),
            "microusd": sum(one.microusd for one in spent),
        }
        assert status.cost.total_usd == pytest.approx(
            sum(one.microusd for one in spent) / 1e6, 0.01
        )


@pytest.mark.parametrize("limit", [{"max_usd": 0.004}, {"max_tokens": 800}])
async def test_a_task_whose_budget_is_spent_fails_for_its_budget_and_is_not_tried_again(
    bus, nats_server, limit: dict[str, float]
):
    budget = Budget.model_validate(limit)
    user = User(bus)
    async with services(nats_server, tokens=2_000):
        task_id = await user.submit(plan=plan(["a"], ["b"], ["c", "a"]), budget=budget)
        status = await user.end(task_id)
        ends = await stream_ends(bus, status.model_copy(update={"subtasks": status.subtasks[:2]}))
    assert status.state is TaskState.FAILED
    assert (status.error.category, status.error.retryable) == ("budget", False)
    assert next(iter(limit)) in status.error.message
    assert {one.attempt for one in status.subtasks[:2]} == {1}
    assert {end.finish_reason for end in ends if isinstance(end, StreamCompleted)} == {
        FinishReason.BUDGET
    }
    used = amounts(status.usage, status.cost)
    spent = await counted(bus, task_id, budget)
    if budget.max_tokens:
        assert used.tokens <= spent["tokens"] <= budget.max_tokens * 1.05
    else:
        assert used.microusd <= spent["microusd"] + 1
        assert spent["microusd"] <= 4_000 * 1.05


async def test_what_others_spent_in_a_tasks_name_is_not_left_for_its_subtasks(bus, nats_server):
    budget = Budget(max_tokens=150)
    user = User(bus)
    async with services(nats_server, tokens=2_000):
        first = await generate(bus, task_headers("t1", budget))
        assert first.finish_reason is FinishReason.BUDGET
        with pytest.raises(BudgetExceededError, match="task t1, 150 tokens"):
            await generate(bus, task_headers("t1", budget))
        status = await user.end(await user.submit(task_id="t1", plan=plan(["a"]), budget=budget))
        (end,) = await stream_ends(bus, status)
    assert isinstance(end, StreamFailed)
    assert status.error.category == "budget"
    assert "the budget of task t1, 150 tokens, has 0 left" in status.error.message
    assert [one.attempt for one in status.subtasks] == [1]


async def test_what_a_worker_asks_for_with_its_subtask_shares_the_budget_of_its_task(
    bus, nats_server
):
    budget = Budget(max_tokens=150)
    subtask = Subtask(
        task_id="t1",
        subtask_id="a",
        attempt=1,
        capability="general",
        instruction="say hello",
        goal="a greeting",
        task_budget=budget,
        stream_id="first",
        idempotency_key="t1:a:1",
    )
    free = subtask.model_copy(update={"task_budget": None})
    async with (
        services(nats_server, tokens=2_000),
        Atlas.connect(nats_server.url, settings=Settings()) as atlas,
    ):
        vectors = await atlas.embed("a lake", model="mock/embedding", subtask=subtask)
        async with atlas.stream("Hello", stream_id="first", subtask=subtask) as stream:
            first = await stream.result()
        assert first.finish_reason is FinishReason.BUDGET
        used = vectors.usage.input_tokens + amounts(first.usage, first.cost).tokens
        assert (await counted(bus, "t1", budget))["tokens"] == used
        for asked in (
            atlas.generate("Hello", subtask=subtask),
            atlas.embed("a lake", model="mock/embedding", subtask=subtask),
        ):
            with pytest.raises(BudgetExceededError, match="task t1, 150 tokens"):
                await asked
        whole = await atlas.generate("Hello", subtask=free)
        assert whole.finish_reason is FinishReason.STOP


async def test_a_task_budget_that_nobody_can_read_is_told_at_the_door(bus, nats_server):
    headers = {TASK_HEADER: "t1", TASK_BUDGET_HEADER: json.dumps({"max_token": 5})}
    async with services(nats_server, tokens=5):
        with pytest.raises(InvalidRequestError, match=TASK_BUDGET_HEADER):
            await generate(bus, headers)


async def test_a_task_that_runs_out_of_time_fails_for_its_budget_and_its_stream_is_stopped(
    bus, nats_server
):
    user = User(bus)
    async with services(nats_server, tokens=2_000, token_ms=50):
        task_id = await user.submit(plan=plan(["a"]), budget=Budget(max_ms=1_500))
        status = await user.end(task_id)
        (end,) = await stream_ends(bus, status)
    assert status.state is TaskState.FAILED
    assert (status.error.category, status.error.retryable) == ("budget", False)
    assert "max_ms" in status.error.message
    assert end.type in {"stream.cancelled", "stream.completed"}
    assert [one.attempt for one in status.subtasks] == [1]


async def test_a_pause_does_not_use_up_a_tasks_time(bus, nats_server):
    user = User(bus)
    async with (
        services(nats_server, tokens=30, token_ms=40),
        Atlas.connect(nats_server.url, settings=Settings()) as atlas,
    ):
        task_id = await user.submit(plan=plan(["a"]), budget=Budget(max_ms=4_000))
        running = await user.until(
            task_id,
            lambda one: one.subtasks and one.subtasks[0].state is SubtaskState.RUNNING,
        )
        stream_id = running.subtasks[0].stream_id
        async with asyncio.timeout(10), atlas.watch_stream(stream_id) as stream:
            await anext(aiter(stream))
        await user.control(task_id, "pause")
        await asyncio.sleep(4.5)  # time itself is what is tested
        await user.control(task_id, "resume")
        status = await user.end(task_id)
    assert status.state is TaskState.COMPLETED
    assert [one.attempt for one in status.subtasks] == [1]
