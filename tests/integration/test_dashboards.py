"""What dashboards and alerts ask is told by services that run, and Prometheus answers it."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from atlas.client import Atlas
from atlas.contracts.errors import AtlasError
from atlas.embedded import NatsProcess, Services, free_port
from atlas.settings import Settings
from deploy.observability.alerts import ALERTS
from deploy.observability.generate import BOARDS, HERE
from tests.integration.test_tracing import no_settings_of_the_caller
from tests.support import promql

__all__ = ["no_settings_of_the_caller"]  # a fixture of every test here too

TOOL = '''
def search(what: str) -> str:
    """Find what is known."""
    return what
'''
PLAN: list[object] = [{"id": "look", "capability": "research", "instruction": "Count the stripes"}]
ENVIRONMENT = {
    "ATLAS_PROVIDERS": json.dumps(
        {
            "mock": {"kind": "mock", "mock": {"token_ms": 1, "tokens": 20}},
            "broken": {"kind": "mock", "models": ["bad"], "mock": {"fault": {"status": 400}}},
        }
    ),
    "ATLAS_WORKER__TOOLS": '{"search": "house:search"}',
    "ATLAS_WORKER__SPECIALISATIONS": json.dumps(
        {"research": {"tools": ["search"]}, "writing": {"extends": "draft", "model": "broken/bad"}}
    ),
    "ATLAS_BUDGETS__TENANTS": '{"default": {"day": {"max_usd": 1, "max_tokens": 1000000}}}',
    "ATLAS_LOG_LEVEL": "warning",
}
SERVICES = ("provider_router", "agent_controller", "agent_worker")
QUESTIONS = sorted({ask for board in BOARDS for ask in board.questions()})
LEGENDS = [
    (query.ask, query.legend)
    for board in BOARDS
    for _, panels in board.rows
    for panel in panels
    for query in panel.queries
]


@asynccontextmanager
async def _running(folder: Path) -> AsyncIterator[dict[str, int]]:
    """All services after a task and a stream that went well and one of each that did not."""
    (folder / "house.py").write_text(TOOL)
    nats = NatsProcess(folder / "nats")
    await nats.start()
    services = Services(nats.url, subprocess.DEVNULL)
    ports = {name: free_port() for name in SERVICES}
    try:
        for name, port in ports.items():
            monitoring = {"PYTHONPATH": str(folder), "ATLAS_MONITORING__PORT": str(port)}
            services.environment = {**ENVIRONMENT, **monitoring}
            await services.start([name])
        async with Atlas.connect(nats.url, settings=Settings()) as atlas:
            await (await atlas.submit("Zebras", plan=PLAN)).result()
            bad = await atlas.submit(
                "Zebras", plan=[{"id": "look", "capability": "writing", "instruction": "Count"}]
            )
            with pytest.raises(AtlasError):
                await bad.result()
            with pytest.raises(AtlasError):
                await atlas.generate("Zebras", model="broken/bad")
            with pytest.raises(AtlasError):
                await atlas.task("nobody")
        yield ports
    finally:
        await services.stop()
        await nats.stop()


async def _scrape(port: int) -> str:
    url = f"http://127.0.0.1:{port}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        text: str = await answer.text()
        return text


async def _settled(ports: dict[str, int]) -> str:
    """What all tell, once they have looked at what they look at every few seconds."""
    async with asyncio.timeout(60):
        while True:
            told = [await _scrape(port) for port in ports.values()]
            looked = ["atlas_event_loop_lateness" in one for one in told]
            ended = re.search(r'streams_ended_total\{atlas_outcome="failed"\} [1-9]', told[0])
            if all(looked) and ended:
                return "\n".join(told)
            await asyncio.sleep(0.3)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> promql.Told:
    """A scrape of all services."""

    async def run() -> str:
        async with _running(tmp_path_factory.mktemp("scraped")) as ports:
            return await _settled(ports)

    return promql.read(asyncio.run(run()))


def _missing(question: str, told: promql.Told) -> list[promql.Needed]:
    """What is not there; which code of the contract an error has is told when it happens."""
    return [
        one
        for one in promql.needs(question)
        if not one.is_in(told)
        and not (one.label == "error_type" and one.value in set(_codes(AtlasError)))
    ]


def _codes(error: type[AtlasError]) -> Iterator[str]:
    yield error.code
    for kind in error.__subclasses__():
        yield from _codes(kind)


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_a_panel_or_a_variable_asks_is_told_by_services_that_run(
    question: str, told: promql.Told
):
    assert _missing(question, told) == []


@pytest.mark.parametrize("alert", ALERTS, ids=lambda one: one.name)
def test_what_an_alert_asks_is_told_by_services_that_run(alert, told: promql.Told):
    assert _missing(alert.ask, told) == []


@pytest.mark.parametrize("alert", ALERTS, ids=lambda one: one.name)
def test_an_alert_says_only_what_its_question_gives(alert, told: promql.Told):
    named = set(re.findall(r"\$labels\.(\w+)", alert.says + alert.runbook))
    assert named <= promql.labels(promql.parse(alert.ask), told)


@pytest.mark.parametrize(("question", "legend"), LEGENDS)
def test_the_legend_of_a_series_names_labels_that_it_has(
    question: str, legend: str, told: promql.Told
):
    named = set(re.findall(r"\{\{(\w+)\}\}", legend))
    assert named <= promql.labels(promql.parse(question), told)


def test_a_question_for_what_nobody_tells_is_found_out(told: promql.Told):
    for wrong in (
        "rate(atlas_streams_finished_total[1m])",
        'sum(atlas_streams_ended_total{atlas_outcome="dropped"})',
        "sum by (atlas_tenant) (atlas_streams_running)",
        'max(atlas_streams_running{atlas_lane=~".*"})',
    ):
        assert len(_missing(wrong, told)) == 1, wrong


@asynccontextmanager
async def _prometheus(folder: Path, ports: dict[str, int]) -> AsyncIterator[str]:
    """A Prometheus with our rules that asks these services every second."""
    config = yaml.safe_load((HERE / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(HERE / "prometheus" / "alerts.yml")]
    jobs = {one["job_name"] for one in config["scrape_configs"]}
    assert jobs > set(ports)
    config["scrape_configs"] = [
        {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        for name, port in ports.items()
    ]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(  # noqa: ASYNC220 - fork and exec, no wait
        [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://{address}/api/v1"
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 30)


async def _ask(session: aiohttp.ClientSession, url: str, **params: str) -> dict[str, Any]:
    async with session.get(url, params=params) as answer:
        body: dict[str, Any] = await answer.json()
        assert body["status"] == "success", (params, body)
        data: dict[str, Any] = body["data"]
        return data


def _as_asked(question: str) -> str:
    return re.sub(r"\$\w+", ".*", question.replace("$__rate_interval", "1m"))


async def test_prometheus_answers_every_question_and_evaluates_every_rule(tmp_path: Path):
    if shutil.which("prometheus") is None:
        pytest.skip("no prometheus on the PATH (Debian's package `prometheus`)")
    async with (
        _running(tmp_path) as ports,
        _prometheus(tmp_path, ports) as api,
        aiohttp.ClientSession() as session,
    ):
        await _settled(ports)
        await _until_asked(session, api)
        empty = []
        for question in QUESTIONS:
            answer = await _ask(session, f"{api}/query", query=_as_asked(question))
            if not answer["result"]:
                empty.append(question)
        assert empty == []
        rules = (await _ask(session, f"{api}/rules"))["groups"][0]["rules"]
    assert {one["name"]: one["health"] for one in rules} == {one.name: "ok" for one in ALERTS}
    firing = {one["name"] for one in rules if one["state"] == "firing"}
    assert firing <= {"AtlasStreamsFail", "AtlasTasksFail"}


async def _until_asked(session: aiohttp.ClientSession, api: str) -> None:
    """Wait until each service was asked a few times, and all rules once."""
    async with asyncio.timeout(60):
        while True:
            try:
                asked = await _ask(session, f"{api}/query", query="min(count_over_time(up[1m]))")
                rules = await _ask(session, f"{api}/rules")
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.2)
                continue
            often = asked["result"] and float(asked["result"][0]["value"][1]) > 4
            if often and all(one["health"] == "ok" for one in rules["groups"][0]["rules"]):
                return
            await asyncio.sleep(0.5)
