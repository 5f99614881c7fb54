"""Two router processes and SIGKILL: what one learnt of a provider binds both, and outlives both."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from nats.aio.subscription import Subscription

from atlas import subjects
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.contracts.catalogue import ProviderInfo
from atlas.contracts.events import Event
from atlas.contracts.streams import Ownership
from atlas.embedded import NatsProcess, Services
from atlas.nats_settings import NatsSettings
from atlas.settings import Settings
from tests.support.provider_server import (
    ProviderServer,
    ReceivedRequest,
    Reply,
    refusal,
    serving,
)
from tests.support.router import TENANT, chat

BROKEN = refusal(500, {"error": {"message": "broken"}})
WRONG_KEY = refusal(401, {"error": {"message": "no", "code": "invalid_api_key"}})
COOL_DOWN_MS = 60_000
"""Longer than a test: what opens stays open."""
OBEYED_S = 1.0
"""So soon the other router knows."""


class Keyed(ProviderServer):
    """Answers whoever has the right key."""

    def reply_to(self, request: ReceivedRequest) -> Reply:
        return self.reply if request.headers["authorization"] == "Bearer right" else WRONG_KEY


@dataclass(frozen=True)
class Pair:
    """Two router processes, and two providers of which the first is asked first."""

    bus: Bus
    atlas: Atlas
    services: Services
    first: ProviderServer
    key: Path
    """The first provider's."""
    told: Subscription
    """The events `provider.circuit`."""

    async def ask(self) -> tuple[str, str]:
        """The answer to a request, and the router that gave it."""
        async with asyncio.timeout(20), self.atlas.stream("Hello", model="either") as stream:
            content = (await stream.result()).content
        owner = subjects.stream_owner(TENANT, stream.stream_id)
        stored = await self.bus.last(subjects.STREAMS, owner)
        assert stored is not None
        return content, Ownership.model_validate_json(stored.data).router

    async def ask_both(self) -> set[str]:
        """Ask until both routers have answered; gives the answers."""
        answers: dict[str, set[str]] = {}
        async with asyncio.timeout(20):
            while len(answers) < len(self.services.running):
                content, router = await self.ask()
                answers.setdefault(router, set()).add(content)
        return set.union(*answers.values())

    async def circuit_told(self) -> Event:
        """The next change that a router told of a circuit."""
        return Event.model_validate_json((await self.told.next_msg(timeout=10)).data)

    async def until_both(self, is_so: Callable[[ProviderInfo], bool], within_s: float) -> None:
        """Wait until every running router says so of the first provider."""
        said: set[str] = set()
        routers = {one.instance for one in self.services.running}
        async with asyncio.timeout(within_s):
            while said != routers:
                reply = await self.atlas.providers()
                info = next(one for one in reply.providers if one.provider == "first")
                said = said | {reply.router} if is_so(info) else said - {reply.router}

    async def kill_both(self) -> None:
        """SIGKILL both, and start two new ones."""
        for one in self.services.running:
            await self.services.kill(one.pid)
        self.services.running.clear()
        await self.services.start(["provider_router"] * 2)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    key = tmp_path / "key"
    key.write_text("right")
    nats = NatsProcess(tmp_path / "nats")
    async with AsyncExitStack() as undo:
        await nats.start()
        undo.push_async_callback(nats.stop)
        first = await undo.enter_async_context(serving(Reply(chat(["first"])), Keyed))
        second = await undo.enter_async_context(serving(Reply(chat(["second"]))))
        speaks = {"kind": "openai", "api": "chat", "models": ["some-model"]}
        members = ["first/some-model", "second/some-model"]
        environment = {
            "ATLAS_ROUTER__CIRCUIT__COOL_DOWN_MS": str(COOL_DOWN_MS),
            "ATLAS_GROUPS": json.dumps({"either": {"members": members}}),
            "ATLAS_PROVIDERS": json.dumps(
                {
                    "first": {**speaks, "base_url": first.url, "api_key_file": str(key)},
                    "second": {**speaks, "base_url": second.url},
                }
            ),
        }
        services = Services(nats.url, subprocess.DEVNULL, environment)
        undo.push_async_callback(services.stop)
        await services.start(["provider_router"] * 2)
        bus = await Bus.connect(NatsSettings(url=nats.url), "test")
        undo.push_async_callback(bus.close)
        circuits = subjects.events_of(TENANT, "provider_router", "provider.circuit")
        told = await bus.open(circuits)
        await bus.flush()
        atlas = await undo.enter_async_context(Atlas.connect(nats.url, settings=Settings()))
        yield Pair(bus, atlas, services, first, key, told)


async def test_a_circuit_that_one_router_opened_binds_the_other_and_outlives_both(pair: Pair):
    pair.first.reply = BROKEN
    while (await pair.atlas.providers()).providers[0].circuit == "closed":
        assert (await pair.ask())[0] == "second"
    opened = await pair.circuit_told()
    assert (opened.data["circuit"], opened.data["error"]) == ("open", "provider_server")
    until_ms = opened.data["open_until_ms"]

    def is_open(info: ProviderInfo) -> bool:
        return (info.circuit, info.open_until_ms) == ("open", until_ms)

    await pair.until_both(is_open, OBEYED_S)
    asked = len(pair.first.requests)
    assert await pair.ask_both() == {"second"}
    await pair.kill_both()
    await pair.until_both(is_open, 10)
    assert await pair.ask_both() == {"second"}
    assert len(pair.first.requests) == asked
    with pytest.raises(TimeoutError):  # who only heard of it tells nothing
        await pair.told.next_msg(timeout=0.1)


async def test_a_refused_keys_circuit_outlives_both_routers_and_ends_with_the_key(pair: Pair):
    pair.key.write_text("wrong")
    await pair.kill_both()
    assert (await pair.ask())[0] == "second"
    opened = await pair.circuit_told()
    assert (opened.data["circuit"], opened.data["reason"]) == ("open", "auth")

    def is_open_for_good(info: ProviderInfo) -> bool:
        return (info.circuit, info.open_until_ms) == ("open", None)

    await pair.until_both(is_open_for_good, OBEYED_S)
    await pair.kill_both()
    await pair.until_both(is_open_for_good, 10)
    assert await pair.ask_both() == {"second"}
    assert len(pair.first.requests) == 1
    pair.key.write_text("right")
    await pair.until_both(lambda info: info.circuit == "closed", 20)
    assert await pair.ask_both() == {"first"}
    await pair.kill_both()
    assert await pair.ask_both() == {"first"}
