"""The record of what a running stream holds of budgets, stored before it holds it.

A record outlives its router. Together with the counters' history since it was written, it tells
what stands in the counters for the stream, whatever was under way when the router died.
"""

import asyncio
import json
from collections.abc import AsyncIterator

import structlog
from pydantic import ValidationError

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.base import Contract, Count, EpochMs
from atlas.contracts.errors import AtlasError, FencedError

_TRY_S = 1.0
_BETWEEN_TRIES_S = 0.05

log = structlog.get_logger("atlas.reservations")


class HeldLine(Contract):
    """What is held of one counter: by increments numbered below `number`, so much."""

    subject: str
    held: int = 0
    number: Count = 0


class Reservation(Contract):
    """What one owner of one stream holds of budgets."""

    reservation_id: str
    router: str
    tenant: str
    stream_id: str
    epoch: int
    """Of the ownership under which it was made; what that ownership uses is charged to it."""
    at_ms: EpochMs
    from_seq: Count
    """Increments that are not in `lines` stand from this sequence of the counters' stream on."""
    input_tokens: Count = 0
    """What each attempt's input comes to, as estimated; for a stream that told no usage."""
    tokens_before: Count = 0
    microusd_before: Count = 0
    """What earlier owners of the stream used, which is charged to their reservations."""
    lines: list[HeldLine]

    @property
    def subject(self) -> str:
        """Where it stands."""
        return subjects.reservation(self.tenant, self.reservation_id)


class Reservations:
    """The records of all routers."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def put(self, record: Reservation, previous_seq: int, patience_s: float) -> int:
        """Store a record in place of that with sequence `previous_seq`, or 0; gives its own.

        Raises:
            FencedError: Another one stands there, or none: somebody settled it.
            AtlasError: Not answered in time.
        """
        data = record.to_json()
        deadline_s = _now_s() + patience_s
        while True:
            try:
                left_s = max(0.001, deadline_s - _now_s())
                await self._bus.wait_connected(left_s)
                return await self._bus.store(
                    record.subject, data, expected_last=previous_seq, timeout_s=min(_TRY_S, left_s)
                )
            except FencedError:
                stored = await self._bus.last(subjects.RESERVATIONS, record.subject)
                if stored is not None and stored.data == data:
                    return stored.seq  # an earlier try stood, and only its answer was lost
                raise
            except AtlasError as error:
                if not error.retryable or _now_s() + 2 * _BETWEEN_TRIES_S >= deadline_s:
                    raise
                await asyncio.sleep(_BETWEEN_TRIES_S)

    async def seq(self, record: Reservation) -> int:
        """The sequence of the record that stands for a reservation; 0 when there is none.

        Raises:
            AtlasError: NATS did not answer.
        """
        stored = await self._bus.last(subjects.RESERVATIONS, record.subject)
        return 0 if stored is None else stored.seq

    async def remove(self, seq: int) -> None:
        """Take a record away; that it is gone already is fine.

        Raises:
            AtlasError: NATS did not answer.
        """
        request = json.dumps({"seq": seq, "no_erase": True}).encode()
        door = subjects.jetstream("STREAM.MSG.DELETE", subjects.RESERVATIONS)
        await self._bus.ask(door, request, {}, _TRY_S)

    async def all(self) -> AsyncIterator[tuple[int, Reservation]]:
        """Every record that stands, with its sequence; unreadable ones are left out.

        Raises:
            AtlasError: NATS did not answer.
        """
        async for stored in self._bus.read(subjects.RESERVATIONS, subjects.RESERVATION_ALL):
            try:
                yield stored.seq, Reservation.from_json(stored.data)
            except ValidationError:
                log.warning("not_a_reservation", subject=stored.subject, seq=stored.seq)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
