"""What is running and what is missing: for `atlas doctor` and container health checks."""

import asyncio
import json
import socket
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from nats.errors import TimeoutError as NatsTimeoutError

from atlas import assets, subjects, topology
from atlas.bus import Bus
from atlas.contracts.base import Contract
from atlas.contracts.catalogue import GroupInfo, ProviderInfo, ProvidersReply, ProvidersRequest
from atlas.contracts.errors import AtlasError, ConfigurationError
from atlas.settings import Settings, api_key, has_real_provider, unserved_models
from atlas.wire import read_event, without_secrets

_PING_S = 1.0
_QUIET_S = 0.3
"""After the last answer to a ping: everybody on this network has spoken."""

_SERVICES = ("provider_router", "agent_controller", "agent_worker")


class Finding(Contract):
    """One thing that was looked at."""

    check: str
    level: Literal["ok", "warning", "problem"]
    message: str


@dataclass(frozen=True, slots=True)
class Instance:
    """A service process that answers."""

    service: str
    instance: str

    @property
    def is_here(self) -> bool:
        """Whether it runs on this host: instance names begin with the host's name."""
        return self.instance.startswith(f"{socket.gethostname().split('.')[0]}-")


async def diagnose(settings: Settings) -> list[Finding]:
    """Look at NATS, its assets, the services and the providers' keys; tells what it finds wrong.

    Raises:
        ConnectionFailedError: No NATS answers, so there is nothing to look at.
    """
    bus = await Bus.connect(settings.nats, "atlas-doctor")
    try:
        findings = [*await _server(bus, settings), *await _services(bus)]
        refused, routing = await asyncio.gather(
            _refused_configurations(bus, settings), _routing(bus, settings)
        )
    finally:
        await bus.close()
    return [*findings, *refused, *_providers(settings), *routing]


