"""What monitors a service asks over HTTP: `/livez`, `/readyz`, and `/metrics` for Prometheus.

Alive is a process whose event loop answers. Ready is one that has said so and does not drain, whose
NATS server is there with the assets that it expects, and that can do its work: `App.troubles`.
Nobody but monitors speaks HTTP with Atlas, and without `monitoring.port` nobody listens.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence

import structlog

from atlas.contracts.errors import ConfigurationError
from atlas.settings import MonitoringSettings
from atlas.telemetry import Scrape

_CLOSE_S = 2.0
_OK, _NOT_FOUND, _NOT_NOW = 200, 404, 503
_SWITCHED_OFF = "no metrics: OTEL_SDK_DISABLED or OTEL_METRICS_EXPORTER=none switched them off\n"

type Troubles = Callable[[], Sequence[str]]
"""What keeps a service from being ready, each in a sentence; empty when it is."""

log = structlog.get_logger("atlas.monitoring")


@contextlib.asynccontextmanager
async def serving(
    settings: MonitoringSettings, troubles: Troubles, scrape: Scrape | None
) -> AsyncIterator[int | None]:
    """Answer monitors while the block runs; gives the port, or None where none is set.

    Raises:
        ConfigurationError: The address is taken, or none of this machine's.
    """
    if settings.port is None:
        yield None
        return
    from aiohttp import web  # noqa: PLC0415 - 60 ms, and only where somebody asks

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        found = list(troubles())
        body = json.dumps({"ready": not found, "troubles": found}, ensure_ascii=False)
        status = _NOT_NOW if found else _OK
        return web.Response(text=body + "\n", status=status, content_type="application/json")

    async def metrics(_: web.Request) -> web.Response:
        if scrape is None:
            return web.Response(text=_SWITCHED_OFF, status=_NOT_FOUND)
        text, content_type = await asyncio.to_thread(scrape)
        return web.Response(body=text, headers={"Content-Type": content_type})

    app = web.Application()
    app.add_routes([web.get(f"/{one.__name__}", one) for one in (livez, readyz, metrics)])
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_CLOSE_S)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, settings.host, settings.port).start()
        except OSError as error:
            raise ConfigurationError(
                f"monitoring: nothing can listen on {settings.host}:{settings.port} "
                f"({error.strerror or error}); set ATLAS_MONITORING__HOST and "
                "ATLAS_MONITORING__PORT to a free address of this machine"
            ) from error
        port = int(runner.addresses[0][1])
        log.info("monitoring", host=settings.host, port=port)
        yield port
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await runner.cleanup()
