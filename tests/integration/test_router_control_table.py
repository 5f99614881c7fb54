"""The control table: each state, action and owner of a stream, and what comes of it.

Every row has a stream of its own. All of them are brought into their states on one router, whose
controls are answered; then it gets SIGKILL beside a second one, and the rest is controlled.
"""

import asyncio
import json
import random
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
import pytest_asyncio

from atlas import subjects, topology
from atlas.bus import Bus
from atlas.client import Atlas, Stream
from atlas.contracts.errors import AtlasError, RequestTimeoutError
from atlas.contracts.streams import StreamControl, StreamEvent, StreamStatus
from atlas.embedded import NatsProcess, Services
from atlas.nats_settings import NatsSettings
from atlas.settings import Settings, TopologySettings
from provider_router.streaming.store import StreamAddress, StreamStore
from tests.support.provider_server import ProviderServer, ReceivedRequest, Reply, refusal, serving
from tests.support.router import TENANT, TERMINAL, chat, chat_chunk

pytestmark = pytest.mark.asyncio(loop_scope="module")

ACTIONS = ("pause", "resume", "cancel")
REFUSED = "invalid_transition"
SLOTS = 40
"""Of the batch lane: so many streams, and what comes after them stays queued."""
CONTROLLED = TERMINAL | {"stream.paused", "stream.resumed"}
REPLIES = {
    "mute": Reply(b"", then_silent=True),
    "begun": Reply(chat_chunk("Once "), then_silent=True),
    "whole": Reply(chat(["Once"])),
    "broken": refusal(400, {"error": {"message": "no"}}),
}


@dataclass(frozen=True)
class Row:
    """A control, and what comes of it."""

    state: str
    owner: str
    """`alive`, `dead` beside another router, or `none`: no router was ever there."""
    action: str
    answer: str
    """The state or the error that is answered, `silence` where nobody can."""
    then: str
    """The state that the stream comes to."""
    says: str = ""
    """What the stream says of the control, and nothing else."""

    @property
    def answers(self) -> set[str]:
        """What may be answered: a router that adopts a stream may have done so by then."""
        return {self.answer, self.then} if self.answer == "adopting" else {self.answer}

    @property
    def key(self) -> str:
        """Its name, that of its stream, and what its provider is asked."""
        return f"{self.state}-{self.owner}-{self.action}"


# fmt: off
TABLE = [
    #   state           owner    action    answer          then            says
    Row("queued",       "none",  "pause",  "silence",      "paused",       "stream.paused"),
    Row("queued",       "none",  "resume", "silence",      "active"),
    Row("queued",       "none",  "cancel", "silence",      "cancelled",    "stream.cancelled"),
    Row("queued",       "alive", "pause",  "queued",       "paused",       "stream.paused"),
    Row("queued",       "alive", "resume", "queued",       "active"),
    Row("queued",       "alive", "cancel", "queued",       "cancelled",    "stream.cancelled"),
    Row("initializing", "alive", "pause",  "paused",       "paused",       "stream.paused"),
    Row("initializing", "alive", "resume", "initializing", "initializing"),
    Row("initializing", "alive", "cancel", "cancelled",    "cancelled",    "stream.cancelled"),
    Row("initializing", "dead",  "pause",  "adopting",     "paused",       "stream.paused"),
    Row("initializing", "dead",  "resume", "adopting",     "initializing"),
    Row("initializing", "dead",  "cancel", "adopting",     "cancelled",    "stream.cancelled"),
    Row("active",       "alive", "pause",  "paused",       "paused",       "stream.paused"),
    Row("active",       "alive", "resume", "active",       "active"),
    Row("active",       "alive", "cancel", "cancelled",    "cancelled",    "stream.cancelled"),
    Row("active",       "dead",  "pause",  "adopting",     "paused",       "stream.paused"),
    Row("active",       "dead",  "resume", "adopting",     "active"),
    Row("active",       "dead",  "cancel", "adopting",     "cancelled",    "stream.cancelled"),
    Row("paused",       "alive", "pause",  "paused",       "paused"),
    Row("paused",       "alive", "resume", "active",       "active",       "stream.resumed"),
    Row("paused",       "alive", "cancel", "cancelled",    "cancelled",    "stream.cancelled"),
    Row("paused",       "dead",  "pause",  "adopting",     "paused"),
    Row("paused",       "dead",  "resume", "adopting",     "active",       "stream.resumed"),
    Row("paused",       "dead",  "cancel", "adopting",     "cancelled",    "stream.cancelled"),
    *(
        Row(state, owner, action, state if (state, action) == ("cancelled", "cancel") else REFUSED,
            state)
        for state in ("completed", "error", "cancelled")
        for owner in ("alive", "dead")
        for action in ACTIONS
    ),
    *(Row("unknown", "alive", action, "not_found", "not_found") for action in ACTIONS),
]
# fmt: on


