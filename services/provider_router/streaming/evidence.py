"""Whether history holds what was written: JetStream drops without telling whoever did not ask.

Counting is one question, whatever was written. Where late words of an older claim may be among
the counted, and everything hangs on it, history is read.
"""

import asyncio

from atlas.contracts.streams import StreamEvent
from provider_router.streaming.store import StreamAddress, StreamStore
from provider_router.streaming.window import PublishWindow

_LOOK_AGAIN_S = 0.002
"""When history is asked again for what is on its way to it; doubled each time."""
_ON_ITS_WAY_S = 0.5
_PASSED_S = 0.05
"""The longest of these waits, before and after JetStream answered; a replica may lag behind."""


class Evidence:
    """What is known to be stored of a stream under one claim after the other."""

    def __init__(
        self, store: StreamStore, window: PublishWindow, address: StreamAddress, *, is_heir: bool
    ) -> None:
        self._store = store
        self._window = window
        self._address = address
        self._first: tuple[int, int] | None = None
        self._is_heir = is_heir

    @property
    def has_begun(self) -> bool:
        """Whether an event is known to be stored under the claim."""
        return self._first is not None

    def begin(self, stored_seq: int, seq: int) -> None:
        """The first event under the claim is stored: its sequence in JetStream, and its seq."""
        if self._first is None:
            self._first = stored_seq, seq

    def claim_again(self) -> None:
        """Nothing is stored under the new claim yet; what the old one wrote may still come."""
        self._first, self._is_heir = None, True

    async def holds(self, epoch: int, seq: int, number: int, *, is_exact: bool = False) -> bool:
        """Whether history holds all up to `seq`, now or as soon as it got there.

        Args:
            epoch: Under which it was written.
            seq: Of the last event.
            number: The same in the window.
            is_exact: Whether a count with a stranger in it will not do.
        """
        wait_s = _LOOK_AGAIN_S
        while True:
            has_passed = self._window.passed >= number
            if await self._is_there(epoch, seq, is_exact=is_exact):
                return True
            if wait_s > (_PASSED_S if has_passed else _ON_ITS_WAY_S):
                return False
            await asyncio.sleep(wait_s)
            wait_s *= 2

    async def _is_there(self, epoch: int, seq: int, *, is_exact: bool) -> bool:
        if self._first is None:
            return False
        stored_seq, first = self._first
        written = seq - first + 1
        stored = await self._store.count(self._address, stored_seq)
        if stored < written:
            return False
        if stored == written and not (is_exact and self._is_heir):
            return True
        reading = await self._store.reading(self._address)
        return (reading.epoch, reading.seq) == (epoch, seq)


def is_same(stored: StreamEvent, tried: StreamEvent | None) -> bool:
    """Whether a stored event is the one whose acknowledgement did not come."""
    return tried is not None and (
        (stored.type, stored.epoch, stored.seq, stored.at_ms)
        == (tried.type, tried.epoch, tried.seq, tried.at_ms)
    )
