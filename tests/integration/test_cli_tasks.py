"""`atlas task` in a pipe: what it prints of a task, its exit status, and what it refuses."""

import asyncio
import re
import signal

import pytest

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.base import now_ms
from atlas.contracts.errors import ProviderRateLimitError
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.task_events import (
    SubtaskDispatched,
    SubtaskStarted,
    SubtaskSucceeded,
    TaskAcceptedEvent,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
)
from atlas.contracts.tasks import TaskRequest
from tests.integration import cli_process
from tests.integration.client_fakes import FakeController


def _log(task_id: str, output: object = "# Done") -> list[TaskEvent]:
    """The log of a task with one subtask."""
    at = {"task_id": task_id, "at_ms": now_ms()}
    of = {**at, "subtask_id": "research", "attempt": 1}
    spent = {"usage": Usage(input_tokens=10, output_tokens=20), "cost": Cost(total_usd=0.5)}
    return [
        TaskAcceptedEvent(version=1, request=TaskRequest(goal="g"), request_sha256="x", **at),
        SubtaskDispatched(version=2, capability="web", stream_id="s1", **of),
        SubtaskStarted(version=3, worker="w1", stream_id="s1", **of),
        SubtaskSucceeded(version=4, worker="w1", output="found", **spent, **of),
        TaskCompleted(version=5, output=output, **spent, **at),
    ]


@pytest.mark.parametrize("command", ["run", "submit"])
@pytest.mark.parametrize("options", [("--goal", "x", "--pattern", "debat"), ("--goal", " ")])
async def test_a_task_that_no_controller_would_take_is_wrong_use_before_it_is_submitted(
    command, options, bus: Bus, cli
):
    ended = await cli("task", command, *options)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith(f"error: {options[-2]}")
    assert (await bus.jetstream.stream_info(subjects.SUBMITS)).state.messages == 0


async def test_the_help_names_only_patterns_that_are_supported(cli):
    shown = " ".join((await cli("task", "run", "--help")).out.split())
    assert "parallel" in shown
    assert "route" in shown
    assert "swarm" not in shown


@pytest.mark.usefixtures("only_mock")
async def test_a_task_in_a_pipe_is_a_line_for_each_event_and_the_answer(
    controller: FakeController, bus: Bus, nats_server, tmp_path
):
    notes = tmp_path / "notes.txt"
    notes.write_text("what we know")
    process = await cli_process.start(
        *("task", "run", "--goal", "g", "--id", "t1", "--input", str(notes)),
        nats_url=nats_server.url,
        cwd=tmp_path,
    )
    submitted = None
    while submitted is None:
        submitted = await bus.last(subjects.SUBMITS, subjects.task_submit("default", "t1"))
    assert b'"inputs":{"notes.txt":"what we know"}' in submitted.data
    await controller.write(*_log("t1"))
    ended = await cli_process.ended(process)
    assert ended.status == 0
    lines = [
        re.sub(r", \d+\.\ds\)$", ", TIME)", line.partition(" ")[2])
        for line in ended.out.splitlines()
    ]
    assert lines[:5] == [
        "task t1 accepted: g",
        "research dispatched (web, attempt 1)",
        "research started (worker w1, stream s1)",
        "research succeeded (10 in, 20 out, $0.50, TIME)",
        "completed (10 in, 20 out, $0.50, TIME)",
    ]
    assert ended.out.endswith("\n\n# Done\n")
    assert ended.err.count("the mock provider answers") == 1


async def test_a_task_in_json_is_its_events(controller: FakeController, cli):
    await controller.write(*_log("t1"))
    ended = await cli("task", "watch", "t1", "--json")
    assert ended.status == 0
    assert [one["version"] for one in ended.records] == [1, 2, 3, 4, 5]


async def test_a_failed_task_is_status_1(controller: FakeController, cli):
    error = ProviderRateLimitError("slow down").to_info()
    end = TaskFailed(
        task_id="t1", version=2, at_ms=now_ms(), error=error, usage=Usage(), cost=Cost()
    )
    await controller.write(_log("t1")[0], end)
    ended = await cli("task", "watch", "t1")
    assert (ended.status, ended.err) == (1, "error: slow down\n")


@pytest.mark.usefixtures("only_mock")
async def test_ctrl_c_leaves_the_task_running_and_says_how_to_find_it(
    controller: FakeController, nats_server, tmp_path
):
    await controller.write(*_log("t1")[:3])
    process = await cli_process.start(
        *("task", "run", "--goal", "g", "--id", "t1"), nats_url=nats_server.url, cwd=tmp_path
    )
    assert process.stdout is not None
    async with asyncio.timeout(20):
        while b"research started" not in await process.stdout.readline():
            pass
    process.send_signal(signal.SIGINT)
    ended = await cli_process.ended(process)
    assert ended.status == 130
    assert "atlas task watch t1" in ended.err
    assert "Traceback" not in ended.err


async def test_an_input_that_is_no_text_is_refused(bus: Bus, cli, tmp_path):
    assert bus.is_connected
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG\r\n\x00\xff")
    ended = await cli("task", "run", "--goal", "g", "--input", str(picture))
    assert ended.status == 2
    assert "not a text file" in ended.err


async def test_the_graph_of_a_task_is_told_or_drawn_as_its_history_stands(
    controller: FakeController, cli, tmp_path
):
    await controller.write(*_log("t1"))
    ended = await cli("task", "show", "t1", "--graph")
    assert ended.status == 0
    assert ended.out.startswith("task t1: completed, 1 subtask, ")
    assert re.search(r"1 ✓ research  web  succeeded  .*10 in, 20 out  \$0\.50\n$", ended.out)
    ended = await cli("task", "show", "t1", "--output", "plan.svg")
    assert (ended.status, ended.out) == (0, "svg in plan.svg\n")
    assert 'data-subtask="research"' in (tmp_path / "plan.svg").read_text()
    ended = await cli("task", "show", "t1", "--output", "nowhere/plan.svg")
    assert ended.status == 2
    assert ended.err.startswith("error: --output: nowhere/plan.svg cannot be written")
