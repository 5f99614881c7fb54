"""The fold of a task's log: events in, the task as it stands out.

It is the only place that says what an event means. Every controller folds the same log to the same
view. Events of types that this version does not know count as versions and are otherwise passed
over, because a rolling upgrade mixes versions; a gap in the versions is an error, because nothing
may be decided on half a log. Only its beginning may be missing, which expires first: of the rest
the end alone is read.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from msgspec.structs import replace

from agent_controller.tasks import losses, replanning
from agent_controller.tasks.entries import LogCorruptError
from agent_controller.tasks.order import longest_paths
from agent_controller.tasks.progress import Layout, Standing
from agent_controller.tasks.records import Records, SubtaskRecord
from agent_controller.tasks.view import RESERVED_IDS, TaskView
from atlas.contracts.inference import Cost, Usage
from atlas.contracts.task_events import (
    SubtaskCancelled,
    SubtaskDispatched,
    SubtaskFailed,
    SubtaskRetried,
    SubtaskSpent,
    SubtaskStarted,
    SubtaskSucceeded,
    TaskAcceptedEvent,
    TaskApprovalRejected,
    TaskApproved,
    TaskAwaitingApproval,
    TaskCancelled,
    TaskCompleted,
    TaskDeletedEvent,
    TaskEvent,
    TaskFailed,
    TaskPaused,
    TaskPlanned,
    TaskReplanned,
    TaskResumed,
    UnknownTaskEvent,
)
from atlas.contracts.tasks import Approval, PlannedSubtask, SubtaskState

type SubtaskStep = (
    SubtaskDispatched
    | SubtaskStarted
    | SubtaskSucceeded
    | SubtaskFailed
    | SubtaskRetried
    | SubtaskCancelled
)
type SubtaskEvent = SubtaskStep | SubtaskSpent


def fold(view: TaskView, entries: Iterable[TaskEvent]) -> TaskView:
    """The view after `entries`.

    Raises:
        LogCorruptError: A version is missing or repeated, or an event makes no sense.
    """
    for entry in entries:
        view = _fold_one(view, entry)
    return view


def heard(view: TaskView, subtask_id: str, attempt: int, at_ms: int) -> TaskView:
    """The view after word from a worker that is no event of the log, such as progress."""
    record = view.subtasks.get(subtask_id)
    if record is None or record.attempt != attempt or not record.is_live:
        return view
    return _with(view, replace(record, last_heard_ms=max(at_ms, record.last_heard_ms or 0)))


def _fold_one(view: TaskView, entry: TaskEvent) -> TaskView:
    if isinstance(entry, TaskDeletedEvent):  # what came before it is removed, or is about to be
        return TaskView(view.tenant, view.task_id, is_deleted=True)
    if not view.version and entry.version > 1:
        view = replace(view, version=entry.version - 1, is_cut=True)
    if entry.version != view.version + 1:
        raise LogCorruptError(
            f"the log of task {view.task_id} goes from version {view.version} to {entry.version}; "
            "read it again from the start"
        )
    view = replace(
        view,
        version=entry.version,
        updated_at_ms=entry.at_ms,
        accepted_at_ms=view.accepted_at_ms or entry.at_ms,
    )
    is_told = isinstance(entry, TaskCompleted | TaskFailed | TaskCancelled) or not view.is_cut
    if isinstance(entry, UnknownTaskEvent) or view.end is not None or not is_told:
        return view
    match entry:
        case (
            SubtaskDispatched()
            | SubtaskStarted()
            | SubtaskSucceeded()
            | SubtaskFailed()
            | SubtaskRetried()
            | SubtaskCancelled()
            | SubtaskSpent()
        ):
            return _subtask(view, entry)
        case TaskCompleted() | TaskFailed() | TaskCancelled():
            return _ended(view, entry)
        case TaskAwaitingApproval() | TaskApproved() | TaskApprovalRejected():
            return _approval(view, entry)
        case _:
            return _task(view, entry)


def _task(
    view: TaskView,
    event: TaskAcceptedEvent | TaskPlanned | TaskReplanned | TaskPaused | TaskResumed,
) -> TaskView:
    match event:
        case TaskAcceptedEvent():
            return replace(view, request=event.request, request_sha256=event.request_sha256)
        case TaskPlanned():
            plan = tuple(event.plan)
            planned = replace(view, plan=plan, planner=event.planner)
            return _with(planned, *_new_records(plan, longest_paths(plan)))
        case TaskReplanned():
            return _replanned(view, event)
        case TaskPaused():
            return replace(view, paused_at_ms=event.at_ms, control_version=event.version)
        case TaskResumed():
            return _resumed(view, event)


def _new_records(
    nodes: Iterable[PlannedSubtask], paths: Mapping[str, int]
) -> Iterator[SubtaskRecord]:
    for node in nodes:
        yield SubtaskRecord(node.id, node.capability, planned=node, path=paths[node.id])


def _replanned(view: TaskView, event: TaskReplanned) -> TaskView:
    answered = [
        replace(view.subtasks[id_], replan=None) for id_ in event.because if id_ in view.subtasks
    ]
    changed = with_change(_with(view, *answered), event.added, event.removed)
    is_same = not event.added and not event.removed
    return replace(
        changed,
        replans=view.replans + 1,
        is_plan_approved=view.is_plan_approved and is_same,  # what changed is another plan
    )


def with_change(
    view: TaskView, added: Sequence[PlannedSubtask], removed: Collection[str]
) -> TaskView:
    """The view with another plan: without some subtasks, and with others."""
    gone = set(removed)
    kept: dict[str, SubtaskRecord] = {}
    out: dict[str, SubtaskRecord] = {}
    for id_, record in view.subtasks.items():
        if id_ in gone:
            out[id_] = _without_stream(record)
        else:
            kept[id_] = record
    plan = (*(node for node in view.plan or () if node.id not in gone), *added)
    paths = longest_paths(plan)
    kept = {id_: replace(record, path=paths.get(id_, record.path)) for id_, record in kept.items()}
    new = {record.subtask_id: record for record in _new_records(added, paths)}
    removed_ = MappingProxyType({**view.removed, **out})
    return _laid_out(replace(view, plan=plan, subtasks=Records({**kept, **new}), removed=removed_))


def _resumed(view: TaskView, event: TaskResumed) -> TaskView:
    if view.paused_at_ms is None:
        return view
    paused_at_ms = view.paused_at_ms
    pause_ms = max(0, event.at_ms - paused_at_ms)

    def later(since_ms: int | None) -> int | None:
        """A time from which something counts, moved on by as much of the pause as came after it."""
        if since_ms is None:
            return None
        return since_ms + max(0, event.at_ms - max(paused_at_ms, since_ms))

    moved = [
        replace(record, clock_from_ms=later(record.clock_from_ms), last_heard_ms=event.at_ms)
        if record.is_live
        else replace(record, waits_from_ms=later(record.waits_from_ms))
        for record in view.subtasks.values()
        if record.is_live or record.waits_from_ms is not None
    ]
    view = replace(
        view,
        paused_at_ms=None,
        plan_waits_from_ms=later(view.plan_waits_from_ms),
        paused_ms=view.paused_ms + pause_ms,
        control_version=event.version,
        resumed_at_ms=event.at_ms,
    )
    return _with(view, *moved)


def _approval(
    view: TaskView, event: TaskAwaitingApproval | TaskApproved | TaskApprovalRejected
) -> TaskView:
    if event.subtask_id is not None:
        record = _known(view, event.subtask_id, event)
        return _with(view, _approval_of(record, event))
    match event:
        case TaskAwaitingApproval():
            return replace(view, plan_waits_from_ms=event.at_ms)
        case TaskApproved():
            return replace(view, plan_waits_from_ms=None, is_plan_approved=True)
        case TaskApprovalRejected():
            return replace(
                view,
                plan_waits_from_ms=None,
                is_plan_rejected=True,
                rejected_by=event.by,
                rejected_reason=event.reason,
            )


def _approval_of(
    record: SubtaskRecord, event: TaskAwaitingApproval | TaskApproved | TaskApprovalRejected
) -> SubtaskRecord:
    if record.state.is_terminal:
        return record
    waiting = replace(record, state=SubtaskState.WAITING, waits_from_ms=None)
    match event:
        case TaskAwaitingApproval():
            since_ms = event.at_ms
            return replace(record, state=SubtaskState.AWAITING_APPROVAL, waits_from_ms=since_ms)
        case TaskApproved():
            return replace(waiting, is_approved=True)
        case TaskApprovalRejected():
            return replace(waiting, is_rejected=True)


def _ended(view: TaskView, event: TaskCompleted | TaskFailed | TaskCancelled) -> TaskView:
    stopped = [
        replace(_without_stream(record), state=SubtaskState.CANCELLED)
        for record in view.subtasks.values()
        if not record.state.is_terminal
    ]
    if view.is_cut:
        view = replace(view, usage=event.usage, cost=event.cost)
    return _with(replace(view, end=event, paused_at_ms=None), *stopped)


def _subtask(view: TaskView, event: SubtaskEvent) -> TaskView:
    if isinstance(event, SubtaskSpent):
        return _spent(view, event)
    record = _asking(view, event) or _known(view, event.subtask_id, event)
    if record.state.is_terminal:
        return view
    if isinstance(event, SubtaskSucceeded | SubtaskFailed):
        view = replace(
            view,
            usage=view.usage + (event.usage or Usage()),
            cost=view.cost + (event.cost or Cost()),
        )
        if event.usage is not None:
            record = _paid(record, event.attempt)
    record = _subtask_after(record, event)
    changed = _with(view, record)
    return _laid_out(changed) if record.has_accepted else changed


def _spent(view: TaskView, event: SubtaskSpent) -> TaskView:
    """It changes nothing but the sum, also for a subtask that is in the plan no more."""
    view = replace(view, usage=view.usage + event.usage, cost=view.cost + event.cost)
    if (gone := view.removed.get(event.subtask_id)) is not None:
        removed = {**view.removed, event.subtask_id: _paid(gone, event.attempt)}
        return replace(view, removed=MappingProxyType(removed))
    return _with(view, _paid(_known(view, event.subtask_id, event), event.attempt))


def _paid(record: SubtaskRecord, attempt: int) -> SubtaskRecord:
    return replace(record, paid=(*record.paid, attempt))


def _asking(view: TaskView, event: SubtaskEvent) -> SubtaskRecord | None:
    """A subtask that asks a model for a plan, or for another one: it begins with its dispatch."""
    if not isinstance(event, SubtaskDispatched) or event.subtask_id in view.subtasks:
        return None
    if view.plan is None:
        return SubtaskRecord(event.subtask_id, event.capability)
    if event.subtask_id not in RESERVED_IDS:
        return None
    because = tuple(replanning.causes(view))
    return SubtaskRecord(event.subtask_id, event.capability, because=because)


def _subtask_after(record: SubtaskRecord, event: SubtaskStep) -> SubtaskRecord:
    match event:
        case SubtaskDispatched():
            return replace(
                record,
                state=SubtaskState.DISPATCHED,
                attempt=event.attempt,
                capability=event.capability,
                stream_id=event.stream_id,
                worker=None,
                dispatched_at_ms=event.at_ms,
                started_at_ms=None,
                clock_from_ms=None,
                last_heard_ms=None,
                not_before_ms=None,
            )
        case SubtaskStarted():
            return replace(
                record,
                state=SubtaskState.RUNNING,
                worker=event.worker,
                stream_id=event.stream_id or record.stream_id,
                started_at_ms=event.at_ms,
                clock_from_ms=record.clock_from_ms or event.at_ms,
                last_heard_ms=event.at_ms,
            )
        case SubtaskSucceeded():
            is_other = event.attempt != record.attempt
            return replace(
                _without_stream(record) if is_other else record,
                state=SubtaskState.SUCCEEDED,
                worker=event.worker,
                output=event.output,
                output_ref=event.output_ref,
                replan=event.replan,
                error=None,
            )
        case SubtaskFailed():
            return _failed(record, event)
        case SubtaskRetried():
            return replace(record, state=SubtaskState.RETRYING, not_before_ms=event.not_before_ms)
        case SubtaskCancelled():
            return replace(_without_stream(record), state=SubtaskState.CANCELLED)


def _failed(record: SubtaskRecord, event: SubtaskFailed) -> SubtaskRecord:
    """A failure that the current attempt's worker did not tell leaves a stream to be given up."""
    is_told = event.worker is not None and event.attempt == record.attempt
    return replace(
        record if is_told else _without_stream(record),
        state=SubtaskState.FAILED if event.final else SubtaskState.RETRYING,
        error=event.error,
        failed_at_ms=event.at_ms,
        not_before_ms=None,
    )


