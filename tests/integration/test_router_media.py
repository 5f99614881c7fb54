"""Pictures and files that a request names in the object store reach the provider as bytes."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.base import JsonObject
from atlas.contracts.errors import (
    AtlasError,
    BudgetExceededError,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
)
from atlas.contracts.ids import new_id
from atlas.erasing import purge
from atlas.limit_settings import MediaSettings
from atlas.objects import Objects
from tests.support.provider_server import ProviderServer, Reply, refusal, serving
from tests.support.router import Stack, chat, provider, stack, two_routers
from tests.support.waiting import eventually

PICTURE = bytes(range(256)) * 2_000
"""More than a chunk of the store."""
AS_BASE64 = b64encode(PICTURE).decode()
NAME = "default.pictures.lake"
MOST = 1_000_000
BOUNDS = MediaSettings(
    max_object_bytes=MOST, max_request_bytes=MOST + 200_000, max_held_bytes=MOST + 200_000
)
EYES = {"name": "eyes", "capabilities": {"vision": "strong"}}


@dataclass(frozen=True)
class Rig:
    """A router with one provider, and the store."""

    stack: Stack
    server: ProviderServer
    objects: Objects

    async def ask(self, *parts: JsonObject, **fields: Any) -> str:
        """Ask about these parts."""
        content = [{"type": "text", "text": "What is this?"}, *parts]
        messages = [{"role": "user", "content": content}]
        async with asyncio.timeout(20):
            whole = await self.stack.atlas.generate(messages, model="acme/eyes", **fields)
        return whole.content

    def sent(self, index: int = -1) -> list[JsonObject]:
        """The parts that the provider got."""
        return self.server.requests[index].json()["messages"][0]["content"][1:]  # type: ignore[index, no-any-return]


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with serving(Reply(chat(["a ", "lake"]))) as server:
        acme = provider("openai", server.url, api="chat", models=[EYES])
        async with stack(tmp_path, {"acme": acme}, media=BOUNDS) as running:
            yield Rig(running, server, Objects(running.bus))


def image(name: str = NAME, **more: str) -> JsonObject:
    return {"type": "image", "object": name, **more}


def url_of(part: JsonObject) -> str:
    return part["image_url"]["url"]  # type: ignore[index, no-any-return]


async def test_a_picture_that_is_named_is_sent_as_bytes_of_its_media_type(rig: Rig):
    await rig.objects.put_bytes(NAME, PICTURE, "image/png")
    assert await rig.ask(image()) == "a lake"
    assert url_of(rig.sent()[0]) == f"data:image/png;base64,{AS_BASE64}"


async def test_what_the_part_says_of_its_type_goes_before_what_the_object_says(rig: Rig):
    await rig.objects.put_bytes(NAME, PICTURE, "image/png")
    file: JsonObject = {
        "type": "file",
        "object": NAME,
        "media_type": "application/pdf",
        "name": "lake.pdf",
    }
    await rig.ask(image(media_type="image/webp"), file)
    picture, document = rig.sent()
    assert url_of(picture) == f"data:image/webp;base64,{AS_BASE64}"
    told = {"filename": "lake.pdf", "file_data": f"data:application/pdf;base64,{AS_BASE64}"}
    assert document["file"] == told


async def test_it_is_fetched_once_for_all_attempts(rig: Rig):
    await rig.objects.put_bytes(NAME, PICTURE, "image/png")
    rig.server.reply = refusal(503, {"error": {"message": "later"}}, {"Retry-After": "1"})
    asking = asyncio.create_task(rig.ask(image(), fallback={"on_failure": "restart"}))
    await rig.server.asked.wait()
    await purge(rig.stack.bus, subjects.objects_stream(subjects.OBJECTS), "$O.ATLAS_OBJECTS.>")
    rig.server.reply = Reply(chat(["a ", "lake"]))
    assert await asking == "a lake"
    assert len(rig.server.requests) >= 2
    assert url_of(rig.sent()[0]).endswith(AS_BASE64)


BAD: list[tuple[JsonObject, type[AtlasError], str]] = [
    (image("default.gone"), NotFoundError, "there is no object 'default.gone'; it may have expire"),
    (image("default.>"), NotFoundError, "there is no object 'default.>'"),
    (image("other.lake"), InvalidRequestError, "is none of tenant 'default'"),
    (image("default"), InvalidRequestError, "is none of tenant 'default'"),
    (image("default.untyped"), InvalidRequestError, "stored without a media type; give"),
    (image("default.empty"), InvalidRequestError, "object 'default.empty' is empty"),
    (image("default.large"), PayloadTooLargeError, f"and media.max_object_bytes is {MOST};"),
    (image("default.cut"), NotFoundError, "has 0 bytes of 512000"),
]


@pytest.mark.parametrize(("part", "error", "told"), BAD)
async def test_a_name_that_cannot_be_resolved_ends_the_stream_with_where_it_stands(
    rig: Rig, part: JsonObject, error: type[AtlasError], told: str
):
    await rig.objects.put_bytes("default.untyped", PICTURE)
    await rig.objects.put_bytes("default.empty", b"", "image/png")
    await rig.objects.put_bytes("default.large", bytes(MOST + 1), "image/png")
    await rig.objects.put_bytes("default.cut", PICTURE, "image/png")
    await lose_content(rig.stack.bus, rig.objects, "default.cut")
    own = new_id()
    with pytest.raises(error) as refused:
        await rig.ask(part, stream_id=own)
    assert type(refused.value) is error
    assert refused.value.message.startswith("messages[0].content[1]: ")
    assert told in refused.value.message
    assert [one.type for one in await rig.stack.ends(own)] == ["stream.failed"]
    assert not rig.server.requests
    letter = await rig.stack.bus.last(subjects.DEAD, subjects.dead("default", "request", own))
    assert letter is not None


async def lose_content(bus: Bus, objects: Objects, name: str) -> None:
    known = await objects.about(name)
    await purge(bus, subjects.objects_stream(subjects.OBJECTS), known.subject)


async def test_all_objects_of_a_request_together_are_bounded(rig: Rig):
    for number in range(3):
        await rig.objects.put_bytes(f"{NAME}{number}", PICTURE, "image/png")
    with pytest.raises(PayloadTooLargeError, match=r"1536000 bytes .*max_request_bytes is 1200000"):
        await rig.ask(*(image(f"{NAME}{number}") for number in range(3)))
    with pytest.raises(PayloadTooLargeError):  # what is sent counts, not what is fetched
        await rig.ask(*(image(f"{NAME}0") for _ in range(3)))
    assert await rig.ask(*(image(f"{NAME}0") for _ in range(2))) == "a lake"


async def test_a_request_waits_while_others_hold_what_a_router_may(rig: Rig):
    for number in range(2):
        await rig.objects.put_bytes(f"{NAME}{number}", bytes(MOST - number), "image/png")
    rig.server.reply = Reply(chat(["a ", "lake"]), then_silent=True)
    async with rig.stack.atlas.stream(
        [{"role": "user", "content": [image(f"{NAME}0")]}], model="acme/eyes"
    ) as first:
        await anext(aiter(first))
        rig.server.reply = Reply(chat(["a ", "lake"]))
        second = asyncio.create_task(rig.ask(image(f"{NAME}1")))
        await eventually(lambda: rig.stack.router.supervisor.running == 2)
        assert len(rig.server.requests) == 1
        await first.cancel()
        assert await second == "a lake"
    assert len(rig.server.requests) == 2


async def test_a_request_that_waits_for_room_can_be_cancelled(rig: Rig):
    await rig.objects.put_bytes(NAME, bytes(MOST), "image/png")
    messages = [{"role": "user", "content": [image()]}]
    rig.server.reply = Reply(chat(["a ", "lake"]), then_silent=True)
    async with (
        rig.stack.atlas.stream(messages, model="acme/eyes") as first,
        rig.stack.atlas.stream(messages, model="acme/eyes") as second,
    ):
        await eventually(lambda: rig.stack.router.supervisor.running == 2)
        await anext(aiter(first))
        assert (await second.cancel()).state == "cancelled"
        await first.cancel()
    assert len(rig.server.requests) == 1


async def test_what_a_file_holds_counts_against_a_budget_before_it_is_sent(rig: Rig):
    await rig.objects.put_bytes(NAME, PICTURE, "application/pdf")
    file: JsonObject = {"type": "file", "object": NAME}
    with pytest.raises(BudgetExceededError):
        await rig.ask(file, budget={"max_tokens": len(PICTURE) // 8})
    assert not rig.server.requests


async def test_a_router_that_adopts_a_stream_fetches_anew(tmp_path: Path):
    async with two_routers(tmp_path, models=[EYES]) as pair:
        await Objects(pair.bus).put_bytes(NAME, PICTURE, "image/png")
        pair.server.reply = Reply(chat(["a "]), then_silent=True)
        content = [{"role": "user", "content": [image()]}]
        async with pair.atlas.stream(content, model="acme/eyes") as stream:
            await anext(aiter(stream))
            pair.server.reply = Reply(chat(["a ", "lake"]))
            await pair.kill_owner(stream.stream_id)
            async with asyncio.timeout(30):
                assert (await stream.result()).content == "a lake"
        first, second = (one.json()["messages"] for one in pair.server.requests)
        assert first == second
        assert url_of(second[0]["content"][0]).endswith(AS_BASE64)  # type: ignore[index]