async def instances(
    bus: Bus, wait_s: float = _PING_S, *, service: str | None = None
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


async def is_serving(settings: Settings, service: str) -> bool:
    """Whether an instance of a service on this host answers.

    Raises:
        ConfigurationError: There is no service of that name.
        ConnectionFailedError: No NATS answers.
    """
    name = service.replace("-", "_").removeprefix("atlas_")
    if name not in _SERVICES:
        raise ConfigurationError(f"there is no service {service!r}; name one of {_SERVICES}")
    bus = await Bus.connect(settings.nats, "atlas-doctor")
    try:
        return any(one.is_here for one in await instances(bus, service=name))
    finally:
        await bus.close()


def _instance(data: bytes) -> Instance | None:
    """One answer to the ping; None for a service that is none of Atlas's (NATS ADR-32)."""
    answer = json.loads(data or b"null")
    if not isinstance(answer, dict):
        return None
    service = str(answer.get("name", "")).replace("-", "_")
    instance = (answer.get("metadata") or {}).get("instance")
    return Instance(service, str(instance)) if service in _SERVICES and instance else None


async def _server(bus: Bus, settings: Settings) -> list[Finding]:
    where = without_secrets(settings.nats.url)
    server = bus.nats.connected_server_version
    version = f"{server.major}.{server.minor}.{server.patch}"
    try:
        await topology.check_server(bus)
    except AtlasError as error:
        return [Finding(check="nats", level="problem", message=f"{where}: {error.message}")]
    found = [Finding(check="nats", level="ok", message=f"{where}, version {version}, JetStream on")]
    return [*found, *await _assets(bus, settings)]


async def _assets(bus: Bus, settings: Settings) -> list[Finding]:
    """The JetStream streams beside what these settings say."""
    looked = await assets.survey(bus, settings.topology)
    missing = [one.name for one in looked if one.state == "missing"]
    if len(missing) == len(looked):
        message = "no service made the JetStream streams yet; the first one that starts does"
        return [Finding(check="assets", level="problem", message=message)]
    told = [f"missing: {', '.join(missing)}; the next service that starts makes them"]
    for one in looked:
        if one.state == "differs":
            how = "; ".join(
                f"{it.field} is {it.found}, expected {it.expected}" for it in one.differences
            )
            told.append(
                f"{one.name} is configured differently: {how}. No service starts with it: set "
                "Atlas's `topology` settings to match, or `atlas admin assets --apply`"
            )
    problems = [
        Finding(check="assets", level="problem", message=message)
        for message in told[0 if missing else 1 :]
    ]
    message = f"{len(looked)} JetStream streams are there"
    return problems or [Finding(check="assets", level="ok", message=message)]


async def _services(bus: Bus) -> list[Finding]:
    running = await instances(bus)
    findings = []
    for service in _SERVICES:
        names = sorted(one.instance for one in running if one.service == service)
        if names:
            message = f"{len(names)} answer: {', '.join(names)}"
            findings.append(Finding(check=service, level="ok", message=message))
        else:
            program = f"atlas-{service.replace('_', '-')}"
            message = f"none answers; start one with `{program}`, or everything with `atlas up`"
            findings.append(Finding(check=service, level="problem", message=message))
    return findings


async def _refused_configurations(bus: Bus, settings: Settings) -> list[Finding]:
    """Routers that go on with an older configuration, because the changed one is wrong."""
    heard = await bus.open(subjects.events_of("*", "provider_router", "service.health"))
    found: dict[str, Finding] = {}
    wait_s = 1.2 * settings.health_interval_ms / 1000
    try:
        async with asyncio.timeout(wait_s):
            while True:
                message = await heard.next_msg(timeout=wait_s)
                told = read_event(message.subject, message.data).data
                if problem := str(told.get("configuration_problem", "")).replace("\n", "; "):
                    name = str(told.get("instance"))
                    found[name] = Finding(
                        check=f"router {name}",
                        level="problem",
                        message=f"goes on with its old configuration; the changed one: {problem}",
                    )
    except (NatsTimeoutError, TimeoutError):
        return list(found.values())
    finally:
        await heard.unsubscribe()


async def _routing(bus: Bus, settings: Settings) -> list[Finding]:
    """Circuits and groups as a router sees them; without one, groups as they are configured."""
    unserved = [
        Finding(check="models", level="problem", message=problem)
        for problem in unserved_models(settings)
    ]
    door = subjects.api(settings.tenant, "providers")
    try:
        reply = await bus.request(door, ProvidersRequest(), ProvidersReply, timeout_s=_PING_S)
    except AtlasError:  # that no router answers is told above
        groups = [
            Finding(
                check=f"group {name}",
                level="ok",
                message=f"{group.strategy} of {len(group.members)} models",
            )
            for name, group in settings.groups.items()
        ]
        return unserved or groups
    circuits = [found for one in reply.providers if (found := _circuit(one)) is not None]
    probes = [found for one in reply.providers if (found := _probe(one)) is not None]
    away = {one.provider for one in reply.providers if one.circuit == "open"}
    return [*unserved, *circuits, *probes, *(_group(one, away) for one in reply.groups)]


def _circuit(one: ProviderInfo) -> Finding | None:
    check = f"circuit of {one.provider}"
    why = f" after {one.last_error}" if one.last_error else ""
    if one.circuit == "closed":
        return None
    if one.circuit == "open" and one.open_until_ms is None:
        message = f"open{why}: its key was refused; correct it, and the router takes it up"
        return Finding(check=check, level="problem", message=message)
    message = f"{one.circuit.replace('_', '-')}{why}; others are asked until a probe succeeds"
    return Finding(check=check, level="warning", message=message)


def _probe(one: ProviderInfo) -> Finding | None:
    """What a router's probe of a provider found wrong, where no circuit tells it."""
    if one.probe_error is None or one.circuit != "closed":
        return None
    message = f"failed: {one.probe_error}; check its base_url, its key and the way to it"
    return Finding(check=f"probe of {one.provider}", level="warning", message=message)


def _group(one: GroupInfo, away: Collection[str]) -> Finding:
    """Whether a group can answer, with the circuits as they are."""
    check = f"group {one.group}"
    out = [member for member in one.members if member.partition("/")[0] in away]
    said = f"{one.strategy} of {len(one.members)} models"
    if not out:
        return Finding(check=check, level="ok", message=said)
    message = f"{said}; behind open circuits: {', '.join(out)}"
    level: Literal["warning", "problem"] = "problem" if len(out) == len(one.members) else "warning"
    return Finding(check=check, level=level, message=message)


def _providers(settings: Settings) -> list[Finding]:
    findings = []
    for name, provider in settings.providers.items():
        check = f"provider {name}"
        try:
            key = api_key(provider)
        except ConfigurationError as error:
            findings.append(Finding(check=check, level="problem", message=error.message))
            continue
        if provider.api_key_env and key is None:
            message = f"{provider.api_key_env} is not set; set it, or remove the provider"
            findings.append(Finding(check=check, level="problem", message=message))
        elif provider.kind != "mock":
            where = provider.base_url or "the vendor's own address"
            has = "with a key" if key is not None else "without a key"
            message = f"{provider.kind} at {where}, {has}"
            findings.append(Finding(check=check, level="ok", message=message))
    if not has_real_provider(settings):
        message = (
            "only the mock answers; set ANTHROPIC_API_KEY, OPENAI_API_KEY or OLLAMA_HOST for the "
            "router"
        )
        findings.append(Finding(check="providers", level="warning", message=message))
    return findings
