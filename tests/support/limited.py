"""A NATS server that has little room, and gets more or less of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from atlas import topology
from atlas.bus import Bus
from atlas.embedded import NatsProcess
from atlas.nats_settings import NatsSettings
from atlas.settings import TopologySettings

SMALL = TopologySettings(ack_wait_ms=1_000, max_bytes=16 * 2**20, max_submission_bytes=2**20)
SMALL_VARIABLES = {
    "ATLAS_TOPOLOGY__ACK_WAIT_MS": str(SMALL.ack_wait_ms),
    "ATLAS_TOPOLOGY__MAX_BYTES": str(SMALL.max_bytes),
    "ATLAS_TOPOLOGY__MAX_SUBMISSION_BYTES": str(SMALL.max_submission_bytes),
}

_AMPLE = "8GB"


@dataclass(frozen=True, slots=True)
class Limited:
    """The server, and a connection to it that outlives its restarts."""

    file: Path
    server: NatsProcess
    bus: Bus

    async def rebound(self, *, store: str = _AMPLE, account: str | None = None) -> None:
        """Start it again with other bounds, of the server or of the account."""
        await self.server.stop()
        self.file.write_text(_configuration(store, account))
        await self.server.start()
        await self.bus.wait_connected(20)


def _configuration(store: str, account: str | None) -> str:
    bound = "enabled" if account is None else f"{{ max_mem: 64MB, max_file: {account} }}"
    return (
        f"jetstream {{ max_mem: 64MB, max_file: {store} }}\n"
        f"accounts {{ A: {{ jetstream: {bound}, users: [{{user: a, password: a}}] }} }}\n"
        "no_auth_user: a\n"
    )


@asynccontextmanager
async def limited(folder: Path) -> AsyncIterator[Limited]:
    """With ample room at first, and all assets."""
    file = folder / "nats.conf"
    file.write_text(_configuration(_AMPLE, None))
    server = NatsProcess(folder / "nats", extra=("--config", str(file)))
    await server.start()
    try:
        bus = await Bus.connect(NatsSettings(url=server.url), "test")
        try:
            await topology.ensure(bus, SMALL)
            yield Limited(file, server, bus)
        finally:
            await bus.close()
    finally:
        await server.stop()
