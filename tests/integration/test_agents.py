"""Models that work with tools, in a worker on real NATS: rounds, results, mistakes, permissions."""

import json
import sys
import threading
from collections import Counter
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from atlas import subjects
from atlas.contracts.events import Event
from atlas.contracts.inference import Role
from atlas.objects import Objects
from atlas.telemetry import spans as telemetry_spans
from tests.support.agents import Script, add, at_work, calls_told, shout
from tests.support.answering import USAGE, routing
from tests.support.subtasks import (
    SCHEMA,
    failure_of,
    reports,
    result_of,
    send,
    until_no_work_is_left,
    until_reported,
    work,
)


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
