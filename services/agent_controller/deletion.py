"""`api.task.delete`: all that is stored of a task that has ended is removed, its log last.

When its streams are gone its log says that it is deleted, and that alone is left of it, as long as
the log would have been: what a worker says of the task afterwards is removed too (`reports`), and
no late submission begins it anew. Whoever dies in the middle leaves what the same call goes on
with.
"""

import asyncio
from dataclasses import dataclass

import structlog
from pydantic import ValidationError

from agent_controller.log import Logged, TaskLog
from agent_controller.open_tasks import Key, OpenTasks
from agent_controller.queued_work import queued_work
from agent_controller.tasks.view import TaskView
from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.base import now_ms
from atlas.contracts.deleting import StreamDelete, StreamDeleted, TaskDelete, TaskDeleted
from atlas.contracts.errors import (
    InvalidTransitionError,
    NotFoundError,
    OverloadedError,
)
from atlas.contracts.events import DeadLetter
from atlas.contracts.task_events import TaskDeletedEvent
from atlas.contracts.work import SubtaskReport
from atlas.erasing import purge, remove
from atlas.objects import Objects
from atlas.service import Call, Doors, Events

_STREAMS_AT_ONCE = 16
_STREAM_S = 10.0
_AGAIN_MS = 1_000

log = structlog.get_logger("agent_controller.deletion")


@dataclass(frozen=True, slots=True)
class Deletion:
    """Deletes tasks."""

    bus: Bus
    task_log: TaskLog
    objects: Objects
    open_tasks: OpenTasks
    events: Events

    async def open(self, doors: Doors) -> None:
        """Open the door."""
        await doors.open("task-delete", subjects.API_TASK_DELETE_ALL, TaskDelete, self.take)

    async def take(self, call: Call[TaskDelete]) -> TaskDeleted:
        """Remove it, with its streams; of one that is deleted already, what came since.

        Raises:
            NotFoundError: The tenant has no such task.
            InvalidTransitionError: It has not ended; nothing was changed.
            OverloadedError: One of its streams has not ended; the same call goes on later.
            AtlasError: NATS or a router failed; the same call goes on later.
        """
        key = (call.tenant, call.body.task_id)
        known = await self.task_log.read(Logged(TaskView(*key)))
        if not known.view.is_deleted:
            await self._check_ended(known.view)
        streams = await self._streams(key)
        removed = await self._delete_streams(key, streams)
        names = [f"{key[0]}.{one}." for one in (key[1], *streams)]
        objects = await self.objects.remove(names)
        if not known.view.is_deleted:
            await self.task_log.append(
                known,
                TaskDeletedEvent(task_id=key[1], version=known.view.version + 1, at_ms=now_ms()),
            )
        messages = await self._erase(key)
        await self.events.emit("task.deleted", {"task_id": key[1]}, tenant=key[0])
        log.info("task_deleted", task_id=key[1], streams=removed, messages=messages)
        return TaskDeleted(task_id=key[1], streams=removed, objects=objects, messages=messages)

    async def _check_ended(self, view: TaskView) -> None:
        state = str(view.state) if view.version else "submitted"
        submission = subjects.task_submit(view.tenant, view.task_id)
        if not view.version and await self.bus.last(subjects.SUBMITS, submission) is None:
            raise NotFoundError(
                f"there is no task {view.task_id!r} of tenant {view.tenant!r}; `atlas task list` "
                "shows them"
            )
        if view.end is None:
            raise InvalidTransitionError(
                f"task {view.task_id!r} is {state}; cancel it first, or wait for its end"
            )

    async def _streams(self, key: Key) -> list[str]:
        """Every stream that its log and its reports name."""
        named: dict[str, None] = {}
        async for entry in self.task_log.entries(*key):
            if (stream_id := getattr(entry, "stream_id", None)) is not None:
                named[str(stream_id)] = None
        async for stored in self.bus.read(subjects.REPORTS, subjects.reports_of(*key)):
            try:
                report = SubtaskReport.from_json(stored.data)
            except ValidationError:
                continue  # a dead letter has it, which goes too
            named.update(dict.fromkeys(report.stream_ids))
        return list(named)

    async def _delete_streams(self, key: Key, streams: list[str]) -> int:
        """By a router's door; gives how many there were."""
        room = asyncio.Semaphore(_STREAMS_AT_ONCE)

        async def delete(stream_id: str) -> bool:
            async with room:
                return await self._delete_stream(key, stream_id)

        return sum(await asyncio.gather(*(delete(one) for one in streams)))

    async def _delete_stream(self, key: Key, stream_id: str) -> bool:
        door = subjects.api(key[0], "stream.delete")
        request = StreamDelete(stream_id=stream_id)
        try:
            await self.bus.request(door, request, StreamDeleted, timeout_s=_STREAM_S)
        except NotFoundError:
            return False  # it never began, or its history is over
        except InvalidTransitionError as error:
            raise OverloadedError(
                f"task {key[1]!r} has ended, but one of its streams is still being stopped: "
                f"{error.message}; delete the task again in a moment",
                retry_after_ms=_AGAIN_MS,
            ) from error
        return True

    async def _erase(self, key: Key) -> int:
        tenant, task_id = key
        removed = await self._remove_work(key) + await self._remove_letters(key)
        for stream, subject in (
            (subjects.REPORTS, subjects.reports_of(*key)),
            (subjects.REPORTS, subjects.results_of(*key)),
            (subjects.CONTROL, subjects.task_control(*key)),
            (subjects.SUBMITS, subjects.task_submit(*key)),
            (subjects.DEAD, subjects.dead(tenant, "submit", task_id)),
        ):
            removed += await purge(self.bus, stream, subject)
        await self.open_tasks.remove(key)
        log_subject = subjects.task_write(*key)
        return removed + await purge(self.bus, subjects.TASKS, log_subject, keep=1)

    async def _remove_work(self, key: Key) -> int:
        """What no worker took before the task ended."""
        removed = 0
        async for work in queued_work(self.bus, subjects.work_of(key[0])):
            if work.key == key:
                removed += await remove(self.bus, subjects.WORK, work.seq)
        return removed

    async def _remove_letters(self, key: Key) -> int:
        """Reports on it that nobody could read."""
        removed = 0
        async for stored in self.bus.read(subjects.DEAD, subjects.dead(key[0], "report", "*")):
            letter = DeadLetter.from_json(stored.data)
            if subjects.parse(letter.subject).id == key[1]:
                removed += await remove(self.bus, subjects.DEAD, stored.seq)
        return removed
