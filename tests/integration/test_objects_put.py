"""`api.object.put`: tenants store what does not fit a message, part by part."""

import asyncio
import hashlib
import json
from base64 import b64encode
from collections.abc import AsyncIterator

import pytest

from atlas import subjects
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.contracts.base import JsonObject
from atlas.contracts.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PayloadTooLargeError,
)
from atlas.contracts.objects import PART_BYTES, ObjectTaken
from atlas.embedded import NatsProcess
from atlas.limit_settings import MediaSettings
from atlas.objects import Objects
from tests.support.tasks import SETTINGS, controller

PICTURE = b"".join(number.to_bytes(4) for number in range(350_000))
"""Two whole parts and a bit."""
SHA256 = hashlib.sha256(PICTURE).hexdigest()
LAST = 2 * PART_BYTES
NAME = "default.@lake"


@pytest.fixture
async def atlas(bus: Bus, nats_server: NatsProcess) -> AsyncIterator[Atlas]:
    """A client beside two controllers: parts come to either."""
    assert bus.is_connected
    async with (
        controller(nats_server.url),
        controller(nats_server.url, "c2"),
        Atlas.connect(nats_server.url, tenant="default") as connected,
    ):
        yield connected


async def put(bus: Bus, **told: object) -> ObjectTaken:
    """Send what may be a part; the whole picture's last one, unless told otherwise."""
    said = {"object_id": "lake", "offset": LAST, "data": part(LAST), "sha256": SHA256, **told}
    body = json.dumps(said).encode()
    return await bus.request(subjects.api("default", "object.put"), body, ObjectTaken)


def part(offset: int) -> str:
    return b64encode(PICTURE[offset : offset + PART_BYTES]).decode()


async def stored(bus: Bus, name: str = NAME) -> tuple[bytes, str | None]:
    objects = Objects(bus)
    known = await objects.about(name)
    return await objects.content(known), known.media_type


async def waiting(bus: Bus) -> int:
    return await bus.count(subjects.UPLOADS, subjects.UPLOAD_ALL)


@pytest.mark.parametrize("size", [1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES, len(PICTURE)])
async def test_what_is_stored_is_there_whole_with_its_media_type(bus: Bus, atlas: Atlas, size: int):
    name = await atlas.store(PICTURE[:size], media_type="image/png", object_id="lake")
    assert name == NAME
    assert await stored(bus) == (PICTURE[:size], "image/png")
    assert await waiting(bus) == 0


async def test_parts_may_come_in_any_order_and_again(bus: Bus, atlas: Atlas):
    assert atlas.tenant == "default"
    for offset in (PART_BYTES, 0, PART_BYTES):
        taken = await put(bus, offset=offset, data=part(offset), sha256=None)
        assert (taken.object, taken.next_offset) == (NAME, offset + PART_BYTES)
    for _ in range(2):
        ended = await put(bus)
        assert (ended.object, ended.size_bytes, ended.next_offset) == (NAME, len(PICTURE), None)
    assert await stored(bus) == (PICTURE, None)


async def test_the_same_id_and_bytes_are_the_same_object_and_others_a_conflict(
    bus: Bus, atlas: Atlas
):
    both = [atlas.store(PICTURE, object_id="lake") for _ in range(2)]
    assert await asyncio.gather(*both) == [NAME, NAME]
    assert await atlas.store(PICTURE, object_id="lake") == NAME
    with pytest.raises(ConflictError, match="object_id 'lake' was used before"):
        await atlas.store(PICTURE[:-1], object_id="lake")
    assert (await stored(bus))[0] == PICTURE


async def test_each_tenant_has_names_of_its_own(bus: Bus, atlas: Atlas, nats_server: NatsProcess):
    async with Atlas.connect(nats_server.url, tenant="other") as other:
        theirs = await other.store(b"theirs", object_id="lake")
    mine = await atlas.store(b"mine", object_id="lake")
    assert [(await stored(bus, one))[0] for one in (mine, theirs)] == [b"mine", b"theirs"]


