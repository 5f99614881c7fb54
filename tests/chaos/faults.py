"""Faults that strike processes of ours and their NATS server, at their times."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from atlas.embedded import NatsProcess, ServiceProcess, Services

type Kind = Literal["kill", "stop", "kill nats", "break providers"]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that strikes at a time, and for so long."""

    at_s: float
    kind: Kind
    victim: int
    """Which process or NATS server; by its place in the list of those that were started."""
    lasts_s: float


def lasting_s(kind: Kind, dice: random.Random) -> float:
    """How long a fault of a kind lasts."""
    match kind:
        case "kill" | "kill nats":
            return dice.uniform(0, 1)
        case "stop":
            return dice.uniform(2, 4)  # a lease and more, so that what was its is taken away
        case "break providers":
            return 0.0


class Processes:
    """Service processes that are killed and come anew, or stopped and wake up."""

    def __init__(
        self,
        servers: Sequence[NatsProcess],
        services: Services,
        names: Sequence[str],
        *,
        break_providers: Callable[[], int] = int,
        recovered: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Processes on one NATS server, or on a cluster of which one server is killed at a time.

        Args:
            servers: That they run on.
            services: That start them.
            names: What to start.
            break_providers: Breaks the connections of a provider; gives how many there were.
            recovered: Waits until a server that was killed has caught up with the others.
        """
        self._servers = servers
        self._services = services
        self._names = names
        self._break_providers = break_providers
        self._recovered = recovered
        self._running: list[ServiceProcess | None] = []
        self._nats_is_here = asyncio.Lock()
        """Held by who kills NATS, and by who starts a process, for which it must be there."""
        self._began_s = 0.0
        self.happened: list[str] = []
        """The faults, as they struck."""

    async def start(self) -> None:
        """Start every process; from now on time runs."""
        for name in self._names:
            self._running += await self._services.start([name])
        self._began_s = asyncio.get_running_loop().time()

    async def until(self, at_s: float) -> None:
        """Wait for a time of the plan."""
        await asyncio.sleep(self._began_s + at_s - asyncio.get_running_loop().time())

    async def strike(self, fault: Fault) -> None:
        """Let a fault strike at its time; returns when it is over."""
        await self.until(fault.at_s)
        match fault.kind:
            case "kill":
                await self._kill(fault)
            case "stop":
                await self._stop(fault)
            case "kill nats":
                async with self._nats_is_here:
                    await self._kill_nats(fault)
            case "break providers":
                self._note(f"the provider breaks {self._break_providers()} connections")

    def wake_all(self) -> None:
        """Let go on whoever is stopped."""
        for one in self._services.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGCONT)

    async def _kill_nats(self, fault: Fault) -> None:
        place = fault.victim % len(self._servers)
        self._note(f"nats {place} gets SIGKILL")
        await self._servers[place].kill()
        await asyncio.sleep(fault.lasts_s)
        await self._servers[place].start()
        if self._recovered is not None:
            await self._recovered()
        self._note(f"nats {place} is back")

    async def _kill(self, fault: Fault) -> None:
        victim, self._running[fault.victim] = self._running[fault.victim], None
        if victim is None:
            return  # it is dead already
        self._note(f"{self._named(fault)} gets SIGKILL")
        await self._services.kill(victim.pid)
        await asyncio.sleep(fault.lasts_s)
        async with self._nats_is_here:
            (self._running[fault.victim],) = await self._services.start([victim.name])
            self._note(f"{self._named(fault)} is anew")

    async def _stop(self, fault: Fault) -> None:
        victim = self._running[fault.victim]
        if victim is None:
            return
        self._note(f"{self._named(fault)} gets SIGSTOP")
        os.kill(victim.pid, signal.SIGSTOP)
        await asyncio.sleep(fault.lasts_s)
        if self._running[fault.victim] is victim:
            os.kill(victim.pid, signal.SIGCONT)
            self._note(f"{self._named(fault)} wakes up")

    def _named(self, fault: Fault) -> str:
        return f"{self._names[fault.victim]} {fault.victim}"

    def _note(self, what: str) -> None:
        now_s = asyncio.get_running_loop().time() - self._began_s
        self.happened.append(f"{now_s:6.2f} s  {what}")
