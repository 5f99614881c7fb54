"""What a run of all services tells a collector: its metrics, what was said if asked, and links."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from atlas import subjects
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.contracts.streams import StreamStarted
from atlas.contracts.work import SubtaskReport
from atlas.embedded import Services, free_port, standalone
from atlas.settings import Settings
from atlas.telemetry import names
from tests.integration.test_tracing import (
    ANSWER,
    CHAT,
    GOAL,
    INSTRUCTION,
    KEY,
    WORK,
    _answer,
    _environment,
    no_settings_of_the_caller,
)
from tests.support.otlp import Collector, Point, collecting
from tests.support.provider_server import serving

__all__ = ["no_settings_of_the_caller"]  # a fixture of every test here too

PLAN = [
    {"id": "first", "capability": "research", "instruction": INSTRUCTION},
    {"id": "then", "capability": "draft", "instruction": INSTRUCTION, "depends_on": ["first"]},
]
EVERYONE = {"provider_router", "agent_controller", "agent_worker"}
ABOUT_MODELS = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "small",
    "gen_ai.response.model": "small",
    "atlas.provider": "local",
}
TOOL = '''
def search(what: str) -> str:
    """Find what is known."""
    return what
'''
LATE = {"kind": "mock", "mock": {"token_ms": 50, "tokens": 100}}
"""A provider that is slow enough to be killed in the middle of its answer."""


@dataclass(frozen=True, slots=True)
class Told:
    """A task that was carried out, its log, and what was exported of it."""

    collector: Collector
    task_id: str
    log: Counter[str]


@pytest.fixture(scope="module")
def told() -> Told:
    """A task of two subtasks; exported by gRPC, with what was said on the spans."""

    async def run() -> Told:
        async with collecting() as collector, serving(_answer()) as provider:
            environment = {
                **_environment(provider),
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.grpc_endpoint,
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_METRIC_EXPORT_INTERVAL": "500",
                "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=trial",
                "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true",
                "ATLAS_BUDGETS__TENANTS": '{"default": {"day": {"max_tokens": 1000000}}}',
            }
            async with (
                standalone(log_to=subprocess.DEVNULL, environment=environment) as stack,
                Atlas.connect(stack.nats_url, settings=Settings()) as atlas,
            ):
                task = await atlas.submit(GOAL, plan=PLAN)
                log: Counter[str] = Counter([event.type async for event in task.events()])
                await collector.until(_was_looked_at)
            return Told(collector, task.task_id, log)

    return asyncio.run(run())


def _was_looked_at(collector: Collector) -> bool:
    """Whether everybody looked at what is now, and the router after its streams had ended."""
    late = {one.service for one in collector.told(names.LOOP_LATENESS.name)}
    ended = collector.told(names.STREAMS_ENDED.name, atlas__outcome="completed")
    return late == EVERYONE and any(one.value == 2 for one in ended)


def _only(points: list[Point]) -> Point:
    (point,) = points
    return point


def test_tokens_times_and_costs_of_models_are_told_as_the_conventions_have_them(told: Told):
    used = told.collector.points[names.TOKEN_USAGE.name].values()
    by_type = {one.attributes["gen_ai.token.type"]: one for one in used}
    assert {kind: (one.value, one.count) for kind, one in by_type.items()} == {
        "input": (22.0, 2),
        "output": (14.0, 2),
    }
    for kind, one in by_type.items():
        assert one.attributes == {**ABOUT_MODELS, "gen_ai.token.type": kind}
    duration = _only(list(told.collector.points[names.OPERATION_DURATION.name].values()))
    assert duration.count == 2
    assert duration.attributes == {**ABOUT_MODELS, "atlas.outcome": "completed"}
    first = _only(list(told.collector.points[names.TIME_TO_FIRST_CHUNK.name].values()))
    assert (first.count, first.attributes) == (2, ABOUT_MODELS)
    assert 0 < first.value <= duration.value
    for metric in (names.TOKEN_USAGE, names.OPERATION_DURATION, names.TIME_TO_FIRST_CHUNK):
        assert told.collector.units[metric.name] == metric.unit
        for point in told.collector.points[metric.name].values():
            assert point.bounds == metric.buckets


def test_every_entry_of_a_tasks_log_is_counted_once(told: Told):
    counted = told.collector.points[names.TASK_EVENTS.name].values()
    assert {one.attributes["atlas.event.type"]: one.value for one in counted} == dict(told.log)
    task = _only(told.collector.told(names.TASK_DURATION.name))
    assert (task.count, task.attributes) == (1, {"atlas.outcome": "completed"})
    subtasks = told.collector.told(names.SUBTASK_DURATION.name, atlas__outcome="succeeded")
    assert {one.attributes["atlas.capability"]: one.count for one in subtasks} == {
        "research": 1,
        "draft": 1,
    }
    agents = told.collector.told(names.AGENT_DURATION.name)
    assert {one.attributes["gen_ai.agent.name"]: one.count for one in agents} == {
        "research": 1,
        "draft": 1,
    }


def test_what_is_now_is_told_by_whom_it_concerns(told: Told):
    collector = told.collector
    for metric in (names.NATS_CONNECTED, names.LOOP_LATENESS, names.NATS_RECONNECTS):
        assert {one.service for one in collector.told(metric.name)} == EVERYONE
    assert {one.value for one in collector.told(names.NATS_CONNECTED.name)} == {1}
    circuits = collector.told(names.PROVIDER_CIRCUIT.name, atlas__provider="local")
    assert {one.attributes["atlas.circuit.state"]: one.value for one in circuits} == {
        "closed": 1,
        "open": 0,
        "half_open": 0,
    }
    assert _only(collector.told(names.PROVIDER_ATTEMPTS.name, atlas__provider="local")).value == 2
    assert _only(collector.told(names.STREAMS_ENDED.name, atlas__outcome="completed")).value == 2
    assert _only(collector.told(names.WORKER_CONCURRENCY.name)).value >= 1
    limit = _only(collector.told(names.BUDGET_LIMIT.name))
    assert limit.value == 1_000_000
    assert limit.attributes == {
        "atlas.tenant": "default",
        "atlas.budget.period": "day",
        "atlas.budget.unit": "tokens",
    }
    depth = names.QUEUE_DEPTH.name
    queues = {one.attributes["atlas.queue"]: one.service for one in collector.told(depth)}
    assert queues == {
        "requests": "provider_router",
        "submits": "agent_controller",
        "reports": "agent_controller",
        "work": "agent_controller",
    }
    assert collector.told(depth, atlas__queue="requests", atlas__lane="batch")
    assert collector.told(depth, atlas__capability="research", atlas__priority="normal")


def test_what_is_told_stands_in_the_table_and_holds_neither_ids_nor_what_was_said(told: Told):
    table = {one.name: one for one in names.METRICS}
    for name, points in told.collector.points.items():
        assert told.collector.units[name] == table[name].unit
        for point in points.values():
            assert set(point.attributes) <= set(table[name].attributes)
            values = " ".join(str(one) for one in point.attributes.values())
            assert not [one for one in (told.task_id, GOAL, INSTRUCTION, ANSWER) if one in values]


def test_a_resource_is_named_by_us_and_by_the_variables(told: Told):
    for resource in told.collector.resources:
        assert resource["service.name"] in EVERYONE
        assert resource["atlas.service"] == resource["service.name"]
        assert resource["service.namespace"] == "atlas"
        assert resource["deployment.environment.name"] == "trial"


def test_what_was_said_stands_on_the_chat_where_it_is_asked_for_and_a_key_nowhere(told: Told):
    chats = told.collector.named(CHAT)
    assert len(chats) == 2
    for chat in chats:
        asked = json.loads(str(chat.attributes["gen_ai.input.messages"]))
        assert {one["role"] for one in asked} <= {"user", "system"}
        assert INSTRUCTION in str(asked)
        assert json.loads(str(chat.attributes["gen_ai.output.messages"])) == [
            {
                "role": "assistant",
                "parts": [{"type": "text", "content": ANSWER}],
                "finish_reason": "stop",
            }
        ]
    assert KEY.encode() not in b"".join(told.collector.exports)


async def test_the_spans_of_those_who_go_on_link_those_of_the_dead(bus: Bus, nats_server):
    """The router and the worker of a stream are killed; the spans of both are lost with them."""
    async with collecting() as collector:
        environment = {
            "ATLAS_PROVIDERS": json.dumps({"mock": LATE}),
            "ATLAS_TOPOLOGY__ACK_WAIT_MS": "1000",
            "ATLAS_HEALTH_INTERVAL_MS": "200",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_METRICS_EXPORTER": "none",
        }
        services = Services(nats_server.url, subprocess.DEVNULL, environment)
        try:
            await services.start([*EVERYONE, "provider_router", "agent_worker"])
            async with Atlas.connect(nats_server.url, settings=Settings()) as atlas:
                task = await atlas.submit(GOAL, plan=PLAN[:1], task_id="t1")
                stream_id = await _stream_of(task)
                started = await _first_of(bus, stream_id)
                reported = await bus.last(
                    subjects.REPORTS, subjects.report("default", "t1", "first", 1)
                )
                assert reported is not None
                worker = SubtaskReport.model_validate_json(reported.data).worker
                owner = await bus.last(subjects.STREAMS, f"atlas.default.stream.{stream_id}.owner")
                assert owner is not None
                dead = {worker, json.loads(owner.data)["router"]}
                for one in [one for one in services.running if one.instance in dead]:
                    await services.kill(one.pid)
                await task.result()
            await collector.until(lambda it: bool(it.named("chat standard") and it.named(WORK)))
        finally:
            await services.stop()
    (chat,) = collector.named("chat standard")
    assert chat.links == (_span_in(started),)
    (work,) = [one for one in collector.named(WORK) if not one.is_error]
    (link,) = work.links
    assert link == _span_in(reported.headers["traceparent"]) != work.span_id


async def _stream_of(task) -> str:
    async for event in task.events():
        if event.type == "subtask.started":
            return str(event.stream_id)
    raise AssertionError("it ended before it began")


async def _first_of(bus: Bus, stream_id: str) -> str:
    """The trace context under which a stream was begun, once it has begun."""
    subject = subjects.stream_write("default", stream_id)
    async with asyncio.timeout(30):
        while True:
            async for stored in bus.read(subjects.STREAMS, subject):
                if json.loads(stored.data)["type"] == StreamStarted.model_fields["type"].default:
                    return stored.headers["traceparent"]
            await asyncio.sleep(0.05)


def _span_in(traceparent: str) -> str:
    return traceparent.split("-")[2]


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({}, {"atlas-cli"}),
        ({"OTEL_SERVICE_NAME": "mine"}, {"mine"}),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=theirs"}, {"theirs"}),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, set()),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}, set()),
        ({"OTEL_TRACES_EXPORTER": "none"}, set()),
        ({"OTEL_SDK_DISABLED": "true"}, set()),
    ],
)
async def test_the_standard_variables_name_sample_and_silence(
    bus: Bus, nats_server, tmp_path, said: dict[str, str], wanted: set[str]
):
    assert bus.is_connected  # and with it, the assets are there
    async with collecting() as collector:
        command = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "atlas.cli", "task", "submit", "--goal", GOAL),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={
                **os.environ,
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
                "NATS_URL": nats_server.url,
                **said,
            },
            cwd=tmp_path,
        )
        _, told_on_stderr = await asyncio.wait_for(command.communicate(), 50)
    assert (command.returncode, told_on_stderr) == (0, b"")
    assert {one.service for one in collector.spans} == wanted
    assert {str(one["atlas.service"]) for one in collector.resources} <= {"atlas-cli"}


async def test_prometheus_reads_every_metric_of_the_table_at_the_monitoring_ports(
    bus: Bus, nats_server, tmp_path
):
    """A task whose model calls a tool, of a tenant with a budget."""
    assert bus.is_connected
    (tmp_path / "house.py").write_text(TOOL)
    environment = {
        "PYTHONPATH": str(tmp_path),
        "ATLAS_WORKER__TOOLS": '{"search": "house:search"}',
        "ATLAS_WORKER__SPECIALISATIONS": '{"research": {"tools": ["search"]}}',
        "ATLAS_BUDGETS__TENANTS": '{"default": {"day": {"max_usd": 1}}}',
    }
    services = Services(nats_server.url, subprocess.DEVNULL)
    ports = {"router": free_port(), "controller": free_port(), "worker": free_port()}
    try:
        for name, port in ports.items():
            services.environment = {**environment, "ATLAS_MONITORING__PORT": str(port)}
            await services.start([next(one for one in EVERYONE if one.endswith(name))])
        async with Atlas.connect(nats_server.url, settings=Settings()) as atlas:
            await (await atlas.submit(GOAL, plan=PLAN[:1])).result()
            await atlas.generate(GOAL)
            await atlas.tasks()
        scraped = {name: await _scraped(port) for name, port in ports.items()}
    finally:
        await services.stop()
    for name, text in scraped.items():
        told = {one.name for one in text_string_to_metric_families(text)}
        for metric in names.METRICS:
            is_here = metric.told_by == "every service" or name in metric.told_by
            is_here &= (name, metric) != ("worker", names.DOOR_DURATION)  # it has no door
            family = metric.name.replace(".", "_")
            assert any(one.startswith(family) for one in told) == is_here, (name, metric.name)
        assert GOAL not in text
        assert (sys.platform != "linux") or ("process_resident_memory_bytes" in text)
    assert 'atlas_circuit_state="closed",atlas_provider="mock"} 1.0' in scraped["router"]
    assert 'gen_ai_tool_name="search"' in scraped["worker"]


async def _scraped(port: int) -> str:
    """What is told once everything was looked at that takes a few seconds."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(30):
        while True:
            async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                assert answer.content_type == "text/plain"
                text: str = await answer.text()
            if "atlas_event_loop_lateness" in text:
                return text
            await asyncio.sleep(0.2)


async def test_where_metrics_are_switched_off_a_scrape_says_why(nats_server):
    port = free_port()
    environment = {"ATLAS_MONITORING__PORT": str(port), "OTEL_METRICS_EXPORTER": "none"}
    services = Services(nats_server.url, subprocess.DEVNULL, environment)
    try:
        await services.start(["agent_worker"])
        url = f"http://127.0.0.1:{port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            assert answer.status == 404
            assert "OTEL_METRICS_EXPORTER=none" in await answer.text()
    finally:
        await services.stop()
