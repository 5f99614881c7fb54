"""Probes of a real router at real HTTP servers: who is asked without a request, and who never."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from nats.aio.subscription import Subscription

from atlas import subjects
from atlas.contracts.catalogue import ProviderInfo
from atlas.contracts.errors import ProviderConnectionError, ProviderServerError
from atlas.contracts.events import Event
from tests.support.provider_server import ProviderServer, Reply, refusal, serving
from tests.support.router import TENANT, Stack, chat, chat_chunk, provider, stack

IDLE_MS = 1_000
LISTED = Reply(b'{"data": []}')
WRONG_KEY = refusal(401, {"error": {"message": "no", "code": "invalid_api_key"}})
BROKEN = refusal(500, {"error": {"message": "broken"}})
COOL_DOWN = {"cool_down_ms": 3_000}


@dataclass(frozen=True)
class Rig:
    """A router that probes, the provider in question, and another one that is only idle."""

    stack: Stack
    first: ProviderServer
    idle: ProviderServer
    told: Subscription
    """The events of the router."""

    async def info(self, name: str = "first") -> ProviderInfo:
        reply = await self.stack.atlas.providers()
        assert not reply.usage
        return next(one for one in reply.providers if one.provider == name)

    async def until_told(self, type_: str, **data: object) -> Event:
        """Wait for an event about the first provider."""
        async with asyncio.timeout(20):
            while True:
                event = Event.model_validate_json((await self.told.next_msg(timeout=20)).data)
                said = {"provider": "first", **data}
                if event.type == type_ and said.items() <= event.data.items():
                    return event

    async def idle_probed(self, times: int = 3) -> None:
        """Wait until the other provider was probed so often from now on."""
        wanted = len(self.idle.probes) + times
        async with asyncio.timeout(20):
            while len(self.idle.probes) < wanted:
                self.idle.probed.clear()
                await self.idle.probed.wait()

    async def ask(self) -> str:
        async with asyncio.timeout(20), self.stack.atlas.stream("Hi", model="first/m") as stream:
            return (await stream.result()).content


@asynccontextmanager
async def probing(
    directory: Path,
    reply: Reply,
    *,
    circuit: Mapping[str, object] | None = None,
    idle_ms: int = IDLE_MS,
    url: str | None = None,
    **fields: Any,
) -> AsyncIterator[Rig]:
    """The router, and the first provider whose probes are answered so."""
    async with AsyncExitStack() as undo:
        first = await undo.enter_async_context(serving(Reply(chat(["well"]))))
        first.probe_reply = reply
        idle = await undo.enter_async_context(serving(Reply(chat(["idle"]))))
        idle.probe_reply = LISTED
        providers = {
            "first": provider("openai", url or first.url, api="chat", **fields),
            "idle": provider("openai", idle.url, api="chat"),
        }
        router = {"probe_idle_ms": idle_ms, "max_attempts": 1, "circuit": circuit or {}}
        running = await undo.enter_async_context(stack(directory, providers, router=router))
        told = await running.bus.open(subjects.events_of(TENANT, "provider_router", ">"))
        await running.bus.flush()
        yield Rig(running, first, idle, told)


def unused_port() -> socket.socket:
    """A port at which nobody listens yet."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", 0))
    return bound


async def test_a_server_that_comes_back_is_found_by_a_probe_and_no_request_pays_for_it(tmp_path):
    port = unused_port()
    url = f"http://127.0.0.1:{port.getsockname()[1]}"
    async with probing(tmp_path, LISTED, url=url, circuit=COOL_DOWN) as rig:
        for _ in range(3):
            with pytest.raises(ProviderConnectionError):
                await rig.ask()
        await rig.until_told("provider.circuit", circuit="open", error="provider_connection")
        async with serving(Reply(chat(["back"])), at=port) as back:
            back.probe_reply = LISTED
            # Of a cool-down that ends by itself no event tells.
            await rig.until_told("provider.circuit", circuit="half_open", was="open")
            assert back.probes
            assert not back.requests
            assert [await rig.ask(), await rig.ask()] == ["back", "back"]
            await rig.until_told("provider.circuit", circuit="closed")
            assert (await rig.info()).failures == 3


