"""Probes the providers' accounts off every request's path, when `routing/probing.py` says so."""

import asyncio
import contextlib

from atlas.contracts.base import now_ms
from provider_router.configuration import Configuration
from provider_router.routing.provider_accounts import Account

_LOOK_S = 1.0
"""The longest time between two looks at what is due."""


class Prober:
    """Owns the probes: one at a time for each account, each with the deadline of its adapter."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._asked: set[str] = set()
        self._changed = asyncio.Event()
        configuration.board.listen(self._note)

    async def run(self) -> None:
        """Probe until cancelled, which ends the probes that run."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                next_ms = now_ms() + int(_LOOK_S * 1000)
                for name, due_ms in self._due().items():
                    if due_ms <= now_ms():
                        self._asked.add(name)
                        group.create_task(self._probe(name))
                    else:
                        next_ms = min(next_ms, due_ms)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout((next_ms - now_ms()) / 1000):
                        await self._changed.wait()

    def _due(self) -> dict[str, int]:
        """When each account that is not being asked should be."""
        routing = self._configuration.current
        idle_ms = routing.settings.router.probe_idle_ms
        if not idle_ms:
            return {}
        due = {
            name: self._configuration.board.of(name).probe_due_at_ms(idle_ms)
            for name, provider in routing.settings.providers.items()
            if provider.probe and name not in self._asked
        }
        return {name: at_ms for name, at_ms in due.items() if at_ms is not None}

    async def _probe(self, name: str) -> None:
        try:
            with self._configuration.lease() as routing:
                adapter = routing.adapters.get(name)
                if adapter is not None:  # the configuration changed just now
                    await self._configuration.board.of(name).probe(adapter.probe)
        finally:
            self._asked.discard(name)

    def _note(self, account: Account, *, is_heard: bool) -> None:
        """A circuit changed, so a probe may be due sooner."""
        del account, is_heard
        self._changed.set()
