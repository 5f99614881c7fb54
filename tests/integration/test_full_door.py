"""A door with as many calls in progress as it may have: told at once, and no other door is shut."""

import asyncio
from pathlib import Path

import pytest

from atlas import service, subjects
from atlas.contracts.catalogue import ProvidersReply, ProvidersRequest
from atlas.contracts.errors import OverloadedError
from atlas.contracts.inference import EmbedRequest, EmbedResponse
from atlas.provider_settings import ProviderSettings
from tests.support.provider_server import Reply, serving
from tests.support.router import TENANT, stack

EMBED = subjects.api(TENANT, "embed")
REQUEST = EmbedRequest(input="a lake", model="slow/text-embedding-3-small")


async def test_embeddings_beyond_what_a_router_takes_are_refused_with_when_to_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(service, "_CONCURRENT_CALLS", 20)
    async with serving(Reply(headers_after_s=600)) as upstream:
        slow = ProviderSettings(kind="openai", base_url=upstream.url, models=["gpt-5"])
        async with stack(tmp_path, {"slow": slow}) as running, asyncio.timeout(60):
            bus = running.bus
            asking = [
                asyncio.create_task(bus.request(EMBED, REQUEST, EmbedResponse, timeout_s=60))
                for _ in range(20)
            ]
            await upstream.asked.wait()
            with pytest.raises(OverloadedError, match="embed: 20 calls are in progress") as told:
                await bus.request(EMBED, REQUEST, EmbedResponse)
            assert told.value.retry_after_ms
            door = subjects.api(TENANT, "providers")
            reply = await bus.request(door, ProvidersRequest(), ProvidersReply)
            assert [one.provider for one in reply.providers] == ["slow"]
            for one in asking:
                one.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
