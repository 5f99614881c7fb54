"""Embeddings from a client over NATS, by the router, to real HTTP servers and the mock."""

import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

from atlas import subjects
from atlas.contracts.errors import (
    InvalidRequestError,
    NoResponderError,
    NotFoundError,
    ProviderAuthError,
)
from atlas.contracts.inference import EmbedRequest, EmbedResponse
from atlas.provider_settings import ProviderSettings
from tests.support.provider_server import ProviderServer, ReceivedRequest, Reply, refusal, serving
from tests.support.router import TENANT, Stack, stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "text-embedding-3-small"
DIMENSIONS = 1_536


@dataclass(frozen=True)
class Rig:
    """A router with two providers of one model, and the mock."""

    stack: Stack
    first: ProviderServer
    second: ProviderServer


class Vectors(ProviderServer):
    """Answers each text with a vector that begins with its number, unless `reply` is a refusal."""

    def reply_to(self, request: ReceivedRequest) -> Reply:
        """The reply to one request."""
        if self.reply.status != 200:
            return self.reply
        texts = request.json()["input"]
        assert isinstance(texts, list)
        data = [
            {"index": number, "embedding": [float(text), *[0.012345678] * (DIMENSIONS - 1)]}
            for number, text in enumerate(texts)
        ]
        return refusal(200, {"data": data, "usage": {"prompt_tokens": len(texts)}})


@pytest_asyncio.fixture(loop_scope="module")
async def rig(tmp_path) -> AsyncIterator[Rig]:
    """Anew for each test: a router remembers which providers failed."""
    async with AsyncExitStack() as undo:
        servers = [await undo.enter_async_context(serving(Reply(), Vectors)) for _ in range(2)]
        providers = {
            name: ProviderSettings(kind="openai", base_url=server.url, models=["gpt-5", MODEL])
            for name, server in zip(("first", "second"), servers, strict=True)
        }
        providers["mock"] = ProviderSettings(kind="mock", models=["standard"])
        providers["claude"] = ProviderSettings(kind="anthropic", base_url=servers[0].url)
        running = await undo.enter_async_context(stack(tmp_path, providers))
        yield Rig(running, servers[0], servers[1])


async def test_texts_become_vectors_in_their_order(rig: Rig):
    answer = await rig.stack.atlas.embed(["3", "1", "2"])
    assert [one[0] for one in answer.embeddings] == [3, 1, 2]
    assert (answer.provider, answer.model) == ("first", MODEL)
    assert answer.usage.input_tokens == 3
    assert answer.cost.total_usd > 0


async def test_the_door_takes_a_plain_request_too(rig: Rig):
    door = subjects.api(TENANT, "embed")
    answer = await rig.stack.bus.request(door, EmbedRequest(input="7"), EmbedResponse)
    assert answer.embeddings[0][0] == 7


async def test_a_failing_provider_falls_back_to_the_same_model_of_another(rig: Rig):
    rig.first.reply = refusal(503, {"error": {"message": "x"}})
    answer = await rig.stack.atlas.embed("4", model=MODEL)
    assert (answer.provider, answer.model) == ("second", MODEL)
    assert len(rig.first.requests) == len(rig.second.requests) == 1


async def test_a_provider_that_was_named_is_the_only_one_asked(rig: Rig):
    rig.first.reply = refusal(401, {"error": {"message": "x"}})
    with pytest.raises(ProviderAuthError):
        await rig.stack.atlas.embed("4", model=f"first/{MODEL}")
    assert rig.second.requests == []


async def test_more_texts_than_fit_into_a_message_are_sent_in_several(rig: Rig):
    texts = [str(number) for number in range(150)]
    answer = await rig.stack.atlas.embed(texts)
    assert [one[0] for one in answer.embeddings] == list(range(150))
    assert len(rig.first.requests) > 1
    assert answer.usage.input_tokens == 150


async def test_the_mock_gives_the_same_vector_again_and_near_ones_for_near_texts(rig: Rig):
    texts = ["a map of the old town", "the old town's map", "interest rates rose"]
    answer = await rig.stack.atlas.embed(texts, model="mock/embedding")
    assert answer.embeddings == (await rig.stack.other.embed(texts, model="embedding")).embeddings
    one, near, far = answer.embeddings
    assert len(one) == 256
    assert math.sumprod(one, near) > math.sumprod(one, far)
    assert answer.cost.total_usd == 0


async def test_dimensions_reach_the_provider(rig: Rig):
    answer = await rig.stack.atlas.embed("x", model="mock/embedding", dimensions=16)
    assert len(answer.embeddings[0]) == 16


async def test_what_makes_no_sense_is_refused_at_the_door(rig: Rig):
    atlas = rig.stack.atlas
    with pytest.raises(NotFoundError, match=f"did you mean '{MODEL}'"):
        await atlas.embed("x", model="text-embeding-3-small")
    with pytest.raises(InvalidRequestError, match="has no embeddings"):
        await atlas.embed("x", model="claude/claude-sonnet-4-5")
    with pytest.raises(InvalidRequestError, match="dimensions"):
        await atlas.embed("x", model=MODEL, dimensions=9_999)
    with pytest.raises(InvalidRequestError, match="did you mean 'dimensions'"):
        await atlas.embed("x", dimension=5)
    with pytest.raises(InvalidRequestError, match="input"):
        await atlas.embed([])
    assert rig.first.requests == []


async def test_health_counts_embeddings_too(rig: Rig):
    rig.first.reply = refusal(500, {"error": {"message": "x"}})
    before = await failures(rig)
    await rig.stack.atlas.embed("4", model=MODEL)
    assert await failures(rig) == before + 1


async def failures(rig: Rig) -> int:
    shown = (await rig.stack.atlas.providers()).providers
    return next(one.failures for one in shown if one.provider == "first")


async def test_without_a_router_the_client_says_what_to_start(rig: Rig):
    lonely = rig.stack.atlas.__class__(rig.stack.bus, "nobody.here")
    with pytest.raises(NoResponderError, match="atlas up"):
        await lonely.embed("x")
