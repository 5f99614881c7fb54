"""Plans that change while they run, and approvals that nobody gives, on real NATS."""

import asyncio
from typing import Any

import pytest

from atlas import subjects
from atlas.contracts.errors import InvalidTransitionError, ProviderAuthError
from atlas.contracts.streams import StreamControl
from atlas.contracts.tasks import TaskState
from atlas.worker.context import WorkContext
from tests.support.tasks import controller, plan, working
from tests.support.workers import at_work


def added(id_, *needs) -> Any:
    return {"id": id_, "capability": "general", "instruction": f"do {id_}", "depends_on": [*needs]}


CHANGE = {
    "added": [added("b2"), added("c2", "a", "b2")],
    "removed": ["b", "slow", "c"],
    "reason": "b has no key",
}


def doing(subtask) -> Any:
    if subtask.capability == "planning":
        return CHANGE
    if subtask.subtask_id == "b":
        return ProviderAuthError("no key")
    return None if subtask.subtask_id == "slow" else f"{subtask.subtask_id} is done"


async def test_a_plan_changes_after_a_failure_and_finished_work_is_kept(bus, nats_server, user):
    nodes = plan(["a"], ["b", "a"], ["slow", "a"], ["c", "a", "b", "slow"])
    async with (
        controller(nats_server.url),
        controller(nats_server.url, "c2"),
        working(bus, doing) as worker,
    ):
        await user.submit(task_id="t1", plan=nodes, max_replans=1)
        status = await user.end("t1")
        log = await user.log("t1")
    assert (status.state, status.output) == (TaskState.COMPLETED, "c2 is done")
    (change,) = [one for one in log if one.type == "task.replanned"]
    assert (change.reason, change.because) == ("b has no key", ["b"])
    assert change.removed == ["b", "slow", "c"]
    assert [one.subtask_id for one in status.subtasks] == ["a", "replan-1", "b2", "c2"]
    done = [one.subtask_id for one in worker.seen]
    assert done.count("a") == 1, "what was finished is not done again"
    slow = next(one for one in log if one.type == "subtask.cancelled")
    assert slow.subtask_id == "slow"
    stream_id = next(one.stream_id for one in worker.seen if one.subtask_id == "slow")
    told = await bus.last(subjects.CONTROL, subjects.stream_control("default", stream_id))
    assert StreamControl.model_validate_json(told.data).action == "cancel"


async def test_a_handler_says_with_its_result_that_the_plan_must_change(bus, nats_server, user):
    async def look(_: object, ctx: WorkContext) -> str:
        ctx.ask_to_replan("the source is in Dutch")
        return "a source"

    answer = {
        "added": [added("translation", "source"), added("text", "translation")],
        "removed": ["draft"],
        "reason": "it must be translated first",
    }

    def do(subtask) -> Any:
        return answer if subtask.capability == "planning" else f"{subtask.subtask_id} is done"

    nodes = [
        {"id": "source", "capability": "translate", "instruction": "find it"},
        {**added("draft", "source")},
    ]
    async with (
        controller(nats_server.url),
        at_work(nats_server.url, look),
        working(bus, do) as worker,
    ):
        await user.submit(task_id="t1", plan=nodes, max_replans=1)
        status = await user.end("t1")
        log = await user.log("t1")
    assert status.output == "text is done"
    assert "draft" not in {one.subtask_id for one in worker.seen}
    (said,) = [one for one in log if getattr(one, "replan", None)]
    assert (said.subtask_id, said.output, said.replan) == (
        "source",
        "a source",
        "the source is in Dutch",
    )
    (change,) = [one for one in log if one.type == "task.replanned"]
    assert change.because == ["source"]


async def test_an_approval_expires_without_a_word_from_anybody(bus, nats_server, user):
    async with controller(nats_server.url), controller(nats_server.url, "c2"):
        sub = await bus.open(subjects.task_log("default", "t1"))
        await user.submit(task_id="t1", pattern="single", approval="plan", approval_expires_ms=300)
        status = await user.end("t1")
        with pytest.raises(InvalidTransitionError, match="the task is cancelled"):
            await user.control("t1", "approve", by="anna")
        log = await user.log("t1")
    assert status.state is TaskState.CANCELLED
    waiting, no, end = log[-3:]
    assert (no.type, no.by, end.by) == ("task.approval_rejected", "atlas", "atlas")
    assert no.at_ms >= waiting.expires_at_ms == waiting.at_ms + 300
    assert sub.pending_msgs == len(log), "each controller saw it, and one said it"


async def test_a_subtask_that_nobody_approves_goes_on_where_that_was_asked(bus, nats_server, user):
    asked = {"approval": "subtasks", "approval_expires_ms": 200, "on_approval_expired": "approve"}
    async with controller(nats_server.url), working(bus, lambda _: "done"):
        await user.submit(task_id="t1", plan=plan(["a"], ["b", "a"]), **asked)
        status = await user.end("t1")
        log = await user.log("t1")
    assert status.state is TaskState.COMPLETED
    assert [(one.subtask_id, one.by) for one in log if one.type == "task.approved"] == [
        ("a", "atlas"),
        ("b", "atlas"),
    ]


def is_at_c2(status) -> bool:
    return any((one.subtask_id, one.state) == ("c2", "running") for one in status.subtasks)


async def test_a_controller_that_was_away_when_the_plan_changed_goes_on_with_it(
    bus, nats_server, user
):
    """The first dies after the change stands in the log; the second knows only what is stored."""
    held = asyncio.Event()

    async def do(subtask) -> Any:
        if subtask.subtask_id == "c2":
            await held.wait()
        return doing(subtask)

    nodes = plan(["a"], ["b", "a"], ["slow", "a"], ["c", "a", "b", "slow"])
    async with working(bus, do):
        async with controller(nats_server.url):
            await user.submit(task_id="t1", plan=nodes, max_replans=1)
            await user.until("t1", is_at_c2)
        held.set()
        async with controller(nats_server.url, "c2"):
            status = await user.end("t1")
    assert (status.state, status.output) == (TaskState.COMPLETED, "c2 is done")
