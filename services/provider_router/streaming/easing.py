"""How a router that is busy gets by: it reads slow streams less often.

A read costs far more than the chunks it brings: the event it becomes has to be encoded, sent,
stored, and read by every watcher. So what a provider sends while its stream rests waits in the
kernel and comes in one read, as one event. A stream rests ten times as long as the event loop is
late: the more there is to do, the less of it is overhead, and a router with time to spare does not
rest. With a thousand streams of fifty chunks a second that is the difference between a queue that
grows in every process on the way and an even delay (benchmarks/README.md has the figures).
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager

_TICK_S = 0.025
_WEIGHT = 0.1
"""Of the newest tick: the mean is that of the last quarter of a second."""
_TIMES = 10.0
_LEAST_S = 0.02
"""Shorter rests save less than they cost."""
_MOST_S = 0.15
"""A reader does not see that text comes in steps of this length."""
_FEW_CHUNKS = 16
"""A read that brings more is worth its cost, so a fast provider is never held."""


class Easing:
    """How late the event loop is, and what follows from it for all streams of a router."""

    def __init__(self) -> None:
        self.late_s = 0.0
        """How late the loop gets to what is due, mean of the last moments."""
        self._rest_s = 0.0

    async def run(self) -> None:
        """Look how late the loop is; until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + _TICK_S
            await asyncio.sleep(_TICK_S)
            self.saw(loop.time() - due_s)

    def saw(self, late_s: float) -> None:
        """The loop was so late just now."""
        self.late_s += (max(0.0, late_s) - self.late_s) * _WEIGHT
        rest_s = min(self.late_s * _TIMES, _MOST_S)
        self._rest_s = rest_s if rest_s >= _LEAST_S else 0.0

    async def rest(self, chunks: int, held: Callable[[], AbstractContextManager[None]]) -> None:
        """Rest after a read that brought so many chunks, its connection held; mostly returns."""
        if self._rest_s and chunks < _FEW_CHUNKS:
            with held():
                await asyncio.sleep(self._rest_s)
