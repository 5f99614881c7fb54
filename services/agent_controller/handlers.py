"""The doors of the controller: submit, get, list, history, and the control of a task."""

from agent_controller.listing import Listing
from agent_controller.log import TaskLog
from agent_controller.open_tasks import Key
from agent_controller.scheduling.scheduler import Scheduler
from agent_controller.submissions import Submissions, TaskDeletedError, check_same, conflict, digest
from agent_controller.tasks.admission import Admission
from agent_controller.tasks.control import apply_control
from agent_controller.tasks.plan import Problem, invalid
from agent_controller.tasks.view import TaskView
from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.base import now_ms
from atlas.contracts.errors import (
    FencedError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
)
from atlas.contracts.ids import new_id
from atlas.contracts.task_events import TASK_EVENT, TaskEvent, TaskHistory, TaskHistoryReply
from atlas.contracts.tasks import (
    SubmitRequest,
    SubtaskView,
    TaskAccepted,
    TaskControl,
    TaskGet,
    TaskList,
    TaskListReply,
    TaskRequest,
    TaskState,
    TaskStatus,
)
from atlas.service import Call, Doors
from atlas.wire import Stored

_PAGE_BYTES = 512 * 1024
"""How much of a log one answer holds."""
_STATUS_BYTES = 768 * 1024
_LEFT_OUT_BYTES = 64
"""For the number of subtasks that are left out."""
_INSTRUCTION_SHOWN = 100
"""Characters, of a task with so many subtasks that they do not fit."""
_TRIES = 5


class TaskDoors:
    """What anyone may ask of tasks."""

    def __init__(
        self,
        bus: Bus,
        task_log: TaskLog,
        listing: Listing,
        scheduler: Scheduler,
        submissions: Submissions,
        *,
        admission: Admission,
    ) -> None:
        self._bus = bus
        self._log = task_log
        self._listing = listing
        self._scheduler = scheduler
        self._submissions = submissions
        self._admission = admission

    async def open(self, doors: Doors) -> None:
        """Serve."""
        await doors.open("task-submit", subjects.API_TASK_SUBMIT_ALL, SubmitRequest, self.submit)
        await doors.open("task-get", subjects.API_TASK_GET_ALL, TaskGet, self.get)
        await doors.open("task-list", subjects.API_TASK_LIST_ALL, TaskList, self.list)
        await doors.open("task-history", subjects.API_TASK_HISTORY_ALL, TaskHistory, self.history)
        await doors.open("task-control", subjects.TASK_CONTROL_ALL, TaskControl, self.control)
        await self._bus.flush()  # whoever is told that we are ready finds the doors open

    async def submit(self, call: Call[SubmitRequest]) -> TaskAccepted:
        """Store a submission, then answer. The same id and body again is the same task.

        Raises:
            InvalidRequestError: It can never be carried out.
            ConflictError: The id stands for another request.
            OverloadedError: There is too much already.
        """
        request = call.body.task_request()
        self._submissions.check(request)
        data = request.to_json()
        self._submissions.read(data, None)
        key = (call.tenant, call.body.task_id or new_id())
        await self._store(key, request, data)
        return TaskAccepted(
            task_id=key[1],
            log_subject=subjects.task_log(*key),
            control_subject=subjects.task_control(*key),
        )

    async def _store(self, key: Key, request: TaskRequest, data: bytes) -> None:
        """Keep a submission, unless it is kept already: waiting in its door, or in its log."""
        subject = subjects.task_submit(*key)
        for _ in range(_TRIES):
            view = await self._scheduler.view(key)
            if view.is_deleted:
                raise TaskDeletedError(key[1])
            if view.version:
                check_same(view, digest(request))
                return
            if (waiting := await self._bus.last(subjects.SUBMITS, subject)) is not None:
                known = self._readable(waiting)
                if known is None or digest(known) != digest(request):
                    raise conflict(key[1])
                return
            _check_deadline(request)
            self._admission.check_door(key[0])
            try:
                await self._bus.store(subject, data, expected_last=0)
            except FencedError:
                continue  # somebody was faster: see who
            self._admission.stored()
            return
        raise OverloadedError(f"the task id {key[1]!r} is submitted by many at once; try again")

    async def get(self, call: Call[TaskGet]) -> TaskStatus:
        """A task as it stands; version 0 while its tenant has too many open tasks to begin it.

        Raises:
            NotFoundError: There is none of that id.
        """
        key = (call.tenant, call.body.task_id)
        try:
            return fitting_status(await self._known(key))
        except OverloadedError:
            waiting = await self._bus.last(subjects.SUBMITS, subjects.task_submit(*key))
            if waiting is None or (request := self._readable(waiting)) is None:
                raise  # it was taken in this moment: the next try finds it
            return _waiting_status(key[1], request)

    async def list(self, call: Call[TaskList]) -> TaskListReply:
        """Tasks, the newest first."""
        views = await self._listing.newest(call.tenant, call.body.limit, call.body.state)
        return TaskListReply(tasks=[view.to_summary() for view in views])

    async def history(self, call: Call[TaskHistory]) -> TaskHistoryReply:
        """A page of a task's log.

        Raises:
            NotFoundError: There is no task of that id, or what is asked for has expired.
        """
        view = await self._known((call.tenant, call.body.task_id))
        events: list[TaskEvent] = []
        size, next_version, is_begun = 0, None, False
        async for entry in self._log.entries(call.tenant, call.body.task_id):
            if not is_begun and entry.version > max(1, call.body.from_version):
                raise _expired(call.body.task_id, entry.version, view.state)
            is_begun = True
            if entry.version < call.body.from_version:
                continue
            size += len(TASK_EVENT.dump_json(entry))
            if len(events) >= call.body.limit or (events and size > _PAGE_BYTES):
                next_version = entry.version
                break
            events.append(entry)
        return TaskHistoryReply(events=events, state=view.state, next_version=next_version)

    async def control(self, call: Call[TaskControl]) -> TaskStatus:
        """Pause, resume, cancel, approve or reject; it stands in the log before the answer.

        Raises:
            NotFoundError: There is no such task or subtask.
            InvalidTransitionError: The state does not allow it.
        """
        key = (call.tenant, call.id)
        await self._known(key)

        def intake(view: TaskView, at_ms: int) -> list[TaskEvent]:
            return apply_control(view, call.body, at_ms)

        return fitting_status(await self._scheduler.advance(key, [intake]))

    async def _known(self, key: Key) -> TaskView:
        """The task, accepted now if its submission still waits in its door.

        Raises:
            NotFoundError: There is none of that id.
            OverloadedError: It waits, and its tenant has as many open tasks as it may.
        """
        view = await self._scheduler.view(key)
        if not view.version:
            waiting = await self._bus.last(subjects.SUBMITS, subjects.task_submit(*key))
            if waiting is not None and (request := self._readable(waiting)) is not None:
                self._admission.check_open(key[0])
                await self._submissions.accept(key, request, waiting.headers)
                view = await self._scheduler.view(key)
        if not view.version:
            raise NotFoundError(
                f"there is no task {key[1]!r} of tenant {key[0]!r}; `atlas task list` shows them"
            )
        return view

    def _readable(self, waiting: Stored) -> TaskRequest | None:
        """A submission that waits in its door, or None when it will be rejected there."""
        try:
            return self._submissions.read(waiting.data, waiting.headers)
        except InvalidRequestError:
            return None


