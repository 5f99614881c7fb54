"""Embeddings through every adapter: what is asked, what is understood, and what is refused."""

import base64
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.provider_server import Reply, refusal, serving

from atlas.contracts.errors import (
    ProviderAuthError,
    ProviderContextLengthError,
    ProviderInvalidRequestError,
    ProviderModelNotFoundError,
    ProviderRateLimitError,
    ProviderStreamError,
)
from atlas.contracts.inference import Usage
from provider_router.providers.base import EmbedCall
from provider_router.providers.mock.vectors import vector_of
from provider_router.providers.openai.embeddings import embeddings_body

from .collected import KEY

CALL = EmbedCall("m", ["one", "two"], headers={"traceparent": "00-aa-bb-01"})
VECTORS = [[0.5, -0.25], [0.125, 1.0]]
OPENAI = {
    "object": "list",
    "data": [
        {"object": "embedding", "index": 1, "embedding": VECTORS[1]},
        {"object": "embedding", "index": 0, "embedding": VECTORS[0]},
    ],
    "model": "m",
    "usage": {"prompt_tokens": 4, "total_tokens": 4},
}
OLLAMA = {"model": "m", "embeddings": VECTORS, "total_duration": 1, "prompt_eval_count": 4}
ANSWERS = {"openai": OPENAI, "ollama": OLLAMA}
SPEAKERS = pytest.mark.parametrize("kind", sorted(ANSWERS))


def answer(data: object) -> Reply:
    return refusal(200, data, {"X-RateLimit-Remaining-Requests": "9"})


@SPEAKERS
async def test_there_is_a_vector_for_each_text_in_its_place(kind, adapters):
    async with serving(answer(ANSWERS[kind])) as server:
        embedded = await adapters(kind, server.url).embed(CALL)
    assert embedded.vectors == VECTORS
    assert embedded.usage == Usage(input_tokens=4)
    assert embedded.headers["x-ratelimit-remaining-requests"] == "9"


@SPEAKERS
async def test_the_request_holds_model_texts_dimensions_key_and_trace(kind, adapters):
    async with serving(answer(ANSWERS[kind])) as server:
        await adapters(kind, server.url).embed(
            EmbedCall("m", ["one", "two"], 2, {"traceparent": "00-aa-bb-01"})
        )
    asked = server.requests[0]
    assert asked.path == {"openai": "/embeddings", "ollama": "/api/embed"}[kind]
    body = asked.json()
    assert (body["model"], body["input"], body["dimensions"]) == ("m", ["one", "two"], 2)
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["traceparent"] == "00-aa-bb-01"


async def test_base64_is_understood_as_little_endian_floats(adapters):
    packed = [base64.b64encode(struct.pack("<2f", *one)).decode() for one in VECTORS]
    data = {"data": [{"index": number, "embedding": one} for number, one in enumerate(packed)]}
    async with serving(answer(data)) as server:
        embedded = await adapters("openai", server.url).embed(CALL)
    assert embedded.vectors == VECTORS
    assert embedded.usage is None


def test_only_openai_itself_is_asked_for_base64():
    assert embeddings_body(CALL, is_openai=True)["encoding_format"] == "base64"
    assert "encoding_format" not in embeddings_body(CALL, is_openai=False)


async def test_ollama_is_asked_not_to_cut_what_is_too_long(adapters):
    async with serving(answer(OLLAMA)) as server:
        await adapters("ollama", server.url).embed(CALL)
    assert server.requests[0].json()["truncate"] is False


