"""One trace from whoever asks to the provider's HTTP server: real services, real OTLP over HTTP."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from opentelemetry import trace

from atlas import subjects, telemetry
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.contracts.inference import GenerateRequest, ModelRequest, ModelResponse, StreamMetrics
from atlas.contracts.tasks import TaskRequest
from atlas.embedded import standalone
from atlas.nats_settings import NatsSettings
from tests.integration import cli_process
from tests.support.otlp import Collector, ReceivedSpan, collecting
from tests.support.provider_server import ProviderServer, Reply, refusal, serving

KEY = "key-that-nobody-may-see"
GOAL = "Zebras in the moonlight"
INSTRUCTION = "Count the stripes twice"
INPUT = "The herd stood at the waterhole"
ANSWER = "Forty-two stripes in all"

AGENTS = {"invoke_agent research", "invoke_agent draft"}
SENT = "send atlas.{tenant}.task.{task_id}.submit"
SUBMIT = "process atlas.{tenant}.task.{task_id}.submit"
WORK = "process atlas.{tenant}.work.{capability}.{priority}"
CHAT = "chat small"

_TEMPERATURES = {"research": 0.3, "draft": 0.7}
"""What these specialists ask for."""
_SETTINGS = ("ATLAS_", "NATS_", "OTEL_", "OPENAI_", "ANTHROPIC_", "OLLAMA_")


@pytest.fixture(scope="module", autouse=True)
def no_settings_of_the_caller():
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(_SETTINGS):
                patch.delenv(name)
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield


def _answer() -> Reply:
    """A whole answer in the dialect of OpenAI's chat completions."""
    base = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "small"}
    said = {"index": 0, "delta": {"role": "assistant", "content": ANSWER}, "finish_reason": None}
    stopped = {"index": 0, "delta": {}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    chunks: list[dict[str, object]] = [
        {**base, "choices": [said]},
        {**base, "choices": [stopped]},
        {**base, "choices": [], "usage": usage},
    ]
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return Reply("".join([*lines, "data: [DONE]\n\n"]).encode())


def _environment(provider: ProviderServer) -> dict[str, str]:
    return {
        "LOCAL_KEY": KEY,
        "ATLAS_PROVIDERS__LOCAL__KIND": "openai",
        "ATLAS_PROVIDERS__LOCAL__API": "chat",
        "ATLAS_PROVIDERS__LOCAL__BASE_URL": f"{provider.url}/v1",
        "ATLAS_PROVIDERS__LOCAL__API_KEY_ENV": "LOCAL_KEY",
        "ATLAS_PROVIDERS__LOCAL__MODELS": '["small"]',
        "ATLAS_ROUTER__DEFAULT_MODEL": "local/small",
        "ATLAS_WORKER__MODEL": "local/small",
        "ATLAS_LOG_LEVEL": "warning",
    }


@dataclass(frozen=True, slots=True)
class Traced:
    """A task that was carried out, what was exported of it, and what its provider was asked."""

    command: cli_process.Ended
    collector: Collector
    provider: ProviderServer

    @property
    def task_id(self) -> str:
        """Of the task."""
        found: str = self.command.records[0]["task_id"]
        return found


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    """A task that completes; all claims about its trace look at the same one."""

    async def run() -> Traced:
        async with collecting() as collector, serving(_answer()) as provider:
            ran = await _run_a_task(collector, provider, tmp_path_factory.mktemp("traced"))
            return Traced(ran, collector, provider)

    found = asyncio.run(run())
    assert found.command.status == 0, found.command.err
    return found


async def _run_a_task(
    collector: Collector, provider: ProviderServer, cwd: Path
) -> cli_process.Ended:
    """Two subtasks, one after the other, by the command line; ends when all spans are there.

    Spans are sent in batches: what a process still holds leaves it when it drains.
    """
    plan = cwd / "plan.json"
    first = {"id": "first", "capability": "research", "instruction": INSTRUCTION}
    then = {**first, "id": "then", "capability": "draft", "depends_on": ["first"]}
    plan.write_text(json.dumps([first, then]))
    material = cwd / "material.txt"
    material.write_text(INPUT)
    environment = {
        **_environment(provider),
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "ATLAS_CONTROLLER__SUBTASK_MAX_ATTEMPTS": "1",
    }
    async with standalone(log_to=subprocess.DEVNULL, environment=environment) as stack:
        command = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "atlas.cli", "task", "run", "--json", "--goal", GOAL),
            *("--plan", str(plan), "--input", str(material)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment, "NATS_URL": stack.nats_url},
            cwd=cwd,
        )
        return await cli_process.ended(command)


