"""`api.stream.delete`: all that is stored of a stream that has ended is removed.

First its ownership is given to nobody, which fences whoever still thinks that it is the owner, then
its content goes. That it was deleted is remembered as long as its history would have been, so that
no late delivery of its request begins it anew.
"""

from dataclasses import dataclass

import structlog

from atlas import subjects
from atlas.contracts.deleting import StreamDelete, StreamDeleted
from atlas.contracts.errors import InvalidTransitionError, NotFoundError
from atlas.service import Call, Doors
from provider_router.streaming.store import StreamAddress, StreamStore

log = structlog.get_logger("atlas.deletion")


@dataclass(frozen=True, slots=True)
class Deletion:
    """Deletes streams."""

    store: StreamStore

    async def open(self, doors: Doors) -> None:
        """Open the door."""
        await doors.open("stream-delete", subjects.API_STREAM_DELETE_ALL, StreamDelete, self.take)

    async def take(self, call: Call[StreamDelete]) -> StreamDeleted:
        """Remove it; of one that is deleted already, what came since.

        Raises:
            NotFoundError: The tenant has no such stream.
            InvalidTransitionError: It has not ended; nothing was changed.
            FencedError: A router took it up just now; nothing was changed.
        """
        address = StreamAddress(call.tenant, call.body.stream_id)
        owner = await self.store.owner(address)
        if owner is None:
            if await self.store.queued_request(address) is not None:
                raise _not_ended(address, "queued")
            raise NotFoundError(
                f"no stream {address.stream_id!r} of tenant {address.tenant!r}; its history "
                "may be older than the replay window, and is gone then"
            )
        if not owner.ownership.deleted:
            reading = await self.store.reading(address)
            if reading.terminal is None:
                raise _not_ended(address, reading.state)
            await self.store.delete(address, owner)
        removed = await self.store.erase(address)
        log.info("stream_deleted", stream=address.stream_id, messages=removed)
        return StreamDeleted(stream_id=address.stream_id, messages=removed)


def _not_ended(address: StreamAddress, state: str) -> InvalidTransitionError:
    return InvalidTransitionError(
        f"stream {address.stream_id!r} is {state}; cancel it first, or wait for its end"
    )
