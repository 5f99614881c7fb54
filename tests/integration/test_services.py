"""What every service tells of itself, and how it ends with whoever started it."""

import asyncio
import subprocess
from contextlib import aclosing
from typing import Any

import pytest

from atlas.client import Atlas
from atlas.contracts.inference import FinishReason
from atlas.embedded import SERVICES, Services

_PATIENCE_S = 30


@pytest.fixture
async def services(nats_server):
    environment = {
        "ATLAS_HEALTH_INTERVAL_MS": "50",
        "ATLAS_PROVIDERS__MOCK__KIND": "mock",
        "ATLAS_PROVIDERS__MOCK__MODELS": '["standard"]',
        "ATLAS_PROVIDERS__MOCK__MOCK__TOKEN_MS": "20",
    }
    running = Services(nats_server.url, subprocess.DEVNULL, environment)
    await running.start(SERVICES)
    yield running
    await running.stop()


@pytest.fixture
async def atlas(services, nats_server):
    assert services.running
    async with Atlas.connect(nats_server.url, tenant="default") as connected:
        yield connected


async def _first(atlas: Atlas, type_: str, source: str = "*", *, where=lambda _: True) -> Any:
    """What the first such event tells."""
    async with asyncio.timeout(_PATIENCE_S), aclosing(atlas.events(source, type_)) as events:
        async for event in events:
            if where(event.data):
                return event.data
    raise AssertionError("events end only with the connection")


async def test_every_service_tells_its_metrics(atlas: Atlas):
    for source in SERVICES:
        data = await _first(atlas, "service.metrics", source)
        assert data["uptime_ms"] > 0
        assert data["reconnects"] == 0


async def test_metrics_count_calls_and_how_work_ended(atlas: Atlas):
    await atlas.generate("Why is the sky blue?")
    task = await atlas.submit("Compare two databases", pattern="single")
    async with asyncio.timeout(_PATIENCE_S):
        await task.result()
    async with asyncio.TaskGroup() as group:
        router, worker, controller = (
            group.create_task(_first(atlas, "service.metrics", source, where=where))
            for source, where in (
                ("provider_router", lambda data: data["streams"]["completed"] >= 2),
                ("agent_worker", lambda data: data["subtasks"]["succeeded"] == 1),
                ("agent_controller", lambda data: data["decisions"] > 0),
            )
        )
    assert router.result()["calls"]["generate"] == 1
    assert router.result()["streams"]["failed"] == 0
    assert worker.result()["subtasks"]["failed"] == 0
    assert "task-get" in controller.result()["calls"]


@pytest.mark.parametrize(
    ("budget", "limit"), [({"max_tokens": 20}, "max_tokens"), ({"max_ms": 300}, "max_ms")]
)
async def test_a_stream_that_ends_for_its_budget_tells_which_limit_it_was(
    atlas: Atlas, budget: dict[str, int], limit: str
):
    told = asyncio.create_task(_first(atlas, "budget.exceeded"))
    await asyncio.sleep(0)  # the task subscribes before the request leaves on the same connection
    answer = await atlas.generate("Why is the sky blue?", budget=budget)
    assert answer.finish_reason is FinishReason.BUDGET
    data = await told
    assert data["stream_id"] == answer.stream_id
    assert data["limits"] == [limit]
    assert data["budget"] == budget
    assert data["usage"]["output_tokens"] > 0