async def test_a_part_that_is_missing_is_named_and_nothing_is_lost(bus: Bus, atlas: Atlas):
    assert atlas.tenant == "default"
    await put(bus, offset=0, data=part(0), sha256=None)
    with pytest.raises(InvalidRequestError, match=f"the first at {PART_BYTES}; they wait for 15"):
        await put(bus)
    await put(bus, offset=PART_BYTES, data=part(PART_BYTES), sha256=None)
    await put(bus)
    assert (await stored(bus))[0] == PICTURE


async def test_parts_that_do_not_make_the_digest_are_dropped(bus: Bus, atlas: Atlas):
    for offset in (0, PART_BYTES):
        await put(bus, offset=offset, data=part(0), sha256=None)
    with pytest.raises(InvalidRequestError, match=r"not [0-9a-f]{64}; nothing was stored: send"):
        await put(bus)
    assert await waiting(bus) == 0
    with pytest.raises(NotFoundError):
        await stored(bus)
    assert await atlas.store(PICTURE, object_id="lake") == NAME


WHOLE = b64encode(bytes(PART_BYTES)).decode()
BAD: list[tuple[JsonObject, str]] = [
    ({"object_id": "a.b"}, "object_id: String should match pattern"),
    ({"object_id": "*"}, "object_id: String should match pattern"),
    ({"object_id": None}, "object_id: Input should be a valid string"),
    ({"offset": -1}, "offset: Input should be greater than or equal to 0"),
    ({"offset": 5}, "offset: 5 is no multiple of 524288"),
    ({"data": ""}, "data: String should have at least 1 character"),
    ({"data": "not base64"}, "data: no base64:"),
    ({"data": WHOLE + "AAAA"}, "data: String should have at most"),
    ({"data": "AAAA", "sha256": None}, "data: 3 bytes; a part holds 524288"),
    ({"data": b64encode(bytes(PART_BYTES + 1)).decode()}, "data: 524289 bytes; a part holds"),
    ({"sha256": SHA256.upper()}, "sha256: String should match pattern"),
    ({"sha256": "0" * 63}, "sha256: String should match pattern"),
    ({"media_type": "png"}, "media_type: String should match pattern"),
    ({"media_type": "image/png\nx"}, "media_type: String should match pattern"),
    ({"size": 5}, "size: unknown field"),
]


@pytest.mark.usefixtures("atlas")
@pytest.mark.parametrize(("told", "said"), BAD)
async def test_what_makes_no_sense_is_refused_with_what_would(
    bus: Bus, told: JsonObject, said: str
):
    with pytest.raises(InvalidRequestError) as refusal:
        await put(bus, **told)
    assert said in refusal.value.message
    assert await waiting(bus) == 0


async def test_more_than_an_object_may_have_is_refused_before_all_of_it_was_sent(
    bus: Bus, nats_server: NatsProcess
):
    assert bus.is_connected
    bounds = MediaSettings(max_object_bytes=PART_BYTES + 100)
    async with (
        controller(nats_server.url, settings=SETTINGS.model_copy(update={"media": bounds})),
        Atlas.connect(nats_server.url, tenant="default") as atlas,
    ):
        await atlas.store(PICTURE[: PART_BYTES + 100])
        with pytest.raises(PayloadTooLargeError, match=r"media\.max_object_bytes is 524388; store"):
            await atlas.store(PICTURE)


async def test_where_there_is_no_room_it_is_overloaded_and_never_half_there(bus: Bus, atlas: Atlas):
    found = await bus.jetstream.stream_info(subjects.UPLOADS)
    await bus.jetstream.update_stream(found.config.evolve(max_msgs=1))
    with pytest.raises(OverloadedError, match="try again later"):
        await atlas.store(PICTURE, object_id="lake")
    with pytest.raises(NotFoundError):
        await stored(bus)


async def test_what_was_stored_is_no_value_of_a_task(atlas: Atlas):
    name = await atlas.store(b"\x89PNG", media_type="image/png")
    with pytest.raises(InvalidRequestError, match="is no JSON"):
        await atlas.load(name)


async def test_nothing_is_no_object(atlas: Atlas):
    with pytest.raises(InvalidRequestError, match="data: it is empty"):
        await atlas.store(b"")