async def test_a_server_that_is_not_there_opens_its_circuit_without_a_request(tmp_path):
    port = unused_port()
    url = f"http://127.0.0.1:{port.getsockname()[1]}"
    async with probing(tmp_path, LISTED, url=url, circuit=COOL_DOWN) as rig:
        told = await rig.until_told("provider.health", health="unhealthy")
        assert told.data["probe_error"] == "provider_connection"
        await rig.until_told("provider.circuit", circuit="open", error="provider_connection")
        info = await rig.info()
        assert (info.circuit, info.attempts, info.failures) == ("open", 0, 0)
        assert info.probe_error == "provider_connection"
    port.close()


async def test_a_refused_key_shows_before_any_request_and_its_correction_too(tmp_path):
    async with probing(tmp_path, WRONG_KEY) as rig:
        told = await rig.until_told("provider.health", health="unhealthy")
        assert told.data["probe_error"] == "provider_auth"
        info = await rig.info()
        assert (info.health, info.probe_error) == ("unhealthy", "provider_auth")
        assert info.circuit == "closed"
        rig.first.probe_reply = LISTED
        told = await rig.until_told("provider.health", health="healthy")
        assert "probe_error" not in told.data
        info = await rig.info()
        assert (info.probe_error, info.probed_at_ms) == (None, told.data["probed_at_ms"])
        assert (info.attempts, info.failures) == (0, 0)
        assert not rig.first.requests


async def test_a_silent_server_costs_a_deadline_and_is_degraded(tmp_path):
    silent = Reply(headers_after_s=60)
    async with probing(tmp_path, silent, connect_timeout_ms=100, probe_timeout_ms=100) as rig:
        told = await rig.until_told("provider.health", health="degraded")
        assert told.data["probe_error"] == "provider_timeout"
        assert (await rig.info()).circuit == "closed"


async def test_a_router_that_ends_does_not_wait_for_its_probes(tmp_path):
    silent = Reply(headers_after_s=60)
    async with asyncio.timeout(30):
        async with probing(tmp_path, silent, probe_timeout_ms=600_000) as rig:
            await rig.first.probed.wait()
        await rig.first.disconnected.wait()


async def test_a_server_that_offers_no_probe_is_asked_once(tmp_path):
    no_such_thing = refusal(404, {"error": {"message": "there is no such thing"}})
    async with probing(tmp_path, no_such_thing) as rig:
        await rig.first.probed.wait()
        await rig.idle_probed()
        assert len(rig.first.probes) == 1
        info = await rig.info()
        assert (info.health, info.probed_at_ms, info.probe_error) == ("unknown", None, None)


async def test_a_provider_with_a_running_request_is_not_probed(tmp_path):
    async with probing(tmp_path, LISTED) as rig:
        rig.first.reply = Reply(chat_chunk("and so on"), then_silent=True)
        async with rig.stack.atlas.stream("Hi", model="first/m") as stream:
            await anext(aiter(stream))
            known = len(rig.first.probes)
            await rig.idle_probed()
            assert len(rig.first.probes) == known
            await stream.cancel()
        rig.first.probed.clear()
        async with asyncio.timeout(20):
            await rig.first.probed.wait()


@pytest.mark.parametrize(
    "fields", [{"probe": False}, {"limits": {"requests_per_minute": 1}}], ids=["off", "limited"]
)
async def test_whose_probes_are_off_or_would_cost_a_place_is_never_probed(tmp_path, fields):
    async with probing(tmp_path, LISTED, **fields) as rig:
        await rig.idle_probed(4)
        assert not rig.first.probes
        assert await rig.ask() == "well"


@pytest.mark.parametrize("idle_ms", [0, 600_000])
async def test_an_opening_is_probed_before_its_end_unless_probes_are_off(tmp_path, idle_ms):
    async with probing(tmp_path, LISTED, idle_ms=idle_ms, circuit=COOL_DOWN) as rig:
        rig.first.reply = BROKEN
        for _ in range(5):
            with pytest.raises(ProviderServerError):
                await rig.ask()
        assert (await rig.info()).circuit == "open"
        known = len(rig.first.probes)
        async with asyncio.timeout(20):
            while (await rig.info()).circuit == "open":  # noqa: ASYNC110 - no event tells of time
                await asyncio.sleep(0.05)
        assert len(rig.first.probes) - known == (1 if idle_ms else 0)
        with pytest.raises(ProviderServerError):
            await rig.ask()
        assert (await rig.info()).circuit == "open"
