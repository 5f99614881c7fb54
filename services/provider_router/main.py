"""The composition root of the provider router: where its objects meet."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from atlas import service, subjects
from atlas.contracts.base import JsonObject
from provider_router.handlers import Handlers
from provider_router.providers.base import Adapter
from provider_router.providers.registry import make_adapter
from provider_router.routing.catalogue import Catalogue
from provider_router.routing.health import HealthBoard
from provider_router.streaming.intake import Intake
from provider_router.streaming.peers import Peers
from provider_router.streaming.session import Providers
from provider_router.streaming.store import StreamStore
from provider_router.streaming.supervisor import Supervisor
from provider_router.streaming.window import PublishWindow

_MARKS_PER_ACK_WAIT = 3
_HAND_OVER_S = 0.5
_HAND_OVERS = 10


@dataclass(frozen=True, slots=True)
class Router:
    """A running router."""

    intake: Intake
    intake_task: asyncio.Task[None]
    supervisor: Supervisor
    drain_s: float

    async def drain(self) -> None:
        """Let streams end; hand over those that do not in time."""
        self.intake.close()
        _, late = await asyncio.wait({self.intake_task}, timeout=self.drain_s)
        for _ in range(_HAND_OVERS if late else 0):
            self.supervisor.hand_over_all()  # again for what was only being claimed before
            _, late = await asyncio.wait({self.intake_task}, timeout=_HAND_OVER_S)
            if not late:
                return

    def health(self) -> JsonObject:
        """How many streams run here."""
        return {"streams": self.supervisor.running}

    def metrics(self) -> JsonObject:
        """How the streams ended that ended here."""
        ended = self.supervisor.ended
        return {"streams": {state: ended[state] for state in ("completed", "failed", "cancelled")}}


@contextlib.asynccontextmanager
async def compose(context: service.Context) -> AsyncIterator[Router]:
    """Build the router on a service's context."""
    settings, bus = context.settings, context.bus
    catalogue = Catalogue(settings.providers, settings.router.default_model)
    adapters = {name: make_adapter(name, one) for name, one in settings.providers.items()}
    providers = Providers(adapters, HealthBoard(), settings.router.max_attempts)
    store = StreamStore(bus, context.instance)
    window = PublishWindow(bus, settings.router.store_window)
    peers = Peers(context.instance, settings.health_interval_ms)
    await window.open()
    await peers.open(bus)
    supervisor = Supervisor(bus, store, window, peers, catalogue, providers, context.events)
    intake = Intake(bus, supervisor, settings.router.max_streams)
    handlers = Handlers(
        bus, store, catalogue, providers.health, settings.providers, supervisor, peers
    )
    await handlers.open(context.doors)
    ack_wait_s = settings.topology.ack_wait_ms / 1000
    async with asyncio.TaskGroup() as group:  # one that crashes ends the service
        pulling = group.create_task(intake.run())
        running = [
            pulling,
            group.create_task(supervisor.mark_in_progress(ack_wait_s / _MARKS_PER_ACK_WAIT)),
            group.create_task(supervisor.heed_kept_controls()),
            group.create_task(_warm(adapters.values())),
        ]
        try:
            yield Router(intake, pulling, supervisor, settings.router.drain_ms / 1000)
        finally:
            for task in running:
                task.cancel()
            await handlers.close()
            await asyncio.wait(running)
            for adapter in adapters.values():
                await adapter.close()


async def _warm(adapters: Iterable[Adapter]) -> None:
    """Open a connection to each provider while the router already works."""
    async with asyncio.TaskGroup() as group:
        for adapter in adapters:
            group.create_task(adapter.warm())


def main() -> None:
    """Run the provider router until SIGTERM."""
    service.run("provider_router", subjects.ROUTERS, compose)
