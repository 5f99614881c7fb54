"""Pictures and files that a request names in the object store, fetched before its first call.

Once for each stream that a router takes up, not for each attempt. Until then, and in all that is
stored or told of a request, they are names.
"""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from atlas.contracts.errors import (
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PayloadTooLargeError,
    RequestTimeoutError,
    StoreRefusedError,
)
from atlas.contracts.inference import FilePart, ImagePart, Message, ModelRequest, Part
from atlas.limit_settings import MediaSettings
from atlas.objects import About, Objects
from provider_router.routing.estimates import input_tokens
from provider_router.streaming.delivery import Delivery
from provider_router.streaming.job import Job

_FETCH_S = 60.0
_ROOM_S = 10.0
"""So long a request waits here for room; then it goes back into its lane, for any router."""
_ROOM_LATER_MS = 1_000
_SHOWN = 100


@dataclass(frozen=True, slots=True)
class _Named:
    """A part that names an object, and where it stands."""

    where: str
    part: ImagePart | FilePart
    object: str


@dataclass(frozen=True, slots=True)
class _Fetched:
    """What an object holds."""

    data: str
    """As base64."""
    media_type: str | None


@dataclass(slots=True)
class _Room:
    """What running streams hold, in bytes."""

    bound: int
    held: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take(self, size_bytes: int) -> None:
        """Wait for room; what alone is more than all of it gets in when nobody else is."""
        try:
            async with asyncio.timeout(_ROOM_S), self.changed:
                await self.changed.wait_for(
                    lambda: not self.held or self.held + size_bytes <= self.bound
                )
                self.held += size_bytes
        except TimeoutError as error:
            raise OverloadedError(
                f"this router's streams hold {self.held} bytes of objects, and "
                f"media.max_held_bytes is {self.bound}; the request waits",
                retry_after_ms=_ROOM_LATER_MS,
            ) from error

    async def give_back(self, size_bytes: int) -> None:
        """It is free again."""
        async with self.changed:
            self.held -= size_bytes
            self.changed.notify_all()


@dataclass(slots=True)
class _Held:
    """What one stream holds of the room."""

    room: _Room
    size_bytes: int = 0

    async def take(self, size_bytes: int) -> None:
        """Wait for room."""
        await self.room.take(size_bytes)
        self.size_bytes = size_bytes

    async def give_back(self) -> None:
        """The stream is over, or somebody else's by now."""
        if self.size_bytes:
            await self.room.give_back(self.size_bytes)


