"""What lies in the queues of work, read without taking it; the queues' subjects name no task."""

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import NamedTuple

from pydantic import ValidationError

from agent_controller.open_tasks import Key
from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.work import Subtask

_PAGE = 64


class QueuedWork(NamedTuple):
    """A message of work: whose it is, and where it lies."""

    seq: int
    key: Key
    subtask_id: str
    attempt: int
    stored_at: datetime


async def queued_work(bus: Bus, subject: str, from_seq: int = 1) -> AsyncGenerator[QueuedWork]:
    """The work of a subject in stored order; what cannot be read is left to a worker to bury.

    Raises:
        RequestTimeoutError: The server fell silent.
        NoResponderError: No server holds the stream right now.
    """
    async for stored in bus.read(subjects.WORK, subject, from_seq=from_seq, page=_PAGE):
        try:
            subtask = Subtask.from_json(stored.data)
        except ValidationError:
            continue
        yield QueuedWork(
            stored.seq,
            (subjects.parse(stored.subject).tenant, subtask.task_id),
            subtask.subtask_id,
            subtask.attempt,
            datetime.fromisoformat(stored.headers["Nats-Time-Stamp"]),
        )