class Desk(ProviderServer):
    """Answers as the account says that is asked, the first part of the path."""

    def reply_to(self, request: ReceivedRequest) -> Reply:
        return REPLIES[request.path.split("/")[1]]

    def asked_of(self, key: str) -> int:
        """How often the provider was asked for a stream."""
        return sum(f'"{key}"'.encode() in request.body for request in self.requests)


@dataclass
class Controlled:
    """What came of every row."""

    bus: Bus
    atlas: Atlas
    server: Desk
    answers: dict[str, str] = field(default_factory=dict)
    before: dict[str, list[str]] = field(default_factory=dict)

    async def told(self, key: str) -> list[str]:
        """What a stream says of its controls and its end."""
        subject = subjects.stream_write(TENANT, key)
        types = [
            str(json.loads(one.data)["type"])
            async for one in self.bus.read(subjects.STREAMS, subject)
        ]
        return [one for one in types if one in CONTROLLED]

    async def state(self, key: str) -> str:
        """Where a stream is, as history tells."""
        try:
            return (await self.atlas.read_stream(key)).state.value
        except AtlasError as error:
            return error.code

    async def until(self, key: str, state: str) -> None:
        async with asyncio.timeout(40):
            while await self.state(key) != state:  # noqa: ASYNC110 - history has no event
                await asyncio.sleep(0.05)

    async def ask(self, key: str, account: str, lane: str = "interactive") -> None:
        model = f"{account}/some-model"
        async with self.atlas.stream(key, model=model, stream_id=key, lane=lane):
            pass

    async def prepare(self, row: Row) -> None:
        """Bring the stream of a row into its state."""
        accounts = {"initializing": "mute", "completed": "whole", "error": "broken"}
        await self.ask(row.key, accounts.get(row.state, "begun"))
        await self.until(row.key, row.state if row.state in accounts else "active")
        if row.state in {"paused", "cancelled"}:
            action = {"paused": "pause", "cancelled": "cancel"}[row.state]
            await self.atlas.control_stream(row.key, action)
            await self.until(row.key, row.state)

    async def control(self, row: Row) -> None:
        """Send the control of a row and keep what is answered."""
        self.before[row.key] = await self.told(row.key)
        subject = subjects.stream_control(TENANT, row.key)
        control = StreamControl(action=row.action)
        try:
            status = await self.bus.request(subject, control, StreamStatus, timeout_s=3)
        except RequestTimeoutError:
            self.answers[row.key] = "silence"
        except AtlasError as error:
            self.answers[row.key] = error.code
        else:
            self.answers[row.key] = status.error.code if status.error else status.state.value


def rows(*states: str, owner: str) -> list[Row]:
    """The rows of some states, all where none is given, and one owner."""
    return [row for row in TABLE if row.owner == owner and (not states or row.state in states)]


async def each(of: Sequence[Row], do: Callable[[Row], Awaitable[None]]) -> None:
    await asyncio.gather(*map(do, of))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def controlled(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Controlled]:
    directory: Path = tmp_path_factory.mktemp("table")
    nats = NatsProcess(directory)
    async with AsyncExitStack() as undo:
        server = await undo.enter_async_context(serving(Reply(), Desk))
        assert isinstance(server, Desk)
        await nats.start()
        undo.push_async_callback(nats.stop)
        bus = await Bus.connect(NatsSettings(url=nats.url), "test")
        undo.push_async_callback(bus.close)
        await topology.ensure(bus, TopologySettings(ack_wait_ms=1_000))
        atlas = await undo.enter_async_context(Atlas.connect(nats.url, settings=Settings()))
        account = {"kind": "openai", "api": "chat"}
        providers = {name: {**account, "base_url": f"{server.url}/{name}"} for name in REPLIES}
        environment = {
            "ATLAS_TOPOLOGY__ACK_WAIT_MS": "1000",
            "ATLAS_HEALTH_INTERVAL_MS": "200",
            "ATLAS_ROUTER__MAX_STREAMS": str(2 * SLOTS),
            "ATLAS_PROVIDERS": json.dumps(providers),
        }
        services = Services(nats.url, subprocess.DEVNULL, environment)
        undo.push_async_callback(services.stop)
        controlled = Controlled(bus, atlas, server)
        await _carry_out(controlled, services)
        yield controlled