class Media:
    """Fetches what requests name."""

    def __init__(self, objects: Objects, settings: MediaSettings) -> None:
        self._objects = objects
        self._settings = settings
        self._room = _Room(settings.max_held_bytes)

    @asynccontextmanager
    async def into(self, job: Job, delivery: Delivery) -> AsyncIterator[Job]:
        """The job with the bytes of what it names, while the block runs.

        An interrupt, such as a cancel, ends the fetching; the job is then as it was.

        Raises:
            InvalidRequestError: It names what is not there, not its tenant's, or too large.
            OverloadedError: There is no room for it here.
            RequestTimeoutError: NATS does not answer.
        """
        named = _named(job.request)
        if not named:
            yield job
            return
        held = _Held(self._room)
        fetching = asyncio.create_task(self._fetch(job.address.tenant, named, held))
        try:
            if await _is_first(fetching, delivery.gate.interrupt):
                job = _filled(job, delivery, fetching.result())
            yield job
        finally:
            await held.give_back()

    async def _fetch(self, tenant: str, named: list[_Named], held: _Held) -> dict[str, _Fetched]:
        known = await self._known(tenant, named)
        await held.take(sum(about.size for about in known.values()))
        fetched: dict[str, _Fetched] = {}
        for one in named:
            if one.object not in fetched:
                about = known[one.object]
                data = await self._content(one, about)
                fetched[one.object] = _Fetched(b64encode(data).decode(), about.media_type)
        return fetched

    async def _known(self, tenant: str, named: list[_Named]) -> dict[str, About]:
        """What is known of each object."""
        known: dict[str, About] = {}
        size_bytes = 0
        for one in named:
            if one.object not in known:
                known[one.object] = await self._about(tenant, one)
            size_bytes += known[one.object].size
            if one.part.media_type is None and known[one.object].media_type is None:
                raise InvalidRequestError(
                    f"{one.where}: object {one.object[:_SHOWN]!r} was stored without a media type; "
                    "give `media_type`, such as image/png"
                )
        most = self._settings.max_request_bytes
        if size_bytes > most:
            raise PayloadTooLargeError(
                f"messages: the objects they name have {size_bytes} bytes together, and "
                f"media.max_request_bytes is {most}; name fewer or smaller ones, or raise it",
                details={"size_bytes": size_bytes, "max_request_bytes": most},
            )
        return known

    async def _about(self, tenant: str, one: _Named) -> About:
        own = f"{tenant}."
        shown = one.object[:_SHOWN]
        if not one.object.startswith(own):
            raise InvalidRequestError(
                f"{one.where}: object {shown!r} is none of tenant {tenant!r}, whose objects begin "
                f"with {own!r}; give a name as `api.object.put` answers it"
            )
        try:
            known = await self._objects.about(one.object)
        except NotFoundError as error:
            raise NotFoundError(
                f"{one.where}: there is no object {shown!r}; it may have expired: store it again "
                "with `api.object.put`, and name it as it answers"
            ) from error
        most = self._settings.max_object_bytes
        if known.size > most:
            raise PayloadTooLargeError(
                f"{one.where}: object {shown!r} has {known.size} bytes, and media.max_object_bytes "
                f"is {most}; store a smaller one, or raise it",
                details={"size_bytes": known.size, "max_object_bytes": most},
            )
        if known.size == 0:
            raise InvalidRequestError(f"{one.where}: object {shown!r} is empty; store its content")
        return known

    async def _content(self, one: _Named, known: About) -> bytes:
        try:
            async with asyncio.timeout(_FETCH_S):
                return await self._objects.content(known)
        except TimeoutError as error:
            raise RequestTimeoutError(
                f"{one.where}: object {one.object[:_SHOWN]!r} was not read within {_FETCH_S:g} s"
            ) from error
        except StoreRefusedError as error:
            raise NotFoundError(f"{one.where}: {error.message}; store it again") from error


async def _is_first(task: asyncio.Task[Any], interrupt: asyncio.Future[Any]) -> bool:
    """Whether a task is done before an interrupt comes; where it is not, it is over."""
    try:
        await asyncio.wait({task, interrupt}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        task.cancel()
        await asyncio.wait({task})
    return not task.cancelled()


def _named(request: ModelRequest) -> list[_Named]:
    """The parts of a request that name objects."""
    return [
        _Named(f"messages[{place}].content[{number}]", part, part.object)
        for place, message in enumerate(request.messages)
        if not isinstance(message.content, str)
        for number, part in enumerate(message.content)
        if isinstance(part, ImagePart | FilePart) and part.object is not None
    ]


def _filled(job: Job, delivery: Delivery, fetched: Mapping[str, _Fetched]) -> Job:
    """The job with these bytes, and with the tokens that they come to, for every attempt of it."""
    request = job.request.model_copy(
        update={"messages": [_whole(one, fetched) for one in job.request.messages]}
    )
    more = input_tokens(request) - input_tokens(job.request)
    for attempt in delivery.ledger.earlier:
        attempt.input_tokens += more
    expected = replace(job.plan.expected, input_tokens=job.plan.expected.input_tokens + more)
    return replace(job, request=request, plan=replace(job.plan, expected=expected))


def _whole(message: Message, fetched: Mapping[str, _Fetched]) -> Message:
    if isinstance(message.content, str):
        return message
    parts = [
        part
        if not isinstance(part, ImagePart | FilePart) or part.object is None
        else _with_data(part, fetched[part.object])
        for part in message.content
    ]
    return message.model_copy(update={"content": parts})


def _with_data(part: ImagePart | FilePart, fetched: _Fetched) -> Part:
    """The part with its bytes instead of a name."""
    media_type = part.media_type or fetched.media_type
    return part.model_copy(update={"data": fetched.data, "object": None, "media_type": media_type})
