"""What one reservation holds of its counters, and every way in which that changes.

Used by the router whose stream it is, and by whoever settles what a dead router left. Calls must
not overlap: whoever holds a `Holding` lets one call end before the next. A call that fails, or is
cancelled, may leave increments under way; the next one repeats them first.
"""

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass

from atlas.contracts.base import now_ms
from provider_router.accounting.budgets import Amounts, Line, granted, standing
from provider_router.accounting.counters import Addition, Counted, Counters
from provider_router.accounting.reservations import HeldLine, Reservation, Reservations

_TRIES = 3
"""What others are about to give back may refuse an increment that there is room for."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A line that could not get what it needs, and what its counter came to without it."""

    line: Line
    counted: int


class Holding:
    """A reservation, its record and its lines."""

    def __init__(
        self,
        counters: Counters,
        reservations: Reservations,
        record: Reservation,
        lines: list[Line],
        record_seq: int = 0,
    ) -> None:
        self._counters = counters
        self._reservations = reservations
        self.record = record
        self.lines = lines
        self.record_seq = record_seq
        self._under_way: dict[int, Addition] = {}
        self.may_be_foreign = False
        """Somebody used a number of its increments: see `recover`."""

    async def enter(self, patience_s: float) -> None:
        """Store the record: what is held from now on is given back if this router dies.

        Raises:
            FencedError: Somebody changed or settled the record; see `recover`.
            AtlasError: NATS did not answer.
        """
        await self._resolve(patience_s)
        lines = [
            HeldLine(subject=subject, held=line.held, number=line.number)
            for subject, line in zip(self._subjects, self.lines, strict=True)
        ]
        record = self.record.model_copy(
            update={"at_ms": now_ms(), "from_seq": self._counters.seen_seq + 1, "lines": lines}
        )
        self.record_seq = await self._reservations.put(record, self.record_seq, patience_s)
        self.record = record

    async def is_mine(self) -> bool:
        """Whether nobody settled it: only its router writes its record, and others remove it.

        Raises:
            AtlasError: NATS did not answer.
        """
        self.record_seq = await self._reservations.seq(self.record)
        return self.record_seq != 0 and not self.may_be_foreign

    async def recover(self) -> None:
        """Read from history what stands, whoever did it: this router, or one that settled it.

        Raises:
            AtlasError: NATS did not answer.
        """
        for index, kept in enumerate(self.record.lines):
            prefix = f"{self.record.reservation_id}:{index}:"
            found = [
                (int(one.msg_id.removeprefix(prefix)), one.amount)
                async for one in self._counters.history(kept.subject, self.record.from_seq)
                if one.msg_id.startswith(prefix)
            ]
            then = Line(self.lines[index].limit, kept.held, number=kept.number)
            self.lines[index].found(*standing(then, found))
        self._under_way.clear()
        self.may_be_foreign = False

    async def take_back(self, patience_s: float) -> None:
        """Find out what stands and store a record of one's own, after somebody settled it.

        Raises:
            AtlasError: NATS did not answer, or somebody else is at it.
        """
        await self.recover()
        self.record_seq = await self._reservations.seq(self.record)
        await self.enter(patience_s)

    async def grow(
        self, wants: Iterable[tuple[Line, int, int]], patience_s: float
    ) -> Refusal | None:
        """Take more: for each of some lines, so much, and what is the least that helps.

        Gives the refusal when a line did not get its least; what others got, they keep.

        Raises:
            AtlasError: NATS did not answer; nothing is known to be granted.
        """
        await self._resolve(patience_s)
        answers = await _together(
            self._grow_line(self.lines.index(line), asked, least, patience_s)
            for line, asked, least in wants
        )
        return next((one for one in answers if one is not None), None)

    async def settle(self, used: Amounts, patience_s: float) -> None:
        """Make the counters hold what was used, and remove the record. May be repeated.

        Raises:
            AtlasError: NATS did not answer; the rest is still to be settled.
        """
        await self._resolve(patience_s)
        await _together(
            self._change(index, used.of(line.limit.unit) - line.held, patience_s)
            for index, line in enumerate(self.lines)
        )
        # That of a record whose storing was not answered is not known here.
        seq = self.record_seq or await self._reservations.seq(self.record)
        if seq:
            await self._reservations.remove(seq)
            self.record_seq = 0

    @property
    def _subjects(self) -> list[str]:
        return [line.subject for line in self.record.lines]

    async def _grow_line(
        self, index: int, asked: int, least: int, patience_s: float
    ) -> Refusal | None:
        line = self.lines[index]
        limit, before = line.limit.amount, 0
        await self._change(index, line.granted - line.held, patience_s)  # asked for, not decided
        for _ in range(_TRIES):
            counted = await self._change(index, asked, patience_s)
            if counted is None:
                return None
            before = counted.value - asked
            grant = granted(limit, counted.value, asked, least)
            line.granted += grant.kept
            left = await self._change(index, -grant.give_back, patience_s)
            if grant.kept:
                return None
            if left is None or limit - left.value < min(asked, least):
                break
            before = left.value
        return Refusal(line, before)

    async def _resolve(self, patience_s: float) -> None:
        """Bring what is under way to an end: it stands, because it is repeated until it does."""
        await _together(self._send(index, patience_s) for index in list(self._under_way))

    async def _change(self, index: int, amount: int, patience_s: float) -> Counted | None:
        if amount == 0:
            return None
        number = self.lines[index].ask(amount).number
        msg_id = f"{self.record.reservation_id}:{index}:{number}"
        self._under_way[index] = Addition(self._subjects[index], amount, msg_id)
        return await self._send(index, patience_s)

    async def _send(self, index: int, patience_s: float) -> Counted:
        counted = await self._counters.add(self._under_way[index], patience_s)
        self.may_be_foreign = self.may_be_foreign or counted.was_there
        del self._under_way[index]
        self.lines[index].stands()
        return counted


async def _together[T](calls: Iterable[Awaitable[T]]) -> list[T]:
    """Await all, also when one fails; then raise the first failure."""
    answers = await asyncio.gather(*calls, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return [answer for answer in answers if not isinstance(answer, BaseException)]
