"""Counters in JetStream: increments that count once however often they are sent.

JetStream knows a repeated increment by its id for `COUNTER_DEDUPLICATION_S`; whoever repeats one
later looks into the counter's history first. The acknowledgement of a repeat tells no value (tried
with nats-server 2.15), so the counter is then read, by an increment of nothing: unlike a direct
get, which any replica may answer, that is answered by the stream's leader.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

from atlas import subjects, wire
from atlas.bus import Bus
from atlas.contracts.errors import AtlasError, RequestTimeoutError, StoreRefusedError
from atlas.topology import COUNTER_DEDUPLICATION_S

_TRY_S = 1.0
"""How long one try waits for its answer."""
_BETWEEN_TRIES_S = 0.05
_MANY = 1_024
"""What the server answers at once."""


@dataclass(slots=True)
class Addition:
    """An increment that is to count once."""

    subject: str
    amount: int
    msg_id: str
    began_s: float | None = None
    """When it was first sent, or None."""
    from_seq: int = 1
    """Where in the stream it stands at the earliest."""


@dataclass(frozen=True, slots=True)
class Counted:
    """An increment that stands."""

    value: int
    """The counter, at this increment or later."""
    was_there: bool
    """It stood before it was sent for the first time: somebody else used its id."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An increment that a counter's history holds."""

    msg_id: str
    amount: int


class Counters:
    """The counters of budgets and of usage."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.seen_seq = 0
        """What is added from now on stands after this sequence."""

    async def open(self) -> None:
        """Learn where the stream ends now."""
        info = await self._bus.jetstream.stream_info(subjects.BUDGETS)
        self.seen_seq = info.state.last_seq

    async def add(self, addition: Addition, patience_s: float) -> Counted:
        """Increment a counter; repeated until it is answered, or `patience_s` is over.

        Raises:
            AtlasError: Not answered in time; it may or may not stand. Repeat the same addition.
        """
        now_s = _now_s()
        deadline_s = now_s + patience_s
        is_first = addition.began_s is None
        if addition.began_s is None:
            addition.began_s, addition.from_seq = now_s, self.seen_seq + 1
        elif now_s - addition.began_s > COUNTER_DEDUPLICATION_S / 2:
            async for kept in self.history(addition.subject, addition.from_seq):
                if kept.msg_id == addition.msg_id:
                    return Counted(await self.value(addition.subject), was_there=False)
            addition.began_s, addition.from_seq = now_s, self.seen_seq + 1
        headers = {
            wire.INCREMENT: f"{addition.amount:+d}",
            wire.MSG_ID_HEADER: addition.msg_id,
        }
        while True:
            try:
                ack = await self._try(addition.subject, headers, deadline_s)
                value = await self.value(addition.subject) if ack.value is None else ack.value
            except AtlasError as error:
                is_first = False
                if not error.retryable or _now_s() + _BETWEEN_TRIES_S >= deadline_s:
                    raise
                await asyncio.sleep(_BETWEEN_TRIES_S)
            else:
                return Counted(value, was_there=is_first and ack.is_duplicate)

    async def value(self, subject: str) -> int:
        """A counter as it is now; 0 when nobody has incremented it.

        Raises:
            AtlasError: NATS did not answer.
        """
        return (await self._end(subject))[1]

    async def values(self, filter_: str) -> dict[str, int]:
        """The counters of a wildcard, by subject. May be a moment old; adds nothing.

        Raises:
            RequestTimeoutError: NATS fell silent.
            StoreRefusedError: There are too many.
        """
        inbox = self._bus.nats.new_inbox()
        answers = await self._bus.open(inbox)
        found: dict[str, int] = {}
        request = {"multi_last": [filter_], "batch": _MANY}
        try:
            door = subjects.jetstream("DIRECT.GET", subjects.BUDGETS)
            await self._bus.publish(door, json.dumps(request).encode(), reply=inbox)
            while True:
                msg = await answers.next_msg(timeout=5)
                if wire.status(msg.headers) is not None:
                    if wire.left(filter_, msg.headers):
                        raise StoreRefusedError(f"{filter_}: above {_MANY} counters; ask for fewer")
                    return found
                stored = wire.read_stored(msg.data, msg.headers)
                found[stored.subject] = _read(stored.data)
        except TimeoutError as error:
            raise RequestTimeoutError(f"reading {filter_}: no answer within 5 s") from error
        finally:
            await answers.unsubscribe()

    async def history(self, subject: str, from_seq: int) -> AsyncIterator[Kept]:
        """The increments of a counter from a sequence of the stream on, up to now.

        Whatever was sent before over this connection is among them.

        Raises:
            AtlasError: NATS did not answer.
        """
        end_seq, _ = await self._end(subject)
        while from_seq <= end_seq:
            async for stored in self._bus.read(subjects.BUDGETS, subject, from_seq=from_seq):
                from_seq = stored.seq + 1
                yield Kept(
                    stored.headers.get(wire.MSG_ID_HEADER, ""),
                    int(stored.headers[wire.INCREMENT]),
                )
            if from_seq <= end_seq:  # a replica that is behind answered
                await asyncio.sleep(_BETWEEN_TRIES_S)

    async def _end(self, subject: str) -> tuple[int, int]:
        """The sequence and the value of a mark that is set at a counter's end."""
        ack = await self._try(subject, {wire.INCREMENT: "+0"}, _now_s() + _TRY_S)
        return ack.seq, ack.value or 0

    async def _try(self, subject: str, headers: dict[str, str], deadline_s: float) -> wire.Ack:
        left_s = max(0.001, deadline_s - _now_s())
        # What is sent while the server is away is kept and sent when nobody waits for it any more.
        await self._bus.wait_connected(left_s)
        reply = await self._bus.ask(subject, b"", headers, min(_TRY_S, left_s))
        ack = wire.read_ack(subject, reply.data)
        self.seen_seq = max(self.seen_seq, ack.seq)
        return ack


def _read(data: bytes) -> int:
    """A counter's value in the message that holds it."""
    return int(json.loads(data)["val"])


def _now_s() -> float:
    return asyncio.get_running_loop().time()
