"""What a task's log says of one attempt: whether it is pointless, and whether the task is paused.

All that was stored since the work was sent counts, not only the last entry: others come after the
one that matters, and live ones are lost while NATS is away.
"""

import json
from datetime import datetime, timedelta

from nats.aio.msg import Msg

from atlas import subjects, wire
from atlas.bus import Bus
from atlas.contracts.work import Subtask
from atlas.worker.following import place
from atlas.worker.reporting import ends, type_of

_MARGIN = timedelta(seconds=5)
"""Work is sent once its dispatch stands in the log; servers' clocks may differ by so much."""


class TaskLog:
    """The log of a task from the time on at which a piece of work was sent."""

    def __init__(self, bus: Bus, tenant: str, subtask: Subtask, sent_at: datetime) -> None:
        self._bus = bus
        self._subtask = subtask
        self._since = sent_at - _MARGIN
        self._stored = subjects.task_write(tenant, subtask.task_id)
        self._last_seq = 0
        self.is_over = False
        """Nobody waits for the attempt any more."""
        self.is_paused = False

    async def catch_up(self) -> None:
        """Read what is stored and was not read yet.

        Raises:
            AtlasError: NATS is away.
        """
        first = self._last_seq + 1 if self._last_seq else await self._first_seq()
        if first is not None:
            async for entry in self._bus.read(subjects.TASKS, self._stored, from_seq=first):
                self._take(entry.data, entry.seq)

    async def hear(self, msg: Msg) -> None:
        """Take a live entry, after those that were missed before it.

        Raises:
            AtlasError: NATS is away.
        """
        seq, before = place(msg.headers or {})
        if before == self._last_seq:
            self._take(msg.data, seq)
        elif seq > self._last_seq:
            await self.catch_up()

    async def _first_seq(self) -> int | None:
        """Where to begin."""
        what = {"start_time": self._since.isoformat(), "next_by_subj": self._stored}
        msg = await self._bus.ask(
            subjects.jetstream("DIRECT.GET", subjects.TASKS), json.dumps(what).encode()
        )
        if wire.status(msg.headers) == wire.NO_MESSAGE:
            return None
        return wire.read_stored(msg.data, msg.headers).seq

    def _take(self, entry: bytes, seq: int) -> None:
        self._last_seq = seq
        self.is_over = self.is_over or ends(entry, self._subtask)
        match type_of(entry):
            case "task.paused":
                self.is_paused = True
            case "task.resumed":
                self.is_paused = False
            case _:
                pass
