"""All of Atlas for one test, and programs beside it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from atlas.embedded import Services, Stack, standalone

_PATIENCE_S = 90
_QUICK = {
    "ATLAS_TOPOLOGY__ACK_WAIT_MS": "1000",
    "ATLAS_CONTROLLER__RECONCILE_INTERVAL_MS": "200",
    "ATLAS_CONTROLLER__DISPATCH_TIMEOUT_MS": "1000",
    "ATLAS_WORKER__DRAIN_MS": "2000",
    "ATLAS_LOG_LEVEL": "warning",
}
"""Settings of services that notice soon what another left undone."""


@asynccontextmanager
async def running_atlas(
    folder: Path,
    environment: Mapping[str, str],
    *,
    routers: int = 1,
    controllers: int = 1,
    workers: int = 1,
) -> AsyncIterator[Stack]:
    """A NATS server and services of its own, so many of each; their log stands in the folder."""
    with (folder / "services.log").open("wb") as log:
        async with standalone(
            routers=routers,
            controllers=controllers,
            workers=workers,
            environment=environment,
            log_to=log,
        ) as stack:
            yield stack


@asynccontextmanager
async def services(nats_url: str, *names: str) -> AsyncIterator[Services]:
    """Processes of these services on a NATS server that runs already."""
    running = Services(nats_url, environment=_QUICK)
    try:
        await running.start(names)
        yield running
    finally:
        await running.stop()


@asynccontextmanager
async def beside(
    stack: Stack, *command: str, cwd: Path, environment: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program that talks to it; killed with the block, if it runs then."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={**os.environ, **(environment or {}), "NATS_URL": stack.nats_url},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def read_by(script: Path, id_: str, nats_url: str) -> str:
    """What a reader of the documents says of a stream or task; it ends well."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(script), id_, nats_url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(_PATIENCE_S):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()  # nats-py says there that the line broke
    return out.decode()
