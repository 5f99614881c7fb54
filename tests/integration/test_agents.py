"""Models that work with tools, in a worker on real NATS: rounds, limits, permissions, crashes."""

import asyncio
import contextlib
import json
import os
import sys
import threading
from collections import Counter
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from atlas import process, subjects
from atlas.bus import Bus
from atlas.contracts.base import now_ms
from atlas.contracts.events import Event
from atlas.contracts.inference import Role
from atlas.contracts.task_events import TaskPaused, TaskResumed
from atlas.nats_settings import NatsSettings
from atlas.objects import Objects
from atlas.telemetry import spans as telemetry_spans
from atlas.worker import AgentLimits, ToolContext, Worker
from tests.integration.test_own_worker import end_task, reports, until_reported, work
from tests.integration.test_tasks_worker import (
    SCHEMA,
    USAGE,
    failure_of,
    result_of,
    routing,
    send,
    settings,
    until_no_work_is_left,
)


class Script:
    """A model that says one thing after the other, and keeps what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    def __call__(self, request) -> Any:
        self.asked.append(request)
        return self.answers[min(len(self.asked), len(self.answers)) - 1]

    def results(self, round_: int) -> Any:
        """What the request of a round tells of the calls of the one before."""
        last = [one for one in self.asked[round_ - 1].messages if one.role is Role.TOOL][-1]
        return [(part.content, part.is_error) for part in last.content]


def add(a: int, b: int) -> int:
    """The sum of two numbers."""
    return a + b


async def shout(text: str, context: ToolContext) -> str:
    """Say it loudly."""
    return f"{text.upper()} {context.tenant} {context.idempotency_key}"


@contextlib.asynccontextmanager
async def at_work(url, *tools, limits=None, grant=None, timeouts_ms=None, **more) -> Any:
    """A worker whose handler is an agent with these tools."""
    own = Worker()
    for one in tools:
        own.tool(timeout_ms=(timeouts_ms or {}).get(one.__name__))(one)

    @own.handles("translate", tools=grant, limits=limits)
    async def translate(given, ctx) -> Any:
        schema = given.output_schema
        wanted = schema and {"type": "json_schema", "json_schema": schema, "strict": False}
        return (await ctx.agent(given.instruction, response_format=wanted)).content

    bus = await Bus.connect(NatsSettings(url=url), "own")
    try:
        async with (
            process.open_context(
                "agent_worker", "own", "workers", settings(**more), bus
            ) as context,
            own.compose(context) as app,
        ):
            yield app
            await app.drain()
    finally:
        await bus.close()


async def calls_told(bus) -> list[Any]:
    told = [one.progress for one in await reports(bus, "progress")]
    return [one["tool_call"] for one in told if one and "tool_call" in one]


async def test_a_model_calls_tools_and_goes_on_with_what_they_answer(bus, nats_server):
    model = Script(
        [("add", '{"a": 1, "b": 2}'), ("shout", '{"text": "x"}')],
        [("add", '{"a": 3, "b": "4"}')],
        "seven",
    )
    heard = await bus.open(subjects.events_of("default", "agent_worker", "subtask.tool_called"))
    async with routing(bus, model) as router, at_work(nats_server.url, add, shout):
        await send(bus, work())
        result = await result_of(bus, work())
        await until_no_work_is_left(bus)
    assert result.output.strip() == "seven"
    assert result.usage.output_tokens == 3 * USAGE.output_tokens
    assert [one.name for one in model.asked[0].tools] == ["add", "shout"]
    (three, _), (loud, is_error) = model.results(2)
    assert (three, is_error) == ("3", False)
    assert loud.startswith("X default t1:s1:1:stream-s1.1")
    assert model.results(3) == [("7", False)]
    assert [one.role for one in model.asked[2].messages] == [
        Role.USER,
        Role.ASSISTANT,
        Role.TOOL,
        Role.ASSISTANT,
        Role.TOOL,
    ]
    assert router.paid[0] == "stream-s1"
    assert len(set(router.paid)) == 3
    *_, last = await reports(bus, "progress")
    assert last.stream_ids == router.paid[:2]
    told = await calls_told(bus)
    assert Counter((one["tool"], one["state"]) for one in told) == {
        ("add", "done"): 2,
        ("shout", "done"): 1,
    }
    assert not {"arguments", "text", "result"} & set(told[0])
    event = Event.model_validate_json((await heard.next_msg(timeout=5)).data)
    assert (event.data["subtask_id"], event.data["state"]) == ("s1", "done")


async def test_a_call_that_does_not_fit_comes_back_with_what_is_wrong_and_is_mended(
    bus, nats_server
):
    model = Script(
        [("add", '{"a": 1, "c": 2}'), ("add", "[1, 2]"), ("sum", "{}"), ("add", '{"a": 1, "b"')],
        [("add", '{"a": 1, "b": 2}')],
        "three",
    )
    async with routing(bus, model), at_work(nats_server.url, add):
        await send(bus, work())
        assert (await result_of(bus, work())).output == "three"
    extra, listed, unknown, cut = model.results(2)
    said = "the arguments do not fit: b: Field required; c: Extra inputs are not permitted, not 2"
    assert extra == (said, True)
    assert listed[1]
    assert unknown == ("there is no tool 'sum' for you; these are: add", True)
    assert "Invalid JSON" in cut[0]
    assert model.results(3) == [("3", False)]
    spoken = next(one for one in model.asked[1].messages if one.role is Role.ASSISTANT)
    assert [part.arguments for part in spoken.content] == ['{"a": 1, "c": 2}', "{}", "{}", "{}"]
    states = Counter((one["state"], one.get("error")) for one in await calls_told(bus))
    assert states == {
        ("failed", "tool_arguments"): 3,
        ("refused", "tool_not_granted"): 1,
        ("done", None): 1,
    }


async def test_after_the_last_round_the_model_answers_without_tools(bus, nats_server):
    model = Script([("add", '{"a": 1, "b": 2}')], [("add", '{"a": 3, "b": 4}')], "about seven")
    limits = AgentLimits(max_rounds=3)
    async with routing(bus, model), at_work(nats_server.url, add, limits=limits):
        await send(bus, work())
        assert (await result_of(bus, work())).output.strip() == "about seven"
    assert [one.tool_choice for one in model.asked] == [None, None, "none"]
    assert [one.name for one in model.asked[2].tools] == ["add"]
    assert "Call no more tools" in model.asked[2].messages[-1].content


async def test_a_model_that_never_answers_fails_the_attempt_clearly(bus, nats_server):
    model = Script([("add", '{"a": 1, "b": 2}')])
    limits = AgentLimits(max_rounds=2)
    async with routing(bus, model), at_work(nats_server.url, add, limits=limits):
        await send(bus, work())
        report = await failure_of(bus, work())
    assert (report.error.code, report.error.retryable) == ("agent_limit", True)
    assert "calls add in round 2, the last one" in report.error.message
    assert len(model.asked) == 2


@pytest.mark.parametrize("limits", [{"max_usd": 0.15}, {"max_ms": 1}])
async def test_money_and_time_that_are_spent_make_the_next_round_the_last(bus, nats_server, limits):
    model = Script(*[[("add", '{"a": 1, "b": 2}')]] * 2, "enough")
    if "max_ms" in limits:
        del model.answers[1]
    bounds = AgentLimits(**limits)
    async with routing(bus, model), at_work(nats_server.url, add, limits=bounds):
        await send(bus, work())
        assert (await result_of(bus, work())).output == "enough"
    assert [one.tool_choice for one in model.asked][-2:] == [None, "none"]


async def test_no_tool_is_called_any_more_once_the_money_is_spent(bus, nats_server):
    called = []

    def count(n: int) -> int:
        """Count."""
        called.append(n)
        return n

    model = Script([("count", '{"n": 1}')])
    limits = AgentLimits(max_usd=0.05)
    async with routing(bus, model), at_work(nats_server.url, count, limits=limits):
        await send(bus, work())
        report = await failure_of(bus, work())
    assert (report.error.code, called, len(model.asked)) == ("agent_limit", [1], 2)


async def test_of_too_many_calls_in_a_round_the_first_are_carried_out(bus, nats_server):
    most = []

    async def slow(n: int) -> int:
        """A number, slowly."""
        most.append(len([one for one in asyncio.all_tasks() if "_contained" in repr(one)]))
        await asyncio.sleep(0.01)
        return n

    model = Script([("slow", f'{{"n": {n}}}') for n in range(30)], "x")
    limits = AgentLimits(max_calls=8, parallel_calls=2)
    async with routing(bus, model), at_work(nats_server.url, slow, limits=limits):
        await send(bus, work())
        await result_of(bus, work())
    results = model.results(2)
    assert results[:8] == [(str(n), False) for n in range(8)]
    assert {one[1] for one in results[8:]} == {True}
    assert "at most 8 calls" in results[29][0]
    assert max(most) <= 2


async def test_a_long_result_is_kept_and_read_on_piece_by_piece(bus, nats_server):
    text = "".join(f"line {n}\n" for n in range(1_000))

    def read() -> str:
        """A long text."""
        return text

    pieces: list[str] = []

    def say(request) -> Any:
        if request.messages[-1].role is not Role.TOOL:
            return [("read", "{}")]
        said = request.messages[-1].content[0].content
        if not pieces:
            assert "read_result" in [one.name for one in request.tools]
            beginning, note = said.split("\n[These are the first ")
            name = note.split("result='")[1].split("'")[0]
            pieces.extend((name, beginning))
        else:
            pieces.append(said.rpartition("\n[Characters ")[0])
        start = sum(map(len, pieces[1:]))
        if start >= len(text):
            return "done"
        return [("read_result", json.dumps({"result": pieces[0], "start": start}))]

    shown = {"shown_result_bytes": 3_000}
    async with routing(bus, say), at_work(nats_server.url, read, **shown):
        await send(bus, work())
        assert (await result_of(bus, work())).output == "done"
    assert "".join(pieces[1:]) == text
    assert await Objects(bus).get("default.stream-s1.0.whole") == text


async def test_bad_tools_neither_end_the_loop_nor_hold_up_other_subtasks(bus, nats_server):
    released = threading.Event()

    def hang() -> str:
        """Hangs."""
        released.wait(30)
        return "late"

    def flood() -> str:
        """Gives a hundred megabytes."""
        return "x" * 100_000_000

    def leave() -> str:
        """Leaves."""
        sys.exit(1)

    def rubbish() -> object:
        """Gives what is no JSON."""
        return {"n": float("nan")}

    def say(request) -> Any:
        if request.messages[0].content == "quick":
            return "quick"
        bad = [(one, "{}") for one in ("hang", "flood", "leave", "rubbish")]
        return bad if len(request.messages) == 1 else "went on"

    bad = (hang, flood, leave, rubbish)
    bounds = {"hang": 1_500}
    async with routing(bus, say), at_work(nats_server.url, *bad, timeouts_ms=bounds) as app:
        await send(bus, work())
        await until_reported(bus, "progress")
        await send(bus, work("s2", instruction="quick"))
        assert (await result_of(bus, work("s2"))).output == "quick"
        assert (await result_of(bus, work())).output.strip() == "went on"
        released.set()
    errors = {one["tool"]: one["error"] for one in await calls_told(bus)}
    assert errors == {
        "hang": "tool_timeout",
        "flood": "tool_result",
        "leave": "tool_failed",
        "rubbish": "tool_result",
    }
    assert app.metrics() == {"subtasks": {"succeeded": 2, "failed": 0}}


async def test_a_schema_holds_for_the_last_answer(bus, nats_server):
    model = Script([("add", '{"a": 1, "b": 2}')], '{"n": 3}')
    async with routing(bus, model), at_work(nats_server.url, add):
        given = work(output_schema=SCHEMA)
        await send(bus, given)
        assert (await result_of(bus, given)).output == {"n": 3}


async def test_an_answer_that_breaks_the_schema_is_asked_for_once_more_without_tools(
    bus, nats_server
):
    model = Script([("add", '{"a": 1, "b": 2}')], "It is three.", '{"n": 3}')
    async with routing(bus, model), at_work(nats_server.url, add):
        given = work(output_schema=SCHEMA)
        await send(bus, given)
        assert (await result_of(bus, given)).output == {"n": 3}
        model.answers[2] = "Three."
        model.asked.clear()
        await send(bus, work("s2", output_schema=SCHEMA))
        report = await failure_of(bus, work("s2"))
    assert len(model.asked) == 3
    assert model.asked[2].tool_choice == "none"
    assert "JSON was asked for and the answer is none" in model.asked[2].messages[-1].content
    assert (report.error.code, report.error.retryable) == ("output_mismatch", True)


async def test_a_subtask_asks_for_tools_and_gets_these_or_a_refusal_for_good(bus, nats_server):
    model = Script("x")
    async with routing(bus, model), at_work(nats_server.url, add, shout, grant=["add"]):
        for id_, asked in (("s1", ["add"]), ("s2", ["add", "shout"])):
            await send(bus, work(id_, tools=asked))
        await result_of(bus, work())
        report = await failure_of(bus, work("s2"))
    assert [[tool.name for tool in one.tools] for one in model.asked] == [["add"]]
    assert (report.error.code, report.error.retryable) == ("tool_not_granted", False)
    assert "asks for the tools shout, and 'translate' may use add" in report.error.message


async def test_no_tool_is_called_while_the_task_is_paused_and_none_after_its_end(bus, nats_server):
    called = asyncio.Event()

    async def act() -> str:
        """Acts."""
        called.set()
        await asyncio.Event().wait()
        return "never"

    log = subjects.task_write("default", "t1")
    base = {"task_id": "t1", "at_ms": now_ms()}
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def say(_request):
        asked.set()
        await go_on.wait()
        return [("act", "{}")]

    async with routing(bus, say), at_work(nats_server.url, act):
        await send(bus, work())
        async with asyncio.timeout(10):
            await asked.wait()
            await bus.store(log, TaskPaused(version=1, **base).to_json())
            await asyncio.sleep(0.3)
            go_on.set()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(called.wait(), 0.7)
            await bus.store(log, TaskResumed(version=2, **base).to_json())
            await called.wait()
            await end_task(bus)
        await until_no_work_is_left(bus)  # although the tool would wait for ever


@pytest.mark.parametrize("content", [False, True])
async def test_each_call_is_a_span_that_holds_content_only_where_that_is_wanted(
    bus, nats_server, monkeypatch, content
):
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", str(content).lower())
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry_spans, "_TRACER", provider.get_tracer("test"))
    model = Script([("add", '{"a": 1, "b": 2}'), ("sum", "{}")], "x")
    async with routing(bus, model), at_work(nats_server.url, add):
        await send(bus, work())
        await result_of(bus, work())
        await until_no_work_is_left(bus)
    spans = {one.name: one for one in exporter.get_finished_spans()}
    done, refused = spans["execute_tool add"], spans["execute_tool sum"]
    outer = next(one for name, one in spans.items() if name.startswith("invoke_agent "))
    assert done.parent is not None
    assert done.parent.span_id == outer.context.span_id
    told = dict(done.attributes or {})
    assert told["gen_ai.operation.name"] == "execute_tool"
    assert (told["gen_ai.tool.name"], told["gen_ai.tool.type"]) == ("add", "function")
    assert told["gen_ai.tool.call.id"] == "stream-s-0"
    given = (told.get("gen_ai.tool.call.arguments"), told.get("gen_ai.tool.call.result"))
    assert given == (('{"a": 1, "b": 2}', "3") if content else (None, None))
    assert (refused.attributes or {})["error.type"] == "tool_not_granted"


PROCESS = """
from pathlib import Path

