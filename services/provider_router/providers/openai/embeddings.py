"""The embeddings endpoint of OpenAI and compatible servers: pure."""

import base64
import sys
from array import array
from collections.abc import Mapping

import msgspec

from atlas.contracts.base import JsonObject
from provider_router.providers.base import EmbedCall, Embedded
from provider_router.providers.embeddings import checked, decoded
from provider_router.providers.errors import Origin, stream_error


class _Vector(msgspec.Struct):
    embedding: list[float] | str
    index: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    total_tokens: int | None = None


class _Answer(msgspec.Struct):
    data: list[_Vector]
    usage: _Usage | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


def embeddings_body(call: EmbedCall, *, is_openai: bool) -> JsonObject:
    """The body of `POST /embeddings`.

    OpenAI itself is asked for base64, a quarter of the bytes; not every compatible server knows
    it, but whoever answers so all the same is understood.
    """
    body: JsonObject = {"model": call.model, "input": call.texts}
    if call.dimensions is not None:
        body["dimensions"] = call.dimensions
    return body | ({"encoding_format": "base64"} if is_openai else {})


def read_embeddings(
    data: bytes, call: EmbedCall, origin: Origin, headers: Mapping[str, str]
) -> Embedded:
    """The answer, in the order of the texts.

    Raises:
        ProviderError: It tells an error, is malformed, or does not fit the call.
    """
    answer = decoded(_ANSWER, data, origin, headers)
    places = [number if one.index is None else one.index for number, one in enumerate(answer.data)]
    if sorted(places) != list(range(len(places))):
        raise stream_error(origin, f"answered vectors with the indexes {places[:8]}")
    vectors: list[list[float]] = [[]] * len(places)
    for place, one in zip(places, answer.data, strict=True):
        vectors[place] = _floats(one.embedding, origin)
    usage = answer.usage or _Usage()
    tokens = usage.total_tokens if usage.prompt_tokens is None else usage.prompt_tokens
    return checked(vectors, tokens, call, origin, headers)


def _floats(embedding: list[float] | str, origin: Origin) -> list[float]:
    """The numbers, given as such or as base64 of little-endian 32-bit floats."""
    if isinstance(embedding, list):
        return embedding
    values = array("f")
    try:
        values.frombytes(base64.b64decode(embedding, validate=True))
    except ValueError as error:
        raise stream_error(origin, f"a vector that is no base64: {error}") from error
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()