async def _carry_out(controlled: Controlled, services: Services) -> None:
    """Control every row, and wait for what comes of it."""

    async def comes_to_it(row: Row) -> None:
        await controlled.until(row.key, row.then)

    nobody, waiting = rows(owner="none"), rows("queued", owner="alive")
    await each(nobody, lambda row: controlled.ask(row.key, "begun"))
    await each(nobody, controlled.control)
    (first,) = await services.start(["provider_router"])
    await each(nobody, comes_to_it)

    fillers = [
        Row("active", f"filler{number}", "cancel", "", "cancelled") for number in range(SLOTS)
    ]
    await each(fillers, lambda row: controlled.ask(row.key, "begun", "batch"))
    await each(fillers, lambda row: controlled.until(row.key, "active"))
    await each(waiting, lambda row: controlled.ask(row.key, "begun", "batch"))
    await each(waiting, controlled.control)
    await each(fillers, controlled.control)
    await each([*fillers, *waiting], comes_to_it)

    owned = rows(
        "initializing", "active", "paused", "completed", "error", "cancelled", owner="alive"
    )
    orphaned = rows(owner="dead")
    await each([*owned, *orphaned], controlled.prepare)
    await each([*owned, *rows("unknown", owner="alive")], controlled.control)
    await each(owned, comes_to_it)

    await services.start(["provider_router"])
    await services.kill(first.pid)
    await each(orphaned, controlled.control)
    await each(orphaned, comes_to_it)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.key)
async def test_a_control_is_answered_and_heeded_as_the_table_says(controlled: Controlled, row: Row):
    assert controlled.answers[row.key] in row.answers
    assert await controlled.state(row.key) == row.then
    said = (await controlled.told(row.key))[len(controlled.before[row.key]) :]
    assert said == ([row.says] if row.says else [])


@pytest.mark.parametrize("row", rows("queued", owner="none") + rows("queued", owner="alive"))
async def test_a_stream_that_was_held_or_cancelled_in_the_queue_never_reached_its_provider(
    controlled: Controlled, row: Row
):
    assert (controlled.server.asked_of(row.key) > 0) is (row.action == "resume")


async def test_controls_that_race_settle_in_one_order_which_all_watchers_see(
    controlled: Controlled,
):
    key, dice = "raced", random.Random(5)
    await controlled.ask(key, "begun")
    watchers = [controlled.atlas.watch_stream(key) for _ in range(3)]

    async def watch(stream: Stream) -> list[StreamEvent]:
        async with stream:
            return [event async for event in stream.events()]

    async def send(action: str) -> StreamStatus:
        await asyncio.sleep(dice.uniform(0, 0.2))
        subject = subjects.stream_control(TENANT, key)
        control = StreamControl(action=action, by=action)
        return await controlled.bus.request(subject, control, StreamStatus, timeout_s=3)

    async with asyncio.timeout(30):
        seen = [asyncio.create_task(watch(one)) for one in watchers]
        await controlled.until(key, "active")
        answers = await asyncio.gather(*map(send, ["pause", "resume"] * 15))
        answers += await asyncio.gather(*map(send, [*ACTIONS, *ACTIONS]))
        first, *others = await asyncio.gather(*seen)
    assert all(other == first for other in others)
    told = [one.type for one in first if one.type in CONTROLLED]
    assert told[-1] == "stream.cancelled"
    assert not set(told[:-1]) & TERMINAL
    paused = [one == "stream.paused" for one in told[:-1]]
    assert paused == [number % 2 == 0 for number in range(len(paused))], "each changes something"
    assert len(answers) == 36
    kept = await StreamStore(controlled.bus, "test").controls(StreamAddress(TENANT, key))
    order = [one.action.value for one in kept]
    before = order[: order.index("cancel")]
    changes = [action for last, action in pairwise(["resume", *before]) if action != last]
    assert told[:-1] == [f"stream.{action}d" for action in changes], "the order that is kept"
