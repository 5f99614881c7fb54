"""The shell of every service: settings, NATS, doors, health, and a drain on SIGTERM.

A service's `main.py` gives `run` a composition: a context manager that builds the service's parts
on a `Context` and yields an `App`. Doors are endpoints of NATS's own service protocol
(`nats.micro`), so `nats micro list` and `$SRV.PING` know every running service.
"""

import asyncio
import contextlib
import gc
import itertools
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Protocol

import structlog
from nats import micro
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from nats.micro.request import Request
from nats.micro.service import Service
from opentelemetry.trace import SpanKind

from atlas import door, logs, subjects, telemetry, topology
from atlas.bus import Bus
from atlas.contracts.base import Contract, JsonObject, UserInput, now_ms
from atlas.contracts.errors import (
    AtlasError,
    InvalidRequestError,
    OverloadedError,
    PayloadTooLargeError,
)
from atlas.contracts.events import Event
from atlas.contracts.ids import ID_PATTERN, is_id, new_id
from atlas.finishing import finish
from atlas.settings import Settings, load_settings

VERSION = version("atlas-llm")
_COLLECTOR_THRESHOLDS = 50_000, 20, 20
_WRONG_USE = 2
_OVERLOAD_RETRY_MS = 500
_BEATS_PER_METRICS = 5
_PARENT_LOOK_S = 1.0
_CONCURRENT_CALLS = 1_000
"""Calls in progress per door; one more is answered with `overloaded`."""

log = structlog.get_logger("atlas.service")