def _without_stream(record: SubtaskRecord) -> SubtaskRecord:
    if record.stream_id is None or not record.is_live:
        return record
    return replace(record, abandoned=(*record.abandoned, record.stream_id))


def _known(view: TaskView, subtask_id: str, event: TaskEvent) -> SubtaskRecord:
    record = view.subtasks.get(subtask_id)
    if record is None:
        raise LogCorruptError(
            f"task {view.task_id}, version {event.version}: {event.type} is about the subtask "
            f"{subtask_id!r}, which was never planned"
        )
    return record


def _with(view: TaskView, *records: SubtaskRecord) -> TaskView:
    if not records:
        return view
    subtasks, ids = view.subtasks.with_changed(records), [one.subtask_id for one in records]
    if not all(id_ in view.subtasks for id_ in ids):
        return _laid_out(replace(view, subtasks=subtasks))
    return replace(view, subtasks=subtasks, standing=view.standing.after(subtasks, ids))


def _laid_out(view: TaskView) -> TaskView:
    """The view with the standing of its subtasks from scratch: there are new ones, or fewer."""
    layout = Layout.of(
        view.subtasks,
        needed=partial(losses.needed, view),
        last=[one.subtask_id for one in losses.sinks(view)],
        asks_first=view.request is not None and view.request.approval is Approval.SUBTASKS,
    )
    return replace(view, standing=Standing(layout, view.subtasks))
