"""The numbers that decisions depend on; the composition root fills them from the settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from atlas.worker_settings import BuiltIn

DAY_MS = 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of attempts, waits and plans. Times in milliseconds."""

    subtask_max_attempts: int = 3
    subtask_timeout_ms: int = 600_000
    dispatch_timeout_ms: int = 15_000
    """A dispatched subtask that nobody started for so long is sent again."""
    silence_ms: int = 60_000
    """A started subtask that nobody spoke of for so long is sent again."""
    max_open_ms: int = 27 * DAY_MS
    """A task that was open for so long ends: soon the beginning of its log expires."""
    retry_base_ms: int = 500
    retry_cap_ms: int = 60_000
    task_parallel: int = 1_000
    """Subtasks of a task that are dispatched or running; `max_parallel` of a task lowers it."""
    task_waiting: int = 64
    """Subtasks of a task and capability that are dispatched and not yet started."""
    max_plan_nodes: int = 50
    """In a plan that a model made."""
    max_plan_depth: int = 20
    """How many subtasks of such a plan may wait for each other in a row."""
    capabilities: frozenset[str] = frozenset(get_args(BuiltIn))
    """What a plan that a model made may use."""
    described: Mapping[str, str] = field(default_factory=dict)
    """How good the workers are at some of them, and what they do: for a model that plans."""
