"""What makes no task is told: at the door by an answer, in the queue by an end and a letter."""

import asyncio
import base64
import json
from typing import Any

import pytest

from atlas import subjects, topology
from atlas.bus import Bus
from atlas.contracts.base import UserInput
from atlas.contracts.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
)
from atlas.contracts.ids import derived_id
from atlas.contracts.tasks import (
    PlannedSubtask,
    SubtaskResult,
    TaskAccepted,
    TaskControl,
    TaskGet,
    TaskList,
    TaskListReply,
    TaskState,
    TaskStatus,
)
from atlas.dead_letters import bury
from atlas.embedded import NatsProcess
from atlas.settings import NatsSettings
from tests.integration.test_tasks import SETTINGS, User, controller, plan, working

BLANK = PlannedSubtask(id="blank", capability="general", instruction="\t")


@pytest.fixture
async def user(bus) -> Any:
    return User(bus)


async def until_acked(bus, seq) -> None:
    """Until the controllers have acknowledged a report or result; no event tells it."""
    async with asyncio.timeout(10):
        while True:
            info = await bus.jetstream.consumer_info(subjects.REPORTS, subjects.CONTROLLERS)
            if info.ack_floor.stream_seq >= seq:
                return
            await asyncio.sleep(0.02)


class Misspelt(UserInput):
    gaol: str = "x"


async def test_what_cannot_be_done_is_refused_at_the_door_with_its_reason(nats_server, user):
    async with controller(nats_server.url):
        with pytest.raises(InvalidRequestError, match="did you mean 'goal'"):
            await user.ask("task.submit", Misspelt(), TaskAccepted)
        with pytest.raises(InvalidRequestError, match="not available in this version"):
            await user.submit(pattern="swarm")
        with pytest.raises(InvalidRequestError, match="a cycle: a → b → a"):
            await user.submit(plan=plan(["a", "b"], ["b", "a"]))
        with pytest.raises(NotFoundError):
            await user.get("nobody")
        with pytest.raises(NotFoundError):
            await user.control("nobody", "pause")


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"goal": " \n"}, "goal"),
        ({"pattern": "swarm"}, "pattern"),
        ({"pattern": "route"}, "pattern_options.routes"),
        ({"pattern": "pipeline"}, "pattern_options.stages"),
        ({"pattern": "map_reduce"}, "inputs"),
        ({"plan": [*plan(["a"]), BLANK]}, "plan[1].instruction"),
    ],
)
async def test_what_is_refused_at_the_door_is_named_and_leaves_nothing_behind(
    bus, nats_server, user, fields, path
):
    async with controller(nats_server.url):
        with pytest.raises(InvalidRequestError, match=path.replace("[", r"\[")) as refused:
            await user.submit(task_id="t1", **fields)
        with pytest.raises(NotFoundError):
            await user.get("t1")
    details: Any = refused.value.details
    assert [one["path"] for one in details["problems"]] == [path]
    for stream in (subjects.SUBMITS, subjects.TASKS, f"KV_{subjects.OPEN_TASKS}"):
        assert (await bus.jetstream.stream_info(stream)).state.last_seq == 0


@pytest.mark.parametrize(
    ("payload", "goal"),
    [
        (b"{not json", ""),
        (b'{"gaol": "x"}', ""),
        (b'{"goal": 7}', ""),
        (b'{"goal": "\\ud800"}', ""),
        (b'{"goal": " "}', " "),
        (b'{"goal": "a poem", "pattern": "swarm"}', "a poem"),
        (b'{"goal": "a poem", "pattrn": "single"}', "a poem"),
        (
            b'{"goal": "a poem", "plan": [{"id": "a", "capability": "b", "instruction": " "}]}',
            "a poem",
        ),
    ],
)
async def test_what_the_durable_door_cannot_take_ends_with_its_reason_and_its_goal(
    bus, nats_server, user, payload, goal
):
    events = await bus.open(subjects.events_of("default", "*", "task.rejected"))
    await bus.store(subjects.task_submit("default", "t1"), payload)
    async with controller(nats_server.url):
        status = await user.end("t1")
        event = json.loads((await events.next_msg(timeout=5)).data)
        letter = await bus.last(subjects.DEAD, subjects.dead("default", "submit", "t1"))
        with pytest.raises(ConflictError):
            await user.submit(task_id="t1", pattern="single")
        (listed,) = (await user.ask("task.list", TaskList(), TaskListReply)).tasks
    assert (listed.state, listed.goal, status.goal) == (TaskState.FAILED, goal, goal)
    assert status.state is TaskState.FAILED
    assert status.error.category == "validation"
    assert event["data"]["error"]["message"] == status.error.message
    assert json.loads(letter.data)["error"]["message"] == status.error.message
    assert (await bus.jetstream.stream_info(subjects.SUBMITS)).state.messages == 0


async def test_a_large_submission_that_is_wrong_all_over_ends_like_a_small_one(
    bus, nats_server, user
):
    nodes = [{"id": str(number)} for number in range(10_001)]
    payload = json.dumps({"goal": "too much", "plan": nodes, **dict.fromkeys(map(str, nodes))})
    await bus.store(subjects.task_submit("default", "t1"), payload.encode())
    async with controller(nats_server.url):
        status = await user.end("t1")
        assert (status.goal, status.state) == ("too much", TaskState.FAILED)
        assert "more)" in status.error.message
        with pytest.raises(InvalidRequestError):
            await bus.request(
                subjects.api("default", "task.submit"), payload.encode(), TaskStatus, timeout_s=5
            )
    letter = await bus.last(subjects.DEAD, subjects.dead("default", "submit", "t1"))
    assert base64.b64decode(json.loads(letter.data)["payload_base64"]) == payload.encode()
    assert (await bus.jetstream.stream_info(subjects.SUBMITS)).state.messages == 0