def _line_of_descent(span: ReceivedSpan, spans: list[ReceivedSpan]) -> list[tuple[str, str]]:
    """Service and name of a span, its parent, and so on to the root."""
    by_id = {one.span_id: one for one in spans}
    line = [(span.service, span.name)]
    while span.parent_id:
        span = by_id[span.parent_id]
        line.append((span.service, span.name))
    return line


def test_one_trace_runs_from_the_submission_to_the_providers_http_server(traced: Traced):
    collector, provider = traced.collector, traced.provider
    (submitted,) = collector.named(SENT)
    spans = collector.traces()[submitted.trace_id]
    chats = [span for span in spans if span.name == CHAT]
    assert len(chats) == len(provider.requests) == 2
    by_id = {span.span_id: span for span in spans}
    assert {by_id[chat.parent_id].name for chat in chats} == AGENTS
    for chat in chats:
        assert _line_of_descent(chat, spans) == [
            ("provider_router", CHAT),
            ("agent_worker", by_id[chat.parent_id].name),
            ("agent_worker", WORK),
            ("agent_controller", SUBMIT),
            ("atlas-cli", SENT),
        ]
    received = {request.headers["traceparent"][:-3] for request in provider.requests}
    assert received == {f"00-{submitted.trace_id}-{chat.span_id}" for chat in chats}


def test_every_span_has_its_parent_a_plain_name_and_nothing_that_was_said(traced: Traced):
    ran, collector, provider = traced.command, traced.collector, traced.provider
    for spans in collector.traces().values():
        ids = {span.span_id for span in spans}
        assert len([span for span in spans if not span.parent_id]) == 1
        assert all(span.parent_id in ids for span in spans if span.parent_id)
    api = "process atlas.{tenant}.api."
    names = {span.name for span in collector.spans if not span.name.startswith(api)}
    assert names == {SENT, SUBMIT, WORK, CHAT, *AGENTS}
    used = {record["task_id"] for record in ran.records}
    used |= {record["stream_id"] for record in ran.records if "stream_id" in record}
    assert not [span.name for span in collector.spans if any(one in span.name for one in used)]
    assert all(KEY in request.headers["authorization"] for request in provider.requests)
    exported = b"".join(collector.exports)
    for secret in (KEY, GOAL, INSTRUCTION, INPUT, ANSWER):
        assert secret.encode() not in exported


def test_the_span_of_a_chat_says_model_provider_tokens_and_how_it_ended(traced: Traced):
    ran, collector = traced.command, traced.collector
    streams = {one["stream_id"] for one in ran.records if one["type"] == "subtask.started"}
    chats = collector.named(CHAT)
    assert {chat.attributes["atlas.stream.id"] for chat in chats} == streams
    agents = [collector.named(f"invoke_agent {one}")[0].span_id for one in _TEMPERATURES]
    temperatures = dict(zip(agents, _TEMPERATURES.values(), strict=True))
    for chat in chats:
        assert chat.kind == "CLIENT"
        assert not chat.is_error
        metrics = "atlas.stream.metrics."
        told = {one.removeprefix(metrics) for one in chat.attributes if one.startswith(metrics)}
        assert told == set(StreamMetrics.model_fields) - {"gap_p50_ms", "gap_p99_ms"}  # one chunk
        assert chat.attributes[metrics + "bytes"] == len(ANSWER.encode())
        assert {k: v for k, v in chat.attributes.items() if not k.startswith(metrics)} == {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.stream": True,
            "gen_ai.request.temperature": temperatures[chat.parent_id],
            "gen_ai.response.time_to_first_chunk": (
                float(str(chat.attributes[metrics + "time_to_first_token_ms"])) / 1000
            ),
            "server.address": "127.0.0.1",
            "server.port": urlsplit(traced.provider.url).port,
            "atlas.provider": "local",
            "atlas.outcome": "completed",
            "gen_ai.request.model": "small",
            "gen_ai.response.model": "small",
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.usage.input_tokens": 11,
            "gen_ai.usage.output_tokens": 7,
            "atlas.stream.id": chat.attributes["atlas.stream.id"],
            "atlas.tenant": "default",
        }