class App(Protocol):
    """What a composition root yields."""

    async def drain(self) -> None:
        """Take nothing new; finish or hand back what is running. Bounded by the app itself."""
        ...

    def health(self) -> JsonObject:
        """What `service.health` says besides state and instance, such as running streams."""
        ...

    def metrics(self) -> JsonObject:
        """What `service.metrics` counts besides calls and reconnects; all since the start."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """What a service is built on."""

    name: str
    instance: str
    settings: Settings
    bus: Bus
    doors: "Doors"
    events: "Events"


@dataclass(frozen=True, slots=True)
class Call[M: UserInput]:
    """One call of a door: who asks, what, and the bytes as they came."""

    tenant: str
    id: str
    """The id in the subject of a door that has one, such as `….task.{task_id}.control`."""
    body: M
    data: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Events:
    """Publishes what happens as `Event`s, for anyone."""

    def __init__(self, bus: Bus, source: str, instance: str, tenant: str) -> None:
        self._bus = bus
        self._source = source
        self._instance = instance
        self._tenant = tenant

    async def emit(self, type_: str, data: JsonObject, *, tenant: str | None = None) -> None:
        """Publish one event. While NATS is away it may be lost: events inform, logs decide."""
        event = Event(
            type=type_,
            source=self._source,
            at_ms=now_ms(),
            data={"instance": self._instance, **data},
        )
        subject = subjects.event(tenant or self._tenant, self._source, type_)
        try:
            await self._bus.send(subject, event)
        except AtlasError as error:
            log.debug("event_lost", type=type_, error=error.message)


@dataclass(slots=True)
class Doors:
    """The request/reply doors of a service."""

    bus: Bus
    service: Service
    queue: str
    calls: Counter[str] = field(default_factory=Counter)
    """How often each door was called, by its name."""
    _running: set[asyncio.Task[None]] = field(default_factory=set)

    async def open[M: UserInput](
        self,
        name: str,
        subject: str,
        model: type[M],
        handler: Callable[[Call[M]], Awaitable[Contract]],
    ) -> None:
        """Serve `subject`: read a `model`, call `handler`, answer its value or an `ErrorReply`."""

        async def accept(request: Request) -> None:
            self.calls[name] += 1
            if len(self._running) >= _CONCURRENT_CALLS:
                await _answer(request, _overloaded(name).to_reply())
                return
            task = asyncio.create_task(_serve(request, name, _template(subject), model, handler))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

        self.calls[name] = 0
        await self.service.add_endpoint(
            name=name, subject=subject, queue_group=self.queue, handler=accept
        )

    async def close(self, timeout_s: float) -> None:
        """Stop listening and wait for the calls in progress."""
        with contextlib.suppress(NatsError, OSError):  # the server may be gone already
            await self.service.stop()
        await finish(self._running, timeout_s)


async def _serve[M: UserInput](
    request: Request,
    name: str,
    template: str,
    model: type[M],
    handler: Callable[[Call[M]], Awaitable[Contract]],
) -> None:
    headers = request.headers or {}
    attributes = {telemetry.SYSTEM: "nats", telemetry.DESTINATION: template}
    try:
        with telemetry.span(
            f"process {template}", kind=SpanKind.SERVER, headers=headers, attributes=attributes
        ):
            parsed = _names_in(request.subject)
            body = door.read(model, request.data, headers)
            answer = await handler(Call(parsed.tenant, parsed.id, body, request.data, headers))
    except AtlasError as error:
        answer = error.to_reply()
    except Exception:
        log.exception("door_failed", door=name)
        answer = AtlasError(f"{template} failed inside; the service's log has the cause").to_reply()
    await _answer(request, answer)


def _names_in(subject: str) -> subjects.Parsed:
    """The tenant and id of a call: a `*` would read what belongs to others."""
    parsed = subjects.parse(subject)
    for what, name in (("tenant", parsed.tenant), ("id", parsed.id)):
        if not is_id(name):
            raise InvalidRequestError(
                f"subject: {name!r} is no {what}; these match {ID_PATTERN}, literally"
            )
    return parsed


async def _answer(request: Request, answer: Contract) -> None:
    try:
        await request.respond(answer.to_json())
    except ValueError:  # no reply subject: published, not asked; it was carried out all the same
        log.debug("answer_not_asked_for", subject=request.subject)
    except MaxPayloadError:
        await _answer(request, _too_large(answer).to_reply())
    except NatsError as error:  # NATS went away
        log.warning("answer_not_sent", subject=request.subject, error=type(error).__name__)


def _too_large(answer: Contract) -> PayloadTooLargeError:
    return PayloadTooLargeError(
        f"it was carried out, but the answer, a {type(answer).__name__} of "
        f"{len(answer.to_json())} bytes, is more than NATS takes in a message; ask for history, "
        "which comes in pages, or raise the server's max_payload"
    )


def _template(subject: str) -> str:
    """The subject as the contract writes it, for spans: `atlas.{tenant}.task.{task_id}.control`."""
    kind = subject.split(".")[2]
    return subject.replace("*", "{tenant}", 1).replace("*", f"{{{kind}_id}}", 1)


def _overloaded(name: str) -> OverloadedError:
    return OverloadedError(
        f"{name}: {_CONCURRENT_CALLS} calls are in progress; try again later",
        retry_after_ms=_OVERLOAD_RETRY_MS,
    )


type Compose = Callable[[Context], AbstractAsyncContextManager[App]]


def run(name: str, queue: str, compose: Compose) -> None:
    """Run a service until SIGTERM or SIGINT, then drain; the process's whole life.

    Exits with 2 and one line on stderr when the configuration is wrong, NATS is away or does
    not fit.
    """
    try:
        settings = load_settings()
        logs.configure(settings.log_level)
        _event_loop_run(_life(name, queue, compose, settings))
    except AtlasError as error:
        print(f"{name}: {error.message}", file=sys.stderr)  # noqa: T201 - for whoever started it
        sys.exit(_WRONG_USE)


def _event_loop_run(main: Awaitable[None]) -> None:
    async def body() -> None:
        await main

    try:
        import uvloop  # noqa: PLC0415 - absent on Windows
    except ImportError:
        asyncio.run(body())
    else:
        uvloop.run(body())


async def _life(name: str, queue: str, compose: Compose, settings: Settings) -> None:
    instance = f"{socket.gethostname().split('.')[0]}-{os.getpid()}-{new_id()[-6:]}"
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, stop.set)
    tracing = telemetry.configure(name, instance)
    bus = await Bus.connect(settings.nats, f"{name}/{instance}")
    watch = asyncio.create_task(_stop_with_parent(settings.parent_pid, stop))
    try:
        await topology.ensure(bus, settings.topology)
        async with _context(name, instance, queue, settings, bus) as context:
            await _serve_until(stop, context, compose)
    finally:
        watch.cancel()
        await bus.close()
        if tracing is not None:
            tracing.shutdown()


async def _stop_with_parent(parent_pid: int | None, stop: asyncio.Event) -> None:
    """Drain when whoever started us was killed, so that no orphan is left (`atlas up`)."""
    if parent_pid is None:
        return
    while os.getppid() == parent_pid:  # noqa: ASYNC110 - a parent tells nobody its end
        await asyncio.sleep(_PARENT_LOOK_S)
    log.warning("parent_gone", parent_pid=parent_pid)
    stop.set()


@contextlib.asynccontextmanager
async def _context(
    name: str, instance: str, queue: str, settings: Settings, bus: Bus
) -> AsyncIterator[Context]:
    service = await micro.add_service(
        bus.nats,
        name=name.replace("_", "-"),
        version=VERSION,
        description=f"Atlas {name.replace('_', ' ')}",
        metadata={"instance": instance, "pid": str(os.getpid())},
    )
    doors = Doors(bus, service, queue)
    try:
        yield Context(
            name, instance, settings, bus, doors, Events(bus, name, instance, settings.tenant)
        )
    finally:
        await doors.close(timeout_s=2)


async def _serve_until(stop: asyncio.Event, context: Context, compose: Compose) -> None:
    began_ms = now_ms()
    back = asyncio.Event()
    context.bus.on_reconnect(back.set)
    async with compose(context) as app, asyncio.TaskGroup() as group:
        await context.bus.flush()  # "ready" means that the doors are open
        draining = asyncio.Event()
        beat = group.create_task(_heartbeat(context, app, began_ms, draining))
        checks = group.create_task(_check_after_reconnect(context, back))
        _calm_collector()
        log.info("ready", service=context.name, instance=context.instance)
        await stop.wait()
        log.info("draining", service=context.name, instance=context.instance)
        draining.set()
        await context.doors.close(timeout_s=2)
        await app.drain()
        beat.cancel()
        checks.cancel()
        await context.events.emit("service.metrics", _metrics(context, app, began_ms))
        await context.events.emit("service.health", _health(app, "stopped"))


def _calm_collector() -> None:
    """Collect garbage less often, and not among what lives as long as the process.

    With a thousand streams the collector took a sixth of a router's time; what it finds are the
    few cycles that exceptions leave, so it may come late.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTOR_THRESHOLDS)


