"""Which services are there, whether they fit together, and what they tell: for `atlas doctor`."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeoutError

from atlas import subjects
from atlas.bus import Bus
from atlas.client.finding import Finding, ok, problem, span, warning
from atlas.contracts.base import JsonObject, now_ms
from atlas.contracts.errors import AtlasError
from atlas.service import VERSION
from atlas.wire import read_event

SERVICES = ("provider_router", "agent_controller", "agent_worker")
PING_S = 1.0

_QUIET_S = 0.3
"""After the last answer to a ping: everybody on this network has spoken."""
_NOTABLE_SKEW_MS = 2_000
_BAD_SKEW_MS = 10_000
"""Deadlines, timers, cool-downs and budgets' days are counted by the clocks of several hosts."""
_MOST_HEARD = 10_000
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Instance:
    """A service process that answers."""

    service: str
    instance: str
    version: str = VERSION

    @property
    def is_here(self) -> bool:
        """Whether it runs on this host: instance names begin with the host's name."""
        return self.instance.startswith(f"{socket.gethostname().split('.')[0]}-")


async def instances(
    bus: Bus, wait_s: float = PING_S, *, service: str | None = None
) -> list[Instance]:
    """Every service process that answers NATS's service ping within `wait_s`, or those of one."""
    names = () if service is None else (service.replace("_", "-"),)
    inbox = bus.nats.new_inbox()
    heard = await bus.open(inbox, pending=10_000)
    found: list[Instance] = []
    try:
        await bus.publish(subjects.service_verb("PING", *names), b"", reply=inbox)
        async with asyncio.timeout(wait_s):
            while True:
                message = await heard.next_msg(timeout=_QUIET_S if found else wait_s)
                if (one := _instance(message.data)) is not None:
                    found.append(one)
    except (NatsTimeoutError, TimeoutError):
        return found
    finally:
        await heard.unsubscribe()


def _instance(data: bytes) -> Instance | None:
    """One answer to the ping; None for a service that is none of Atlas's (NATS ADR-32)."""
    answer = json.loads(data or b"null")
    if not isinstance(answer, dict):
        return None
    service = str(answer.get("name", "")).replace("-", "_")
    instance = (answer.get("metadata") or {}).get("instance")
    if service not in SERVICES or not instance:
        return None
    return Instance(service, str(instance), str(answer.get("version")))


@dataclass(slots=True)
class Told:
    """What services said of themselves while the doctor listened; made by `listening`."""

    health: dict[str, JsonObject] = field(default_factory=dict)
    """What `service.health` of each instance said last."""
    ahead_ms: dict[str, int] = field(default_factory=dict)
    """By how much the clock of each is ahead of this host's. A message that is late looks like a
    clock that is behind, so the largest value is the nearest."""

    async def hear(self, message: Msg) -> None:
        """One event; anyone may publish there, and what is none tells nothing."""
        heard_at_ms = now_ms()
        try:
            event = read_event(message.subject, message.data)
        except AtlasError:
            return
        name = event.data.get("instance")
        if not isinstance(name, str) or len(self.health) >= _MOST_HEARD:
            return
        self.health[name] = event.data
        ahead = event.at_ms - heard_at_ms
        self.ahead_ms[name] = max(ahead, self.ahead_ms.get(name, ahead))

    @property
    def capabilities(self) -> set[str]:
        """What the workers that were heard can do."""
        offered: set[str] = set()
        for health in self.health.values():
            if isinstance(names := health.get("capabilities"), list):
                offered.update(str(name) for name in names)
        return offered


@asynccontextmanager
async def listening(bus: Bus) -> AsyncIterator[Told]:
    """Hear the services of every tenant while the block runs."""
    told = Told()
    heard = await bus.subscribe(subjects.events_of("*", "*", "service.health"), told.hear)
    try:
        yield told
    finally:
        await heard.unsubscribe()


def presence(running: Iterable[Instance]) -> Iterator[Finding]:
    """Whether there is one of each service."""
    here = list(running)
    for service in SERVICES:
        names = sorted(one.instance for one in here if one.service == service)
        if names:
            yield ok(service, f"{len(names)} answer: {', '.join(names)}")
        else:
            program = f"atlas-{service.replace('_', '-')}"
            told = f"none answers; start one with `{program}`, or everything with `atlas up`"
            yield problem(service, told)


def versions(running: Iterable[Instance]) -> list[Finding]:
    """Whether all services, and this program, are of one release."""
    here = list(running)
    others = sorted(f"{one.instance} is {one.version}" for one in here if one.version != VERSION)
    if others:
        told = (
            f"this is {VERSION}, and {_some(others)}; two releases work beside each other while a "
            "new one is rolled out: finish that, or bring this `atlas` to theirs"
        )
        return [warning("versions", told)]
    return [ok("versions", f"all are {VERSION}")] if here else []


def clocks(ahead_ms: Mapping[str, float]) -> list[Finding]:
    """Whether the clocks of NATS and of the services agree with this host's."""
    apart = {name: ahead for name, ahead in ahead_ms.items() if abs(ahead) >= _NOTABLE_SKEW_MS}
    if not ahead_ms:
        return []
    if not apart:
        return [ok("clocks", "those of NATS and of the services agree with this host's")]
    told = [
        f"{name} is {span(abs(ahead))} {'ahead' if ahead > 0 else 'behind'}"
        for name, ahead in sorted(apart.items(), key=lambda one: -abs(one[1]))
    ]
    message = (
        f"beside this host's clock {_some(told)}; deadlines, timers and budgets go by them: let "
        "NTP set every host's"
        + (" (all differ alike: it is this host's)" if len(apart) == len(ahead_ms) > 1 else "")
    )
    is_bad = max(map(abs, apart.values())) >= _BAD_SKEW_MS
    return [problem("clocks", message) if is_bad else warning("clocks", message)]


def refused_configurations(told: Told) -> Iterator[Finding]:
    """Routers that go on with an older configuration, because the changed one is wrong."""
    for name, health in told.health.items():
        if wrong := str(health.get("configuration_problem", "")).replace("\n", "; "):
            message = f"goes on with its old configuration; the changed one: {wrong}"
            yield problem(f"router {name}", message)


def _some(told: list[str]) -> str:
    """The first few, and how many more there are."""
    more = len(told) - _MOST_NAMED
    return ", ".join(told[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
