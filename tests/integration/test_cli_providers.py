"""What the command line shows of providers, groups and choices, of a router that really runs."""

import asyncio
import os
import sys

import pytest
import pytest_asyncio

from atlas import subjects
from atlas.provider_settings import ProviderSettings
from tests.integration import cli_process
from tests.support.router import TENANT, Stack, stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

PRICE = {"input_usd_per_mtok": 3, "output_usd_per_mtok": 15}
FAILS = {"first_token_ms": 0, "token_ms": 0, "fault": {"status": 503}}
WORKS = {"first_token_ms": 0, "token_ms": 0}
CODER = {"name": "coder", "capabilities": {"code": "exceptional"}, "price": PRICE}
WRITER = {"name": "writer", "capabilities": {"creative": "strong", "code": "basic"}}
PROVIDERS = {
    "down": ProviderSettings.model_validate({"kind": "mock", "models": ["any"], "mock": FAILS}),
    "mock": ProviderSettings.model_validate(
        {"kind": "mock", "models": [CODER, WRITER], "mock": WORKS}
    ),
}
GROUPS = {
    "steady": {"members": ["down/any", "mock/writer"]},
    "gone": {"strategy": "latency", "members": ["down/any"]},
}
BUDGETS = {"tenants": {TENANT: {"day": {"max_usd": 20, "max_tokens": 1_000_000}}}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory):
    """A router with a provider whose circuit is open."""
    fields = {
        "groups": GROUPS,
        "budgets": BUDGETS,
        "router": {"circuit": {"cool_down_ms": 600_000}},
    }
    async with stack(tmp_path_factory.mktemp("router"), PROVIDERS, **fields) as running:
        while await circuit(running) != "open":
            await running.atlas.generate("Hello", model="steady")
        yield running


async def circuit(rig: Stack) -> str:
    reply = await rig.atlas.providers()
    return next(one.circuit for one in reply.providers if one.provider == "down")


@pytest.fixture
def cli(rig: Stack, tmp_path):
    async def run(*arguments: str, said: str | None = None) -> cli_process.Ended:
        return await cli_process.atlas(*arguments, nats_url=rig.nats.url, cwd=tmp_path, said=said)

    return run


@pytest.fixture
def terminal(rig: Stack):
    """Runs a command on a terminal of 200 columns; gives what stands on it."""

    async def run(*arguments: str) -> str:
        master, slave = os.openpty()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "atlas.cli", *arguments),
            stdout=slave,
            env={
                **os.environ,
                "NATS_URL": rig.nats.url,
                "COLUMNS": "200",
                "LINES": "60",
                "TERM": "dumb",
            },
        )
        os.close(slave)
        shown = await asyncio.to_thread(_all_of, master)
        assert await process.wait() == 0
        return shown

    return run


def _all_of(terminal: int) -> str:
    pieces = []
    with os.fdopen(terminal, "rb", buffering=0) as file:
        try:
            while piece := file.read(4096):
                pieces.append(piece)
        except OSError:  # the other side has closed it
            pass
    return b"".join(pieces).decode()


async def test_a_pipe_gets_a_line_for_each_provider_group_model_and_budget(cli):
    ended = await cli("providers")
    assert ended.status == 0
    down, mock, steady, gone, *rest = ended.out.splitlines()
    assert down.startswith("down (mock) unhealthy, circuit open until ")
    assert "attempts failed" in down
    assert down.endswith(": provider_overloaded")
    assert mock.startswith("mock (mock) healthy, circuit closed, 0 of ")
    assert "first token " in mock
    assert steady == "group steady: failover of down/any, mock/writer"
    assert gone == "group gone: latency of down/any"
    assert "mock/coder ? $3 / $15" in rest
    budgets = [line for line in rest if line.startswith("budget day ")]
    assert " of 1,000,000 tokens, " in budgets[0]
    assert " of $20.00, " in budgets[1]


async def test_a_terminal_gets_tables_with_groups_and_circuits(terminal):
    shown = await terminal("providers")
    for title in ("circuit", "in flight", "success", "first token", "group", "strategy", "members"):
        assert title in shown
    assert "open until" in shown
    assert "default: " in shown


async def test_json_is_the_whole_answer_of_the_router(cli):
    (reply,) = (await cli("providers", "--json")).records
    assert reply["groups"][0] == {
        "group": "steady",
        "strategy": "failover",
        "members": ["down/any", "mock/writer"],
    }
    assert {one["provider"]: one["circuit"] for one in reply["providers"]}["down"] == "open"
    assert [one["unit"] for one in reply["budgets"]] == ["tokens", "usd"]


async def test_an_explanation_in_a_pipe_says_the_task_type_and_who_would_be_asked(cli):
    ended = await cli("providers", "explain", "Write a Python function that sorts a list.")
    assert ended.status == 0
    lines = ended.out.splitlines()
    assert lines[0].startswith("task type  code_generation (")
    assert "strategy   task_aware" in lines
    assert next(line for line in lines if line.startswith("1. ")).startswith("1. mock/coder: code")
    assert any(line.startswith("3. down/any: circuit open") for line in lines)


async def test_an_explanation_names_who_is_not_able_and_what_it_lacks(cli):
    ended = await cli("providers", "explain", "Hello", "--capabilities", "code:strong")
    assert "1. mock/coder: " in ended.out
    assert "not able: mock/writer lacks code strong (has basic)" in ended.out


