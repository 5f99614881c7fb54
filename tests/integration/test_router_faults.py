"""Every way in which a provider fails, over real HTTP, with a second provider beside it.

A table says what each fault is and what the router makes of it; each claim below is tested for
every row. A row has accounts of its own for each claim, so that no circuit is shared by two tests.
"""

import asyncio
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from nats.aio.msg import Msg

from atlas import subjects
from atlas.contracts.catalogue import ProviderInfo
from atlas.contracts.errors import ProviderError
from atlas.contracts.events import Event
from atlas.contracts.inference import ModelResponse
from atlas.contracts.streams import AttemptFailed, StreamEvent, StreamFailed, StreamStarted
from atlas.provider_settings import ProviderSettings
from tests.support.broken_servers import HEAD, answering, listening, self_signed
from tests.support.dialects import CHAT, DIALECTS, Dialect
from tests.support.provider_server import (
    ProviderServer,
    ReceivedRequest,
    Reply,
    refusal,
    serving,
)
from tests.support.router import TENANT, Stack, provider, stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORDS = ["all ", "is ", "well"]
BACK = ["I ", "am ", "back"]
COOL_DOWN_MS = 150
SHORT_MS = 400
"""A timeout that a fault runs into, and that a sound answer does not."""
RETRY_AFTER_S = 120
"""Longer than a stream waits for."""
ACCOUNTS = ("once", "told", "soon", "one", "other", "circuit")
"""Those of each case, by the claim that they are for; `one` and `other` fail together."""
PAGE = b"<html><head><title>503 Service Unavailable</title></head></html>"


@dataclass(frozen=True)
class Fault:
    """One way to fail, and what comes of it."""

    says: str
    """Part of the message that a user gets."""
    code: str | None
    """Of the error; None: as the dialect tells an overload."""
    reply: Callable[[Dialect], Reply] | None = None
    """What the provider answers; None: it fails below HTTP."""
    status: int | None = None
    has_content: bool = False
    """Whether it fails in the middle of its answer."""
    opens_after: int | None = 5
    """So many failures open the circuit (routing/circuit.py); None: they never do."""
    settings: Mapping[str, object] = field(default_factory=dict)
    is_everywhere: bool = False
    """Whether the dialects differ in it."""
    comes_back: bool = True
    """Whether a test can make it whole again."""

    def code_in(self, dialect: Dialect) -> str:
        return self.code or dialect.overload_code

    @property
    def health(self) -> list[str]:
        """What `provider.health` tells after one failure of a provider that is new."""
        if self.opens_after == 1:
            return ["unhealthy"]
        return ["healthy", "degraded"] if self.has_content else ["degraded"]


def _cut(dialect: Dialect, begun: bytes) -> Reply:
    """Breaks the connection within the event after these bytes, which are read before."""
    body = begun + dialect.text("never")
    return Reply(body, cuts=(len(begun),), pause_s=0.05, break_at=len(begun) + 5)


def _slow(dialect: Dialect) -> Reply:
    """An answer that flows, and does not end in time."""
    texts = ["on "] * 100
    starts = [len(dialect.begun(texts[:count])) for count in range(len(texts))]
    return Reply(dialect.whole(texts), cuts=tuple(starts), pause_s=0.02)


def _told(status: int, **error: object) -> Callable[[Dialect], Reply]:
    return lambda _: refusal(status, {"error": {"message": "no", **error}})


