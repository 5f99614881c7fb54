"""Between a connection and a decoder: batches, and an end that is an end."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress

from atlas.contracts.errors import ConfigurationError, ProviderError
from atlas.provider_settings import ProviderSettings
from atlas.settings import api_key
from provider_router.providers.base import Accepted, Decoder, Delta, Finished, UsageReport
from provider_router.providers.connections import Body
from provider_router.providers.errors import Origin, stream_error
from provider_router.providers.patience import Patience

_LINGER_S = 0.25
"""How long to wait for the body's end after the answer's, so that the connection can be reused."""

_WHOLE_BYTES = 128 * 2**20
"""Above any answer that is no stream."""


@asynccontextmanager
async def reading(body: Body, decoder: Decoder, patience: Patience) -> AsyncIterator[Accepted]:
    """An accepted answer as batches of deltas, and its headers."""
    async with aclosing(_batches(body, decoder, patience)) as batches:
        yield Accepted(batches, body.headers, body.held)


async def whole(body: Body, patience: Patience, origin: Origin) -> bytes:
    """An accepted answer that is no stream.

    Raises:
        ProviderError: The connection failed or fell silent, or the answer is too large to be one.
    """
    pieces, size = [], 0
    while piece := await patience.wait(body.read()):
        patience.content_came()
        pieces.append(piece)
        size += len(piece)
        if size > _WHOLE_BYTES:
            raise stream_error(origin, f"an answer of more than {_WHOLE_BYTES} bytes")
    return b"".join(pieces)


async def _batches(body: Body, decoder: Decoder, patience: Patience) -> AsyncGenerator[list[Delta]]:
    """The deltas of a body, one non-empty batch per read, until the answer is whole.

    Raises:
        ProviderError: The stream told an error, broke off, or was silent for too long. What was
            read before is yielded first.
    """
    while not decoder.is_done:
        data = body.ready() or await patience.wait(body.read())
        deltas = decoder.feed(data) if data else decoder.end()
        if deltas:
            if not all(isinstance(delta, UsageReport | Finished) for delta in deltas):
                patience.content_came()
            yield deltas
        if decoder.failure is not None:
            raise decoder.failure
    # The answer is whole, and whatever happens to the connection now cannot change it.
    with suppress(ProviderError, TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while await body.read():
                pass


def origin_of(name: str, settings: ProviderSettings, default_url: str) -> Origin:
    """Where a provider is and with which key.

    Raises:
        ConfigurationError: The key cannot be read, or holds what no HTTP header may hold.
    """
    key = api_key(settings)
    if key is not None and not _is_header_value(key.get_secret_value()):
        raise ConfigurationError(
            f"the key of provider {name} holds spaces, line ends or characters outside ASCII; "
            "set it again without them"
        )
    return Origin(name, settings.base_url or default_url, key)


def _is_header_value(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text