async def test_an_explanation_of_a_group_with_requirements_leaves_out_who_lacks_them(cli):
    wish = ("--model", "steady", "--capabilities", "creative:strong")
    lines = (await cli("providers", "explain", "Hello", *wish)).out.splitlines()
    assert "strategy   failover of group steady" in lines
    assert [line for line in lines if line[0].isdigit()] == ["1. mock/writer: first as configured"]
    assert any(line.startswith("not able: down/any lacks creative strong") for line in lines)


async def test_an_explanation_on_a_terminal_is_a_table_with_prices(terminal):
    shown = await terminal("providers", "explain", "--model", "steady")
    assert "why this place" in shown
    assert "strategy   failover of group steady" in shown
    assert "circuit open after provider_overloaded" in shown


async def test_an_explanation_in_json_is_one_object(cli):
    arguments = ("providers", "explain", "Hello", "--task-type", "creative_writing", "--json")
    (explanation,) = (await cli(*arguments)).records
    assert explanation["task_type"] == "creative_writing"
    assert [one["model"] for one in explanation["candidates"]] == ["mock/writer"]
    assert {one["model"] for one in explanation["unfit"]} == {"mock/coder", "down/any"}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--capabilities", "cod:strong"), "there is no 'cod'; did you mean 'code'?"),
        (("--capabilities", "code:storng"), "there is no 'storng'; did you mean 'strong'?"),
        (("--capabilities", "code"), "'code' has no level; write code:strong"),
        (("--task-type", "code-generation"), "did you mean 'code_generation'?"),
        (("--model", "stedy"), "did you mean 'steady'?"),
        (
            ("--model", "gone", "--capabilities", "creative:exceptional"),
            "no member of group 'gone' meets them; the nearest, down/any, lacks creative",
        ),
        (
            ("--model", "mock/writer", "--capabilities", "code:strong"),
            "requirements: mock/writer lacks code strong (has basic)",
        ),
    ],
)
@pytest.mark.parametrize("command", [("providers", "explain"), ("chat",)])
async def test_a_misspelt_wish_is_wrong_use_and_told_with_the_nearest(
    cli, command, options, problem
):
    ended = await cli(*command, *options, said="Hello\n")
    assert (ended.status, ended.out) == (2, "")
    assert problem in ended.err


@pytest.mark.parametrize("command", [("providers", "explain"), ("chat",)])
async def test_requirements_that_nobody_meets_are_wrong_use_and_say_what_the_nearest_lacks(
    cli, command
):
    wish = "code:exceptional,creative:exceptional"
    ended = await cli(*command, "--capabilities", wish, said="Hello\n")
    assert (ended.status, ended.out) == (2, "")
    assert "no configured model meets them; the nearest, mock/coder, lacks creative" in ended.err


async def test_a_chat_is_answered_by_a_model_that_can_do_what_is_asked_for(cli, rig: Stack):
    told = await rig.bus.open(subjects.events_of(TENANT, "provider_router", "stream.started"))
    await rig.bus.flush()
    ended = await cli("chat", "--capabilities", "code:strong", said="Hello\n")
    assert (ended.status, ended.out == "") == (0, False)
    assert b'"model":"mock/coder"' in (await told.next_msg(timeout=10)).data


async def test_a_chat_with_a_group_is_answered_by_a_member_that_can_do_what_is_asked_for(
    cli, rig: Stack
):
    told = await rig.bus.open(subjects.events_of(TENANT, "provider_router", "stream.started"))
    await rig.bus.flush()
    wish = ("--model", "steady", "--capabilities", "creative:strong")
    ended = await cli("chat", *wish, said="Hello\n")
    assert (ended.status, ended.out == "") == (0, False)
    assert b'"model":"mock/writer"' in (await told.next_msg(timeout=10)).data


async def test_the_doctor_tells_of_open_circuits_and_of_groups_that_nobody_answers(cli):
    ended = await cli("doctor", "--json")
    assert ended.status == 1
    found = {one["check"]: one for one in ended.records}
    assert found["circuit of down"]["level"] == "warning"
    assert "open after provider_overloaded" in found["circuit of down"]["message"]
    assert found["group steady"]["level"] == "warning"
    assert found["group steady"]["message"] == (
        "failover of 2 models; behind open circuits: down/any"
    )
    assert found["group gone"]["level"] == "problem"


async def test_the_check_of_the_configuration_shows_groups_and_names_their_problems(cli, tmp_path):
    (tmp_path / "atlas.yaml").write_text(
        "groups: {either: {strategy: weighted, hedge_after_ms: 800, members: "
        "[{model: mock/fast, weight: 3}, {model: mock/standard, weight: 1}]}}"
    )
    ended = await cli("config", "check")
    assert (
        "group      either: weighted of mock/fast (3), mock/standard (1), hedged after 800 ms"
    ) in ended.out
    (tmp_path / "atlas.yaml").write_text("groups: {either: {members: [mock/fast, openai/gpt-5]}}")
    ended = await cli("config", "check")
    assert ended.status == 2
    assert "groups.either.members.1: 'openai/gpt-5' is served by openai" in ended.err