FAULTS: dict[str, Fault] = {
    "refused": Fault("no connection to", "provider_connection", opens_after=3),
    "tls": Fault("no TLS with", "provider_connection", opens_after=3, comes_back=False),
    "dns": Fault("cannot be resolved", "provider_connection", opens_after=3, comes_back=False),
    "no_http": Fault(
        "does not answer as an HTTP server does",
        "provider_connection",
        opens_after=3,
        comes_back=False,
    ),
    "rate_limit": Fault(
        "answered 429",
        "provider_rate_limit",
        lambda _: refusal(
            429,
            {"error": {"message": "slow down", "code": "rate_limit_exceeded"}},
            {"retry-after": str(RETRY_AFTER_S)},
        ),
        status=429,
        opens_after=None,
    ),
    "quota": Fault(
        "answered 429",
        "provider_quota_exceeded",
        _told(429, code="insufficient_quota"),
        status=429,
        opens_after=1,
    ),
    "wrong_key": Fault(
        "check the provider's key",
        "provider_auth",
        _told(401, type="authentication_error"),
        status=401,
        opens_after=1,
        is_everywhere=True,
    ),
    "broken": Fault("answered 500", "provider_server", _told(500), status=500),
    "overloaded": Fault(
        "answered 529",
        "provider_overloaded",
        _told(529, type="overloaded_error"),
        status=529,
        is_everywhere=True,
    ),
    "page": Fault(
        "answered 503: <html>",
        "provider_overloaded",
        lambda _: Reply(PAGE, 503, {"Content-Type": "text/html"}),
        status=503,
    ),
    "late_headers": Fault(
        "first_token_timeout_ms sets the limit",
        "provider_timeout",
        lambda dialect: Reply(dialect.whole(WORDS), headers_after_s=60),
        settings={"first_token_timeout_ms": SHORT_MS},
    ),
    "late_first_token": Fault(
        "first_token_timeout_ms sets the limit",
        "provider_timeout",
        lambda dialect: Reply(dialect.opening, then_silent=True),
        settings={"first_token_timeout_ms": SHORT_MS},
        is_everywhere=True,
    ),
    "stall": Fault(
        "idle_timeout_ms sets the limit",
        "provider_timeout",
        lambda dialect: Reply(dialect.begun(["never "]), then_silent=True),
        has_content=True,
        settings={"idle_timeout_ms": SHORT_MS},
        is_everywhere=True,
    ),
    "attempt_timeout": Fault(
        "attempt_timeout_ms sets the limit",
        "provider_timeout",
        _slow,
        has_content=True,
        settings={"attempt_timeout_ms": SHORT_MS},
    ),
    "early_cut": Fault(
        "cut the connection",
        "provider_connection",
        lambda dialect: _cut(dialect, dialect.opening),
        opens_after=3,
    ),
    "cut": Fault(
        "cut the connection in the middle of the answer",
        "provider_connection",
        lambda dialect: _cut(dialect, dialect.begun(["never "])),
        has_content=True,
        is_everywhere=True,
    ),
    "short": Fault(
        "broke off before its end",
        "provider_stream",
        lambda dialect: Reply(dialect.begun(["never "])),
        has_content=True,
        is_everywhere=True,
    ),
    "garbage": Fault(
        "is no stream of answers",
        "provider_stream",
        lambda _: Reply(b"\x00\xfe\x81 garbage"),
    ),
    "garbage_inside": Fault(
        "malformed event",
        "provider_stream",
        lambda dialect: Reply(dialect.begun(["never "]) + dialect.garbage),
        has_content=True,
        is_everywhere=True,
    ),
    "overload_told": Fault(
        "told an error inside the stream",
        None,
        lambda dialect: Reply(dialect.opening + dialect.overload),
        is_everywhere=True,
    ),
    "overload_inside": Fault(
        "told an error inside the stream",
        None,
        lambda dialect: Reply(dialect.begun(["never "]) + dialect.overload),
        has_content=True,
        is_everywhere=True,
    ),
}


@dataclass(frozen=True)
class Case:
    """A fault in a dialect."""

    name: str
    fault: Fault
    dialect: Dialect

    @property
    def code(self) -> str:
        return self.fault.code_in(self.dialect)

    def account(self, which: str) -> str:
        """The name of one of its providers."""
        return f"{self.name}-{which}"

    @property
    def good(self) -> str:
        """The name of the provider that does not fail."""
        return f"good-{self.dialect.name}"


CASES = [
    Case(f"{name}-{dialect.name}", fault, dialect)
    for name, fault in FAULTS.items()
    for dialect in (DIALECTS if fault.is_everywhere else [CHAT])
]
NEEDS_OPENSSL = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the key")


