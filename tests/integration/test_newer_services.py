"""What newer services write, beside those and the client of this version (contract A2)."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from atlas import subjects
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.contracts.base import now_ms
from atlas.contracts.inference import Cost, FinishReason, StreamMetrics, Usage
from atlas.contracts.streams import Ownership
from atlas.embedded import NatsProcess, Services
from atlas.reading import text_digest
from tests.support.router import TENANT

_PATIENCE_S = 30
SPENT = {"usage": Usage().model_dump(), "cost": Cost().model_dump()}
LENGTH, SHA256 = text_digest("one two")
STREAM: list[dict[str, object]] = [
    {"type": "stream.started", "provider": "p", "model": "p/m", "attempt": 1, "reason": "r"},
    {"type": "text.delta", "text": "one "},
    {"type": "stream.moved", "to": "north"},
    {"type": "text.delta", "text": "two", "novelty": {"a": 1}},
    {
        "type": "stream.completed",
        **SPENT,
        "finish_reason": FinishReason.STOP,
        "metrics": StreamMetrics(duration_ms=1).model_dump(),
        "events": 5,
        "text_length": LENGTH,
        "text_sha256": SHA256,
    },
]
STEP = {"id": "a", "capability": "draft", "instruction": "do", "novelty": 1}
TASK: list[dict[str, object]] = [
    {"type": "task.accepted", "request": {"goal": "g", "novelty": 1}, "request_sha256": "0"},
    {"type": "task.planned", "plan": [STEP], "planner": "caller"},
    {"type": "task.moved", "to": "north"},
]


_HALF = 3
"""So many are there before anyone watches; the rest comes live."""


async def write_stream(bus: Bus, first: int, last: int) -> None:
    """As a router of the next version would."""
    for seq in range(first, last + 1):
        place = {"stream_id": "s1", "seq": seq, "epoch": 1, "at_ms": now_ms()}
        data = json.dumps(STREAM[seq - 1] | place).encode()
        await bus.store(subjects.stream_write(TENANT, "s1"), data)


async def write_task(bus: Bus) -> None:
    """As a controller of the next version would."""
    for version, event in enumerate(TASK, 1):
        place = {"task_id": "t1", "version": version, "at_ms": now_ms()}
        data = json.dumps(event | place).encode()
        await bus.store(subjects.task_write(TENANT, "t1"), data)


async def collect[E](events: AsyncIterator[E], write: Callable[[], Awaitable[object]]) -> list[E]:
    """Every event; what is still to come is written once the first was read."""
    found: list[E] = []
    async for event in events:
        if not found:
            await write()
        found.append(event)
    return found


@pytest.fixture
async def services(nats_server: NatsProcess, bus: Bus) -> AsyncIterator[Services]:
    owner = Ownership(epoch=1, router="newer", at_ms=now_ms())
    await bus.store(subjects.stream_owner(TENANT, "s1"), owner.to_json())
    one = Services(nats_server.url, environment={"ATLAS_TOPOLOGY__ACK_WAIT_MS": "1000"})
    await one.start(["provider_router", "agent_controller"])
    yield one
    await one.stop()


@pytest.mark.usefixtures("services")
async def test_a_stream_of_a_newer_router_is_read_to_its_end(nats_server: NatsProcess, bus: Bus):
    await write_stream(bus, 1, _HALF)
    async with asyncio.timeout(_PATIENCE_S), Atlas.connect(nats_server.url) as atlas:
        async with atlas.watch_stream("s1") as stream:
            events = await collect(
                stream.events(), lambda: write_stream(bus, _HALF + 1, len(STREAM))
            )
        assert (await atlas.stream_result("s1")).content == "one two"
    assert [one.type for one in events] == [one["type"] for one in STREAM]
    assert json.loads(events[2].to_json())["to"] == "north"


@pytest.mark.usefixtures("services")
async def test_a_task_of_a_newer_controller_is_read_and_carried_to_its_end(
    nats_server: NatsProcess, bus: Bus
):
    await write_task(bus)
    async with asyncio.timeout(_PATIENCE_S), Atlas.connect(nats_server.url) as atlas:
        task = atlas.task_handle("t1")
        events = await collect(task.events(), task.cancel)
        assert (await atlas.task("t1")).state == "cancelled"
    told = [one.type for one in events]
    assert told[: len(TASK)] == [one["type"] for one in TASK]
    assert told[-1] == "task.cancelled"
    assert json.loads(events[2].to_json())["to"] == "north"
