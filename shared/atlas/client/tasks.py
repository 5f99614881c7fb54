"""A task as its user sees it: its log as it grows, its result, and control."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from pydantic import ValidationError

from atlas import subjects
from atlas.bus import Bus
from atlas.client.doors import CONTROL_S, cancelled
from atlas.client.following import Follower, Page
from atlas.client.values import load
from atlas.contracts.errors import (
    AtlasError,
    RequestTimeoutError,
    TaskFailedError,
    error_from,
)
from atlas.contracts.task_events import (
    TASK_EVENT,
    TaskCancelled,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskHistory,
    TaskHistoryReply,
    TerminalTaskEvent,
)
from atlas.contracts.tasks import TaskAccepted, TaskAction, TaskControl, TaskGet, TaskStatus
from atlas.reading import Verdict

_HISTORY_S = 3.0
_PAGE = 200


class TaskSource:
    """A task's log as a `Source`: versions 1, 2, 3 … without a gap."""

    def __init__(self, bus: Bus, tenant: str, task_id: str) -> None:
        self._bus = bus
        self._tenant = tenant
        self._task_id = task_id
        self._version = 0
        self.terminal: TerminalTaskEvent | None = None

    @property
    def what(self) -> str:
        """Its name in messages."""
        return f"task {self._task_id}"

    @property
    def subject(self) -> str:
        """Its log subject."""
        return subjects.task_log(self._tenant, self._task_id)

    @property
    def position(self) -> int:
        """The version that comes next."""
        return self._version + 1

    @property
    def is_finished(self) -> bool:
        """Whether its terminal event was read."""
        return self.terminal is not None

    def take(self, event: TaskEvent) -> Verdict:
        """Fold one event: the next version counts, an older one was read already."""
        if self.is_finished or event.version < self.position:
            return Verdict.IGNORED
        if event.version > self.position:
            return Verdict.GAP
        self._version = event.version
        if isinstance(event, TaskCompleted | TaskFailed | TaskCancelled):
            self.terminal = event
        return Verdict.TAKEN

    def decode(self, data: bytes) -> TaskEvent:
        """Read one entry of the log."""
        try:
            return TASK_EVENT.validate_json(data, extra="ignore")
        except ValidationError as error:
            raise AtlasError(
                f"{self.subject}: not a TaskEvent; is the controller of another version?"
            ) from error

    async def page(self, position: int) -> Page[TaskEvent]:
        """A page of the log, from any controller."""
        async with self._bus.replays:
            reply = await self._bus.request(
                subjects.api(self._tenant, "task.history"),
                TaskHistory(task_id=self._task_id, from_version=position, limit=_PAGE),
                TaskHistoryReply,
                timeout_s=_HISTORY_S,
            )
        return Page(reply.events, reply.next_version, reply.state.is_terminal)


async def watch(
    bus: Bus, tenant: str, task_id: str, *, is_own: bool, silence_s: float
) -> AsyncGenerator[TaskEvent]:
    """The log of a task from its first entry to its terminal one, live."""
    follower = Follower(bus, TaskSource(bus, tenant, task_id), is_own=is_own, silence_s=silence_s)
    try:
        await follower.open()
        while (event := await follower.next()) is not None:
            yield event
    finally:
        await follower.close()


@dataclass(frozen=True, slots=True)
class Task:
    """A task that was submitted or is known by its id; made by `Atlas.submit`."""

    bus: Bus
    tenant: str
    task_id: str
    is_own: bool
    silence_s: float

    @property
    def accepted(self) -> TaskAccepted:
        """Where it is watched and controlled."""
        return TaskAccepted(
            task_id=self.task_id,
            log_subject=subjects.task_log(self.tenant, self.task_id),
            control_subject=subjects.task_control(self.tenant, self.task_id),
        )

    def events(self) -> AsyncGenerator[TaskEvent]:
        """Its log from the beginning, live, to the end.

        Raises:
            NotFoundError: There is no such task.
            StreamGapError: A part of the log is lost.
            RequestTimeoutError: No event and no controller for too long.
        """
        return watch(
            self.bus, self.tenant, self.task_id, is_own=self.is_own, silence_s=self.silence_s
        )

    async def log(self) -> list[TaskEvent]:
        """Its log as it stands now, without waiting for more; raises as `events` does."""
        source = TaskSource(self.bus, self.tenant, self.task_id)
        found: list[TaskEvent] = []
        position: int | None = source.position
        while position is not None:
            page = await source.page(position)
            found += page.events
            position = page.next_position
        return found

    async def result(self) -> TaskCompleted:
        """Wait for the end; a large output is loaded, whole.

        Raises:
            TaskFailedError: `details` has the error and the outputs of finished subtasks.
            WorkCancelledError: Somebody cancelled it.
        """
        async with aclosing(self.events()) as events:
            async for event in events:
                if isinstance(event, TaskCompleted | TaskFailed | TaskCancelled):
                    return await self.outcome(event)
        raise AtlasError(f"task {self.task_id}: its log ended without a terminal event")

    async def outcome(self, end: TerminalTaskEvent) -> TaskCompleted:
        """What a terminal event means: the result, or the error that says why there is none."""
        match end:
            case TaskFailed():
                raise TaskFailedError(
                    end.error.message,
                    details={
                        "error": end.error.model_dump(mode="json", exclude_none=True),
                        "outputs": end.outputs,
                    },
                ) from error_from(end.error)
            case TaskCancelled():
                raise cancelled(f"task {self.task_id}", end.by, end.reason)
            case TaskCompleted(output_ref=None):
                return end
            case TaskCompleted(output_ref=ref):
                output = await load(self.bus, self.tenant, str(ref))
                return end.model_copy(update={"output": output})

    async def status(self) -> TaskStatus:
        """Where it is now."""
        return await self.bus.request(
            subjects.api(self.tenant, "task.get"), TaskGet(task_id=self.task_id), TaskStatus
        )

    async def pause(self, reason: str | None = None) -> TaskStatus:
        """Start nothing new, and hold the streams that run."""
        return await self.control(TaskControl(action=TaskAction.PAUSE, reason=reason))

    async def resume(self, reason: str | None = None) -> TaskStatus:
        """Go on."""
        return await self.control(TaskControl(action=TaskAction.RESUME, reason=reason))

    async def cancel(self, reason: str | None = None) -> TaskStatus:
        """End it for good, with every stream under it."""
        return await self.control(TaskControl(action=TaskAction.CANCEL, reason=reason))

    async def control(self, control: TaskControl) -> TaskStatus:
        """Ask for a control; it stands in the log before it is answered.

        Raises:
            NotFoundError: There is no such task.
            InvalidTransitionError: The state does not allow it; nothing was changed.
            RequestTimeoutError: No controller answers.
        """
        subject = subjects.task_control(self.tenant, self.task_id)
        try:
            return await self.bus.request(subject, control, TaskStatus, timeout_s=CONTROL_S)
        except RequestTimeoutError as error:
            raise RequestTimeoutError(
                f"no controller answered the {control.action} of task {self.task_id} within "
                f"{CONTROL_S:g} s: is one running? `atlas doctor` shows it; then send it again"
            ) from error