def each(does_fit: Callable[[Case], bool] = lambda _: True) -> pytest.MarkDecorator:
    """The rows of the table for which a claim is made."""
    return pytest.mark.parametrize(
        "case",
        [
            pytest.param(
                one, id=one.name, marks=NEEDS_OPENSSL if one.fault is FAULTS["tls"] else ()
            )
            for one in CASES
            if does_fit(one)
        ],
    )


class FaultServer(ProviderServer):
    """Answers for many providers: the first part of the path says for which."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self.replies: dict[str, Reply] = {}

    def reply_to(self, request: ReceivedRequest) -> Reply:
        return self.replies[request.path.split("/")[1]]

    def asked_of(self, name: str) -> int:
        """How often a provider was asked."""
        return sum(request.path.split("/")[1] == name for request in self.requests)


class Told:
    """What the router told in events, in its order."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._came = asyncio.Event()

    async def take(self, msg: Msg) -> None:
        self._events.append(Event.model_validate_json(msg.data))
        self._came.set()

    def of(self, type_: str, **data: object) -> list[Event]:
        """The events of a type with such data."""
        return [
            event
            for event in self._events
            if event.type == type_ and data.items() <= event.data.items()
        ]

    async def until(self, count: int, type_: str, **data: object) -> list[Event]:
        """So many of them, once they came."""
        async with asyncio.timeout(20):
            while len(found := self.of(type_, **data)) < count:
                self._came.clear()
                await self._came.wait()
        return found


@dataclass(frozen=True)
class Ended:
    """A stream that was read to its end."""

    response: ModelResponse | None
    error: ProviderError | None
    events: list[StreamEvent]

    @property
    def started(self) -> list[tuple[str, int]]:
        """Who was asked, in which attempt."""
        return [
            (event.provider, event.attempt)
            for event in self.events
            if isinstance(event, StreamStarted)
        ]

    @property
    def failed(self) -> list[AttemptFailed]:
        return [event for event in self.events if isinstance(event, AttemptFailed)]


@dataclass(frozen=True)
class Rig:
    """A router with a group of providers for every case and claim."""

    stack: Stack
    server: FaultServer
    told: Told
    unused: Mapping[str, socket.socket]
    """Where nobody listens, by provider."""

    async def ask(self, group: str) -> Ended:
        """A stream of a group, and what every watcher saw of it."""
        response, error = None, None
        async with asyncio.timeout(20), self.stack.atlas.stream("Hello", model=group) as stream:
            events = [event async for event in stream.events()]
            try:
                response = await stream.result()
            except ProviderError as failure:
                error = failure
        assert stream.reading.is_whole() or error is not None
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        end = "stream.failed" if error else "stream.completed"
        assert [one.type for one in await self.stack.ends(stream.stream_id)] == [end]
        await self.told.until(1, end, stream_id=stream.stream_id)
        return Ended(response, error, events)

    async def info(self, name: str) -> ProviderInfo:
        reply = await self.stack.atlas.providers()
        return next(one for one in reply.providers if one.provider == name)

    def circuits(self, name: str) -> list[object]:
        """The states that a provider's circuit was told to be in."""
        return [event.data["circuit"] for event in self.told.of("provider.circuit", provider=name)]

    async def ask_until(self, name: str, circuit: str, count: int) -> None:
        """Ask until the circuit was told to be in that state so many times."""
        async with asyncio.timeout(30):
            while self.circuits(name).count(circuit) < count:
                assert (await self.ask(name)).response is not None


def providers_of(urls: Callable[[Case, str], str]) -> dict[str, ProviderSettings]:
    """The accounts of every case."""
    return {
        case.account(which): provider(
            case.dialect.kind, urls(case, which), api=case.dialect.api, **case.fault.settings
        )
        for case in CASES
        for which in ACCOUNTS
    }


def groups() -> dict[str, object]:
    """A group for each claim: one fails, or both do."""
    pairs = {
        name: (name, case.good)
        for case in CASES
        for name in map(case.account, ("once", "told", "soon", "circuit"))
    }
    pairs |= {case.account("both"): (case.account("one"), case.account("other")) for case in CASES}
    return {
        name: {"members": [f"{member}/some-model" for member in pair]}
        for name, pair in pairs.items()
    }


