"""`api.object.get`: large values, read part by part by whoever belongs to their tenant."""

import asyncio
import hashlib
import json
from base64 import b64decode
from collections.abc import AsyncIterator

import pytest
from nats.js.api import ObjectMeta, ObjectMetaOptions

from atlas import subjects
from atlas.bus import Bus
from atlas.client import Atlas
from atlas.contracts.base import JsonObject
from atlas.contracts.errors import InvalidRequestError, NotFoundError, StoreRefusedError
from atlas.contracts.objects import PART_BYTES, ObjectPart
from atlas.embedded import NatsProcess
from atlas.erasing import purge
from atlas.objects import Objects
from tests.support.tasks import controller

CHUNK_BYTES = 128 * 1024
LARGE = {"text": "".join(f"line {number} äöü\n" for number in range(100_000))}
LARGE_DATA = json.dumps(LARGE, ensure_ascii=False).encode()
REF = "default.t1.output"


@pytest.fixture
async def atlas(bus: Bus, nats_server: NatsProcess) -> AsyncIterator[Atlas]:
    assert bus.is_connected
    async with (
        controller(nats_server.url),
        Atlas.connect(nats_server.url, tenant="default") as connected,
    ):
        yield connected


async def part(bus: Bus, **asked: object) -> ObjectPart:
    return await asked_of("default", bus, asked)


async def asked_of(tenant: str, bus: Bus, asked: JsonObject) -> ObjectPart:
    body = json.dumps({"object": REF, **asked}).encode()
    return await bus.request(subjects.api(tenant, "object.get"), body, ObjectPart)


async def put_beside(bus: Bus, number: int) -> None:
    await Objects(bus).put(f"default.t{number + 2}.output", f"{number}" * 700_000)


async def describe(bus: Bus, meta: JsonObject) -> None:
    """Say of the object that was stored last that it is something else."""
    names = subjects.object_meta(subjects.OBJECTS, "*")
    known = await bus.last(subjects.objects_stream(subjects.OBJECTS), names)
    assert known is not None
    await bus.store(known.subject, json.dumps(meta).encode(), headers={"Nats-Rollup": "sub"})


async def test_a_large_value_comes_whole_also_where_others_were_stored_meanwhile(
    bus: Bus, atlas: Atlas
):
    beside = (put_beside(bus, number) for number in range(3))
    await asyncio.gather(Objects(bus).put(REF, LARGE), *beside)
    assert len(LARGE_DATA) > 2 * PART_BYTES
    assert await atlas.load(REF) == LARGE


@pytest.mark.parametrize(
    ("offset", "limit_bytes"),
    [
        (0, 1),
        (0, CHUNK_BYTES),
        (CHUNK_BYTES - 1, 2),
        (CHUNK_BYTES, CHUNK_BYTES),
        (3 * CHUNK_BYTES + 5, PART_BYTES),
        (len(LARGE_DATA) - 1, PART_BYTES),
        (len(LARGE_DATA), 1),
    ],
)
async def test_any_part_of_it_can_be_asked_for(
    bus: Bus, atlas: Atlas, offset: int, limit_bytes: int
):
    assert atlas.tenant == "default"
    beside = (put_beside(bus, number) for number in range(3))
    await asyncio.gather(Objects(bus).put(REF, LARGE), *beside)
    told = await part(bus, offset=offset, limit_bytes=limit_bytes)
    expected = LARGE_DATA[offset : offset + limit_bytes]
    assert b64decode(told.data) == expected
    assert (told.size_bytes, told.offset) == (len(LARGE_DATA), offset)
    assert told.sha256 == hashlib.sha256(LARGE_DATA).hexdigest()
    end = offset + len(expected)
    assert told.next_offset == (end if end < len(LARGE_DATA) else None)


@pytest.mark.usefixtures("atlas")
@pytest.mark.parametrize("chunk_bytes", [1_000, 100_001])
async def test_what_others_stored_in_chunks_of_another_size_is_read_as_well(
    bus: Bus, chunk_bytes: int
):
    store = await bus.jetstream.object_store(subjects.OBJECTS)
    options = ObjectMetaOptions(max_chunk_size=chunk_bytes)
    await store.put(REF, LARGE_DATA[:300_000], ObjectMeta(name=REF, options=options))
    told = await part(bus, offset=250_000, limit_bytes=10)
    assert b64decode(told.data) == LARGE_DATA[250_000:250_010]


@pytest.mark.usefixtures("atlas")
async def test_chunks_of_uneven_sizes_are_read_from_the_first_on(bus: Bus):
    store = await bus.jetstream.object_store(subjects.OBJECTS)
    info = await store.put(REF, b"")
    meta = info.as_dict() | {"size": 9, "chunks": 3, "options": {"max_chunk_size": 5}}
    for data in (b"12345", b"6", b"789"):
        await bus.store(subjects.object_chunks(subjects.OBJECTS, str(info.nuid)), data)
    await describe(bus, meta)
    assert b64decode((await part(bus, offset=5, limit_bytes=3)).data) == b"678"


