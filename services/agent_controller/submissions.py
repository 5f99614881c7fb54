"""How a submission becomes a task: accepted into its log before anybody relies on it.

The same id with the same body is the same task; with another body it is a conflict. What cannot be
read is never dropped silently: an event and a dead letter say why, and the task of that id, if it
has no log yet, ends at once with the same words.
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence

import structlog
from nats.aio.msg import Msg
from opentelemetry.trace import Span
from pydantic import BaseModel, ConfigDict, ValidationError

from agent_controller.open_tasks import Key, OpenTasks
from agent_controller.planning.planner import TaskPlanner
from agent_controller.scheduling.scheduler import Scheduler
from agent_controller.tasks import lifetime
from agent_controller.tasks.admission import Admission
from agent_controller.tasks.plan import invalid
from agent_controller.tasks.view import TaskView
from atlas import door, subjects, telemetry
from atlas.bus import Bus
from atlas.contracts.base import JsonObject, now_ms
from atlas.contracts.errors import (
    AtlasError,
    ConflictError,
    InvalidRequestError,
    PayloadTooLargeError,
)
from atlas.contracts.ids import ID_PATTERN, derived_id, is_id
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.task_events import TaskAcceptedEvent, TaskEvent, TaskFailed
from atlas.contracts.tasks import TaskRequest
from atlas.dead_letters import bury
from atlas.service import Events
from atlas.telemetry import names

_MAX_REQUEST_BYTES = 512 * 1024
"""A request stands in its log and, in parts, in the work made of it: it must leave room."""
_GOAL_KEPT = 1_000
"""Characters of the goal of a submission that is refused."""
_KIND = "submit"
_TEMPLATE = "atlas.{tenant}.task.{task_id}.submit"

log = structlog.get_logger("agent_controller.submissions")


def digest(request: TaskRequest) -> str:
    """What a request says, whatever the order of its fields and the spaces between them."""
    text = json.dumps(request.model_dump(mode="json", exclude_none=True), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def check_same(view: TaskView, sha256: str) -> None:
    """Refuse a request, told by its digest, under the id of another one.

    Raises:
        ConflictError: The task has another body.
    """
    if view.request_sha256 != sha256:
        raise conflict(view.task_id)


def conflict(task_id: str) -> ConflictError:
    """The error for an id that stands for another request."""
    return ConflictError(
        f"the task id {task_id!r} stands for another request; choose another id, or send exactly "
        "the same request"
    )


class TaskDeletedError(ConflictError):
    """The id was that of a task that is deleted."""

    def __init__(self, task_id: str) -> None:
        super().__init__(f"the task {task_id!r} was deleted; choose another id")


class _Goal(BaseModel):
    """As much of a submission as tells what it is about, whatever else is wrong with it."""

    model_config = ConfigDict(extra="ignore")

    goal: str


def _goal_in(data: bytes) -> str | None:
    try:
        return _Goal.model_validate_json(data).goal[:_GOAL_KEPT]
    except ValidationError:
        return None


def _check_names(key: Key) -> None:
    for what, name in zip(("tenant", "task id"), key, strict=True):
        if not is_id(name):
            raise InvalidRequestError(f"subject: {name!r} is no {what}; these match {ID_PATTERN}")


def _processing(
    key: Key, headers: Mapping[str, str] | None
) -> contextlib.AbstractContextManager[Span]:
    """The span under which all work on a task stands, whichever way its submission is read."""
    attributes: dict[str, telemetry.Attribute] = {names.TENANT: key[0], names.TASK_ID: key[1]}
    return telemetry.processing(_TEMPLATE, headers, attributes)


class Submissions:
    """Takes submissions in."""

    def __init__(
        self,
        bus: Bus,
        scheduler: Scheduler,
        open_tasks: OpenTasks,
        events: Events,
        planner: TaskPlanner,
        *,
        admission: Admission,
    ) -> None:
        self._bus = bus
        self._scheduler = scheduler
        self._open_tasks = open_tasks
        self._events = events
        self._planner = planner
        self._admission = admission

    def read(self, data: bytes, headers: Mapping[str, str] | None) -> TaskRequest:
        """Read and check what came through the durable door.

        Raises:
            InvalidRequestError: Names everything that is wrong with it.
        """
        if len(data) > _MAX_REQUEST_BYTES:
            raise PayloadTooLargeError(
                f"the TaskRequest has {len(data)} bytes, and at most {_MAX_REQUEST_BYTES} are "
                "taken; give less, split it into several tasks, or give the address of large "
                "inputs, for a tool of a worker to read"
            )
        request = door.read(TaskRequest, data, headers)
        self.check(request)
        return request

    def check(self, request: TaskRequest) -> None:
        """Refuse what can never be carried out.

        Raises:
            InvalidRequestError: Names everything that is wrong with it.
        """
        self._planner.check(request)
        if problems := list(lifetime.problems(request, now_ms(), self._planner.limits)):
            raise invalid("TaskRequest", problems)

    async def take(self, messages: Sequence[Msg]) -> None:
        """Accept or reject stored submissions; they may be acknowledged afterwards.

        Raises:
            OverloadedError: Their tenant has too many open tasks; they must be taken again.
            AtlasError: NATS failed; they must be taken again.
        """
        self._admission.check_open(subjects.parse(messages[0].subject).tenant)
        for msg in messages:
            await self._take(msg)

    async def _take(self, msg: Msg) -> None:
        parsed = subjects.parse(msg.subject)
        key = (parsed.tenant, parsed.id)
        with _processing(key, msg.headers):
            try:
                await self._accept(key, self.read(msg.data, msg.headers))
            except TaskDeletedError as error:  # no letter: it may be what was deleted, once more
                await self._tell_rejected({"task_id": key[1]}, key[0], error)
            except InvalidRequestError as error:
                await self._reject(key, msg, error)

    async def accept(
        self, key: Key, request: TaskRequest, headers: Mapping[str, str] | None
    ) -> None:
        """Begin the log of a task that still waits in its door; `headers` are the submission's.

        Raises:
            InvalidRequestError: The names are none, or the id stands for another request.
        """
        with _processing(key, headers):
            await self._accept(key, request)

    async def _accept(self, key: Key, request: TaskRequest) -> None:
        """Begin the log, unless it has begun with the same request."""
        _check_names(key)
        sha256 = digest(request)
        view = await self._scheduler.view(key)
        if view.is_deleted:
            raise TaskDeletedError(key[1])
        if view.version:
            check_same(view, sha256)
            return
        await self._open_tasks.add(key)
        self._admission.opened(key)

        def accepted(view: TaskView, at_ms: int) -> list[TaskEvent]:
            if view.version or view.is_deleted:
                return []
            return [
                TaskAcceptedEvent(
                    task_id=key[1],
                    version=1,
                    at_ms=at_ms,
                    request=request,
                    request_sha256=sha256,
                )
            ]

        view = await self._scheduler.advance(key, [accepted])
        check_same(view, sha256)

    async def _reject(self, key: Key, msg: Msg, error: InvalidRequestError) -> None:
        info = error.to_info()
        tenant, id_ = key
        has_names = is_id(tenant) and is_id(id_)
        if not has_names:  # no task can be called so: there is none to end
            tenant, id_ = subjects.DEFAULT_TENANT, derived_id(msg.subject)
        await bury(self._bus, msg, _KIND, tenant, id_, info)
        if has_names:
            await self._end_unread(key, error, _goal_in(msg.data))
        await self._tell_rejected(
            {"task_id": id_} if has_names else {"subject": msg.subject}, tenant, error
        )

    async def _tell_rejected(self, told: JsonObject, tenant: str, error: AtlasError) -> None:
        info = error.to_info()
        await self._events.emit(
            "task.rejected", {**told, "error": info.model_dump(mode="json")}, tenant=tenant
        )
        log.warning("task_rejected", **told, error=error.message)

    async def _end_unread(self, key: Key, error: AtlasError, goal: str | None) -> None:
        """A task that nobody could read ends where it begins; one that is there goes on."""

        def failed(view: TaskView, at_ms: int) -> list[TaskEvent]:
            if view.version or view.is_deleted:
                return []
            return [
                TaskFailed(
                    task_id=key[1],
                    version=1,
                    at_ms=at_ms,
                    error=error.to_info(),
                    usage=Usage(),
                    cost=Cost(),
                    goal=goal,
                )
            ]

        await self._scheduler.advance(key, [failed])