def bound(undo: ExitStack) -> Iterator[socket.socket]:
    """Sockets whose ports are taken while nobody listens there."""
    while True:
        one = undo.enter_context(socket.socket())
        one.bind(("127.0.0.1", 0))
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory):
    directory = tmp_path_factory.mktemp("faults")
    async with AsyncExitStack() as undo:
        server = await undo.enter_async_context(serving(Reply(), FaultServer))
        assert isinstance(server, FaultServer)
        sockets = bound(undo.enter_context(ExitStack()))
        unused: dict[str, socket.socket] = {}
        below = {
            "dns": "https://no-such-host.invalid",
            "no_http": await undo.enter_async_context(listening(answering(b"SSH-2.0-x\r\n\r\n"))),
            "tls": "https://127.0.0.1:1",
        }
        if shutil.which("openssl"):
            tls = self_signed(directory)
            below["tls"] = await undo.enter_async_context(listening(answering(HEAD), tls))

        def url(case: Case, which: str) -> str:
            name, kind = case.account(which), case.name.partition("-")[0]
            if kind == "refused":
                unused[name] = next(sockets)
                return f"http://127.0.0.1:{unused[name].getsockname()[1]}"
            if case.fault.reply is None:
                return below[kind]
            server.replies[name] = case.fault.reply(case.dialect)
            return f"{server.url}/{name}"

        providers = providers_of(url)
        for dialect in DIALECTS:
            name = f"good-{dialect.name}"
            server.replies[name] = Reply(dialect.whole(WORDS))
            providers[name] = provider(dialect.kind, f"{server.url}/{name}", api=dialect.api)
        router = {"max_attempts": 2, "circuit": {"cool_down_ms": COOL_DOWN_MS}}
        running = await undo.enter_async_context(
            stack(directory, providers, groups=groups(), router=router)
        )
        told = Told()
        everything = subjects.events_of(TENANT, "provider_router", ">")
        await running.bus.subscribe(everything, told.take)
        await running.bus.flush()
        yield Rig(running, server, told, unused)


@each()
async def test_a_fault_ends_in_the_whole_answer_of_the_other_provider(rig: Rig, case: Case):
    name = case.account("once")
    ended = await rig.ask(name)
    assert ended.response is not None
    assert (ended.response.content, ended.response.provider) == ("".join(WORDS), case.good)
    assert ended.response.metrics.attempts == 2
    assert ended.started == [(name, 1), (case.good, 2)]
    failed = [(one.attempt, one.provider, one.error.code, one.next) for one in ended.failed]
    assert failed == ([(1, name, case.code, "restart")] if case.fault.has_content else [])


@each()
async def test_a_fault_is_told_in_events_once_and_as_what_it_is(rig: Rig, case: Case):
    name = case.account("told")
    await rig.ask(name)
    (fallback,) = rig.told.of("provider.fallback", **{"from": f"{name}/some-model"})
    error = fallback.data["error"]
    assert isinstance(error, dict)
    assert fallback.data["to"] == f"{case.good}/some-model"
    assert (error["code"], error.get("http_status")) == (case.code, case.fault.status)
    health = await rig.told.until(len(case.fault.health), "provider.health", provider=name)
    assert [event.data["health"] for event in health] == case.fault.health
    assert health[-1].data["last_error"] == case.code
    assert rig.circuits(name) == (["open"] if case.fault.opens_after == 1 else [])
    info = await rig.info(name)
    assert (info.attempts, info.failures, info.last_error) == (1, 1, case.code)
    assert info.in_flight == 0


@each()
async def test_where_both_providers_fail_there_is_one_clear_error(rig: Rig, case: Case):
    one, other = case.account("one"), case.account("other")
    ended = await rig.ask(case.account("both"))
    assert ended.error is not None
    assert (ended.error.code, ended.error.provider) == (case.code, other)
    assert case.fault.says in ended.error.message
    assert ended.error.message.startswith(other)
    assert ended.started == [(one, 1), (other, 2)]
    steps = [(failed.provider, failed.next) for failed in ended.failed]
    assert steps == ([(one, "restart"), (other, None)] if case.fault.has_content else [])
    end = ended.events[-1]
    assert isinstance(end, StreamFailed)
    assert (end.usage.output_tokens > 0) is case.fault.has_content
    assert len(rig.told.of("provider.fallback", to=f"{other}/some-model")) == 1


