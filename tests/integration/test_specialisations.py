"""Specialisations as `atlas.yaml` declares them, and MCP servers, in the built-in worker."""

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from atlas.contracts.errors import ConfigurationError
from atlas.contracts.events import Offer
from atlas.contracts.inference import Level, Role
from tests.support.agents import Script, calls_told
from tests.support.answering import routing
from tests.support.subtasks import failure_of, result_of, send, subtask
from tests.support.waiting import eventually
from tests.support.workers import worker

SERVER = str(Path(__file__).parents[1] / "fixtures" / "mcp_server.py")
BY_STDIO = {"command": sys.executable, "args": [SERVER]}


def dig(depth: int) -> str:
    """Dig.

    Args:
        depth: How deep.
    """
    return f"dug {depth}"


def work(id_="s1", capability="clerk", **more) -> Any:
    return subtask(id_, **{"capability": capability, **more})


def clerk(*tools, **more) -> Any:
    return {"clerk": {"prompt": "You are a clerk.", "tools": list(tools), **more}}


@pytest.fixture
async def http_server():
    """The MCP server by HTTP: its URL, and ways to kill and start it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = HttpServer(port)
    await server.start()
    yield server
    await server.kill()


class HttpServer:
    def __init__(self, port) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/mcp"
        self.process: Any = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, SERVER, str(self.port), stderr=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(30):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    return

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


async def mcp_health(app, state) -> Any:
    """What the worker tells of its server, once it is in a state."""

    def told() -> Any:
        return app.health()["mcp"]["world"]

    await eventually(lambda: told()["state"] == state, 30)
    return told()


async def test_a_specialisation_has_a_prompt_a_temperature_and_tools_of_its_own(bus, nats_server):
    model = Script([("dig", '{"depth": 3}')], "a hole")
    declared = {
        "specialisations": clerk(
            "dig", temperature=0.9, model="m/x", level="strong", description="Keeps books."
        ),
        "tools": {"dig": "tests.integration.test_specialisations:dig"},
    }
    async with routing(bus, model), worker(nats_server.url, **declared) as app:
        await send(bus, work())
        assert (await result_of(bus, work())).output.strip() == "a hole"
        assert {"clerk", "draft", "general"} <= set(app.offers)
        assert app.offers["clerk"] == Offer(level=Level.STRONG, description="Keeps books.")
    first = model.asked[0]
    assert first.system_prompt.startswith("You are a clerk.\n\nYou do one subtask")
    assert (first.temperature, first.model) == (0.9, "m/x")
    assert [one.name for one in first.tools] == ["dig"]
    assert model.results(2) == [("dug 3", False)]


async def test_a_built_in_specialisation_has_only_the_tools_that_are_granted(bus, nats_server):
    model = Script("x")
    declared = {
        "specialisations": {"draft": {"tools": ["dig"]}, "code": {"tools": ["*"], "deny": ["d*"]}},
        "tools": {
            "dig": "tests.integration.test_specialisations:dig",
            "drill": "installed_elsewhere:drill",  # nobody may use it here
        },
    }
    async with routing(bus, model), worker(nats_server.url, **declared):
        for capability in ("draft", "code", "review"):
            await send(bus, work(capability, capability=capability))
            await result_of(bus, work(capability, capability=capability))
        for capability in ("code", "review"):
            given = work(f"{capability}2", capability=capability, tools=["dig"])
            await send(bus, given)
            assert (await failure_of(bus, given)).error.code == "tool_not_granted"
    assert [[one.name for one in asked.tools] for asked in model.asked] == [["dig"], [], []]


async def test_a_granted_tool_that_cannot_be_imported_stops_the_worker_with_the_reason(nats_server):
    declared = {"specialisations": clerk("drill"), "tools": {"drill": "installed_elsewhere:drill"}}
    with pytest.raises(ConfigurationError, match=r"worker\.tools\.drill: .* cannot be imported"):
        async with worker(nats_server.url, **declared):
            pass


async def test_no_more_of_a_specialisation_runs_at_once_than_it_may_and_others_go_on(
    bus, nats_server
):
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()

    async def say(request) -> str:
        who = "clerk" if request.system_prompt.startswith("You are a clerk") else "other"
        running[who] += 1
        most[who] = max(most[who], running[who])
        await asyncio.sleep(0.15)
        running[who] -= 1
        return "x"

    declared = {"specialisations": clerk(concurrency=2), "concurrency": 6}
    ids = [f"c{n}" for n in range(8)]
    async with routing(bus, say), worker(nats_server.url, **declared):
        for id_ in ids:
            await send(bus, work(id_))
        for n in range(4):
            await send(bus, work(f"d{n}", capability="draft"))
        for id_ in ids:
            await result_of(bus, work(id_))
        for n in range(4):
            await result_of(bus, work(f"d{n}", capability="draft"))
    assert most["clerk"] == 2
    assert most["other"] > 2


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_tools_of_an_mcp_server_are_called_like_any_other(
    bus, nats_server, transport, http_server, monkeypatch
):
    monkeypatch.setenv("WORLD_TOKEN", "Bearer t")
    monkeypatch.setenv("ATLAS_FOREIGN", "not for strangers")
    if transport == "stdio":
        server = {**BY_STDIO, "env": {"MOOD": "good"}, "secrets": {"TOKEN": "WORLD_TOKEN"}}
    else:
        server = {"url": http_server.url, "secrets": {"Authorization": "WORLD_TOKEN"}}
    server["deny"] = ["sec*"]
    model = Script(
        [("world__double", '{"n": 21}'), ("world__who", "{}"), ("world__refuse", "{}")],
        [("world__secret", "{}"), ("world__double", '{"n": "x"}'), ("world__double", "[")],
        "x",
    )
    declared = {"specialisations": clerk("world__*"), "mcp": {"world": server}}
    async with routing(bus, model), worker(nats_server.url, **declared) as app:
        await mcp_health(app, "ready")
        await send(bus, work())
        await result_of(bus, work())
    assert "world__secret" not in [one.name for one in model.asked[0].tools]
    (double, who, refuse), (secret, wrong, broken) = model.results(2), model.results(3)
    assert double == ("42", False)
    told = json.loads(who[0])
    assert told["key"] == "t1:s1:1:stream-s1.1"
    assert told["foreign"] is None
    if transport == "stdio":
        assert (told["mood"], told["token"]) == ("good", "Bearer t")
    else:
        assert told["authorization"] == "Bearer t"
    assert refuse[1]
    assert "refuse" in refuse[0]
    assert secret[0].startswith("there is no tool 'world__secret' for you")
    assert wrong[1]
    assert "integer" in wrong[0]
    assert broken[0].startswith("the arguments are no JSON")


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_a_server_that_dies_is_a_short_error_and_is_connected_again(
    bus, nats_server, transport, http_server
):
    server = BY_STDIO if transport == "stdio" else {"url": http_server.url}
    model = Script(
        [("world__hang", "{}"), ("world__flood", '{"size_bytes": 20000}')],
        [("world__rubbish", "{}")],
        [("world__die", "{}")],
        "went on",
    )
    declared = {
        "specialisations": clerk("world__*"),
        "mcp": {"world": {**server, "call_timeout_ms": 1_000}},
        "max_result_bytes": 10_000,
    }
    async with routing(bus, model), worker(nats_server.url, **declared) as app:
        await mcp_health(app, "ready")
        await send(bus, work())
        assert (await result_of(bus, work(), 30)).output.strip() == "went on"
        hung, flooded = model.results(2)
        assert hung[0] == "no answer within 1 s, so the call was given up"
        assert "more than 10,000 bytes" in flooded[0]
        assert model.results(3) == [("and yet", False)]
        ((died, is_error),) = model.results(4)
        assert (died.startswith("the MCP server 'world'"), is_error) == (True, True)
        if transport == "http":
            await http_server.kill()
            await http_server.start()
        model.asked.clear()
        model.answers = [[("world__double", '{"n": 2}')], "x"]
        await mcp_health(app, "ready")
        await send(bus, work("s2"))
        await result_of(bus, work("s2"), 30)
    assert model.results(2) == [("4", False)]
    states = {one["tool"]: one.get("error") for one in await calls_told(bus)}
    assert states == {
        "world__hang": "tool_timeout",
        "world__flood": "tool_result",
        "world__rubbish": None,
        "world__die": "tool_unavailable",
    }


async def test_a_server_that_does_not_start_stops_neither_the_worker_nor_who_needs_it_not(
    bus, nats_server, monkeypatch
):
    monkeypatch.setattr("atlas.worker.mcp_servers._PATIENCE_S", 0.3)
    model = Script("x")
    declared = {
        "specialisations": {**clerk("world__*"), "draft": {"tools": ["dig"]}},
        "tools": {"dig": "tests.integration.test_specialisations:dig"},
        "mcp": {"world": {"command": "no-such-program"}, "idle": {"command": "never-needed"}},
    }
    async with routing(bus, model), worker(nats_server.url, **declared) as app:
        told = await mcp_health(app, "down")
        assert told["error"] == "there is no program 'no-such-program' on the PATH"
        assert set(app.health()["mcp"]) == {"world"}
        await send(bus, work())
        report = await failure_of(bus, work())
        await send(bus, work("s2", capability="draft"))
        await result_of(bus, work("s2", capability="draft"))
    assert (report.error.code, report.error.retryable) == ("tool_unavailable", True)
    assert report.error.retry_after_ms > 0
    assert "the MCP server 'world' is not there now: there is no program" in report.error.message


async def test_servers_end_with_their_worker(bus, nats_server):
    model = Script([("world__who", "{}")], "x")
    declared = {"specialisations": clerk("world__*"), "mcp": {"world": BY_STDIO}}
    async with routing(bus, model), worker(nats_server.url, **declared) as app:
        await mcp_health(app, "ready")
        await send(bus, work())
        await result_of(bus, work())
        ((who, _),) = model.results(2)
    pid = json.loads(who)["pid"]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert [one.role for one in model.asked[1].messages][-1] is Role.TOOL


@pytest.mark.skipif(sys.platform != "linux", reason="programs are tied to their parent on Linux")
async def test_a_server_does_not_outlive_a_worker_that_is_killed(bus, nats_server, tmp_path):
    declared = {
        "worker": {"specialisations": clerk("world__*"), "mcp": {"world": BY_STDIO}},
    }
    (tmp_path / "atlas.yaml").write_text(json.dumps(declared))  # JSON is YAML
    environment = {**os.environ, "ATLAS_CONFIG": str(tmp_path / "atlas.yaml")}
    environment["NATS_URL"] = nats_server.url
    model = Script([("world__who", "{}")], "x")
    async with routing(bus, model):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "agent_worker"), env=environment
        )
        try:
            await send(bus, work())
            await result_of(bus, work(), 60)
        finally:
            process.kill()
            await process.wait()
        ((who, _),) = model.results(2)
        async with asyncio.timeout(15):
            with contextlib.suppress(ProcessLookupError):
                while True:
                    os.kill(json.loads(who)["pid"], 0)
                    await asyncio.sleep(0.05)