def test_spans_of_messages_and_agents_have_what_the_conventions_require(traced: Traced):
    collector = traced.collector
    for name, kind in ((SENT, "PRODUCER"), (SUBMIT, "CONSUMER"), (WORK, "CONSUMER")):
        operation, _, template = name.partition(" ")
        for span in collector.named(name):
            assert span.kind == kind
            assert span.attributes["messaging.system"] == "nats"
            assert span.attributes["messaging.operation.name"] == operation
            assert span.attributes["messaging.operation.type"] == operation
            assert span.attributes["messaging.destination.template"] == template
            assert span.attributes["atlas.task.id"] == traced.task_id
    for name in AGENTS:
        (agent,) = collector.named(name)
        assert agent.kind == "INTERNAL"
        assert not agent.is_error
        assert agent.attributes["gen_ai.operation.name"] == "invoke_agent"
        assert agent.attributes["gen_ai.agent.name"] == name.partition(" ")[2]
        assert agent.attributes["atlas.task.id"] == traced.task_id


async def test_a_refused_call_marks_its_spans_with_the_errors_code_and_none_of_its_text(tmp_path):
    error = {"message": f"cannot do {GOAL} with {KEY}", "type": "invalid_request_error"}
    async with collecting() as collector, serving(refusal(400, {"error": error})) as provider:
        ran = await _run_a_task(collector, provider, tmp_path)
    assert ran.status == 1
    code = next(one["error"]["code"] for one in ran.records if one["type"] == "subtask.failed")
    for name in (CHAT, "invoke_agent research"):
        (span,) = collector.named(name)
        assert span.is_error
        assert span.attributes["error.type"] == code
        assert span.status_text == ""
        assert span.events == ()
    exported = b"".join(collector.exports)
    assert GOAL.encode() not in exported
    assert KEY.encode() not in exported


async def test_a_collector_that_is_away_holds_nobody_up_and_is_told_in_one_line(
    bus: Bus, nats_server, tmp_path
):
    assert bus.is_connected  # and with it, the assets are there
    async with collecting() as gone:
        pass
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "atlas.cli", "task", "submit", "--goal", GOAL, "--id", "t1"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={
            **os.environ,
            "OTEL_EXPORTER_OTLP_ENDPOINT": gone.endpoint,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "60",
            "NATS_URL": nats_server.url,
        },
        cwd=tmp_path,
    )
    async with asyncio.timeout(50):  # well below the 60 s that the exporter would wait
        ended = await cli_process.ended(command)
    assert (ended.status, ended.out) == (0, "t1\n")
    (line,) = ended.err.splitlines()
    assert gone.endpoint in line


def test_without_an_endpoint_nothing_exports_and_no_thread_runs():
    threads = threading.enumerate()
    assert telemetry.configure("provider_router", "one") is None
    assert threading.enumerate() == threads
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    with telemetry.span("work") as span:
        assert not span.is_recording()
        headers: dict[str, str] = {}
        telemetry.inject(headers)
    assert headers == {}


async def test_without_an_endpoint_a_callers_trace_still_reaches_the_provider_through_every_door():
    def context(digit: str) -> dict[str, str]:
        return {
            "traceparent": f"00-{digit * 32}-{digit * 16}-01",
            "tracestate": f"vendor={digit}",
        }

    task = TaskRequest(goal=GOAL, pattern="single")
    messages = [{"role": "user", "content": GOAL}]
    request = ModelRequest.model_validate({"messages": messages})
    generate = GenerateRequest.model_validate({"messages": messages})
    async with (
        serving(_answer()) as provider,
        standalone(log_to=subprocess.DEVNULL, environment=_environment(provider)) as stack,
        Atlas.connect(stack.nats_url, tenant="default") as atlas,
    ):
        bus = await Bus.connect(NatsSettings(url=stack.nats_url), "test")
        try:
            door = subjects.task_submit("default", "t1")
            await bus.store(door, task.to_json(), headers=context("a"))
            assert (await atlas.task_handle("t1").result()).output == ANSWER
            door = subjects.stream_request("default", "s1")
            await bus.store(door, request.to_json(), headers=context("b"))
            async with atlas.watch_stream("s1") as stream:
                assert (await stream.result()).content == ANSWER
            door = subjects.api("default", "generate")
            reply = await bus.nats.request(
                door, generate.to_json(), timeout=20, headers=context("c")
            )
            assert ModelResponse.model_validate_json(reply.data).content == ANSWER
        finally:
            await bus.close()
    seen = [
        {name: one.headers.get(name) for name in ("traceparent", "tracestate")}
        for one in provider.requests
    ]
    assert seen == [context("a"), context("b"), context("c")]
