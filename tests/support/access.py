"""An installation as `atlas access` makes it: a server, and services under their own users."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from atlas import access_folder, subjects
from atlas.bus import Bus
from atlas.contracts.errors import RequestTimeoutError
from atlas.embedded import NatsProcess
from atlas.nats_settings import NatsSettings
from atlas.settings import TopologySettings
from atlas.wire import read_event

TENANT = "acme"
OTHER = "umbrella"
_READY_S = 30
_OPERATION = re.compile(r'nkey:(U[A-Z0-9]+)" - <<- \[H?(PUB|SUB) (\S+)')


@dataclass(slots=True)
class Installation:
    """A folder of `atlas access`, and the server that reads it."""

    folder: Path
    server: NatsProcess
    variables: dict[str, str] = field(default_factory=dict)
    """Further settings of the services and commands."""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @classmethod
    def made(cls, room: Path, *, extra: Sequence[str] = ()) -> "Installation":
        """Users of two tenants and a server that is not started yet."""
        folder = room / "access"
        access_folder.make(folder, [TENANT, OTHER], listen="127.0.0.1:0", url="nats://unused:1")
        conf = str(access_folder.accounts_file(folder))
        return cls(folder, NatsProcess(room / "nats", extra=("--config", conf, *extra)))

    def settings(self, user: str) -> NatsSettings:
        """How a user connects."""
        known = {one.name: one.user for one in access_folder.read(self.folder)}
        return NatsSettings(
            url=self.server.url,
            nkey_seed_file=access_folder.seed_file(self.folder, user),
            inbox_prefix=known[user].inbox,
            request_timeout_ms=3_000,
        )

    def environment(self, user: str) -> dict[str, str]:
        """The variables of a process that connects as a user, as its folder tells them."""
        told = access_folder.seed_file(self.folder, user).with_name("atlas.env").read_text()
        own = dict(line.split("=", 1) for line in told.splitlines())
        foreign = ("ATLAS_", "NATS_", "OTEL_", "OPENAI_", "ANTHROPIC_", "OLLAMA_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return {**kept, **own, **self.variables, "NATS_URL": self.server.url}

    @contextlib.asynccontextmanager
    async def bus(self, user: str) -> AsyncIterator[Bus]:
        """A connection as a user."""
        bus = await Bus.connect(self.settings(user), f"test-{user}")
        try:
            yield bus
        finally:
            await bus.close()

    async def start_service(self, name: str) -> None:
        """Start a service under its own user, and wait until it says that it is ready."""
        async with self.bus("operator") as bus:
            heard = await bus.open(subjects.events_of("*", name, "service.health"))
            await bus.flush()
            with (self.folder / f"{name}.log").open("ab") as log:
                process = subprocess.Popen(  # noqa: ASYNC220 - fork and exec, no wait
                    [sys.executable, "-m", name],
                    env=self.environment(name) | {"ATLAS_PARENT_PID": str(os.getpid())},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            self.processes[name] = process
            try:
                async with asyncio.timeout(_READY_S):
                    while True:
                        msg = await heard.next_msg(timeout=_READY_S)
                        event = read_event(msg.subject, msg.data)
                        if event.data.get("pid") == process.pid:
                            return
            except TimeoutError as error:
                raise RequestTimeoutError(f"{name} is not ready:\n{self.told_by(name)}") from error

    def told_by(self, name: str) -> str:
        """The log of a service."""
        return (self.folder / f"{name}.log").read_text()

    def used(self) -> dict[str, tuple[set[str], set[str]]]:
        """What each user published on and subscribed to, as a server that traces has written."""
        names = {one.public_key: one.name for one in access_folder.read(self.folder)}
        found: dict[str, tuple[set[str], set[str]]] = {
            name: (set(), set()) for name in names.values()
        }
        for key, operation, subject in _OPERATION.findall(self.server.log_path.read_text()):
            found[names[key]][operation == "SUB"].add(subject)
        return found

    def violations(self) -> list[str]:
        """What the server refused to anybody, a line each."""
        log = self.server.log_path.read_text()
        return [line for line in log.splitlines() if "Violation - " in line]

    async def stop(self) -> None:
        """End the services, then the server."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            await asyncio.to_thread(process.wait, 30)
        await self.server.stop()


ASSETS = TopologySettings()
