"""`api.object.put`: tenants store what does not fit a message, part by part.

A part waits in `ATLAS_UPLOADS` until the last one comes, so each may come to another controller.
Those of an upload that nobody ends are dropped by the server (`topology.UPLOAD_S`).
"""

import asyncio
import binascii
import hashlib
from base64 import b64decode
from dataclasses import dataclass, field

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.errors import (
    ConflictError,
    FencedError,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
)
from atlas.contracts.objects import PART_BYTES, ObjectPut, ObjectTaken
from atlas.erasing import purge
from atlas.objects import About, Objects
from atlas.service import Call, Doors
from atlas.topology import UPLOAD_S

_ENDINGS_AT_ONCE = 4
"""Each holds a whole object in memory."""


@dataclass(frozen=True, slots=True)
class UploadDoor:
    """Takes objects of tenants."""

    bus: Bus
    objects: Objects
    most_bytes: int
    ending: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_ENDINGS_AT_ONCE))

    async def open(self, doors: Doors) -> None:
        """Open the door."""
        await doors.open("object-put", subjects.API_OBJECT_PUT_ALL, ObjectPut, self.take)

    async def take(self, call: Call[ObjectPut]) -> ObjectTaken:
        """Keep a part; with the last one, the object.

        Raises:
            InvalidRequestError: It is no part, or with it they do not make what they should.
            ConflictError: The id was used before, with other content.
            PayloadTooLargeError: The object is larger than it may be.
            StoreRefusedError: It could not be stored, for want of room perhaps.
        """
        tenant, put = call.tenant, call.body
        data = _content(put)
        end = put.offset + len(data)
        if end > self.most_bytes:
            raise PayloadTooLargeError(
                f"object {put.object_id!r} has {end} bytes or more, and media.max_object_bytes is "
                f"{self.most_bytes}; store a smaller one, or raise it",
                details={"size_bytes": end, "max_object_bytes": self.most_bytes},
            )
        name = subjects.object_name(tenant, put.object_id)
        if put.sha256 is None:
            await self._keep(tenant, put, data)
            return ObjectTaken(object=name, size_bytes=end, next_offset=end)
        async with self.ending:
            await self._end(tenant, name, put, data)
        return ObjectTaken(object=name, size_bytes=end)

    async def _keep(self, tenant: str, put: ObjectPut, data: bytes) -> None:
        subject = subjects.upload(tenant, put.object_id, put.offset // PART_BYTES)
        try:
            await self.bus.store(subject, data, expected_last=0)
        except FencedError:  # it came before; that it was the same the digest tells in the end
            return

    async def _end(self, tenant: str, name: str, put: ObjectPut, last: bytes) -> None:
        waiting = subjects.upload(tenant, put.object_id, "*")
        known = await self._known(name)
        if known is not None and known.sha256 != put.sha256:
            raise ConflictError(
                f"object_id {put.object_id!r} was used before with other content; use a new one"
            )
        if known is None:
            content = await self._before(waiting, put) + last
            found = hashlib.sha256(content).hexdigest()
            if found != put.sha256:
                await purge(self.bus, subjects.UPLOADS, waiting)
                raise InvalidRequestError(
                    f"sha256: the parts have {found}, not {put.sha256}; nothing was stored: send "
                    "them again from offset 0"
                )
            await self.objects.put_bytes(name, content, put.media_type)
        if put.offset:
            await purge(self.bus, subjects.UPLOADS, waiting)

    async def _known(self, name: str) -> About | None:
        try:
            return await self.objects.about(name)
        except NotFoundError:
            return None

    async def _before(self, waiting: str, put: ObjectPut) -> bytes:
        """The parts before the last one."""
        count = put.offset // PART_BYTES
        found: dict[int, bytes] = {}
        if count:
            async for stored in self.bus.read(subjects.UPLOADS, waiting):
                found[int(stored.subject.rpartition(".")[2])] = stored.data
        missing = [number * PART_BYTES for number in range(count) if number not in found]
        if missing:
            raise InvalidRequestError(
                f"offset: of {count} parts before {put.offset} {len(missing)} are not there, the "
                f"first at {missing[0]}; they wait for {UPLOAD_S // 60:g} minutes: send them, and "
                "then this one again",
                details={"missing": missing},
            )
        return b"".join(found[number] for number in range(count))


def _content(put: ObjectPut) -> bytes:
    """The bytes of a part.

    Raises:
        InvalidRequestError: It is none.
    """
    try:
        data = b64decode(put.data, validate=True)
    except binascii.Error as error:
        raise InvalidRequestError(f"data: no base64: {error}; encode the bytes") from error
    if put.offset % PART_BYTES:
        raise InvalidRequestError(
            f"offset: {put.offset} is no multiple of {PART_BYTES}, which every part but the last "
            "has as its size"
        )
    if len(data) > PART_BYTES or (put.sha256 is None and len(data) != PART_BYTES):
        raise InvalidRequestError(
            f"data: {len(data)} bytes; a part holds {PART_BYTES}, and the last one, which brings "
            "`sha256`, no more"
        )
    return data
