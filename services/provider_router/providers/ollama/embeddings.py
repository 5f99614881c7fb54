"""Ollama's `/api/embed`: pure."""

from collections.abc import Mapping

import msgspec

from atlas.contracts.base import JsonObject
from provider_router.providers.base import EmbedCall, Embedded
from provider_router.providers.embeddings import checked, decoded
from provider_router.providers.errors import Origin


class _Answer(msgspec.Struct):
    embeddings: list[list[float]]
    prompt_eval_count: int | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


def embed_body(call: EmbedCall) -> JsonObject:
    """The body of `POST /api/embed`; a text that is too long is refused, not cut in silence."""
    body: JsonObject = {"model": call.model, "input": call.texts, "truncate": False}
    return body | ({} if call.dimensions is None else {"dimensions": call.dimensions})


def read_embed(
    data: bytes, call: EmbedCall, origin: Origin, headers: Mapping[str, str]
) -> Embedded:
    """The answer, in the order of the texts.

    Raises:
        ProviderError: It tells an error, is malformed, or does not fit the call.
    """
    answer = decoded(_ANSWER, data, origin, headers)
    return checked(answer.embeddings, answer.prompt_eval_count, call, origin, headers)
