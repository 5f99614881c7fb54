"""The life of a service's process: from settings over doors and heartbeats to a drain on SIGTERM.

A service's `main.py` gives `run` a composition: a context manager that builds the service's parts
on a `Context` and yields an `App`.
"""

import asyncio
import contextlib
import gc
import itertools
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass

import structlog
from nats import micro
from nats.errors import Error as NatsError

from atlas import logs, telemetry, topology
from atlas.bus import Bus
from atlas.contracts.base import JsonObject, now_ms
from atlas.contracts.errors import AtlasError
from atlas.contracts.ids import new_id
from atlas.gauges import look_on
from atlas.monitoring import serving
from atlas.service import VERSION, App, Compose, Context, Doors, Events
from atlas.settings import Settings, load_settings
from atlas.telemetry import Exporting

_COLLECTOR_THRESHOLDS = 50_000, 20, 20
_WRONG_USE = 2
_BEATS_PER_METRICS = 5
_PARENT_LOOK_S = 1.0
_CHECK_AGAIN_S = 2.0

log = structlog.get_logger("atlas.service")


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
    exporting = telemetry.configure(
        name, instance, has_metrics=True, is_scraped=settings.monitoring.port is not None
    )
    bus = await Bus.connect(settings.nats, f"{name}/{instance}")
    watch = asyncio.create_task(_stop_with_parent(settings.parent_pid, stop))
    try:
        await topology.ensure(bus, settings.topology)
        async with open_context(name, instance, queue, settings, bus) as context:
            await _serve_until(stop, context, compose, exporting)
    finally:
        watch.cancel()
        await bus.close()
        if exporting is not None:
            exporting.shutdown()


async def _stop_with_parent(parent_pid: int | None, stop: asyncio.Event) -> None:
    """Drain when whoever started us was killed, so that no orphan is left (`atlas up`)."""
    if parent_pid is None:
        return
    while os.getppid() == parent_pid:  # noqa: ASYNC110 - a parent tells nobody its end
        await asyncio.sleep(_PARENT_LOOK_S)
    log.warning("parent_gone", parent_pid=parent_pid)
    stop.set()


@contextlib.asynccontextmanager
async def open_context(
    name: str, instance: str, queue: str, settings: Settings, bus: Bus
) -> AsyncIterator[Context]:
    """What a service is built on, known to NATS's service protocol while the block runs."""
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


@dataclass(slots=True)
class _Readiness:
    """Whether a service may be given work, for monitors."""

    bus: Bus
    app: App | None = None
    is_draining: bool = False
    asset_trouble: str | None = None
    """What is wrong with the JetStream assets since the last reconnect."""

    def troubles(self) -> list[str]:
        """What keeps it from its work."""
        if self.app is None:
            return ["it is starting"]
        found = ["it is draining"] if self.is_draining else []
        if not self.bus.is_connected:
            found.append("NATS is away; it reconnects by itself")
        elif self.asset_trouble is not None:
            found.append(self.asset_trouble)
        return [*found, *self.app.troubles()]


async def _serve_until(
    stop: asyncio.Event, context: Context, compose: Compose, exporting: Exporting | None
) -> None:
    began_ms = now_ms()
    back = asyncio.Event()
    context.bus.on_reconnect(back.set)
    readiness = _Readiness(context.bus)
    async with (
        serving(
            context.settings.monitoring, readiness.troubles, exporting.scrape if exporting else None
        ),
        compose(context) as app,
        asyncio.TaskGroup() as group,
    ):
        await context.bus.flush()  # "ready" means that the doors are open
        draining = asyncio.Event()
        beat = group.create_task(_heartbeat(context, app, began_ms, draining))
        checks = group.create_task(_check_after_reconnect(context, back, readiness))
        background = [beat, checks]
        if exporting is not None and exporting.metering is not None:
            background.append(group.create_task(look_on(context.bus, app.look)))
        readiness.app = app
        _calm_collector()
        log.info("ready", service=context.name, instance=context.instance)
        await stop.wait()
        log.info("draining", service=context.name, instance=context.instance)
        readiness.is_draining = True
        draining.set()
        await context.doors.close(timeout_s=2)
        await app.drain()
        for task in background:
            task.cancel()
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


async def _check_after_reconnect(
    context: Context, back: asyncio.Event, readiness: _Readiness
) -> None:
    """A server that came back empty, or another one, gets its assets again (design B3).

    What fails is tried again until it succeeds: a cluster may be without a leader for a while.
    """
    while True:
        await back.wait()
        back.clear()
        while (trouble := await _asset_trouble(context)) is not None:
            readiness.asset_trouble = trouble
            log.error("topology_check_failed", error=trouble, again_in_s=_CHECK_AGAIN_S)
            with contextlib.suppress(TimeoutError):  # the next reconnect is worth a try at once
                async with asyncio.timeout(_CHECK_AGAIN_S):
                    await back.wait()
            back.clear()
        readiness.asset_trouble = None


async def _asset_trouble(context: Context) -> str | None:
    """Make the assets that are missing; says what kept it from that."""
    try:
        await topology.ensure(context.bus, context.settings.topology)
    except AtlasError as error:
        return error.message
    except (NatsError, TimeoutError) as error:
        return f"the JetStream assets could not be checked: {error!r}"
    return None