async def test_a_message_that_is_buried_again_after_a_crash_is_kept_once(bus):
    await bus.store(subjects.task_submit("default", "t1"), b"no json")
    pull = await bus.pull(subjects.SUBMITS, subjects.CONTROLLERS)
    error = InvalidRequestError("no json").to_info()
    for _ in range(2):
        (msg,) = await pull.fetch(1)
        await bury(bus, msg, "submit", "default", "t1", error)
        await msg.nak()
    assert (await bus.jetstream.stream_info(subjects.DEAD)).state.messages == 1


@pytest.mark.parametrize(
    "payload",
    [
        b"{not json",
        b'{"task_id": "t1", "subtask_id": "answer", "attempt": 0, "worker": "w"}',
        b'{"task_id": "t1", "subtask_id": "other", "attempt": 1, "worker": "w", "output": 1}',
    ],
)
async def test_what_is_no_result_but_took_its_place_ends_the_task_with_its_reason(
    bus, nats_server, user, payload
):
    place = subjects.result("default", "t1", "answer")
    async with controller(nats_server.url):
        await user.submit(task_id="t1", pattern="single")
        await user.until("t1", lambda one: one.version >= 3)
        seq = await bus.store(place, payload, expected_last=0)
        status = await user.end("t1")
    assert status.state is TaskState.FAILED
    assert status.error.category == "validation"
    assert place in status.error.message
    letter = await bus.last(subjects.DEAD, subjects.dead("default", "report", str(seq)))
    assert base64.b64decode(json.loads(letter.data)["payload_base64"]) == payload


async def test_a_result_that_nobody_waited_for_yet_counts_once_its_subtask_is_dispatched(
    bus, nats_server, user
):
    result = SubtaskResult(task_id="t1", subtask_id="answer", attempt=1, worker="w", output="x")
    place = subjects.result("default", "t1", "answer")
    async with controller(nats_server.url):
        seq = await bus.store(place, result.to_json(), expected_last=0)
        await until_acked(bus, seq)
        await user.submit(task_id="t1", pattern="single")
        assert (await user.end("t1")).output == "x"


@pytest.fixture
async def narrow(tmp_path) -> Any:
    """A connection to a server that takes 64 kB in a message."""
    config = tmp_path / "narrow.conf"
    config.write_text("max_payload: 64KB\n")
    server = NatsProcess(tmp_path / "narrow", extra=("-c", str(config)))
    await server.start()
    bus = await Bus.connect(NatsSettings(url=server.url), "test")
    await topology.ensure(bus, SETTINGS.topology)
    yield bus
    await bus.close()
    await server.stop()


async def last_of(log) -> Any:
    """The last event of a task, off a subscription to its log."""
    event: Any = {"type": "task.none"}
    while event["type"] not in {"task.completed", "task.failed"}:
        event = json.loads((await log.next_msg(timeout=5)).data)
    return event


async def test_work_that_no_message_can_hold_ends_the_task_with_its_reason(narrow):
    url = narrow.nats.connected_url.geturl()
    log = await narrow.open(subjects.task_log("default", "t1"))
    async with controller(url), working(narrow, lambda _: "x" * 20_000):
        await User(narrow).submit("g" * 50_000, task_id="t1", plan=plan(["a"], ["b", "a"]))
        error = (await last_of(log))["error"]
    assert error["category"] == "validation"
    assert "NATS takes 65536 in a message" in error["message"]


async def test_an_answer_that_no_message_can_hold_is_told_to_be_so(narrow):
    url = narrow.nats.connected_url.geturl()
    log = await narrow.open(subjects.task_log("default", "t1"))
    async with controller(url), working(narrow, lambda _: "x" * 10_000):
        await User(narrow).submit("g" * 50_000, task_id="t1", pattern="single")
        await last_of(log)
        with pytest.raises(PayloadTooLargeError, match="a TaskStatus of 70"):
            await User(narrow).get("t1")


@pytest.mark.parametrize(
    "subject",
    [
        "atlas.*.task.t1.submit",
        "atlas.default.task.*.submit",
        f"atlas.default.task.{'x' * 65}.submit",
    ],
)
async def test_a_submission_whose_subject_names_nobody_becomes_a_dead_letter(
    bus, nats_server, user, subject
):
    events = await bus.open(subjects.events_of("default", "*", "task.rejected"))
    await bus.store(subject, b'{"goal": "g", "pattern": "single"}')
    async with controller(nats_server.url):
        event = json.loads((await events.next_msg(timeout=5)).data)
        assert (await user.ask("task.list", TaskList(), TaskListReply)).tasks == []
    assert event["data"]["subject"] == subject
    letter = await bus.last(subjects.DEAD, subjects.dead("default", "submit", derived_id(subject)))
    assert json.loads(letter.data)["subject"] == subject


async def test_a_wildcard_is_no_name_and_reads_nobody_elses_task(bus, nats_server):
    other = User(bus, "acme")
    async with controller(nats_server.url):
        await other.submit("secret", task_id="t1", pattern="single")
        await other.until("t1", lambda one: one.version >= 3)
        for subject, body in (
            (subjects.api("*", "task.get"), TaskGet(task_id="t1")),
            (subjects.api("*", "task.list"), TaskList()),
            (subjects.task_control("acme", "*"), TaskControl(action="cancel")),
        ):
            with pytest.raises(InvalidRequestError, match=r"'\*' is no (tenant|id)"):
                await bus.request(subject, body, TaskStatus, timeout_s=5)
        assert (await other.get("t1")).state is TaskState.RUNNING
