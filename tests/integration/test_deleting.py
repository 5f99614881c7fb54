"""What is deleted is gone: from history, from the log, from the object store; and stays away."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_controller.log import Logged, TaskLog
from agent_controller.tasks.view import TaskView
from atlas import subjects
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.contracts.base import now_ms
from atlas.contracts.deleting import TaskDeleted
from atlas.contracts.errors import (
    AtlasError,
    ConflictError,
    InvalidTransitionError,
    NotFoundError,
    OverloadedError,
)
from atlas.contracts.events import DeadLetter
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.streams import Ownership, StreamState
from atlas.contracts.task_events import TaskAcceptedEvent, TaskDeletedEvent
from atlas.contracts.tasks import SubmitRequest, TaskAccepted, TaskRequest, TaskState
from atlas.contracts.work import SubtaskResult
from atlas.embedded import Stack, standalone
from atlas.erasing import purge
from atlas.nats_settings import NatsSettings
from atlas.objects import Objects
from atlas.provider_settings import ProviderSettings
from tests.integration import cli_process
from tests.support.router import TENANT
from tests.support.router import Stack as RouterStack
from tests.support.router import stack as router_stack

SECRET = "the heron is called Agathe"
FAST = {"first_token_ms": 0, "token_ms": 0}
SLOW = {"first_token_ms": 0, "token_ms": 50}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[RouterStack]:
    providers = {
        "mock": ProviderSettings.model_validate({"kind": "mock", "models": ["m"], "mock": FAST}),
        "slow": ProviderSettings.model_validate({"kind": "mock", "models": ["m"], "mock": SLOW}),
    }
    async with router_stack(tmp_path, providers) as one:
        yield one


async def stored_with(bus: Bus, text: str) -> list[str]:
    """The subjects of every stored message that has the text in it."""
    found = []
    for info in await bus.jetstream.streams_info():
        name = info.config.name or ""
        if name != subjects.EVENTS:
            found += [one.subject async for one in bus.read(name, ">") if text.encode() in one.data]
    return found


async def ended(atlas: Atlas, stream_id: str) -> str:
    async with (
        asyncio.timeout(20),
        atlas.stream(SECRET, stream_id=stream_id, model="mock/m") as stream,
    ):
        return (await stream.result()).content


async def until_forgotten(bus: Bus) -> None:
    """Wait until nothing has the secret in it."""
    async with asyncio.timeout(20):
        while await stored_with(bus, SECRET):  # noqa: ASYNC110 - a removal tells nobody
            await asyncio.sleep(0.05)


async def test_a_deleted_stream_is_stored_nowhere(rig: RouterStack):
    await ended(rig.atlas, "s1")
    with contextlib.suppress(AtlasError):
        await rig.atlas.control_stream("s1", "cancel", reason=SECRET)
    await rig.bus.store(subjects.dead(TENANT, "request", "s1"), SECRET.encode())
    assert await stored_with(rig.bus, SECRET)
    deleted = await rig.atlas.delete_stream("s1")
    assert deleted.messages > 3
    assert await stored_with(rig.bus, SECRET) == []
    with pytest.raises(NotFoundError):
        await rig.atlas.stream_result("s1")
    assert (await rig.atlas.delete_stream("s1")).messages == 0
    with pytest.raises(NotFoundError):
        await rig.atlas.control_stream("s1", "cancel")


async def test_a_stream_that_runs_or_is_not_there_is_not_deleted(rig: RouterStack):
    with pytest.raises(NotFoundError, match="no stream 'none' of tenant 'default'"):
        await rig.atlas.delete_stream("none")
    async with rig.atlas.stream(SECRET, stream_id="s1", model="slow/m") as stream:
        await anext(aiter(stream))
        with pytest.raises(InvalidTransitionError, match="is active; cancel it first"):
            await rig.other.delete_stream("s1")
        await stream.cancel()
        with contextlib.suppress(AtlasError):
            await stream.result()
    assert (await rig.atlas.delete_stream("s1")).messages > 0


async def test_the_id_of_a_deleted_stream_is_used_up(rig: RouterStack):
    await ended(rig.atlas, "s1")
    await rig.atlas.delete_stream("s1")
    with pytest.raises(ConflictError, match="'s1' was deleted; use a new one"):
        await rig.atlas.generate(SECRET, model="mock/m", stream_id="s1")
    told = await rig.bus.open(subjects.events_of(TENANT, "provider_router", "request.rejected"))
    await rig.bus.flush()
    body = json.dumps({"messages": [{"role": "user", "content": SECRET}], "model": "mock/m"})
    await rig.bus.store(subjects.stream_request(TENANT, "s1"), body.encode())
    assert b"s1 was deleted" in (await told.next_msg(timeout=10)).data
    await until_forgotten(rig.bus)


async def test_what_a_router_still_writes_that_lost_a_deleted_stream_is_removed(rig: RouterStack):
    async with rig.atlas.stream(SECRET, stream_id="s1", model="slow/m") as stream:
        await anext(aiter(stream))
        last = await rig.bus.last(subjects.STREAMS, subjects.stream_owner(TENANT, "s1"))
        assert last is not None
        was = Ownership.model_validate_json(last.data)
        nobody = was.model_copy(update={"epoch": was.epoch + 1, "deleted": True})
        subject = subjects.stream_owner(TENANT, "s1")
        await rig.bus.store(subject, nobody.to_json(), expected_last=last.seq)
    async with asyncio.timeout(20):
        words = subjects.stream_write(TENANT, "s1")
        while await rig.bus.last(subjects.STREAMS, words):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.05)


@pytest.fixture
async def running() -> AsyncIterator[Stack]:
    """All of Atlas, with a mock that answers at once."""
    environment = {
        "ATLAS_PROVIDERS__MOCK__KIND": "mock",
        "ATLAS_TOPOLOGY__ACK_WAIT_MS": "1000",
        "ATLAS_CONTROLLER__RECONCILE_INTERVAL_MS": "200",
    }
    async with standalone(controllers=2, environment=environment) as one:
        yield one


@pytest.fixture
async def bus(running: Stack) -> AsyncIterator[Bus]:
    connection = await Bus.connect(NatsSettings(url=running.nats_url), "test")
    yield connection
    await connection.close()


async def test_a_deleted_task_is_stored_nowhere_and_stays_away(running: Stack, bus: Bus):
    async with Atlas.connect(running.nats_url) as atlas, asyncio.timeout(60):
        task = await atlas.submit(SECRET, pattern="parallel", task_id="t1", inputs={"note": SECRET})
        await task.result()
        await leftovers(bus, "t1")
        status = await task.status()
        streams = [one.stream_id for one in status.subtasks if one.stream_id]
        deleted = await deleted_in_time(atlas, "t1")
        assert (deleted.streams, deleted.objects) == (len(streams), 2)
        assert await stored_with(bus, SECRET) == []
        assert await stored_with(bus, "t1.facts") == []
        with pytest.raises(NotFoundError):
            await task.status()
        assert (await atlas.delete_task("t1")).messages == 0
        assert [one.task_id for one in await atlas.tasks()] == []
        late = SubtaskResult(
            task_id="t1",
            subtask_id="facts",
            attempt=1,
            worker="w",
            output=SECRET,
            usage=Usage(),
            cost=Cost(),
        )
        await bus.store(subjects.result(TENANT, "t1", "facts"), late.to_json())
        await until_forgotten(bus)
        assert (await atlas.delete_task("t1")).messages == 0
        submit = SubmitRequest(goal=SECRET, task_id="t1")
        with pytest.raises(ConflictError, match="the task 't1' was deleted; choose another id"):
            await bus.request(subjects.api(TENANT, "task.submit"), submit, TaskAccepted)
        rejected = await bus.open(subjects.events_of(TENANT, "agent_controller", "task.rejected"))
        await bus.flush()
        await atlas.submit(SECRET, pattern="single", task_id="t1")  # the durable door
        assert b"was deleted" in (await rejected.next_msg(timeout=10)).data
        await until_forgotten(bus)
        with pytest.raises(NotFoundError):
            await task.status()


async def deleted_in_time(atlas: Atlas, task_id: str) -> TaskDeleted:
    """As a person does who is told that it is too early."""
    while True:
        with contextlib.suppress(OverloadedError):
            return await atlas.delete_task(task_id)
        await asyncio.sleep(0.1)


async def leftovers(bus: Bus, task_id: str) -> None:
    """What may lie about of a task: objects, work that nobody took, a report nobody could read."""
    await Objects(bus).put(f"{TENANT}.{task_id}.facts.1", [SECRET])
    await Objects(bus).put(f"{TENANT}.{task_id}.output", [SECRET])
    await Objects(bus).put(f"{TENANT}.{task_id}x.output", ["of another task"])
    work = {
        "task_id": task_id,
        "subtask_id": "facts",
        "attempt": 1,
        "capability": "nobodys",
        "instruction": SECRET,
        "goal": SECRET,
        "stream_id": "s-facts",
        "idempotency_key": f"{task_id}:facts:1",
    }
    await bus.store(subjects.work(TENANT, "nobodys", "normal"), json.dumps(work).encode())
    letter = DeadLetter(
        kind="report",
        id="9",
        subject=subjects.report(TENANT, task_id, "facts", 1),
        at_ms=now_ms(),
        error=AtlasError(SECRET).to_info(),
        payload_base64="",
    )
    await bus.store(subjects.dead(TENANT, "report", "9"), letter.to_json())


async def test_a_task_that_has_not_ended_is_not_deleted(running: Stack):
    async with Atlas.connect(running.nats_url) as atlas, asyncio.timeout(60):
        plan: list[object] = [{"id": "a", "capability": "nobodys", "instruction": "Wait."}]
        task = await atlas.submit("Wait", plan=plan, task_id="t1")
        while True:
            with contextlib.suppress(NotFoundError):
                if (await task.status()).state is TaskState.RUNNING:
                    break
            await asyncio.sleep(0.05)
        with pytest.raises(InvalidTransitionError, match="task 't1' is running; cancel it first"):
            await atlas.delete_task("t1")
        await task.cancel()
        assert (await deleted_in_time(atlas, "t1")).messages > 0


async def test_a_controller_that_knew_a_deleted_task_forgets_it(running: Stack, bus: Bus):
    assert running.nats_url
    log, key = TaskLog(bus), (TENANT, "t9")
    known = Logged(TaskView(*key))
    accepted = TaskAcceptedEvent(
        task_id="t9",
        version=1,
        at_ms=now_ms(),
        request=TaskRequest(goal="x"),
        request_sha256="0" * 64,
    )
    known = await log.append(known, accepted)
    assert (await log.read(known)).view.version == 1
    deleted = TaskDeletedEvent(task_id="t9", version=2, at_ms=now_ms())
    await log.append(known, deleted)
    assert (await log.read(known)).view.is_deleted
    await purge(bus, subjects.TASKS, subjects.task_write(*key), keep=1)
    for one in (known, Logged(TaskView(*key))):
        view = (await log.read(one)).view
        assert (view.version, view.is_deleted) == (0, True)


async def test_the_commands_ask_before_they_delete(running: Stack, tmp_path: Path):
    async def atlas(*arguments: str) -> cli_process.Ended:
        return await cli_process.atlas(*arguments, nats_url=running.nats_url, cwd=tmp_path)

    async with Atlas.connect(running.nats_url) as client, asyncio.timeout(60):
        async with client.stream(SECRET, stream_id="s1") as stream:
            await stream.result()
        await (await client.submit(SECRET, pattern="single", task_id="t1")).result()
        refused = await atlas("stream", "delete", "s1")
        assert (refused.status, "say --yes" in refused.err) == (2, True)
        assert (await client.read_stream("s1")).state is StreamState.COMPLETED
        gone = await atlas("stream", "delete", "s1", "--yes")
        assert (gone.status, gone.out.startswith("stream s1: deleted, ")) == (0, True)
        while (gone := await atlas("task", "delete", "t1", "--yes", "--json")).status == 1:
            assert "overloaded" in gone.err
        assert gone.status == 0, gone.err
        assert gone.records[0]["streams"] == 1
        assert (await atlas("task", "delete", "nobodys", "--yes")).status == 2
