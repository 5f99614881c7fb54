"""`atlas top` against real NATS, with services that say what they are told to."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from nats.aio.msg import Msg

from atlas import subjects
from atlas.bus import Bus
from atlas.client.overview import Lookout, lookout
from atlas.contracts.base import now_ms
from atlas.contracts.catalogue import ModelInfo, ProviderInfo, ProvidersReply
from atlas.contracts.events import Event
from atlas.contracts.tasks import SubtaskState, SubtaskView, TaskState, TaskStatus
from atlas.nats_settings import NatsSettings
from atlas.settings import Settings
from atlas.topology import ensure_work_consumer
from tests.integration import cli_process
from tests.support.waiting import eventually


async def _tell(bus: Bus, source: str, type_: str, **data: object) -> None:
    event = Event(type=type_, source=source, at_ms=now_ms(), data=data)
    await bus.send(subjects.event("default", source, type_), event)


@pytest.fixture
async def worker(bus: Bus) -> AsyncIterator[None]:
    """A worker's heartbeats."""

    async def beat() -> None:
        while True:
            told = {"instance": "w1", "state": "ready", "running": 3, "concurrency": 8}
            await _tell(bus, "agent_worker", "service.health", **told)
            await asyncio.sleep(0.05)

    beating = asyncio.create_task(beat())
    yield
    beating.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await beating


@pytest.fixture
async def providers(bus: Bus) -> None:
    """A router's answer to who there is."""

    async def respond(msg: Msg) -> None:
        reply = ProvidersReply(
            router="r1",
            default_model="a/one",
            providers=[ProviderInfo(provider="a", kind="openai", circuit="half_open")],
            models=[ModelInfo(model="a/one", provider="a")],
        )
        await msg.respond(reply.to_json())

    await bus.subscribe(subjects.API_PROVIDERS_ALL, respond)
    await bus.flush()


@pytest.fixture
async def watch(bus: Bus, nats_server) -> AsyncIterator[Lookout]:
    async with lookout(Settings(nats=NatsSettings(url=nats_server.url))) as watching:
        assert bus.is_connected
        yield watching


@pytest.mark.usefixtures("worker", "providers")
async def test_a_command_looks_once_and_tells_what_does_not_answer(bus: Bus, nats_server, tmp_path):
    await bus.store(
        subjects.bucket_key(subjects.OPEN_TASKS, subjects.open_task("default", "t1")), b""
    )
    await bus.store(subjects.stream_request("default", "s1"), b"{}")
    ended = await cli_process.atlas(
        "top", "--once", "--json", nats_url=nats_server.url, cwd=tmp_path
    )
    assert ended.status == 0
    (told,) = ended.records
    assert [(one["instance"], one["health"]["running"]) for one in told["services"]] == [("w1", 3)]
    (lane,) = [one for one in told["queues"] if one["waiting"]]
    assert (lane["consumer"], lane["waiting"]) == ("routers-interactive", 1)
    assert told["providers"]["models"] == {"a": 1}
    assert told["streams"] == {"count": 1, "shown": [{"stream_id": "s1"}]}
    assert list(told["unanswered"]) == ["tasks"]
    assert "nobody listens on atlas.default.api.task.get" in told["unanswered"]["tasks"]


async def test_in_a_pipe_every_look_is_told_until_it_is_interrupted(
    bus: Bus, nats_server, tmp_path
):
    assert bus.is_connected
    process = await cli_process.start(
        "top", "--interval", "0.2", nats_url=nats_server.url, cwd=tmp_path
    )
    assert process.stdout is not None
    looks = 0
    async with asyncio.timeout(cli_process.PATIENCE_S):
        while looks < 2:
            looks += (await process.stdout.readline()).startswith(b"at ")
    process.send_signal(2)
    assert (await cli_process.ended(process)).status == 130


async def test_an_open_task_is_told_with_how_far_it_is(bus: Bus, watch: Lookout):
    def view(name: str, state: SubtaskState) -> SubtaskView:
        return SubtaskView(subtask_id=name, capability="c", instruction="i", state=state)

    async def respond(msg: Msg) -> None:
        subtasks = [view("a", SubtaskState.SUCCEEDED), view("b", SubtaskState.RUNNING)]
        status = TaskStatus(
            task_id="t1",
            state=TaskState.RUNNING,
            version=4,
            goal="g",
            subtasks=subtasks,
            accepted_at_ms=1,
            updated_at_ms=2,
        )
        await msg.respond(status.to_json())

    await bus.subscribe(subjects.API_TASK_GET_ALL, respond)
    for tenant in ("default", "other"):
        key = subjects.bucket_key(subjects.OPEN_TASKS, subjects.open_task(tenant, "t1"))
        await bus.store(key, b"")
    told = (await watch.look()).tasks
    assert told is not None
    assert told.count == 1
    (task,) = told.shown
    assert (task.task_id, task.subtasks_done, task.subtasks) == ("t1", 1, 2)


async def test_a_stream_is_told_with_the_model_that_was_heard_of(bus: Bus, watch: Lookout):
    for name in ("s1", "s2"):
        await bus.store(subjects.stream_request("default", name), b"{}")
    await _tell(bus, "provider_router", "stream.started", stream_id="s1", model="a/one")
    await eventually(lambda: watch.roll.stream("s1").model)
    told = (await watch.look()).streams
    assert told is not None
    assert [(one.stream_id, one.model) for one in told.shown] == [("s2", None), ("s1", "a/one")]


async def test_a_question_without_an_answer_holds_up_no_other(bus: Bus, watch: Lookout):
    await bus.subscribe(subjects.API_PROVIDERS_ALL, _says_nothing)
    await ensure_work_consumer(bus, watch.settings.topology, "code", "normal")
    await bus.store(subjects.work("default", "code", "normal"), b"{}")
    told = await watch.look()
    assert told.providers is None
    assert list(told.unanswered) == ["providers"]
    assert told.queues is not None
    assert [one.consumer for one in told.queues if one.waiting] == ["workers-code-normal"]


async def _says_nothing(msg: Msg) -> None:
    assert msg.reply


async def test_what_is_no_event_changes_nothing(bus: Bus, watch: Lookout):
    subject = subjects.event("default", "agent_worker", "service.health")
    await bus.publish(subject, b"nonsense")
    await _tell(bus, "agent_worker", "service.health", instance="w1", state="ready")
    await eventually(lambda: watch.roll.instances == {"w1"})


async def test_without_nats_every_part_says_so(bus: Bus, watch: Lookout, nats_server):
    await bus.close()
    await nats_server.stop()
    await eventually(lambda: not watch.bus.is_connected)
    told = await watch.look()
    assert set(told.unanswered) == {"queues", "providers", "streams", "tasks"}
    assert all("NATS is away" in one for one in told.unanswered.values())
