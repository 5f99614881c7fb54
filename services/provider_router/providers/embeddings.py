"""What the answers of embedding endpoints have in common: checked before anyone compares them."""

from collections.abc import Mapping

import msgspec

from atlas.contracts.inference import Usage
from provider_router.providers.base import EmbedCall, Embedded
from provider_router.providers.errors import Origin, stream_error, told_error
from provider_router.providers.refusals import read_refusal


def checked(
    vectors: list[list[float]],
    tokens: int | None,
    call: EmbedCall,
    origin: Origin,
    headers: Mapping[str, str],
) -> Embedded:
    """The vectors of a call, when there is one for each text and all have the wanted length.

    Raises:
        ProviderStreamError: They do not fit the call.
    """
    if len(vectors) != len(call.texts):
        raise stream_error(
            origin, f"answered {len(vectors)} vectors to {len(call.texts)} texts; see its log"
        )
    lengths = sorted({len(vector) for vector in vectors})
    wanted = [call.dimensions] if call.dimensions else lengths[:1]
    if lengths != wanted or not lengths[0]:
        raise stream_error(
            origin, f"answered vectors of {lengths} dimensions where {wanted} were expected"
        )
    usage = None if tokens is None else Usage(input_tokens=tokens)
    return Embedded(vectors, usage, headers)


def decoded[T](
    decoder: msgspec.json.Decoder[T], data: bytes, origin: Origin, headers: Mapping[str, str]
) -> T:
    """An answer of the expected shape.

    Raises:
        ProviderError: The answer tells an error, with a 200 all the same.
        ProviderStreamError: It is something else.
    """
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        told = read_refusal(200, headers, data)
        if told.names:
            raise told_error(origin, told) from error
        raise stream_error(
            origin, f"{told.message[:80]!r} is no list of vectors; check base_url"
        ) from error
