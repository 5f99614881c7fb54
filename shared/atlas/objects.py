"""Large values in the object store `ATLAS_OBJECTS`."""

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from nats.errors import Error as NatsError
from nats.js.api import ObjectMeta
from nats.js.errors import Error as JetStreamError
from pydantic import BaseModel, Field

from atlas import subjects, wire
from atlas.bus import Bus
from atlas.contracts.errors import InvalidRequestError, NotFoundError, StoreRefusedError
from atlas.erasing import purge

_STREAM = subjects.objects_stream(subjects.OBJECTS)
_CHUNK_BYTES = 128 * 1024
_SHA256 = "SHA-256="
_CONTENT_TYPE = "Content-Type"


class _Options(BaseModel):
    """How it was stored."""

    max_chunk_size: int = Field(default=_CHUNK_BYTES, gt=0)


class About(BaseModel):
    """As much of what is kept of an object as is needed (NATS ADR-20)."""

    name: str = ""
    nuid: str = ""
    size: int = 0
    chunks: int = 0
    digest: str = ""
    deleted: bool = False
    headers: dict[str, object] | None = None
    options: _Options = _Options()

    @property
    def subject(self) -> str:
        """Where its content is."""
        return subjects.object_chunks(subjects.OBJECTS, self.nuid)

    @property
    def is_even(self) -> bool:
        """Whether all chunks but the last have the same size."""
        return self.chunks == -(-self.size // self.options.max_chunk_size)

    @property
    def media_type(self) -> str | None:
        """What its content is, where whoever stored it has told: its header `Content-Type`."""
        for name, value in (self.headers or {}).items():
            if name.lower() == _CONTENT_TYPE.lower():
                first = value[0] if isinstance(value, list) and value else value
                return first if isinstance(first, str) and first else None
        return None

    @property
    def sha256(self) -> str | None:
        """Of its content, in hexadecimal."""
        if not self.digest.startswith(_SHA256):
            return None
        try:
            return urlsafe_b64decode(self.digest.removeprefix(_SHA256)).hex()
        except binascii.Error:
            return None


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an object's content."""

    data: bytes
    size_bytes: int
    """Of the whole."""
    sha256: str | None
    """Of the whole, in hexadecimal, where whoever stored it has told."""


class Objects:
    """Puts and gets what does not fit a message: JSON values, and media as they are."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def put(self, name: str, value: object) -> str:
        """Keep a value under a name; gives the name.

        Raises:
            StoreRefusedError: It could not be stored; worth another try.
        """
        return await self.put_bytes(name, json.dumps(value, ensure_ascii=False).encode())

    async def put_bytes(self, name: str, data: bytes, media_type: str | None = None) -> str:
        """Keep bytes under a name, such as those of a picture; raises as `put` does."""
        headers = None if media_type is None else {_CONTENT_TYPE: [media_type]}
        try:
            store = await self._bus.jetstream.object_store(subjects.OBJECTS)
            await store.put(name, data, ObjectMeta(headers=headers))
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
        found = [
            (stored.subject, info)
            async for stored in self._bus.read(_STREAM, subjects.object_meta(subjects.OBJECTS, "*"))
            if (info := json.loads(stored.data))["name"].startswith(tuple(prefixes))
        ]
        for subject, info in found:
            await purge(self._bus, _STREAM, subjects.object_chunks(subjects.OBJECTS, info["nuid"]))
            await purge(self._bus, _STREAM, subject)
        return len(found)

    async def get(self, name: str) -> object:
        """The value of a name.

        Raises:
            NotFoundError: There is none; it may have expired.
            StoreRefusedError: It could not be read; worth another try.
        """
        try:
            data = await self.content(await self.about(name))
        except (NatsError, TimeoutError) as error:
            raise StoreRefusedError(f"object {name!r} was not read: {error}") from error
        return json.loads(data or b"null")

    async def about(self, name: str) -> About:
        """What is kept of an object.

        Raises:
            NotFoundError: There is none.
            RequestTimeoutError: No answer.
        """
        meta = subjects.object_meta(subjects.OBJECTS, urlsafe_b64encode(name.encode()).decode())
        about = await self._bus.last(_STREAM, meta)
        known = None if about is None else About.model_validate_json(about.data)
        if known is None or known.deleted:
            raise NotFoundError(
                f"there is no object {name!r} in {subjects.OBJECTS}; it may have expired, or its "
                "task was deleted"
            )
        return known

    async def content(self, known: About) -> bytes:
        """Its bytes, by direct gets: a reader needs no consumer, nor the right to make one.

        Raises:
            StoreRefusedError: It is not whole: it is being replaced, or expires.
            RequestTimeoutError: No answer.
        """
        data = b"".join([chunk.data async for chunk in self._bus.read(_STREAM, known.subject)])
        if len(data) != known.size:
            raise _incomplete(known.name, len(data), known.size)
        return data

    async def part(self, name: str, offset: int, most_bytes: int) -> Part:
        """The content from `offset` on, at most so many bytes of it.

        Raises:
            NotFoundError: There is no such object; it may have expired.
            InvalidRequestError: It ends before `offset`.
            StoreRefusedError: It could not be read; worth another try.
        """
        known = await self.about(name)
        if offset > known.size:
            raise InvalidRequestError(
                f"offset: {offset} is beyond the end of object {name!r}, which has {known.size} "
                "bytes"
            )
        size_bytes = min(most_bytes, known.size - offset)
        try:
            data = await self._between(known, offset, offset + size_bytes)
        except (NatsError, TimeoutError) as error:
            raise StoreRefusedError(f"object {name!r} was not read: {error}") from error
        if len(data) != size_bytes:
            raise _incomplete(name, len(data), size_bytes)
        return Part(data, known.size, known.sha256)

    async def _between(self, known: About, begin: int, end: int) -> bytes:
        """The bytes from one place to another; fewer where chunks are missing."""
        chunk_bytes = known.options.max_chunk_size
        index = begin // chunk_bytes if known.is_even else 0
        from_seq = await self._seq_of(known, index) if begin < end else None
        if from_seq is None:
            return b""
        data, at = bytearray(), index * chunk_bytes
        page = (end - begin) // chunk_bytes + 2
        reading = self._bus.read(_STREAM, known.subject, from_seq=from_seq, page=page)
        async with aclosing(reading) as chunks:
            async for chunk in chunks:
                data += chunk.data[max(0, begin - at) : max(0, end - at)]
                at += len(chunk.data)
                if at >= end:
                    break
        return bytes(data)

    async def _seq_of(self, known: About, index: int) -> int | None:
        """The sequence of a chunk, or None where it is gone.

        A chunk `n` places before another has a sequence smaller by `n` at least; by more, where
        others stored something in between. Halving what is left finds it in a few steps, however
        many stored at once.
        """
        last = await self._bus.last(_STREAM, known.subject)
        low, high = 1, 0 if last is None else last.seq - (known.chunks - 1 - index)
        at = low
        while low <= high:
            reading = self._bus.read(_STREAM, known.subject, from_seq=at, page=1)
            async with aclosing(reading) as chunks:
                found = await anext(chunks, None)
            if found is None:
                return None
            ahead = known.chunks - 1 - wire.pending(found.headers) - index
            if ahead == 0:
                return found.seq
            if ahead > 0:
                high = min(at - 1, found.seq - ahead)
            else:
                low = found.seq - ahead
            at = (low + high) // 2
        return None


def _incomplete(name: str, read_bytes: int, size_bytes: int) -> StoreRefusedError:
    return StoreRefusedError(
        f"object {name!r} has {read_bytes} bytes of {size_bytes}; it is being replaced, or expires"
    )
