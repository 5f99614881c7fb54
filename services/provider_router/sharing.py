"""Circuits shared by all routers and kept over a restart, off every request's path (design B4).

Each router tells what it learnt itself; what it heard it has taken in already. A provider's key
holds the word said last, which is the teller's own knowledge joined with all it heard.
"""

import asyncio
from dataclasses import dataclass

import structlog
from nats.aio.msg import Msg
from pydantic import ValidationError

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.base import JsonObject, now_ms
from atlas.contracts.errors import AtlasError
from atlas.service import Events
from provider_router.routing.board import Board
from provider_router.routing.circuit_record import FOREVER_MS, CircuitRecord, Opening
from provider_router.routing.provider_accounts import Account

_RETRY_S = 1.0

log = structlog.get_logger("atlas.sharing")


@dataclass(frozen=True, slots=True)
class _Shown:
    """What was told of an account last."""

    circuit: str = "closed"
    opening: Opening | None = None
    health: str = "unknown"


class CircuitSharing:
    """Tells the other routers, and hears them."""

    def __init__(self, bus: Bus, board: Board, events: Events, router: str) -> None:
        self._bus = bus
        self._board = board
        self._events = events
        self._router = router
        self._changed: dict[str, list[tuple[str, JsonObject]]] = {}
        self._shown: dict[str, _Shown] = {}
        self._wake = asyncio.Event()
        self._read_again = asyncio.Event()

    async def open(self) -> None:
        """Hear the others from now on, and read what was known before this router lived."""
        self._board.listen(self._note)
        everything = subjects.bucket_key(subjects.CIRCUITS, ">")
        await self._bus.subscribe(everything, self._hear)
        self._bus.on_reconnect(self._missed_something)
        await self._read_kept()

    async def run(self) -> None:
        """Tell changes until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                if self._read_again.is_set():
                    self._read_again.clear()
                    await self._read_kept()
                await self._tell_changes()
            except AtlasError as error:
                log.warning("circuits_not_shared", error=error.message)
                await asyncio.sleep(_RETRY_S)
                self._wake.set()

    async def _tell_changes(self) -> None:
        for provider in list(self._changed):
            account = self._board.of(provider)
            record = account.circuit.record(self._router, now_ms())
            key = subjects.bucket_key(subjects.CIRCUITS, provider)
            await self._bus.store(key, record.to_json())
            for type_, data in self._changed.pop(provider):
                await self._events.emit(type_, data)

    async def _read_kept(self) -> None:
        stream = subjects.bucket_stream(subjects.CIRCUITS)
        everything = subjects.bucket_key(subjects.CIRCUITS, ">")
        async for stored in self._bus.read(stream, everything):
            self._take(stored.subject, stored.data)

    async def _hear(self, msg: Msg) -> None:
        self._take(msg.subject, msg.data)

    def _take(self, subject: str, data: bytes) -> None:
        account = self._board.get(subject.rpartition(".")[2])
        if account is None or not data:  # of another configuration; or somebody removed the key
            return
        try:
            record = CircuitRecord.from_json(data)
        except ValidationError as error:
            log.warning("not_a_circuit", subject=subject, problems=error.error_count())
            return
        if record.router != self._router:
            account.heard(record)

    def _note(self, account: Account, *, is_heard: bool) -> None:
        """Keep a change for `run`; called on a request's path."""
        now = _Shown(account.circuit.state(now_ms()), account.circuit.opening, account.health)
        was = self._shown.get(account.name, _Shown())
        self._shown[account.name] = now
        if is_heard:  # its router tells the events
            return
        told = self._changed.setdefault(account.name, [])
        if (was.circuit, was.opening) != (now.circuit, now.opening):
            told.append(("provider.circuit", circuit_event(account, was.circuit)))
        if was.health != now.health:
            health: JsonObject = {"provider": account.name, "health": now.health}
            if account.last_error is not None:
                health["last_error"] = account.last_error
            if account.probing.at_ms is not None:
                health["probed_at_ms"] = account.probing.at_ms
            if account.probing.error is not None:
                health["probe_error"] = account.probing.error.code
            told.append(("provider.health", health))
        self._wake.set()

    def _missed_something(self) -> None:
        self._read_again.set()
        self._wake.set()


def circuit_event(account: Account, was: str) -> JsonObject:
    """A `provider.circuit` event's data."""
    circuit = account.circuit
    data: JsonObject = {
        "provider": account.name,
        "circuit": circuit.state(now_ms()),
        "was": was,
    }
    if (opening := circuit.opening) is not None:
        data |= {"reason": opening.reason, "error": opening.code}
        if opening.until_ms < FOREVER_MS:
            data["open_until_ms"] = opening.until_ms
    return data
