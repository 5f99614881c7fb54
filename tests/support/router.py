"""A real router in this process, on a NATS server of its own, for tests of what watchers see."""

import json
import os
import signal
import subprocess
import warnings
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from atlas import process, subjects, topology
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.contracts.ids import new_id
from atlas.contracts.streams import STREAM_EVENT, Ownership, StreamEvent
from atlas.embedded import NatsProcess, Services
from atlas.nats_settings import NatsSettings
from atlas.provider_settings import ProviderSettings
from atlas.settings import Settings, TopologySettings
from provider_router.main import Router, compose
from tests.support.provider_server import ProviderServer, Reply, serving

TENANT = "default"
TERMINAL = frozenset({"stream.completed", "stream.failed", "stream.cancelled"})


@dataclass(frozen=True, slots=True)
class Stack:
    """NATS, a router on it, and clients of it."""

    nats: NatsProcess
    bus: Bus
    atlas: Atlas
    other: Atlas
    """A second client with a connection of its own."""
    router: Router

    async def stored(self, stream_id: str) -> list[StreamEvent]:
        """Every event that was stored for a stream, the void ones included."""
        return await stored_events(self.bus, stream_id)

    async def ends(self, stream_id: str) -> list[StreamEvent]:
        """The terminal events that were stored for a stream."""
        return [one for one in await self.stored(stream_id) if one.type in TERMINAL]


@asynccontextmanager
async def routing(
    nats: NatsProcess, providers: Mapping[str, ProviderSettings], **fields: object
) -> AsyncIterator[Router]:
    """A router while the block runs; its doors are open when it begins.

    It probes nobody unless `router` says so: what a test sees of its providers would depend on how
    long it takes.
    """
    said = fields.get("router", {})
    assert isinstance(said, Mapping)
    settings = Settings.model_validate(
        {
            "providers": dict(providers),
            "nats": NatsSettings(url=nats.url),
            "topology": TopologySettings(ack_wait_ms=1_000),
            **fields,
            "router": {"probe_idle_ms": 0, **said},
        }
    )
    bus = await Bus.connect(settings.nats, "router")
    try:
        await topology.ensure(bus, settings.topology)
        name = f"router-{new_id()[-6:]}"
        opening = process.open_context("provider_router", name, subjects.ROUTERS, settings, bus)
        async with AsyncExitStack() as undo:
            with warnings.catch_warnings():  # nats.micro 2.11 says utcnow() when it is made
                warnings.simplefilter("ignore", DeprecationWarning)
                context = await undo.enter_async_context(opening)
            router = await undo.enter_async_context(compose(context))
            await bus.flush()
            yield router
    finally:
        await bus.close()


@asynccontextmanager
async def stack(
    directory: Path, providers: Mapping[str, ProviderSettings], **fields: object
) -> AsyncIterator[Stack]:
    """Everything that one test, or one module of tests, needs."""
    nats = NatsProcess(directory / "nats")
    await nats.start()
    async with AsyncExitStack() as undo:
        undo.push_async_callback(nats.stop)
        router = await undo.enter_async_context(routing(nats, providers, **fields))
        bus = await Bus.connect(NatsSettings(url=nats.url), "test")
        undo.push_async_callback(bus.close)
        atlas = await undo.enter_async_context(Atlas.connect(nats.url, settings=Settings()))
        other = await undo.enter_async_context(Atlas.connect(nats.url, settings=Settings()))
        yield Stack(nats, bus, atlas, other, router)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two router processes, the provider that both call, and a client."""

    bus: Bus
    atlas: Atlas
    services: Services
    server: ProviderServer

    async def kill_owner(self, stream_id: str) -> None:
        """Kill the router that writes a stream."""
        stored = await self.bus.last(subjects.STREAMS, subjects.stream_owner(TENANT, stream_id))
        assert stored is not None
        router = Ownership.model_validate_json(stored.data).router
        await self.services.kill(
            next(one.pid for one in self.services.running if one.instance == router)
        )


@asynccontextmanager
async def two_routers(directory: Path, **fields: object) -> AsyncIterator[Pair]:
    """Two routers that notice soon when the other is dead; `fields` are of their provider."""
    nats = NatsProcess(directory)
    await nats.start()
    async with AsyncExitStack() as undo:
        undo.push_async_callback(nats.stop)
        server = await undo.enter_async_context(serving(Reply()))
        acme = {"kind": "openai", "base_url": server.url, "api": "chat", **fields}
        environment = {
            "ATLAS_TOPOLOGY__ACK_WAIT_MS": "1000",
            "ATLAS_HEALTH_INTERVAL_MS": "200",
            "ATLAS_PROVIDERS": json.dumps({"acme": acme}),
        }
        services = Services(nats.url, subprocess.DEVNULL, environment)
        undo.push_async_callback(services.stop)
        await services.start(["provider_router", "provider_router"])
        bus = await Bus.connect(NatsSettings(url=nats.url), "test")
        undo.push_async_callback(bus.close)
        atlas = await undo.enter_async_context(Atlas.connect(nats.url, settings=Settings()))
        yield Pair(bus, atlas, services, server)


async def stored_events(bus: Bus, stream_id: str) -> list[StreamEvent]:
    """Every event that was stored for a stream, the void ones included."""
    subject = subjects.stream_write(TENANT, stream_id)
    return [
        STREAM_EVENT.validate_json(one.data) async for one in bus.read(subjects.STREAMS, subject)
    ]


def stop(nats: NatsProcess) -> int:
    """Hold a NATS server so that it takes and says nothing, its connections open; gives its pid."""
    process = nats._process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)  # all of its threads stand still
    return process.pid


@contextmanager
def stopped(nats: NatsProcess) -> Iterator[None]:
    """A NATS server that stands still while the block runs."""
    pid = stop(nats)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def provider(kind: str, url: str, **fields: object) -> ProviderSettings:
    """A provider at a URL, without a key."""
    return ProviderSettings.model_validate(
        {"kind": kind, "base_url": url, "models": ["some-model"], **fields}
    )


def chat_chunk(text: str) -> bytes:
    """One event of a Chat Completions body."""
    return chat_event(
        {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    )


def chat_end(input_tokens: int = 3, output_tokens: int = 5) -> bytes:
    """The end of a Chat Completions body, with usage."""
    stop = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    usage = {"prompt_tokens": input_tokens, "completion_tokens": output_tokens}
    return chat_event(stop) + chat_event({"choices": [], "usage": usage}) + b"data: [DONE]\n\n"


def chat(texts: Iterable[str]) -> bytes:
    """A whole Chat Completions body."""
    return b"".join(map(chat_chunk, texts)) + chat_end()


def chat_cuts(texts: Iterable[str]) -> tuple[int, ...]:
    """Where to cut a body so that each text comes in a write of its own."""
    cuts, end = [], 0
    for text in texts:
        end += len(chat_chunk(text))
        cuts.append(end)
    return tuple(cuts)


def chat_event(data: object) -> bytes:
    """One event of a body."""
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"