async def test_a_part_is_found_in_a_few_steps_however_many_stored_at_once(bus: Bus):
    chunks, others, size = 64, 32, 1_000
    store = await bus.jetstream.object_store(subjects.OBJECTS)
    info = await store.put(REF, b"")
    for number in range(chunks):
        data = f"{number:0{size}}".encode()
        await bus.store(subjects.object_chunks(subjects.OBJECTS, str(info.nuid)), data)
        beside = (subjects.object_chunks(subjects.OBJECTS, f"o{one}") for one in range(others))
        await asyncio.gather(*(bus.store(subject, b"x") for subject in beside))
    told = {"size": chunks * size, "chunks": chunks, "options": {"max_chunk_size": size}}
    await describe(bus, info.as_dict() | told)
    sent = bus.nats.stats["out_msgs"]
    part = await Objects(bus).part(REF, 50 * size, size)
    assert int(part.data) == 50
    assert bus.nats.stats["out_msgs"] - sent < 20


@pytest.mark.usefixtures("atlas")
async def test_an_object_of_another_tenant_is_refused_whether_it_is_there_or_not(bus: Bus):
    await Objects(bus).put("default.t1.output", "secret")
    for name in ("default.t1.output", "default.t9.output"):
        with pytest.raises(InvalidRequestError, match=r"none of tenant 'other'"):
            await asked_of("other", bus, {"object": name})


BAD: list[tuple[JsonObject, str]] = [
    ({"offset": -1}, "offset: Input should be greater than or equal to 0"),
    ({"offset": 1 << 80}, "is beyond the end of object"),
    ({"offset": 9}, "is beyond the end of object 'default.t1.output', which has 7 bytes"),
    ({"offset": "x"}, "offset: Input should be a valid integer"),
    ({"limit_bytes": 0}, "limit_bytes: Input should be greater than 0"),
    ({"limit_bytes": PART_BYTES + 1}, "limit_bytes: Input should be less than or equal to 524288"),
    ({"length": 5}, "length: unknown field"),
    ({"object": ""}, "object: String should have at least 1 character"),
    ({"object": "default." + "x" * 1_024}, "object: String should have at most 1024 characters"),
    ({"object": "../default.t1.output"}, "is none of tenant 'default'"),
    ({"object": "default"}, "is none of tenant 'default'"),
    ({"object": "default2.t1.output"}, "is none of tenant 'default'"),
    ({"object": "KV_ATLAS_OPEN"}, "is none of tenant 'default'"),
    ({"object": None}, "object: Input should be a valid string"),
]


@pytest.mark.usefixtures("atlas")
@pytest.mark.parametrize(("asked", "told"), BAD)
async def test_what_makes_no_sense_is_refused_with_what_would(
    bus: Bus, asked: JsonObject, told: str
):
    await Objects(bus).put(REF, "small")
    with pytest.raises(InvalidRequestError) as refusal:
        await part(bus, **asked)
    assert told in refusal.value.message


@pytest.mark.parametrize(
    "name", ["default.gone", "default.", "default...", "default.*", "default.>", "default./../x"]
)
async def test_what_is_not_there_is_not_found(bus: Bus, atlas: Atlas, name: str):
    await Objects(bus).put(REF, "small")
    with pytest.raises(NotFoundError, match="it may have expired"):
        await atlas.load(name)


async def test_a_value_whose_content_is_lost_is_an_error_and_never_less_than_it_was(
    bus: Bus, atlas: Atlas
):
    await Objects(bus).put(REF, LARGE)
    stream = subjects.objects_stream(subjects.OBJECTS)
    chunks = subjects.object_chunks(subjects.OBJECTS, "*")
    await purge(bus, stream, chunks, keep=2)
    with pytest.raises(StoreRefusedError, match=r"0 bytes of \d+; it is being replaced, or exp"):
        await atlas.load(REF)


@pytest.mark.parametrize("other", [{"text": LARGE["text"].upper()}, "short"])
async def test_a_value_that_is_replaced_while_it_is_read_is_read_anew(
    bus: Bus, atlas: Atlas, other: object
):
    await Objects(bus).put(REF, LARGE)
    ask, parts = atlas._bus.request, 0

    async def replaced_after_the_first(*args: object, **named: object) -> object:
        nonlocal parts
        parts += 1
        if parts == 2:
            await Objects(bus).put(REF, other)
        return await ask(*args, **named)  # type: ignore[arg-type]

    atlas._bus.request = replaced_after_the_first  # type: ignore[method-assign, assignment]
    assert await atlas.load(REF) == other
    assert parts >= 3
