"""What makes no task is told: at the door by an answer, in the queue by an end and a letter."""

import asyncio
import base64
import json
from typing import Any

import pytest

from atlas import subjects, topology
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.contracts.base import UserInput, now_ms
from atlas.contracts.errors import (
    ConflictError,
    InvalidRequestError,
    InvalidTransitionError,
    NotFoundError,
    PayloadTooLargeError,
)
from atlas.contracts.ids import derived_id
from atlas.contracts.tasks import (
    PlannedSubtask,
    TaskAccepted,
    TaskControl,
    TaskGet,
    TaskList,
    TaskListReply,
    TaskRequest,
    TaskState,
    TaskStatus,
)
from atlas.contracts.work import SubtaskResult
from atlas.dead_letters import bury
from atlas.embedded import NatsProcess
from atlas.nats_settings import NatsSettings
from tests.support.tasks import SETTINGS, User, controller, limited, lying, plan, wide, working
from tests.support.waiting import eventually
from tests.support.workers import worker

BLANK = PlannedSubtask(id="blank", capability="general", instruction="\t")


async def until_acked(bus, seq) -> None:
    """Until the controllers have acknowledged a report or result; no event tells it."""
    async with asyncio.timeout(10):
        while True:
            info = await bus.jetstream.consumer_info(subjects.REPORTS, subjects.CONTROLLERS)
            if info.ack_floor.stream_seq >= seq:
                return
            await asyncio.sleep(0.02)


class WithoutId(UserInput):
    """A plan whose subtask has no id, as somebody may send it."""

    goal: str = "g"
    plan: tuple[dict[str, str], ...] = ({"capability": "general", "instruction": "do"},)


class Misspelt(UserInput):
    gaol: str = "x"


async def test_what_cannot_be_done_is_refused_at_the_door_with_its_reason(nats_server, user):
    async with controller(nats_server.url):
        with pytest.raises(InvalidRequestError, match="did you mean 'goal'"):
            await user.ask("task.submit", Misspelt(), TaskAccepted)
        with pytest.raises(InvalidRequestError, match=r"plan\[0\]\.id: .*required"):
            await user.ask("task.submit", WithoutId(), TaskAccepted)
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
        ({"plan": plan(["a"], ["a"])}, "plan[1].id"),
        ({"plan": plan(["a", "b"])}, "plan[0].depends_on[0]"),
        ({"plan": plan(["a", "b"], ["b", "a"])}, "plan[1].depends_on[0]"),
        ({"plan": plan(["replan-1"]), "max_replans": 1}, "plan[0].id"),
        ({"deadline_ms": 1}, "deadline_ms"),
        ({"approval_expires_ms": 1}, "approval_expires_ms"),
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


async def test_work_that_no_worker_can_read_fails_its_subtask_and_is_not_sent_again(
    bus, nats_server, user
):
    async with controller(nats_server.url, settings=limited()):
        task_id = await user.submit(plan=wide(1), deadline_ms=now_ms() + 20_000)

        async def is_lying() -> bool:
            return bool(await lying(bus))

        await eventually(is_lying)
        subject = subjects.work("default", "general", "normal")
        work = json.loads((await bus.last(subjects.WORK, subject)).data)
        await bus.jetstream.purge_stream(subjects.WORK)
        await bus.store(subject, json.dumps({**work, "goal": None}).encode())
        async with worker(nats_server.url):
            status = await user.end(task_id, 30)
    assert status.state is TaskState.FAILED
    assert status.subtasks[0].error.code == "invalid_request"
    assert "goal: " in status.subtasks[0].error.message
    assert (await bus.jetstream.stream_info(subjects.DEAD)).state.messages == 1


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


async def test_a_goal_of_ten_megabytes_is_refused_before_it_is_sent(nats_server, user):
    goal = "g" * 10_000_000
    async with controller(nats_server.url), Atlas.connect(nats_server.url) as atlas:
        for submitted in (user.submit(goal), atlas.submit(goal)):
            with pytest.raises(PayloadTooLargeError, match="10000"):
                await submitted
        assert (await user.ask("task.list", TaskList(), TaskListReply)).tasks == []


