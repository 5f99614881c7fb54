"""`api.object.get`: tenants read the large values of their tasks, part by part.

Nobody of a tenant reaches the object store itself (docs/decisions/0012-access.md).
"""

from base64 import b64encode
from dataclasses import dataclass

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.errors import InvalidRequestError
from atlas.contracts.objects import ObjectGet, ObjectPart
from atlas.objects import Objects
from atlas.service import Call, Doors

_AROUND_BYTES = 8 * 1024
"""What an answer holds besides the data: names may be long."""
_SHOWN = 100


@dataclass(frozen=True, slots=True)
class ObjectDoor:
    """Tells what objects hold."""

    bus: Bus
    objects: Objects

    async def open(self, doors: Doors) -> None:
        """Open the door."""
        await doors.open("object-get", subjects.API_OBJECT_GET_ALL, ObjectGet, self.take)

    async def take(self, call: Call[ObjectGet]) -> ObjectPart:
        """As much as is asked for and fits an answer.

        Raises:
            InvalidRequestError: It belongs to another tenant, or ends before `offset`.
            NotFoundError: There is none of that name; it may have expired.
            StoreRefusedError: It could not be read; worth another try.
        """
        name, offset = call.body.object, call.body.offset
        own = f"{call.tenant}."
        if not name.startswith(own):
            raise InvalidRequestError(
                f"object: {name[:_SHOWN]!r} is none of tenant {call.tenant!r}, whose objects begin "
                f"with {own!r}; give an `output_ref` as an event names it"
            )
        room_bytes = (self.bus.max_payload_bytes - _AROUND_BYTES) * 3 // 4  # base64: 4 for 3
        async with self.bus.replays:
            part = await self.objects.part(name, offset, min(call.body.limit_bytes, room_bytes))
        end = offset + len(part.data)
        return ObjectPart(
            object=name,
            offset=offset,
            data=b64encode(part.data).decode(),
            size_bytes=part.size_bytes,
            sha256=part.sha256,
            next_offset=end if end < part.size_bytes else None,
        )