@each(lambda case: case.dialect is CHAT and case.fault.opens_after in {3, 5})
async def test_a_fault_that_lasts_opens_the_circuit_which_is_probed_and_closes(
    rig: Rig, case: Case
):
    name, failures = case.account("circuit"), 0
    while (await rig.info(name)).circuit == "closed":
        assert (await rig.ask(name)).response is not None
        failures += 1
    assert failures == case.fault.opens_after
    await rig.ask_until(name, "open", 2)
    first, second, *_ = rig.told.of("provider.circuit", provider=name, circuit="open")
    assert first.data["error"] == second.data["error"] == case.code
    until_ms = [event.data["open_until_ms"] for event in (first, second)]
    assert isinstance(until_ms[0], int)
    assert isinstance(until_ms[1], int)
    assert until_ms[1] - until_ms[0] >= 2 * COOL_DOWN_MS, "a failed probe doubles the cool-down"
    if not case.fault.comes_back:
        return
    async with AsyncExitStack() as undo:
        back = Reply(case.dialect.whole(BACK))
        rig.server.replies[name] = back
        if name in rig.unused:
            await undo.enter_async_context(serving(back, at=rig.unused[name]))
        await rig.ask_until(name, "closed", 1)
        ended = await rig.ask(name)
    states = rig.circuits(name)
    failed_probes = states.count("open") - 1
    assert states == ["open", *["half_open", "open"] * failed_probes, "half_open", "closed"]
    assert ended.response is not None
    assert (ended.response.content, ended.started) == ("".join(BACK), [(name, 1)])
    assert not ended.failed
    health = [event.data["health"] for event in rig.told.of("provider.health", provider=name)]
    assert health == [*case.fault.health, "unhealthy", "healthy"]


@each(lambda case: case.fault.opens_after == 1)
async def test_a_refused_key_and_a_spent_quota_are_met_once(rig: Rig, case: Case):
    name = case.account("circuit")
    for _ in range(4):
        assert (await rig.ask(name)).response is not None
    assert rig.server.asked_of(name) == 1
    (opened,) = rig.told.of("provider.circuit", provider=name)
    is_for_good = case.code == "provider_auth"
    assert opened.data["reason"] == ("auth" if is_for_good else "quota")
    assert ("open_until_ms" not in opened.data) is is_for_good
    assert (await rig.info(name)).health == "unhealthy"


@each(lambda case: case.fault.opens_after is None)
async def test_a_rate_limit_is_met_once_and_opens_nothing(rig: Rig, case: Case):
    name = case.account("circuit")
    for _ in range(4):
        assert (await rig.ask(name)).response is not None
    assert rig.server.asked_of(name) == 1
    assert rig.circuits(name) == []
    explanation = await rig.stack.atlas.explain("Hello", model=name)
    assert "held off" in explanation.candidates[-1].reason


async def test_a_provider_is_asked_again_when_its_retry_after_is_over_and_not_before(rig: Rig):
    name = "rate_limit-chat-soon"
    rig.server.replies[name] = refusal(
        429, {"error": {"message": "slow down"}}, {"retry-after": "1"}
    )
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    assert (await rig.ask(name)).response is not None
    rig.server.replies[name] = Reply(CHAT.whole(BACK))
    async with asyncio.timeout(20):
        while (ended := await rig.ask(name)).started != [(name, 1)]:
            assert rig.server.asked_of(name) == 1
    assert ended.response is not None
    assert ended.response.content == "".join(BACK)
    assert loop.time() - began_s > 0.99  # a wall clock and this one may differ a little
    health = await rig.told.until(2, "provider.health", provider=name)
    assert [event.data["health"] for event in health] == ["degraded", "healthy"]