async def test_a_request_that_fits_a_message_and_not_a_log_is_refused_or_ends_with_its_reason(
    bus, nats_server, user
):
    request = TaskRequest(goal="g" * 600_000)
    async with controller(nats_server.url):
        with pytest.raises(PayloadTooLargeError, match="at most 524288 are taken"):
            await user.submit(request.goal)
        await bus.store(subjects.task_submit("default", "t1"), request.to_json())
        status = await user.end("t1")
    assert (status.error.code, status.state) == ("payload_too_large", TaskState.FAILED)
    assert status.goal == "g" * 1_000


async def test_a_deadline_in_the_past_ends_what_came_while_every_service_was_down(
    bus, nats_server, user
):
    late = TaskRequest(goal="g", pattern="single", deadline_ms=now_ms() - 1)
    await bus.store(subjects.task_submit("default", "t1"), late.to_json())
    async with controller(nats_server.url):
        status = await user.end("t1")
        types = [one.type for one in await user.log("t1")]
        again = await user.submit(task_id="t1", pattern="single", deadline_ms=late.deadline_ms)
    assert (status.state, status.error.category) == (TaskState.FAILED, "timeout")
    assert types == ["task.accepted", "task.failed"], "nothing was begun"
    assert again == "t1", "the same request again is the same task"


async def test_a_finished_task_takes_no_control_and_says_what_it_is(bus, nats_server, user):
    async with controller(nats_server.url), working(bus, lambda _: "done"):
        await user.submit(task_id="t1", pattern="single", plan=plan(["a"]))
        end = await user.end("t1")
        for action in ("pause", "resume", "cancel", "approve", "reject"):
            with pytest.raises(InvalidTransitionError, match="the task is completed"):
                await user.control("t1", action)
        with pytest.raises(InvalidTransitionError, match="the task is completed"):
            await user.control("t1", "approve", subtask_id="a")
        assert (await user.get("t1")).version == end.version


async def test_an_approval_twice_is_one_and_one_of_nothing_is_refused(bus, nats_server, user):
    async with controller(nats_server.url), working(bus, lambda _: "done"):
        await user.submit(task_id="t1", plan=plan(["a"], ["b", "a"]), approval="subtasks")
        await user.until("t1", lambda one: one.state == "awaiting_approval")
        with pytest.raises(NotFoundError, match="has no subtask 'z'"):
            await user.control("t1", "approve", subtask_id="z")
        with pytest.raises(InvalidTransitionError, match="subtask 'b' is waiting"):
            await user.control("t1", "approve", subtask_id="b")
        for _ in range(2):
            await user.control("t1", "approve", subtask_id="a")
        await user.until("t1", lambda one: one.subtasks[1].state == "awaiting_approval")
        await user.control("t1", "approve")
        await user.end("t1")
        approved = [one for one in await user.log("t1") if one.type == "task.approved"]
    assert [(one.subtask_id, one.by) for one in approved] == [("a", None), ("b", None)]


async def test_a_result_that_breaks_its_schema_ends_the_subtask_with_what_is_wrong(
    bus, nats_server, user
):
    (node,) = plan(["a"])
    node = node.model_copy(update={"output_schema": {"type": "object", "required": ["sum"]}})
    async with controller(nats_server.url), working(bus, lambda _: {"total": 3}):
        await user.submit(task_id="t1", plan=[node])
        status = await user.end("t1")
    assert "'sum' is a required property" in status.error.message


async def test_a_capability_that_no_worker_has_waits_for_one_that_does(bus, nats_server, user):
    (node,) = plan(["a"])
    node = node.model_copy(update={"capability": "draft"})
    async with controller(nats_server.url):
        await user.submit(task_id="t1", plan=[node])
        await user.until("t1", lambda one: [it.state for it in one.subtasks] == ["dispatched"])
        async with working(bus, lambda _: "done"):
            assert (await user.end("t1")).output == "done"
