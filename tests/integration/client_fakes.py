"""A router and a controller that speak the contract and are told what to say."""

import hashlib
from dataclasses import dataclass, field

from nats.aio.msg import Msg

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.base import Contract, now_ms
from atlas.contracts.errors import NotFoundError
from atlas.contracts.inference import Cost, FinishReason, StreamMetrics, Usage
from atlas.contracts.streams import (
    HistoryReply,
    HistoryRequest,
    StreamCompleted,
    StreamEvent,
    StreamStarted,
    TextDelta,
)
from atlas.contracts.task_events import TaskEvent, TaskHistory, TaskHistoryReply
from atlas.contracts.tasks import TaskState
from atlas.reading import Reading

TENANT = "default"


def started(stream_id: str, seq: int, epoch: int = 1, attempt: int = 1) -> StreamStarted:
    return StreamStarted(
        stream_id=stream_id,
        seq=seq,
        epoch=epoch,
        at_ms=now_ms(),
        provider="mock",
        model="mock/standard",
        attempt=attempt,
        reason="test",
    )


def delta(stream_id: str, seq: int, text: str, epoch: int = 1) -> TextDelta:
    return TextDelta(stream_id=stream_id, seq=seq, epoch=epoch, at_ms=now_ms(), text=text)


def completed(stream_id: str, seq: int, text: str, epoch: int = 1) -> StreamCompleted:
    return StreamCompleted(
        stream_id=stream_id,
        seq=seq,
        epoch=epoch,
        at_ms=now_ms(),
        finish_reason=FinishReason.STOP,
        usage=Usage(input_tokens=3, output_tokens=5),
        cost=Cost(total_usd=0.01),
        metrics=StreamMetrics(chunks=2, attempts=1),
        events=seq,
        text_length=len(text),
        text_sha256=hashlib.sha256(text.encode()).hexdigest(),
    )


def answer(stream_id: str, *texts: str) -> list[StreamEvent]:
    """A whole stream of these pieces."""
    events: list[StreamEvent] = [started(stream_id, 1)]
    events += [delta(stream_id, seq, text) for seq, text in enumerate(texts, 2)]
    events.append(completed(stream_id, len(texts) + 2, "".join(texts)))
    return events


@dataclass
class FakeRouter:
    """Answers history from what it wrote, in pages."""

    bus: Bus
    page: int = 1000
    stored: dict[str, list[StreamEvent]] = field(default_factory=dict)
    asked: list[HistoryRequest] = field(default_factory=list)
    is_busy: bool = False
    """Then it hears questions, and answers none."""

    async def open(self) -> None:
        await self.bus.subscribe(subjects.API_STREAM_HISTORY_ALL, self._history)
        await self.bus.flush()

    async def write(self, *events: StreamEvent, live: bool = True, kept: bool = True) -> None:
        """Store events; without `live` no watcher hears them, without `kept` history lacks them."""
        for event in events:
            if kept:
                self.stored.setdefault(event.stream_id, []).append(event)
            if live:
                subject = subjects.stream_write(TENANT, event.stream_id)
                await self.bus.store(subject, event.to_json())

    async def _history(self, msg: Msg) -> None:
        request = HistoryRequest.model_validate_json(msg.data)
        self.asked.append(request)
        if self.is_busy:
            return
        stored = self.stored.get(request.stream_id)
        if stored is None:
            reply: Contract = NotFoundError("there is no such stream").to_reply()
        else:
            reading = Reading()
            for event in stored:
                reading.take(event)
            rest = [event for event in stored if event.seq >= request.from_seq]
            page = rest[: self.page]
            following = page[-1].seq + 1 if len(rest) > self.page else None
            reply = HistoryReply(events=page, state=reading.state, next_seq=following)
        await msg.respond(reply.to_json())


@dataclass
class FakeController:
    """Answers the history of one task from what it wrote."""

    bus: Bus
    stored: list[TaskEvent] = field(default_factory=list)

    async def open(self) -> None:
        await self.bus.subscribe(subjects.API_TASK_HISTORY_ALL, self._history)
        await self.bus.flush()

    async def write(self, *events: TaskEvent) -> None:
        for event in events:
            self.stored.append(event)
            await self.bus.store(subjects.task_write(TENANT, event.task_id), event.to_json())

    async def _history(self, msg: Msg) -> None:
        request = TaskHistory.model_validate_json(msg.data)
        rest = [event for event in self.stored if event.version >= request.from_version]
        if not self.stored:
            await msg.respond(NotFoundError("there is no such task").to_reply().to_json())
            return
        ends = {"task.completed", "task.failed", "task.cancelled"}
        state = TaskState.COMPLETED if self.stored[-1].type in ends else TaskState.RUNNING
        page, following = rest[:3], rest[3].version if len(rest) > 3 else None
        reply = TaskHistoryReply(events=page, state=state, next_version=following)
        await msg.respond(reply.to_json())
