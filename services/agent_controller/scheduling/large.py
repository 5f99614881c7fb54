"""What does not fit a message goes into the object store and is named by reference."""

import json

from atlas.contracts.base import JsonObject
from atlas.contracts.task_events import TaskCompleted, TaskEvent, TaskFailed
from atlas.contracts.work import Subtask, SubtaskResult
from atlas.objects import Objects

LARGE_BYTES = 256 * 1024
"""An output above it is named by reference in the log."""
_WORK_BYTES = 896 * 1024
"""A piece of work above it has its largest inputs named by reference; NATS takes 1 MB."""
_OUTPUTS_BYTES = 512 * 1024
"""Outputs of a failed task that are above it together go by one reference."""
_WORTH_BYTES = 1024
"""What a reference must save there: each object costs several messages."""


def size_bytes(value: object) -> int:
    """How long a value is as JSON."""
    return len(json.dumps(value, ensure_ascii=False).encode())


def is_large(value: object) -> bool:
    """Whether a value goes into the object store."""
    return size_bytes(value) > LARGE_BYTES


async def fit_result(objects: Objects, tenant: str, result: SubtaskResult) -> SubtaskResult:
    """A worker's result as it may stand in the log."""
    if result.output_ref is not None or not is_large(result.output):
        return result
    name = f"{tenant}.{result.task_id}.{result.subtask_id}.{result.attempt}"
    ref = await objects.put(name, result.output)
    return result.model_copy(update={"output": None, "output_ref": ref})


async def fit_event(objects: Objects, tenant: str, event: TaskEvent) -> TaskEvent:
    """An event as it may stand in the log."""
    match event:
        case TaskCompleted() if event.output_ref is None and is_large(event.output):
            ref = await objects.put(f"{tenant}.{event.task_id}.output", event.output)
            return event.model_copy(update={"output": None, "output_ref": ref})
        case TaskFailed() if is_large(event.outputs):
            prefix = f"{tenant}.{event.task_id}.outputs"
            outputs = await _smaller(objects, prefix, event.outputs, LARGE_BYTES, _WORTH_BYTES)
            if size_bytes(outputs) > _OUTPUTS_BYTES:  # thousands of small ones
                outputs = {"output_ref": await objects.put(prefix, event.outputs)}
            return event.model_copy(update={"outputs": outputs})
        case _:
            return event


async def fit_work(objects: Objects, tenant: str, subtask: Subtask) -> Subtask:
    """A piece of work as it may go to a worker."""
    if len(subtask.to_json()) <= _WORK_BYTES:
        return subtask
    rest_bytes = len(subtask.model_copy(update={"inputs": {}}).to_json())
    room_bytes = _WORK_BYTES - rest_bytes
    prefix = f"{tenant}.{subtask.task_id}.{subtask.subtask_id}.inputs"
    inputs = await _smaller(objects, prefix, subtask.inputs, room_bytes)
    return subtask.model_copy(update={"inputs": inputs})


async def _smaller(
    objects: Objects, prefix: str, values: JsonObject, bound_bytes: int, worth_bytes: int = 1
) -> JsonObject:
    """The values with the largest by reference, until the rest fits or too little is saved."""
    sizes = {name: size_bytes(value) for name, value in values.items()}
    smaller = dict(values)
    total = size_bytes(values)
    for name in sorted(sizes, key=lambda one: -sizes[one]):
        object_ = f"{prefix}.{name}"
        saved = sizes[name] - size_bytes({"output_ref": object_})
        if total <= bound_bytes or saved < worth_bytes:
            break
        smaller[name] = {"output_ref": await objects.put(object_, values[name])}
        total -= saved
    return smaller
