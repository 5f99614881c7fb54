"""What a terminal shows of a task and of all that runs, while it runs."""

import sys
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.base import now_ms
from atlas.contracts.catalogue import ModelInfo, ProviderInfo, ProvidersReply
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.task_events import (
    SubtaskStarted,
    SubtaskSucceeded,
    TaskAcceptedEvent,
    TaskCompleted,
    TaskPlanned,
)
from atlas.contracts.tasks import PlannedSubtask, TaskRequest
from atlas.embedded import NatsProcess
from tests.integration import cli_process
from tests.integration.client_fakes import (
    FakeController,
    FakeRouter,
    completed,
    delta,
    started,
)
from tests.integration.terminal import on_terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")


@pytest.fixture
async def priced(bus: Bus) -> None:
    """A router that says what the model costs."""

    async def respond(msg: Msg) -> None:
        reply = ProvidersReply(
            router="r1",
            default_model="mock/standard",
            providers=[ProviderInfo(provider="mock", kind="mock")],
            models=[ModelInfo(model="mock/standard", provider="mock", output_usd_per_mtok=5_000)],
        )
        await msg.respond(reply.to_json())

    await bus.subscribe(subjects.API_PROVIDERS_ALL, respond)
    await bus.flush()


@pytest.mark.usefixtures("priced")
async def test_a_watched_task_shows_what_its_answer_costs_while_it_comes(
    bus: Bus, nats_server: NatsProcess, tmp_path: Path
):
    router, controller = FakeRouter(bus), FakeController(bus)
    await router.open()
    await controller.open()
    at = {"task_id": "t1", "at_ms": now_ms()}
    of = {**at, "subtask_id": "look", "attempt": 1, "worker": "w1"}
    spent = {"usage": Usage(input_tokens=10, output_tokens=90), "cost": Cost(total_usd=0.75)}
    plan = [PlannedSubtask(id="look", capability="research", instruction="look")]
    await controller.write(
        TaskAcceptedEvent(version=1, request=TaskRequest(goal="g"), request_sha256="x", **at),
        TaskPlanned(version=2, plan=plan, planner="caller", **at),
        SubtaskStarted(version=3, stream_id="s1", **of),
    )
    await router.write(started("s1", 1), delta("s1", 2, "x" * 400))
    async with on_terminal(
        *("task", "watch", "t1"), nats_url=nats_server.url, folder=tmp_path
    ) as terminal:
        await terminal.until(lambda shown: "~100 tok" in shown and "~$0.50" in shown)
        await controller.write(
            SubtaskSucceeded(version=4, output="done", **spent, **of),
            TaskCompleted(version=5, output="done", **spent, **at),
        )
        await terminal.until(lambda shown: "1 subtask in" in shown)
        assert " 90 tok" in terminal.shown
        assert await terminal.process.wait() == 0


@pytest.mark.usefixtures("priced")
async def test_the_screen_of_top_ends_with_ctrl_c(nats_server: NatsProcess, tmp_path: Path):
    async with on_terminal("top", nats_url=nats_server.url, folder=tmp_path) as terminal:
        await terminal.until(lambda shown: "as router r1 sees them" in shown)
        terminal.press("\x03")
        assert await terminal.process.wait() == 130
        assert terminal.is_as_ever()


EVIL = "\x1b]0;stolen\x07\x1b]52;c;cm0=\x07\x1b[2Jsafe\x9b31m\r\x08 text"


async def test_what_a_model_says_cannot_act_on_the_terminal_and_a_pipe_gets_it_as_it_is(
    bus: Bus, nats_server: NatsProcess, tmp_path: Path
):
    router = FakeRouter(bus)
    await router.open()
    await router.write(started("s1", 1), delta("s1", 2, EVIL), completed("s1", 3, EVIL))
    arguments = ("stream", "watch", "s1")
    async with on_terminal(*arguments, nats_url=nats_server.url, folder=tmp_path) as terminal:
        await terminal.until(lambda shown: "safe text" in shown)
        assert await terminal.process.wait() == 0
        assert "\x1b" not in terminal.shown
        assert "stolen" not in terminal.shown
    piped = await cli_process.atlas(*arguments, nats_url=nats_server.url, cwd=tmp_path)
    assert piped.out == f"{EVIL}\n"
