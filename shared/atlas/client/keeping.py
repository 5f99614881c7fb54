"""What Atlas keeps for its users: values they store and load, streams and tasks they remove."""

from atlas import subjects
from atlas.bus import Bus
from atlas.client import values
from atlas.client.requests import checked_id
from atlas.contracts.deleting import StreamDelete, StreamDeleted, TaskDelete, TaskDeleted
from atlas.contracts.errors import RequestTimeoutError
from atlas.contracts.ids import new_id

_STREAM_S = 30.0
_TASK_S = 120.0
"""A large task has thousands of streams."""


class Keeping:
    """The part of `Atlas` that stores, loads and removes."""

    def __init__(self, bus: Bus, tenant: str) -> None:
        self._bus = bus
        self.tenant = tenant

    async def store(
        self, data: bytes, *, media_type: str | None = None, object_id: str | None = None
    ) -> str:
        """Store what does not fit a message; gives its name, for `object` of an image or file part.

        Args:
            data: Its bytes.
            media_type: Such as `image/png`; else each part that names it has to say.
            object_id: An id of one's own; the same id and bytes again are the same object.

        Raises:
            InvalidRequestError: There is nothing to store, or its media type is none.
            ConflictError: The id was used before, with other bytes.
            PayloadTooLargeError: It is larger than `media.max_object_bytes` of the controllers.
            OverloadedError: There is no room; try again later.
            NoResponderError: No controller runs.
        """
        own = checked_id("object", object_id or new_id())
        return await values.store(self._bus, self.tenant, own, data, media_type)

    async def load(self, ref: str) -> object:
        """A value that an event names by `output_ref`. Raises `NotFoundError` when it is gone."""
        return await values.load(self._bus, self.tenant, ref)

    async def delete_stream(self, stream_id: str) -> StreamDeleted:
        """Remove a stream that has ended: its text, request and controls; its id stays used up.

        Raises:
            NotFoundError: There is no such stream.
            InvalidTransitionError: It has not ended.
        """
        door = subjects.api(self.tenant, "stream.delete")
        request = StreamDelete(stream_id=stream_id)
        return await self._bus.request(door, request, StreamDeleted, timeout_s=_STREAM_S)

    async def delete_task(self, task_id: str) -> TaskDeleted:
        """Remove a task that has ended: log, results, objects, and every stream of it.

        Raises as `delete_stream` does, and `OverloadedError` while one of its streams still runs.
        """
        door = subjects.api(self.tenant, "task.delete")
        request = TaskDelete(task_id=task_id)
        try:
            return await self._bus.request(door, request, TaskDeleted, timeout_s=_TASK_S)
        except RequestTimeoutError as error:
            raise RequestTimeoutError(
                f"task {task_id} was not deleted within {_TASK_S:g} s; it goes on, and the same "
                "call again does the rest"
            ) from error
