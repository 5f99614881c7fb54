"""What metrics tell of a task: counted by the one controller whose entry stands in the log.

So the sums over all controllers are right. An entry whose acknowledgement was lost is counted by
nobody.
"""

from agent_controller.tasks.view import TaskView
from atlas.contracts.task_events import (
    SubtaskCancelled,
    SubtaskFailed,
    SubtaskSucceeded,
    TaskCancelled,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
)
from atlas.telemetry import meters, names

_CAPABILITIES = meters.Admitted()
"""Plans name any capability."""


def measure(view: TaskView, event: TaskEvent) -> None:
    """Count an entry that this controller wrote; `view` is the task after it."""
    meters.count(names.TASK_EVENTS, {names.EVENT_TYPE: event.type})
    outcome = event.type.rpartition(".")[2]
    match event:
        case SubtaskSucceeded() | SubtaskFailed() | SubtaskCancelled():
            record = view.subtasks[event.subtask_id]
            if record.dispatched_at_ms is None:
                return
            labels = {
                names.CAPABILITY: _CAPABILITIES.label(record.capability),
                names.OUTCOME: outcome,
            }
            took_s = (event.at_ms - record.dispatched_at_ms) / 1000
            meters.record(names.SUBTASK_DURATION, max(0.0, took_s), labels)
        case TaskCompleted() | TaskFailed() | TaskCancelled() if view.accepted_at_ms:
            took_s = (event.at_ms - view.accepted_at_ms) / 1000
            meters.record(names.TASK_DURATION, max(0.0, took_s), {names.OUTCOME: outcome})
        case _:
            pass
