"""Large values, which events name by reference, read through the door of the controllers."""

import hashlib
import json
from base64 import b64decode

from atlas import subjects
from atlas.bus import Bus
from atlas.client.requests import body
from atlas.contracts.errors import InvalidRequestError, StoreRefusedError
from atlas.contracts.objects import ObjectGet, ObjectPart

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
            return json.loads(data or b"null")
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