@pytest.mark.parametrize(
    ("kind", "status", "error", "expected"),
    [
        ("openai", 401, {"error": {"code": "invalid_api_key", "message": "x"}}, ProviderAuthError),
        ("openai", 429, {"error": {"type": "tokens", "message": "x"}}, ProviderRateLimitError),
        ("openai", 400, {"error": {"code": "context_length_exceeded", "message": "x"}},
         ProviderContextLengthError),
        ("openai", 200, {"error": {"code": "rate_limit_exceeded", "message": "x"}},
         ProviderRateLimitError),
        ("openai", 200, {"surprise": 1}, ProviderStreamError),
        ("openai", 200, {"data": [{"index": 0, "embedding": [1.0]}]}, ProviderStreamError),
        ("openai", 200, {"data": [{"index": 0, "embedding": [1.0]},
         {"index": 0, "embedding": [1.0]}]}, ProviderStreamError),
        ("openai", 200, {"data": [{"index": 0, "embedding": [1.0]},
         {"index": 1, "embedding": [1.0, 2.0]}]}, ProviderStreamError),
        ("openai", 200, {"data": [{"embedding": []}, {"embedding": []}]}, ProviderStreamError),
        ("openai", 200, {"data": [{"embedding": "%"}, {"embedding": "%"}]}, ProviderStreamError),
        ("openai", 200, {"data": [{"embedding": "AAAA"}, {"embedding": "AAAA"}]},
         ProviderStreamError),
        ("ollama", 404, {"error": "model 'm' not found"}, ProviderModelNotFoundError),
        ("ollama", 400, {"error": "the input length exceeds the context length"},
         ProviderInvalidRequestError),
        ("ollama", 200, {"embeddings": []}, ProviderStreamError),
    ],
)  # fmt: skip
async def test_an_error_is_mapped_like_any_other(kind, status, error, expected, adapters):
    async with serving(refusal(status, error)) as server:
        with pytest.raises(expected) as raised:
            await adapters(kind, server.url).embed(CALL)
    assert raised.value.provider == "acme"


async def test_vectors_of_another_length_than_asked_for_are_refused(adapters):
    async with serving(answer(OPENAI)) as server:
        with pytest.raises(ProviderStreamError, match=r"\[2\] dimensions where \[3\]"):
            await adapters("openai", server.url).embed(EmbedCall("m", ["one", "two"], 3))


async def test_anthropic_says_that_it_has_none_and_who_has(adapters):
    with pytest.raises(ProviderInvalidRequestError, match=r"openai .* ollama or mock"):
        await adapters("anthropic", None).embed(CALL)


async def test_the_mock_has_one_model_and_the_faults_of_its_settings(adapters):
    mock = adapters("mock", None, mock={"first_token_ms": 0})
    embedded = await mock.embed(EmbedCall("embedding", ["one", "two"], 8))
    assert [len(one) for one in embedded.vectors] == [8, 8]
    assert embedded.usage is not None
    with pytest.raises(ProviderModelNotFoundError):
        await mock.embed(CALL)
    limited = adapters("mock", None, mock={"fault": {"status": 429, "retry_after_ms": 5}})
    with pytest.raises(ProviderRateLimitError):
        await limited.embed(EmbedCall("embedding", ["one"]))


@given(st.text(), st.integers(-(2**63), 2**63), st.integers(1, 300))
def test_a_mock_vector_is_a_unit_vector_and_the_same_again(text, seed, dimensions):
    vector = vector_of(text, seed=seed, dimensions=dimensions)
    assert len(vector) == dimensions
    assert math.isclose(math.sumprod(vector, vector), 1.0, rel_tol=1e-9)
    assert vector_of(text, seed=seed, dimensions=dimensions) == vector


def test_mock_vectors_of_similar_texts_are_nearer_than_of_others():
    def likeness(one: str, other: str) -> float:
        return math.sumprod(vector_of(one, seed=0), vector_of(other, seed=0))

    near = likeness("The cat sat on the mat.", "A cat is sitting on the mat.")
    far = likeness("The cat sat on the mat.", "Quarterly revenue rose sharply.")
    assert near > far + 0.3


def test_another_seed_gives_other_vectors():
    assert vector_of("one", seed=0) != vector_of("one", seed=1)
