"""How long a call waits for its provider."""

import asyncio
import time
from collections.abc import Awaitable

from atlas.contracts.errors import ProviderTimeoutError
from atlas.provider_settings import ProviderSettings
from provider_router.providers.errors import Origin


class Patience:
    """How long one call waits for its provider.

    Only time spent waiting counts: a paused stream does not read, and does not run out of time.
    Until content came, all waits together may take `first_token_timeout_ms`, that for the
    response's headers included; from then on each single read may take `idle_timeout_ms`.
    """

    def __init__(self, settings: ProviderSettings, origin: Origin) -> None:
        self._settings = settings
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
        if self._has_content:
            limit, limit_ms = "idle_timeout_ms", self._settings.idle_timeout_ms
            what = f"fell silent in the middle of its answer for {limit_ms} ms"
        else:
            limit, limit_ms = "first_token_timeout_ms", self._settings.first_token_timeout_ms
            what = f"sent no content within {limit_ms} ms of being asked"
        error = ProviderTimeoutError(
            f"{name} {what}; {limit} sets the limit", provider=name, details={limit: limit_ms}
        )
        error.was_sent = True  # a connect has a shorter timeout of its own
        return error
