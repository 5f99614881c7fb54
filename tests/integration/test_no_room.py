"""A full disk or account: doors say `overloaded`, and what was accepted goes on to its end."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from atlas import process, subjects, topology
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.contracts.base import Contract
from atlas.contracts.errors import AtlasError, OverloadedError
from atlas.contracts.inference import EmbedRequest, EmbedResponse, GenerateRequest
from atlas.contracts.streams import StreamAccepted, StreamState
from atlas.contracts.tasks import SubmitRequest, TaskAccepted
from atlas.contracts.work import Subtask, SubtaskResult
from atlas.embedded import Services
from atlas.nats_settings import NatsSettings
from atlas.settings import Settings
from atlas.worker import WorkContext, Worker
from atlas.worker.attempt import Handler
from tests.support.limited import SMALL, SMALL_VARIABLES, Limited, limited
from tests.support.router import TENANT
from tests.support.subtasks import send, until_reported, work

WORDS = "mock/standard"
FULL = {"store": "1MB"}


@contextlib.asynccontextmanager
async def atlas_on(one: Limited, **variables: str) -> AsyncIterator[Atlas]:
    """All services on the server, with answers that take some seconds."""
    services = Services(
        one.server.url,
        environment={
            **SMALL_VARIABLES,
            "ATLAS_PROVIDERS__MOCK__KIND": "mock",
            "ATLAS_PROVIDERS__MOCK__MOCK__TOKEN_MS": "60",
            "ATLAS_CONTROLLER__RECONCILE_INTERVAL_MS": "300",
            **variables,
        },
    )
    try:
        await services.start(["provider_router", "agent_controller", "agent_worker"])
        async with Atlas.connect(one.server.url, settings=Settings()) as atlas:
            yield atlas
    finally:
        await services.stop()


async def fill(bus: Bus) -> None:
    """More than the server may hold afterwards."""
    for number in range(4):
        await bus.store(subjects.task_write("somebody", "large"), b"%d" % number * 500_000)


async def asked(bus: Bus, door: str, request: Contract, answer: type[Contract]) -> AtlasError:
    """The error that a door answers, once its service found its way back to NATS."""
    async with asyncio.timeout(30):
        while True:
            try:
                await bus.request(subjects.api(TENANT, door), request, answer, timeout_s=5)
            except OverloadedError as error:
                return error
            except AtlasError:
                await asyncio.sleep(0.2)
            else:
                raise AssertionError(f"{door} stored something where there is no room")


async def test_what_was_accepted_waits_for_room_and_then_goes_on_to_its_end(tmp_path: Path):
    async with limited(tmp_path) as one, atlas_on(one) as atlas, asyncio.timeout(120):
        await fill(one.bus)
        task = await atlas.submit("Compare three lakes", pattern="parallel", task_id="t1")
        async with atlas.stream("Tell of a lake", model=WORDS, stream_id="s1") as stream:
            async for _ in stream:
                break
        async for event in task.events():
            if event.type == "subtask.started":
                break
        await one.rebound(**FULL)
        generate = GenerateRequest.model_validate(
            {"messages": [{"role": "user", "content": "Hello"}], "stream": True}
        )
        error = await asked(one.bus, "generate", generate, StreamAccepted)
        assert error.retry_after_ms
        assert "insufficient resources" in error.message
        submit = SubmitRequest(goal="Another", task_id="t2")
        assert (await asked(one.bus, "task.submit", submit, TaskAccepted)).retry_after_ms
        with pytest.raises(OverloadedError):
            await atlas.submit("Another", task_id="t2")
        await topology.ensure(one.bus, SMALL)  # as a service does that starts now
        before = (await atlas.read_stream("s1")).seq, len(await task.log())
        await asyncio.sleep(3)
        reading = await atlas.read_stream("s1")
        assert (reading.seq, len(await task.log())) == before
        assert reading.state is StreamState.ACTIVE
        await one.rebound()
        assert (await atlas.stream_result("s1")).content
        assert (await task.result()).output
        told = [event.type for event in await task.log()]
        assert "subtask.retried" not in told
        assert "subtask.failed" not in told


async def test_embeddings_that_a_budget_pays_are_refused_as_well_until_there_is_room(
    tmp_path: Path,
):
    budgets = json.dumps({"*": {"day": {"max_tokens": 1_000_000}}})
    request = EmbedRequest(input="a lake", model="mock/embedding")
    async with (
        limited(tmp_path) as one,
        atlas_on(one, ATLAS_BUDGETS__TENANTS=budgets) as atlas,
        asyncio.timeout(120),
    ):
        await fill(one.bus)
        await one.rebound(**FULL)
        error = await asked(one.bus, "embed", request, EmbedResponse)
        assert error.retry_after_ms
        assert "until there is room" in error.message
        await one.rebound()
        while True:
            with contextlib.suppress(AtlasError):
                assert (await atlas.embed("a lake", model="mock/embedding")).embeddings
                break
            await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def patient_worker(url: str, handler: Handler) -> AsyncIterator[None]:
    """A worker whose work is not delivered again while its server restarts."""
    own = Worker()
    own.handles("translate")(handler)
    settings = Settings(topology=SMALL.model_copy(update={"ack_wait_ms": 9_000}))
    bus = await Bus.connect(NatsSettings(url=url), "own")
    try:
        opening = process.open_context("agent_worker", "own", "workers", settings, bus)
        async with opening as context, own.compose(context) as app:
            yield
            await app.drain()
    finally:
        await bus.close()


async def test_a_result_without_room_is_kept_by_its_worker_and_not_made_again(tmp_path: Path):
    made: list[int] = []
    may_end = asyncio.Event()

    async def handler(_: Subtask, ctx: WorkContext) -> str:
        made.append(1)
        await ctx.progress(at="it")
        await may_end.wait()
        return "a result"

    async with limited(tmp_path) as one, asyncio.timeout(90):
        await fill(one.bus)
        async with patient_worker(one.server.url, handler):
            await send(one.bus, work())
            await until_reported(one.bus, "started")
            await one.rebound(**FULL)
            may_end.set()
            await asyncio.sleep(4 * SMALL.ack_wait_ms / 1000)
            place = subjects.result(TENANT, "t1", "s1")
            assert await one.bus.last(subjects.REPORTS, place) is None
            await one.rebound()
            while (kept := await one.bus.last(subjects.REPORTS, place)) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            assert SubtaskResult.model_validate_json(kept.data).output == "a result"
    assert made == [1]
