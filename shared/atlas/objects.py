"""Large values in the object store `ATLAS_OBJECTS`."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Sequence

from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError
from pydantic import BaseModel

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.errors import NotFoundError, StoreRefusedError
from atlas.erasing import purge


class _About(BaseModel):
    """As much of what is kept of an object as is needed (NATS ADR-20)."""

    nuid: str = ""
    size: int = 0
    deleted: bool = False


class Objects:
    """Puts and gets JSON values that do not fit a message."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def put(self, name: str, value: object) -> str:
        """Keep a value under a name; gives the name.

        Raises:
            StoreRefusedError: It could not be stored; worth another try.
        """
        data = json.dumps(value, ensure_ascii=False).encode()
        try:
            store = await self._bus.jetstream.object_store(subjects.OBJECTS)
            await store.put(name, data)
        except (NatsError, JetStreamError, TimeoutError) as error:
            raise StoreRefusedError(
                f"object {name!r} was not stored: {error}",
                details={"err_code": getattr(error, "err_code", None)},
            ) from error
        return name

    async def remove(self, prefixes: Sequence[str]) -> int:
        """Remove every object whose name begins with one of these; gives how many.

        The store has no index by beginnings of names, so all names are read.

        Raises:
            StoreRefusedError: One could not be removed; worth another try.
        """
        stream = subjects.objects_stream(subjects.OBJECTS)
        found = [
            (stored.subject, info)
            async for stored in self._bus.read(stream, subjects.OBJECT_NAMES)
            if (info := json.loads(stored.data))["name"].startswith(tuple(prefixes))
        ]
        for subject, info in found:
            await purge(self._bus, stream, subjects.object_content(info["nuid"]))
            await purge(self._bus, stream, subject)
        return len(found)

    async def get(self, name: str) -> object:
        """The value of a name.

        Raises:
            NotFoundError: There is none; it may have expired.
            StoreRefusedError: It could not be read; worth another try.
        """
        try:
            data = await self._read(name)
        except (NatsError, TimeoutError) as error:
            raise StoreRefusedError(f"object {name!r} was not read: {error}") from error
        return json.loads(data or b"null")

    async def _read(self, name: str) -> bytes:
        """Its bytes, by direct gets: a reader needs no consumer, nor the right to make one."""
        stream = subjects.objects_stream(subjects.OBJECTS)
        meta = subjects.object_meta(subjects.OBJECTS, urlsafe_b64encode(name.encode()).decode())
        about = await self._bus.last(stream, meta)
        known = None if about is None else _About.model_validate_json(about.data)
        if known is None or known.deleted:
            raise NotFoundError(f"there is no object {name!r} in {subjects.OBJECTS}")
        chunks = subjects.object_chunks(subjects.OBJECTS, known.nuid)
        data = b"".join([chunk.data async for chunk in self._bus.read(stream, chunks)])
        if len(data) != known.size:
            raise StoreRefusedError(
                f"object {name!r} has {len(data)} bytes of {known.size}; it is being replaced, or "
                "expires"
            )
        return data