from atlas.worker import ToolContext, Worker

worker = Worker()


@worker.tool
def act(n: int, context: ToolContext) -> str:
    \"\"\"Acts on the world.\"\"\"
    with Path("acts").open("a") as file:
        file.write(context.idempotency_key + "\\n")
    return f"act {n}"


@worker.handles("translate")
async def translate(subtask, ctx):
    return (await ctx.agent(subtask.instruction)).content


worker.run()
"""


@pytest.mark.timeout(90)
async def test_a_worker_killed_in_the_loop_leaves_no_round_and_no_call_to_be_done_twice(
    bus, nats_server, tmp_path
):
    (tmp_path / "own.py").write_text(PROCESS)
    environment = {
        **os.environ,
        "NATS_URL": nats_server.url,
        "ATLAS_TOPOLOGY__ACK_WAIT_MS": "1000",
    }

    async def start() -> Any:
        return await asyncio.create_subprocess_exec(
            sys.executable, "own.py", cwd=tmp_path, env=environment
        )

    third, go_on = asyncio.Event(), asyncio.Event()

    async def say(request):
        rounds = sum(one.role is Role.TOOL for one in request.messages)
        if rounds == 2:
            third.set()
            await go_on.wait()
            return "done after " + request.messages[-1].content[0].content
        return [("act", json.dumps({"n": 2 * rounds + n})) for n in range(2)]

    async with routing(bus, say) as router:
        first = await start()
        try:
            await send(bus, work())
            async with asyncio.timeout(30):
                await third.wait()
            first.kill()
            await first.wait()
            second = await start()
            try:
                await until_reported(bus, "started", 2)  # it goes through the rounds that are there
                go_on.set()
                result = await result_of(bus, work(), 30)
            finally:
                second.terminate()
                await second.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                first.kill()
    assert result.output.strip() == "done after act 2"
    assert len(router.paid) == len(set(router.paid)) == 3
    assert result.usage.output_tokens == 3 * USAGE.output_tokens
    acts = (tmp_path / "acts").read_text().split()
    assert sorted(Counter(acts).values()) == [1, 1, 1, 1]
