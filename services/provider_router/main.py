"""The composition root of the provider router: where its objects meet."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

from atlas import process, service, subjects
from atlas.bus import Bus
from atlas.contracts.base import JsonObject
from atlas.objects import Objects
from provider_router import gauges
from provider_router.accounting.accounts import Accounts
from provider_router.accounting.counters import Counters
from provider_router.accounting.reconciling import Reconciler
from provider_router.accounting.reservations import Reservations
from provider_router.accounting.usage import UsageCounters
from provider_router.configuration import Configuration, Reloading
from provider_router.deletion import Deletion
from provider_router.feedback import Feedback
from provider_router.handlers import Handlers
from provider_router.prober import Prober
from provider_router.sharing import CircuitSharing
from provider_router.streaming.easing import Easing
from provider_router.streaming.intake import Intake
from provider_router.streaming.media import Media
from provider_router.streaming.peers import Peers
from provider_router.streaming.spending import Spendings, used_of_history
from provider_router.streaming.store import StreamStore
from provider_router.streaming.supervisor import OUTCOMES, Supervisor
from provider_router.streaming.sweep import Sweep
from provider_router.streaming.window import PublishWindow

_MARKS_PER_ACK_WAIT = 3
_HAND_OVER_S = 0.5
_HAND_OVERS = 10
_RECONCILE_S = 5.0
_CLOSE_BOOKS_S = 3.0
_SWEEP_S = 5.0


@dataclass(frozen=True, slots=True)
class Router:
    """A running router."""

    intake: Intake
    intake_task: asyncio.Task[None]
    supervisor: Supervisor
    configuration: Configuration
    spendings: Spendings
    easing: Easing
    bus: Bus
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
        """How many streams run here, and whether the configuration given last was refused."""
        said: JsonObject = {"streams": self.supervisor.running}
        if self.configuration.problem is not None:
            said["configuration_problem"] = self.configuration.problem
        return said

    def metrics(self) -> JsonObject:
        """How the streams ended that ended here, and how late the event loop is."""
        ended = self.supervisor.ended
        return {
            "streams": {outcome: ended[outcome] for outcome in OUTCOMES},
            "loop_late_ms": round(self.easing.late_s * 1000, 1),
        }

    async def look(self) -> None:
        """Tell its gauges."""
        await gauges.look(self.bus, self.supervisor, self.configuration, self.spendings)

    def troubles(self) -> Sequence[str]:
        """That no provider can be asked; while one can, the others are no trouble of a router's."""
        board = self.configuration.board
        accounts = self.configuration.current.accounts
        real = [name for name, one in accounts.items() if one.settings.kind != "mock"]
        names = real or list(accounts)
        if any(board.of(name).health != "unhealthy" for name in names):
            return ()
        return (f"no provider can be asked: {', '.join(names)}; `atlas providers` says why",)


@contextlib.asynccontextmanager
async def compose(context: service.Context) -> AsyncIterator[Router]:
    """Build the router on a service's context."""
    settings, bus = context.settings, context.bus
    configuration = Configuration(settings)
    reloading = Reloading(configuration)
    sharing = CircuitSharing(bus, configuration.board, context.events, context.instance)
    store = StreamStore(bus, context.instance)
    window = PublishWindow(bus, settings.router.store_window)
    peers = Peers(context.instance, settings.health_interval_ms)
    await window.open()
    await peers.open(bus)
    await sharing.open()
    spendings, reconciler = await _spendings(context, store, peers, configuration)
    easing = Easing()
    media = Media(Objects(bus), settings.media)
    supervisor = Supervisor(
        bus, store, window, peers, configuration, spendings, easing, media, context.events
    )
    sweep = Sweep(bus, store, window, peers, configuration, context.events)
    intake = Intake(bus, supervisor, settings.router.max_streams)
    handlers = Handlers(bus, store, configuration, supervisor, peers, spendings)
    await handlers.open(context.doors)
    await Deletion(store).open(context.doors)
    await Feedback(bus, store, context.events, configuration.board.answers).open(context.doors)
    ack_wait_s = settings.topology.ack_wait_ms / 1000
    async with asyncio.TaskGroup() as group:  # one that crashes ends the service
        pulling = group.create_task(intake.run())
        running = [
            pulling,
            group.create_task(supervisor.mark_in_progress(ack_wait_s / _MARKS_PER_ACK_WAIT)),
            group.create_task(supervisor.heed_kept_controls()),
            group.create_task(easing.run()),
            group.create_task(sharing.run()),
            group.create_task(spendings.accounts.run()),
            group.create_task(spendings.used.run()),
            group.create_task(reconciler.run(_RECONCILE_S)),
            group.create_task(sweep.run(_SWEEP_S)),
            group.create_task(reloading.run()),
            group.create_task(configuration.warm()),
            group.create_task(Prober(configuration).run()),
        ]
        with _on_hangup(reloading):
            try:
                yield Router(
                    intake,
                    pulling,
                    supervisor,
                    configuration,
                    spendings,
                    easing,
                    bus,
                    settings.router.drain_ms / 1000,
                )
            finally:
                for task in running:
                    task.cancel()
                await handlers.close()
                await asyncio.wait(running)
                await spendings.close(_CLOSE_BOOKS_S)
                await configuration.close()


async def _spendings(
    context: service.Context, store: StreamStore, peers: Peers, configuration: Configuration
) -> tuple[Spendings, Reconciler]:
    """What streams spend of budgets, and who settles what dead routers left."""
    counters, reservations = Counters(context.bus), Reservations(context.bus)
    await counters.open()
    accounts = Accounts(
        context.bus,
        counters,
        reservations,
        context.instance,
        lambda: configuration.current.settings.budgets,
    )
    used_by = used_of_history(store, configuration.pricing)
    reconciler = Reconciler(counters, reservations, peers.is_alive, used_by)
    return Spendings(accounts, UsageCounters(counters), context.events), reconciler


@contextlib.contextmanager
def _on_hangup(reloading: Reloading) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(signal.SIGHUP, reloading.ask)
    except (ValueError, RuntimeError, NotImplementedError):  # not the main thread, or Windows
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def main() -> None:
    """Run the provider router until SIGTERM."""
    process.run("provider_router", subjects.ROUTERS, compose)
