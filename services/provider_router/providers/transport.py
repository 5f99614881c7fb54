"""Between a vendor's HTTP client and a decoder: deadlines, batches, and an end that is an end."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, suppress

import httpx2

from atlas.contracts.errors import ConfigurationError, ProviderError, ProviderTimeoutError
from atlas.settings import ProviderSettings
from provider_router.providers.base import Decoder, Delta, Finished, UsageReport
from provider_router.providers.errors import Origin

_LINGER_S = 0.25
"""How long to wait for the body's end after the answer's, so that the connection can be reused."""

type ErrorMapping = Callable[[], AbstractContextManager[None]]
"""Makes the context manager that turns a vendor's exceptions into ours."""


class Patience:
    """How long one call waits for its provider.

    Only time spent waiting counts: a paused stream does not read, and does not run out of time.
    Until content came, all waits together may take `first_token_timeout_ms`; from then on each
    single read may take `idle_timeout_ms`.
    """

    def __init__(self, settings: ProviderSettings, origin: Origin) -> None:
        self._first_s = settings.first_token_timeout_ms / 1000
        self._idle_s = settings.idle_timeout_ms / 1000
        self._origin = origin
        self._has_content = False

    def content_came(self) -> None:
        """From now on, the idle timeout counts."""
        self._has_content = True

    async def wait[T](self, answer: Awaitable[T]) -> T:
        """Wait for the provider.

        Raises:
            ProviderTimeoutError: It took too long; the wait was cancelled.
        """
        started = time.monotonic()
        try:
            async with asyncio.timeout(
                self._idle_s if self._has_content else max(0.0, self._first_s)
            ) as deadline:
                return await answer
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise self._too_late() from error
        finally:
            self._first_s -= time.monotonic() - started

    def _too_late(self) -> ProviderTimeoutError:
        name = self._origin.provider
        what = (
            f"{name} fell silent in the middle of its answer; idle_timeout_ms sets the limit"
            if self._has_content
            else f"{name} sent no content in time; first_token_timeout_ms sets the limit"
        )
        return ProviderTimeoutError(what, provider=name)


@asynccontextmanager
async def reading(
    response: httpx2.Response, decoder: Decoder, patience: Patience, mapping: ErrorMapping
) -> AsyncIterator[AsyncIterator[list[Delta]]]:
    """An opened answer as batches of deltas; leaving it closes the connection at once."""
    try:
        async with aclosing(_batches(response.aiter_bytes(), decoder, patience, mapping)) as deltas:
            yield deltas
    finally:
        with mapping():
            await response.aclose()


async def _batches(
    body: AsyncIterator[bytes], decoder: Decoder, patience: Patience, mapping: ErrorMapping
) -> AsyncGenerator[list[Delta]]:
    """The deltas of a body, one non-empty batch per read, until the answer is whole.

    Raises:
        ProviderError: The stream told an error, broke off, or was silent for too long. What was
            read before is yielded first.
    """
    while not decoder.is_done:
        with mapping():
            data = await patience.wait(anext(body, None))
        deltas = decoder.end() if data is None else decoder.feed(data)
        if deltas:
            if not all(isinstance(delta, UsageReport | Finished) for delta in deltas):
                patience.content_came()
            yield deltas
        if decoder.failure is not None:
            raise decoder.failure
    # The answer is whole, and whatever happens to the connection now cannot change it.
    with suppress(ProviderError, TimeoutError), mapping():
        async with asyncio.timeout(_LINGER_S):
            while await anext(body, None) is not None:
                pass


def origin_of(name: str, settings: ProviderSettings, default_url: str) -> Origin:
    """Where a provider is and with which key.

    Raises:
        ConfigurationError: The key cannot be read, or holds what no HTTP header may hold.
    """
    key = settings.api_key()
    if key is not None and not _is_header_value(key.get_secret_value()):
        raise ConfigurationError(
            f"the key of provider {name} holds spaces, line ends or characters outside ASCII; "
            "set it again without them"
        )
    return Origin(name, settings.base_url or default_url, key)


def _is_header_value(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text
