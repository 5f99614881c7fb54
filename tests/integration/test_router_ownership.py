"""Who may write a stream, what becomes of words whose acknowledgement was lost, who answers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from atlas import subjects, topology
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.contracts.base import now_ms
from atlas.contracts.errors import ProviderServerError, RequestTimeoutError
from atlas.contracts.events import Event
from atlas.contracts.ids import new_id
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.streams import Ownership, StreamControl, StreamEvent, StreamState, StreamStatus
from atlas.embedded import NatsProcess
from atlas.nats_settings import NatsSettings
from atlas.reading import Reading
from atlas.settings import Settings, TopologySettings
from provider_router.providers.base import Text
from provider_router.routing.choosing import Candidate
from provider_router.routing.prices import Pricing
from provider_router.streaming import making
from provider_router.streaming.gate import Gate
from provider_router.streaming.store import Claim, StreamAddress, StreamStore
from provider_router.streaming.window import PublishWindow
from provider_router.streaming.write_errors import OwnershipLostError, StreamOverError
from provider_router.streaming.writer import StreamWriter
from tests.support.provider_server import Reply, serving
from tests.support.router import TENANT, chat, chat_chunk, provider, routing
from tests.support.waiting import eventually

CANDIDATE = Candidate("acme", "some-model", "named", Pricing("openai", "some-model"))
FAILED = making.failed(ProviderServerError("broken").to_info(), Usage(), Cost())
_BEAT_S = 0.2


class ForgetfulStore(StreamStore):
    """A real store whose acknowledgements are lost so many times, after it stored."""

    losses = 0
    is_open: asyncio.Event | None = None
    """Set when NATS takes something again; None: it always does."""

    async def append_fenced(self, address: StreamAddress, claim: Claim, event: StreamEvent) -> int:
        if self.is_open is not None:
            await self.is_open.wait()
        seq = await super().append_fenced(address, claim, event)
        if self.losses:
            self.losses -= 1
            raise RequestTimeoutError("no answer")
        return seq


class LeakingWindow(PublishWindow):
    """A real window whose server drops some messages, and says nothing."""

    drops: frozenset[int] = frozenset()
    """By their numbers."""

    async def publish(self, subject: str, data: bytes, *, asks: bool = False) -> int:
        if self.sent + 1 in self.drops:
            self.sent += 1
            return self.sent
        return await super().publish(subject, data, asks=asks)


@dataclass(frozen=True, slots=True)
class Desk:
    """A writer at its stream."""

    bus: Bus
    store: ForgetfulStore
    window: LeakingWindow
    address: StreamAddress

    async def writer(self, previous: Claim | None = None) -> StreamWriter:
        claim = await self.store.claim(
            self.address, previous, request_seq=None, request_sha256=None
        )
        reading = await self.store.reading(self.address)
        return StreamWriter(self.store, self.window, self.address, claim, reading)

    async def stored(self) -> list[StreamEvent]:
        return [event async for event in self.store.history(self.address)]

    async def read(self) -> Reading:
        return await self.store.reading(self.address)


@pytest.fixture
async def nats(tmp_path) -> AsyncIterator[NatsProcess]:
    server = NatsProcess(tmp_path / "nats")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def bus(nats) -> AsyncIterator[Bus]:
    bus = await Bus.connect(NatsSettings(url=nats.url), "test")
    await topology.ensure(bus, TopologySettings(ack_wait_ms=1_000))
    yield bus
    await bus.close()


@pytest.fixture
async def desk(bus) -> Desk:
    window = LeakingWindow(bus, 256)
    await window.open()
    return Desk(bus, ForgetfulStore(bus, "router-1"), window, StreamAddress(TENANT, new_id()))


async def test_an_end_whose_acknowledgement_was_lost_is_found_and_not_told_twice(desk: Desk):
    writer = await desk.writer()
    await writer.fenced(making.started(CANDIDATE, 1))
    await writer.content([Text("Once ")])
    desk.store.losses = 1
    end = await writer.fenced(FAILED)
    assert [one.type for one in await desk.stored()] == [
        "stream.started",
        "text.delta",
        "stream.failed",
    ]
    assert (end, writer.terminal) == ((await desk.read()).terminal, end)


async def test_a_start_whose_acknowledgements_are_lost_again_and_again_counts_once(desk: Desk):
    writer = await desk.writer()
    desk.store.losses = 3
    await writer.fenced(making.started(CANDIDATE, 1))
    await writer.content([Text("Once "), Text("upon")])
    await writer.fenced(FAILED)
    reading = await desk.read()
    assert (reading.text, reading.terminal) == ("Once upon", writer.terminal)
    assert sum(one.type == "stream.started" for one in await desk.stored()) == 1


async def test_an_adoption_whose_acknowledgement_was_lost_still_restarts_the_answer(desk: Desk):
    first = await desk.writer()
    await first.fenced(making.started(CANDIDATE, 1))
    await first.content([Text("void")])
    await desk.bus.flush()
    second = await desk.writer(await desk.store.owner(desk.address))
    desk.store.losses = 1
    await second.adopt(2, "restart")
    await second.fenced(making.started(CANDIDATE, 2))
    await second.content([Text("whole")])
    await second.fenced(FAILED)
    reading = await desk.read()
    assert (reading.text, reading.attempt, reading.terminal) == ("whole", 2, second.terminal)


async def test_a_router_is_not_fenced_by_its_own_earlier_claim(desk: Desk):
    writer = await desk.writer()
    await writer.fenced(making.started(CANDIDATE, 1))
    before = await desk.store.owner(desk.address)
    await desk.writer(before)  # stored, and its acknowledgement never came
    claim = await desk.store.claim(desk.address, before, request_seq=None, request_sha256=None)
    assert claim == await desk.store.owner(desk.address)


async def test_a_writer_whose_stream_was_taken_over_says_nothing_more(desk: Desk):
    writer = await desk.writer()
    await writer.fenced(making.started(CANDIDATE, 1))
    other = StreamStore(desk.bus, "router-2")
    owner = await desk.store.owner(desk.address)
    await other.claim(desk.address, owner, request_seq=None, request_sha256=None)
    with pytest.raises(OwnershipLostError):
        await writer.fenced(FAILED)
    assert (await desk.read()).terminal is None


@pytest.mark.parametrize("dropped", [{1}, {2}, {3}, {1, 2, 3}, {2, 4}])
async def test_what_was_dropped_without_a_word_is_there_before_the_stream_ends(
    desk: Desk, dropped: set[int]
):
    desk.window.drops = frozenset(dropped)  # the second writing loses its first message again: 4
    writer = await desk.writer()
    await writer.fenced(making.started(CANDIDATE, 1))
    await writer.content([Text("Once "), Text("upon "), Text("a time")])
    await writer.fenced(FAILED, keeps_text=True)
    reading = await desk.read()
    assert (reading.text, reading.terminal) == ("Once upon a time", writer.terminal)
    assert [one.seq for one in await desk.stored() if one.epoch == writer.epoch][-1] == reading.seq


async def test_what_was_dropped_without_a_word_is_written_again_while_the_stream_runs(desk: Desk):
    desk.window.drops = frozenset({2})
    writer = await desk.writer()
    await writer.fenced(making.started(CANDIDATE, 1))
    words = [f"{number} " for number in range(600)]
    await writer.content([Text(word) for word in words[:-2]])
    other = StreamAddress(desk.address.tenant, "another")
    await desk.window.publish(other.write, b"{}", asks=True)
    await eventually(lambda: desk.window.passed >= desk.window.sent)
    for word in words[-2:]:  # at the first it asks, at the second it knows
        await writer.content([Text(word)])

    async def whole() -> Reading | None:
        reading = await desk.read()
        return reading if reading.seq >= writer.seq else None

    reading = await eventually(whole)
    assert reading is not None
    assert reading.text == "".join(words)
    assert reading.epoch == writer.epoch


async def test_words_of_an_older_epoch_do_not_pass_for_what_was_dropped(desk: Desk):
    first = await desk.writer()
    await first.fenced(making.started(CANDIDATE, 1))
    second = await desk.writer(await desk.store.owner(desk.address))
    await second.adopt(2, "restart")
    await first.content([Text("late")])  # it was asleep, and knows nothing
    desk.window.drops = frozenset({desk.window.sent + 1})
    await second.content([Text("dropped ")])
    await second.content([Text("and not")])
    await second.fenced(FAILED)
    reading = await desk.read()
    assert (reading.text, reading.terminal) == ("dropped and not", second.terminal)


async def test_a_router_that_was_overtaken_before_its_first_word_says_none(desk: Desk):
    asleep = await desk.writer()
    other = StreamStore(desk.bus, "router-2")
    owner = await desk.store.owner(desk.address)
    claim = await other.claim(desk.address, owner, request_seq=None, request_sha256=None)
    with pytest.raises(OwnershipLostError):
        await asleep.event(making.paused(StreamControl(action="pause")))
    writer = StreamWriter(other, desk.window, desk.address, claim, await desk.read())
    await writer.fenced(making.started(CANDIDATE, 1))
    assert [one.type for one in await desk.stored()] == ["stream.started"]


async def test_an_end_that_came_just_before_a_claim_stays_the_only_one(desk: Desk):
    first = await desk.writer()
    await first.fenced(making.started(CANDIDATE, 1))
    await first.fenced(FAILED)
    second = await desk.writer(await desk.store.owner(desk.address))
    with pytest.raises(StreamOverError):
        await second.adopt(2, "restart")
    assert [one.type for one in await desk.stored()] == ["stream.started", "stream.failed"]


async def test_a_cancel_that_comes_while_the_last_word_is_on_its_way_is_not_said_to_have_won(
    desk: Desk,
):
    writer, gate = await desk.writer(), Gate(desk.address.stream_id)
    heard = await desk.bus.subscribe(desk.address.control, gate.hear)
    kept: list[StreamControl] = []

    async def keep(control: StreamControl) -> None:
        kept.append(control)

    await gate.open(writer, asyncio.sleep(0, []), None, keep)
    await writer.fenced(making.started(CANDIDATE, 1))
    gate.stream_state = StreamState.ACTIVE
    desk.store.is_open = asyncio.Event()
    ending = asyncio.create_task(writer.fenced(FAILED))
    cancel = StreamControl(action="cancel")
    status = await desk.bus.request(desk.address.control, cancel, StreamStatus, timeout_s=5)
    assert status.state is StreamState.ACTIVE
    desk.store.is_open.set()
    assert (await ending).type == "stream.failed"
    gate.stream_state = StreamState.ERROR
    await gate.close(writer.seq)
    await heard.unsubscribe()


async def test_nothing_is_written_after_the_end(desk: Desk):
    writer = await desk.writer()
    await writer.fenced(FAILED)
    pause = StreamControl(action="pause")
    for late in (writer.event(making.paused(pause)), writer.content([Text("x")])):
        with pytest.raises(StreamOverError):
            await late
    with pytest.raises(StreamOverError):
        await writer.fenced(FAILED)
    assert [one.type for one in await desk.stored()] == ["stream.failed"]


@contextlib.asynccontextmanager
async def beating(bus: Bus, router: str) -> AsyncIterator[None]:
    """A router that says it is well, and does nothing else."""

    async def beat() -> None:
        event = Event(
            type="service.health",
            source="provider_router",
            at_ms=now_ms(),
            data={"instance": router, "state": "ready"},
        )
        while True:
            await bus.send(subjects.event(TENANT, "provider_router", "service.health"), event)
            await asyncio.sleep(_BEAT_S)

    task = asyncio.create_task(beat())
    yield
    task.cancel()


async def test_a_control_is_answered_within_a_second_although_the_owner_only_seems_well(nats, bus):
    address = StreamAddress(TENANT, new_id())
    ghost = Ownership(epoch=now_ms(), router="ghost", at_ms=now_ms())
    await bus.store(address.owner, ghost.to_json())
    async with routing(nats, {}, health_interval_ms=1_000), beating(bus, "ghost"):
        status = await bus.request(
            address.control, StreamControl(action="pause"), StreamStatus, timeout_s=1.0
        )
        asked = [
            bus.request(address.control, StreamControl(action="pause"), StreamStatus, timeout_s=1.0)
            for _ in range(50)
        ]
        assert {(await one).state for one in asyncio.as_completed(asked)} == {StreamState.ADOPTING}
    assert status.state is StreamState.ADOPTING


async def test_a_stream_that_was_resumed_while_no_router_lived_goes_on_with_the_next(nats, bus):
    async with serving(Reply(chat_chunk("Once "), then_silent=True)) as server:
        providers = {"acme": provider("openai", server.url, api="chat")}
        router = {"drain_ms": 100}
        async with Atlas.connect(nats.url, settings=Settings()) as atlas:
            async with routing(nats, providers, router=router):
                stream = atlas.stream("Hello", model="acme/some-model")
                async with stream:
                    await anext(aiter(stream))
                    await stream.pause("lunch")
            await bus.publish(
                subjects.stream_control(TENANT, stream.stream_id),
                StreamControl(action="resume", by="me").to_json(),
            )
            server.reply = Reply(chat(["whole"]))
            async with (
                asyncio.timeout(20),
                routing(nats, providers),
                atlas.watch_stream(stream.stream_id) as watched,
            ):
                assert (await watched.result()).content == "whole"
    assert "stream.resumed" in [
        one.type
        async for one in StreamStore(bus, "test").history(StreamAddress(TENANT, stream.stream_id))
    ]