def _expired(task_id: str, first_version: int, state: TaskState) -> NotFoundError:
    return NotFoundError(
        f"the beginning of the log of task {task_id!r} is not kept any more (topology.task_days): "
        f"it begins with version {first_version} now; the task is {state}, and `atlas task show "
        f"{task_id}` tells its end"
    )


def fitting_status(view: TaskView) -> TaskStatus:
    """The status, with as much of its subtasks as fits an answer; see the contract."""
    status = view.to_status()
    if _fits(status):
        return status
    slim = [one.model_copy(update={"output": None}) for one in status.subtasks]
    status = status.model_copy(update={"subtasks": slim})
    if _fits(status):
        return status
    short = [_shortened(one) for one in slim]
    status = status.model_copy(update={"subtasks": short})
    if _fits(status):
        return status
    room = _STATUS_BYTES - len(status.model_copy(update={"subtasks": []}).to_json())
    shown: list[SubtaskView] = []
    for one in short:
        if one.state.is_terminal:
            continue
        room -= len(one.to_json()) + 1
        if room < _LEFT_OUT_BYTES:
            break
        shown.append(one)
    left_out = len(short) - len(shown)
    return status.model_copy(update={"subtasks": shown, "subtasks_left_out": left_out})


def _fits(status: TaskStatus) -> bool:
    return len(status.to_json()) <= _STATUS_BYTES


def _shortened(one: SubtaskView) -> SubtaskView:
    return one.model_copy(update={"instruction": one.instruction[:_INSTRUCTION_SHOWN]})


def _waiting_status(task_id: str, request: TaskRequest) -> TaskStatus:
    """Of a submission that is kept, and not yet begun."""
    at_ms = now_ms()
    return TaskStatus(
        task_id=task_id,
        state=TaskState.ACCEPTED,
        version=0,
        goal=request.goal,
        pattern=request.pattern,
        accepted_at_ms=at_ms,
        updated_at_ms=at_ms,
    )


def _check_deadline(request: TaskRequest) -> None:
    """Refuse what is over before it begins; a repeat of a task that was accepted in time is none.

    Raises:
        InvalidRequestError: Its deadline is in the past.
    """
    at_ms = now_ms()
    if request.deadline_ms is not None and request.deadline_ms <= at_ms:
        problem = Problem(
            "deadline_ms",
            f"{request.deadline_ms} is over, now is {at_ms}; give a later time in epoch "
            "milliseconds, or leave it out",
        )
        raise invalid("TaskRequest", [problem])
