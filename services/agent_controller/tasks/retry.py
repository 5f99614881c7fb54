"""Whether a failed attempt is tried again, and when. Pure, and the one retry policy of tasks."""

import hashlib

from agent_controller.tasks.limits import Limits
from agent_controller.tasks.records import SubtaskRecord
from atlas.contracts.errors import ErrorInfo

_JITTER = 0.5


def is_final(record: SubtaskRecord, attempt: int, error: ErrorInfo, limits: Limits) -> bool:
    """Whether no further attempt follows this failure."""
    planned = record.planned.max_attempts if record.planned else None
    return not error.retryable or attempt >= (planned or limits.subtask_max_attempts)


def not_before_ms(task_id: str, record: SubtaskRecord, limits: Limits) -> int:
    """When the next attempt may begin: never sooner than the provider asked for.

    The wait doubles from the base to the cap.
    Up to half is taken off by a fraction derived from the ids, so that the subtasks of a fan-out
    do not come back all at once, and every controller says the same.
    """
    backoff = min(limits.retry_cap_ms, limits.retry_base_ms << max(0, record.attempt - 1))
    seed = f"{task_id}:{record.subtask_id}:{record.attempt}".encode()
    fraction = hashlib.sha256(seed).digest()[0] / 255
    wait_ms = round(backoff * (1 - _JITTER * fraction))
    asked_ms = (record.error.retry_after_ms if record.error else None) or 0
    return (record.failed_at_ms or 0) + max(wait_ms, asked_ms)
