"""The command line against real NATS and services that are told what to say."""

import asyncio
import contextlib
import json
import re
import signal

import pytest
from nats.aio.msg import Msg

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.base import now_ms
from atlas.contracts.catalogue import ModelInfo, ProviderInfo, ProvidersReply
from atlas.contracts.errors import InvalidTransitionError, ProviderRateLimitError
from atlas.contracts.events import Event
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.streams import (
    AttemptFailed,
    StreamFailed,
    StreamState,
    StreamStatus,
)
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
from atlas.embedded import free_port
from tests.integration import cli_process
from tests.integration.client_fakes import (
    FakeController,
    FakeRouter,
    answer,
    completed,
    delta,
    soon,
    started,
)
from tests.support.documents import blocks


@pytest.fixture
def cli(nats_server, tmp_path):
    async def run(*arguments: str) -> cli_process.Ended:
        return await cli_process.atlas(*arguments, nats_url=nats_server.url, cwd=tmp_path)

    return run


@pytest.fixture
async def router(bus: Bus):
    fake = FakeRouter(bus)
    await fake.open()
    return fake


@pytest.fixture
async def controller(bus: Bus):
    fake = FakeController(bus)
    await fake.open()
    return fake


@pytest.fixture
async def only_mock(bus: Bus):
    async def respond(msg: Msg) -> None:
        reply = ProvidersReply(
            router="r1",
            default_model="mock/standard",
            providers=[ProviderInfo(provider="mock", kind="mock", health="healthy")],
            models=[],
        )
        await msg.respond(reply.to_json())

    await bus.subscribe(subjects.API_PROVIDERS_ALL, respond)
    await bus.flush()


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


async def test_no_nats_is_wrong_use_with_one_line_that_says_where_it_looked(tmp_path):
    url = f"nats://127.0.0.1:{free_port()}"
    ended = await cli_process.atlas("task", "list", nats_url=url, cwd=tmp_path)
    assert ended.status == 2
    assert ended.out == ""
    (line,) = ended.err.splitlines()
    assert line.startswith(f"error: no NATS server answers at {url}")
    assert "atlas up" in line


@pytest.mark.parametrize("command", ["task list", "doctor", "providers", "stream watch s1", "chat"])
async def test_no_nats_is_told_in_the_same_way_by_every_command(command, tmp_path):
    url = f"nats://127.0.0.1:{free_port()}"
    ended = await cli_process.atlas(*command.split(), nats_url=url, cwd=tmp_path)
    assert (ended.status, ended.out) == (2, "")
    (line,) = ended.err.splitlines()
    assert line.startswith(f"error: no NATS server answers at {url}")


async def test_an_error_in_json_mode_is_one_json_object(tmp_path):
    url = f"nats://127.0.0.1:{free_port()}"
    ended = await cli_process.atlas("providers", "--json", nats_url=url, cwd=tmp_path)
    assert ended.status == 2
    assert '{"error":{"code":"connection_failed"' in ended.err


async def test_an_unknown_option_is_wrong_use(cli):
    assert (await cli("task", "run", "--gaol", "x")).status == 2


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


async def test_watching_prints_the_text_and_nothing_else(router: FakeRouter, cli):
    await router.write(*answer("s1", "Hello ", "world"))
    ended = await cli("stream", "watch", "s1")
    assert (ended.status, ended.out, ended.err) == (0, "Hello world\n", "")


async def test_watching_in_json_prints_every_event_from_where_it_was_asked(router: FakeRouter, cli):
    await router.write(*answer("s1", "Hello ", "world"))
    ended = await cli("stream", "watch", "s1", "--json", "--from", "3")
    assert ended.status == 0
    assert [one["type"] for one in ended.records] == ["text.delta", "stream.completed"]


async def test_a_restart_is_told_on_stderr_and_the_answer_begins_anew(router: FakeRouter, cli):
    failed = AttemptFailed(
        stream_id="s1",
        seq=3,
        epoch=1,
        at_ms=0,
        attempt=1,
        provider="mock",
        error=ProviderRateLimitError("slow down").to_info(),
        next="restart",
    )
    await router.write(started("s1", 1), delta("s1", 2, "one"), failed, delta("s1", 4, "two"))
    await router.write(completed("s1", 5, "two"))
    ended = await cli("stream", "watch", "s1")
    assert (ended.status, ended.out) == (0, "one\ntwo\n")
    assert "begins anew" in ended.err