def _health(app: App, state: str) -> JsonObject:
    return {"state": state, "pid": os.getpid(), "version": VERSION, **app.health()}


def _metrics(context: Context, app: App, began_ms: int) -> JsonObject:
    return {
        "uptime_ms": now_ms() - began_ms,
        "reconnects": context.bus.reconnects,
        "calls": dict(context.doors.calls),
        **app.metrics(),
    }


async def _heartbeat(context: Context, app: App, began_ms: int, draining: asyncio.Event) -> None:
    """Say that the service is there, until it is not: a drain takes time too."""
    interval_s = context.settings.health_interval_ms / 1000
    for beat in itertools.count(1):
        state = "draining" if draining.is_set() else "ready"
        await context.events.emit("service.health", _health(app, state))
        if beat % _BEATS_PER_METRICS == 0:
            await context.events.emit("service.metrics", _metrics(context, app, began_ms))
        if draining.is_set():
            await asyncio.sleep(interval_s)
            continue
        with contextlib.suppress(TimeoutError):  # a change is told at once
            async with asyncio.timeout(interval_s):
                await draining.wait()


async def _check_after_reconnect(context: Context, back: asyncio.Event) -> None:
    """A server that came back empty, or another one, gets its assets again (design B3)."""
    while True:
        await back.wait()
        back.clear()
        try:
            await topology.ensure(context.bus, context.settings.topology)
        except AtlasError as error:
            log.error("topology_check_failed", error=error.message)  # noqa: TRY400 - message says it all
        except NatsError as error:
            log.warning("topology_check_failed", error=str(error), next="at the next reconnect")
