"""The adapter for Anthropic's Messages API, and the only module that imports its SDK."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anthropic
import httpx2

from atlas.settings import ProviderSettings
from provider_router.providers.anthropic.decoder import MessagesDecoder
from provider_router.providers.anthropic.requests import DEFAULT_MAX_TOKENS, messages_body
from provider_router.providers.base import Delta, ModelCall
from provider_router.providers.errors import Origin, Told, connection_error, told_error
from provider_router.providers.transport import Patience, origin_of, reading

BASE_URL = "https://api.anthropic.com"


class AnthropicAdapter:
    """One account at Anthropic, or at a server that speaks its Messages API.

    `provider_options` may hold `betas`, a list, as the SDK does: it becomes the header
    `anthropic-beta`, which the API wants for such options as `mcp_servers`.
    """

    def __init__(self, name: str, settings: ProviderSettings) -> None:
        self._origin = origin_of(name, settings, BASE_URL)
        self._settings = settings
        key = self._origin.key.get_secret_value() if self._origin.key else None
        self._headers: dict[str, str | anthropic.Omit] = {}
        if key is None:
            self._headers["Authorization"] = anthropic.omit
        elif settings.base_url is not None:
            # The SDK sends a bearer token; compatible servers of older API versions read this.
            self._headers["X-Api-Key"] = key
        self._client = anthropic.AsyncAnthropic(
            api_key=key or "",
            base_url=self._origin.base_url,
            max_retries=0,
            http_client=anthropic.DefaultAioHttpClient(
                timeout=httpx2.Timeout(None, connect=settings.connect_timeout_ms / 1000),
                limits=httpx2.Limits(max_connections=settings.max_connections),
            ),
        )

    @property
    def name(self) -> str:
        """The provider's name in the catalogue."""
        return self._origin.provider

    @asynccontextmanager
    async def stream(self, call: ModelCall) -> AsyncIterator[AsyncIterator[list[Delta]]]:
        """See `base.Adapter.stream`."""
        patience = Patience(self._settings, self._origin)
        with anthropic_errors(self._origin):
            response = await patience.wait(self._send(call))
        async with reading(
            response,
            MessagesDecoder(self._origin),
            patience,
            lambda: anthropic_errors(self._origin, is_open=True),
        ) as deltas:
            yield deltas

    async def close(self) -> None:
        """Close the connection pool."""
        await self._client.close()

    async def _send(self, call: ModelCall) -> httpx2.Response:
        """Send the request; returns once the status and headers of an accepted one are there."""
        body = messages_body(call.model, call.request, self._origin)
        headers = self._headers | dict(call.headers)
        if isinstance(betas := body.pop("betas", None), list):
            headers["anthropic-beta"] = ",".join(str(beta) for beta in betas)
        # Entered by hand: its context would close the response before we have read it. The body
        # goes out as we built it, so that options the SDK does not know yet pass through.
        response = await self._client.messages.with_streaming_response.create(
            model=call.model,
            max_tokens=DEFAULT_MAX_TOKENS,
            messages=[],
            stream=True,
            extra_body=body,
            extra_headers=headers,
        ).__aenter__()
        return response.http_response


@contextmanager
def anthropic_errors(origin: Origin, *, is_open: bool = False) -> Iterator[None]:
    """Turn what the SDK and its HTTP client raise into our errors, with the cause chained.

    Args:
        origin: The account that is called.
        is_open: Whether the answer has begun.
    """
    try:
        yield
    except anthropic.APIStatusError as error:
        told = Told(
            error.api_message or error.message,
            status=error.status_code,
            type=error.type,
            code=error.error_code,
            headers=error.response.headers,
        )
        raise told_error(origin, told) from error
    except (anthropic.APIConnectionError, httpx2.HTTPError, OSError) as error:
        raise connection_error(origin, error, is_open=is_open) from error