async def test_a_failed_stream_is_status_1_and_says_why(router: FakeRouter, cli):
    error = ProviderRateLimitError("slow down").to_info()
    end = StreamFailed(
        stream_id="s1", seq=3, epoch=1, at_ms=0, error=error, usage=Usage(), cost=Cost()
    )
    await router.write(started("s1", 1), delta("s1", 2, "half"), end)
    ended = await cli("stream", "watch", "s1")
    assert (ended.status, ended.out, ended.err) == (1, "half\n", "error: slow down\n")
    shown = (await cli("stream", "show", "s1", "--json")).records[0]
    assert (shown["state"], shown["text_length"]) == ("error", 4)


@pytest.fixture
async def answers(bus: Bus, router: FakeRouter):
    """Answers each question with itself; one with `fail` in it fails halfway."""

    async def respond(msg: Msg) -> None:
        stream_id = subjects.parse(msg.subject).id
        asked = json.loads(msg.data)["messages"][-1]["content"]
        first, second, last = answer(stream_id, asked)
        if "fail" in asked:
            last = StreamFailed(
                stream_id=stream_id,
                seq=3,
                epoch=1,
                at_ms=0,
                error=ProviderRateLimitError("slow down").to_info(),
                usage=Usage(),
                cost=Cost(),
            )
        await router.write(first, second, last)

    await bus.subscribe(subjects.stream_request("*", "*", "*"), respond)
    await bus.flush()


@pytest.mark.usefixtures("answers", "only_mock")
@pytest.mark.parametrize(
    ("said", "status"), [("a\nb\n", 0), ("a\nfail\n", 1), ("fail\nb\n", 1), ("", 0)]
)
async def test_a_chat_in_a_pipe_is_status_1_when_an_answer_failed(
    said, status, nats_server, tmp_path
):
    ended = await cli_process.atlas("chat", nats_url=nats_server.url, cwd=tmp_path, said=said)
    assert (ended.status, ended.out) == (status, said)
    assert ended.err.count("error: slow down") == said.count("fail")


@pytest.mark.usefixtures("answers", "only_mock")
async def test_a_chat_in_json_tells_every_event_of_each_answer(nats_server, tmp_path):
    ended = await cli_process.atlas(
        "chat", "--json", nats_url=nats_server.url, cwd=tmp_path, said="a\nfail\n"
    )
    assert ended.status == 1
    assert [one["type"] for one in ended.records] == [
        "stream.started",
        "text.delta",
        "stream.completed",
        "stream.started",
        "text.delta",
        "stream.failed",
    ]


