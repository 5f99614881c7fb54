"""Large values, named by reference, stored and read through the doors of the controllers."""

import hashlib
import json
from base64 import b64decode, b64encode

from atlas import subjects
from atlas.bus import Bus
from atlas.client.requests import body
from atlas.contracts.errors import InvalidRequestError, RequestTimeoutError, StoreRefusedError
from atlas.contracts.objects import PART_BYTES, ObjectGet, ObjectPart, ObjectPut, ObjectTaken

_PART_S = 15.0
_TRIES = 3


async def load(bus: Bus, tenant: str, ref: str) -> object:
    """The value of an `output_ref`.

    Raises:
        NotFoundError: There is none; it may have expired.
        InvalidRequestError: It is no name of an object of this tenant.
        StoreRefusedError: It is being replaced all the time.
        NoResponderError: No controller runs.
    """
    for _ in range(_TRIES):
        data = await _read(bus, tenant, ref)
        if data is not None:
            return _value(ref, data)
    raise StoreRefusedError(f"object {ref!r} changed while it was read; read it again")


async def _read(bus: Bus, tenant: str, ref: str) -> bytes | None:
    """Its bytes, or None where it was replaced meanwhile."""
    door = subjects.api(tenant, "object.get")
    data = bytearray()
    digests: set[str | None] = set()
    offset: int | None = 0
    while offset is not None:
        request, _ = body(ObjectGet, {"object": ref, "offset": offset})
        try:
            part = await bus.request(door, request, ObjectPart, timeout_s=_PART_S)
        except InvalidRequestError:
            if offset == 0:
                raise
            return None  # it is shorter now
        data += b64decode(part.data)
        digests.add(part.sha256)
        offset = part.next_offset
    known = digests - {None}
    whole = not known or known == {hashlib.sha256(data).hexdigest()}
    return bytes(data) if whole else None


def _value(ref: str, data: bytes) -> object:
    try:
        return json.loads(data or b"null")
    except ValueError as error:
        raise InvalidRequestError(
            f"object {ref!r} is no JSON, so it is the output of no task; a picture or file goes "
            "into a message, as `object` of a part"
        ) from error


async def store(bus: Bus, tenant: str, object_id: str, data: bytes, media_type: str | None) -> str:
    """Store bytes; gives their name. Raises as `Atlas.store` says."""
    if not data:
        raise InvalidRequestError("data: it is empty; give the bytes of a picture or file")
    last = (len(data) - 1) // PART_BYTES * PART_BYTES
    ending = {"sha256": hashlib.sha256(data).hexdigest(), "media_type": media_type}
    for offset in range(0, last, PART_BYTES):
        await _put(bus, tenant, object_id, offset, data[offset : offset + PART_BYTES], {})
    return (await _put(bus, tenant, object_id, last, data[last:], ending)).object


async def _put(  # noqa: PLR0917 - `store` above is the only caller
    bus: Bus, tenant: str, object_id: str, offset: int, data: bytes, more: dict[str, str | None]
) -> ObjectTaken:
    """Send a part, again where no answer comes: it is the same part."""
    told = {"object_id": object_id, "offset": offset, "data": b64encode(data).decode(), **more}
    request, _ = body(ObjectPut, told)
    door = subjects.api(tenant, "object.put")
    for _ in range(_TRIES - 1):
        try:
            return await bus.request(door, request, ObjectTaken, timeout_s=_PART_S)
        except RequestTimeoutError:
            continue
    return await bus.request(door, request, ObjectTaken, timeout_s=_PART_S)
