"""Removing what is stored of a stream or a task that has ended."""

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.deleting import StreamDelete, StreamDeleted, TaskDelete, TaskDeleted
from atlas.contracts.errors import RequestTimeoutError

_STREAM_S = 30.0
_TASK_S = 120.0
"""A large task has thousands of streams."""


async def delete_stream(bus: Bus, tenant: str, stream_id: str) -> StreamDeleted:
    """As `Atlas.delete_stream` says."""
    door = subjects.api(tenant, "stream.delete")
    request = StreamDelete(stream_id=stream_id)
    return await bus.request(door, request, StreamDeleted, timeout_s=_STREAM_S)


async def delete_task(bus: Bus, tenant: str, task_id: str) -> TaskDeleted:
    """As `Atlas.delete_task` says."""
    door = subjects.api(tenant, "task.delete")
    try:
        return await bus.request(door, TaskDelete(task_id=task_id), TaskDeleted, timeout_s=_TASK_S)
    except RequestTimeoutError as error:
        raise RequestTimeoutError(
            f"task {task_id} was not deleted within {_TASK_S:g} s; it goes on, and the same call "
            "again does the rest"
        ) from error