@pytest.mark.usefixtures("only_mock")
async def test_a_chat_in_a_pipe_that_is_interrupted_is_status_130(bus: Bus, nats_server, tmp_path):
    asked = await bus.open(subjects.stream_request("*", "*", "*"))
    await bus.flush()
    process = await cli_process.start(
        "chat", nats_url=nats_server.url, cwd=tmp_path, stdin=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(b"anybody?\n")
    await asked.next_msg(timeout=20)
    process.send_signal(signal.SIGINT)
    ended = await cli_process.ended(process)
    assert ended.status == 130
    assert "Traceback" not in ended.err


@pytest.mark.usefixtures("router")
async def test_a_stream_that_does_not_exist_is_wrong_use(cli):
    ended = await cli("stream", "watch", "nobody")
    assert ended.status == 2
    assert ended.err.startswith("error: ")


async def test_a_control_shows_the_state_or_why_not(bus: Bus, cli):
    error = InvalidTransitionError("stream s2 is completed").to_info()

    async def respond(msg: Msg) -> None:
        refused = ".s2." in msg.subject
        status = StreamStatus(
            stream_id="s2" if refused else "s1",
            state=StreamState.COMPLETED if refused else StreamState.PAUSED,
            error=error if refused else None,
        )
        await msg.respond(status.to_json())

    await bus.subscribe(subjects.STREAM_CONTROL_ALL, respond)
    await bus.flush()
    ended = await cli("stream", "pause", "s1")
    assert (ended.status, ended.out) == (0, "stream s1: paused\n")
    ended = await cli("stream", "pause", "s2")
    assert (ended.status, ended.err) == (2, "error: stream s2 is completed\n")


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


@pytest.mark.usefixtures("only_mock")
async def test_providers_are_listed(cli):
    ended = await cli("providers")
    assert (ended.status, ended.out) == (0, "mock (mock) healthy, circuit closed\n")


async def test_a_provider_without_a_model_leaves_the_answer_to_the_mock_and_that_is_told(
    bus: Bus, cli
):
    async def respond(msg: Msg) -> None:
        reply = ProvidersReply(
            router="r1",
            default_model="mock/standard",
            providers=[
                ProviderInfo(provider="ollama", kind="ollama", health="unknown"),
                ProviderInfo(provider="mock", kind="mock", health="unknown"),
            ],
            models=[ModelInfo(model="mock/standard", provider="mock", capabilities={})],
        )
        await msg.respond(reply.to_json())

    await bus.subscribe(subjects.API_PROVIDERS_ALL, respond)
    await bus.flush()
    ended = await cli("providers")
    assert "ATLAS_ROUTER__DEFAULT_MODEL=ollama/llama3.2" in ended.err


async def test_what_a_probe_found_is_shown_and_the_doctor_tells_of_it(bus: Bus, cli):
    well = ProviderInfo(provider="house", kind="openai", health="healthy", probed_at_ms=now_ms())
    refused = well.model_copy(update={"provider": "acme", "probe_error": "provider_auth"})

    async def respond(msg: Msg) -> None:
        reply = ProvidersReply(
            router="r1", default_model="house/m", providers=[well, refused], models=[]
        )
        await msg.respond(reply.to_json())

    await bus.subscribe(subjects.API_PROVIDERS_ALL, respond)
    await bus.flush()
    shown = (await cli("providers")).out
    assert "house (openai) healthy, circuit closed, probe well at " in shown
    assert ", probe provider_auth at " in shown
    [told] = (await cli("providers", "--json")).records
    assert [one.get("probe_error") for one in told["providers"]] == [None, "provider_auth"]
    assert all("probed_at_ms" in one for one in told["providers"])
    found = {one["check"]: one for one in (await cli("doctor", "--json")).records}
    assert "provider_auth; check its base_url" in found["probe of acme"]["message"]
    assert "probe of house" not in found


async def test_events_are_printed_as_they_come_without_heartbeats(bus: Bus, nats_server, tmp_path):
    process = await cli_process.start("events", "--json", nats_url=nats_server.url, cwd=tmp_path)
    assert process.stdout is not None

    async def tell() -> None:
        while True:
            for type_ in ("service.health", "provider.circuit"):
                subject = subjects.event("default", "provider_router", type_)
                data = b'{"type":"%s","source":"provider_router","at_ms":1}' % type_.encode()
                await bus.publish(subject, data)
            await asyncio.sleep(0.05)

    telling = asyncio.create_task(tell())
    async with asyncio.timeout(20):
        assert b'"provider.circuit"' in await process.stdout.readline()
    telling.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await telling
    process.send_signal(signal.SIGINT)
    assert (await cli_process.ended(process)).status == 130


async def test_the_doctor_says_what_is_missing_and_what_to_do(bus: Bus, cli):
    assert bus.is_connected
    ended = await cli("doctor", "--json")
    assert ended.status == 1
    found = {one["check"]: one for one in ended.records}
    assert found["nats"]["level"] == "ok"
    assert found["assets"]["level"] == "ok"
    assert found["provider_router"]["level"] == "problem"
    assert "atlas-provider-router" in found["provider_router"]["message"]
    assert found["providers"]["level"] == "warning"


async def test_the_doctor_tells_of_a_router_that_refused_its_changed_configuration(bus: Bus, cli):
    async def tell() -> None:
        problems = "atlas.yaml: groups.g: no\natlas.yaml: groups.h: neither"
        told = {"instance": "r1", "state": "ready", "configuration_problem": problems}
        event = Event(type="service.health", source="provider_router", at_ms=1, data=told)
        while True:
            await bus.send(subjects.event("default", "provider_router", event.type), event)
            await asyncio.sleep(0.05)

    telling = asyncio.create_task(tell())
    found = {one["check"]: one for one in (await cli("doctor", "--json")).records}
    telling.cancel()
    assert found["router r1"] == {
        "check": "router r1",
        "level": "problem",
        "message": "goes on with its old configuration; the changed one: "
        "atlas.yaml: groups.g: no; atlas.yaml: groups.h: neither",
    }


async def test_the_doctor_of_a_service_that_does_not_run_is_status_1(bus: Bus, cli):
    assert bus.is_connected
    assert (await cli("doctor", "--service", "agent_worker")).status == 1
    assert (await cli("doctor", "--service", "nonsense")).status == 2


async def test_the_configuration_is_checked_with_every_problem_at_once(cli, tmp_path):
    (tmp_path / "atlas.yaml").write_text("tennant: x\nrouter: {max_streems: 3}\n")
    ended = await cli("config", "check")
    assert ended.status == 2
    assert "did you mean 'tenant'" in ended.err
    assert "did you mean 'max_streams'" in ended.err
    (tmp_path / "atlas.yaml").write_text("providers: {mine: {kind: openai, api_key_env: NOT_SET}}")
    ended = await cli("config", "check")
    assert ended.status == 2
    assert "NOT_SET is not set" in ended.err
    (tmp_path / "atlas.yaml").write_text("tenant: acme\n")
    shown = (await cli("config", "check", "--json")).records[0]
    assert shown["tenant"] == "acme"


@pytest.mark.parametrize(
    "command",
    [
        ("config", "check"),
        ("up",),
        ("task", "run", "--standalone", "--goal", "g"),
    ],
)
async def test_a_default_model_without_its_key_is_told_before_anything_starts(tmp_path, command):
    (tmp_path / "atlas.yaml").write_text("router: {default_model: anthropic/claude-sonnet-4-5}")
    ended = await cli_process.atlas(*command, nats_url=None, cwd=tmp_path)
    assert (ended.status, ended.out) == (2, "")
    (line,) = ended.err.splitlines()
    assert line.startswith("error: atlas.yaml: router.default_model: ")
    assert "set ANTHROPIC_API_KEY" in line


@pytest.mark.parametrize("shown", blocks("yaml"))
async def test_a_configuration_that_a_document_shows_is_valid_with_the_keys_it_names(
    shown, tmp_path
):
    (tmp_path / "atlas.yaml").write_text(shown)
    keys = dict.fromkeys(re.findall(r"(?:api_key_env|secrets: \{\w+): (\w+)", shown), "x")
    ended = await cli_process.atlas(
        *("config", "check"), nats_url=None, cwd=tmp_path, settings=keys
    )
    assert (ended.status, ended.err) == (0, "")


async def test_a_variable_that_is_no_setting_is_shown_by_the_check_of_the_configuration(tmp_path):
    ended = await cli_process.atlas(
        *("config", "check"),
        nats_url=None,
        cwd=tmp_path,
        settings={"ATLAS_PUBLIC_KEY": "of another program"},
    )
    assert ended.status == 0
    assert "ignored    ATLAS_PUBLIC_KEY" in ended.out


async def test_who_reads_no_further_ends_the_command_quietly(
    router: FakeRouter, nats_server, tmp_path
):
    await router.write(started("s1", 1), delta("s1", 2, "text"))
    process = await cli_process.start(
        "stream", "watch", "s1", nats_url=nats_server.url, cwd=tmp_path
    )
    assert process.stdout is not None
    async with asyncio.timeout(20):
        assert await process.stdout.read(4) == b"text"
    process.stdout._transport.close()  # type: ignore[attr-defined]
    for seq in range(3, 6):
        await router.write(delta("s1", seq, "more"))
    await soon(lambda: process.returncode is not None)
    assert process.returncode == 141
    assert process.stderr is not None
    assert await process.stderr.read() == b""


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
