"""The adapter for Ollama's native API.

No SDK of a vendor stands between: the API is one request, and a machine that runs models serves
few streams at once, so plain `httpx2` will do.
"""

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx2
import msgspec

from atlas.settings import ProviderSettings
from provider_router.providers.base import Delta, ModelCall
from provider_router.providers.errors import Origin, Told, connection_error, told_error
from provider_router.providers.ollama.decoder import OllamaDecoder
from provider_router.providers.ollama.requests import ollama_body
from provider_router.providers.transport import Patience, origin_of, reading

BASE_URL = "http://127.0.0.1:11434"


class OllamaAdapter:
    """One Ollama server."""

    def __init__(self, name: str, settings: ProviderSettings) -> None:
        self._origin = origin_of(name, settings, BASE_URL)
        self._settings = settings
        headers = {"Content-Type": "application/json"}
        if self._origin.key is not None:
            headers["Authorization"] = f"Bearer {self._origin.key.get_secret_value()}"
        self._client = httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(None, connect=settings.connect_timeout_ms / 1000),
            limits=httpx2.Limits(max_connections=settings.max_connections),
        )

    @property
    def name(self) -> str:
        """The provider's name in the catalogue."""
        return self._origin.provider

    @asynccontextmanager
    async def stream(self, call: ModelCall) -> AsyncIterator[AsyncIterator[list[Delta]]]:
        """See `base.Adapter.stream`."""
        patience = Patience(self._settings, self._origin)
        with ollama_errors(self._origin):
            response = await patience.wait(self._send(call))
        async with reading(
            response,
            OllamaDecoder(self._origin, f"call_{uuid.uuid4().hex[:12]}"),
            patience,
            lambda: ollama_errors(self._origin, is_open=True),
        ) as deltas:
            yield deltas

    async def close(self) -> None:
        """Close the connection pool."""
        await self._client.aclose()

    async def _send(self, call: ModelCall) -> httpx2.Response:
        body = ollama_body(call.model, call.request, self._origin)
        request = self._client.build_request(
            "POST",
            f"{self._origin.base_url.rstrip('/')}/api/chat",
            content=msgspec.json.encode(body),
            headers=dict(call.headers),
        )
        response = await self._client.send(request, stream=True)
        if response.is_error:
            try:
                await response.aread()
            finally:
                await response.aclose()
        response.raise_for_status()
        return response


class _Refusal(msgspec.Struct):
    error: str


@contextmanager
def ollama_errors(origin: Origin, *, is_open: bool = False) -> Iterator[None]:
    """Turn what `httpx2` raises into our errors, with the cause chained.

    Args:
        origin: The server that is called.
        is_open: Whether the answer has begun.
    """
    try:
        yield
    except httpx2.HTTPStatusError as error:
        response = error.response
        told = Told(_message(response), status=response.status_code, headers=response.headers)
        raise told_error(origin, told) from error
    except (httpx2.HTTPError, OSError) as error:
        raise connection_error(origin, error, is_open=is_open) from error


def _message(response: httpx2.Response) -> str:
    try:
        return msgspec.json.decode(response.content, type=_Refusal).error
    except msgspec.DecodeError:
        return response.text or response.reason_phrase  # a proxy's page, not Ollama's answer
