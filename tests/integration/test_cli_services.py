"""What `atlas providers`, `events` and `doctor` tell of services."""

import asyncio
import contextlib
import signal

import pytest
from nats.aio.msg import Msg

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.base import now_ms
from atlas.contracts.catalogue import ModelInfo, ProviderInfo, ProvidersReply
from atlas.contracts.events import Event
from tests.integration import cli_process


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
    told_to_do = "its key was refused; correct the key that providers.acme names"
    assert told_to_do in found["probe of acme"]["message"]
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
