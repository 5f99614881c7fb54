"""The adapter for Ollama's native API."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from atlas.contracts.inference import ModelRequest
from atlas.provider_settings import ProviderSettings
from provider_router.providers.base import Accepted, EmbedCall, Embedded, ModelCall
from provider_router.providers.connections import Connections
from provider_router.providers.ollama.decoder import OllamaDecoder
from provider_router.providers.ollama.embeddings import embed_body, read_embed
from provider_router.providers.ollama.requests import ollama_body
from provider_router.providers.patience import Patience
from provider_router.providers.prefill import PREFILL_IS_OFF, prefill_fields
from provider_router.providers.transport import origin_of, reading, whole

BASE_URL = "http://127.0.0.1:11434"


class OllamaAdapter:
    """One Ollama server."""

    def __init__(self, name: str, settings: ProviderSettings) -> None:
        self._origin = origin_of(name, settings, BASE_URL)
        self._settings = settings
        key = self._origin.key
        headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
        self._connections = Connections(self._origin, settings, headers)

    @property
    def name(self) -> str:
        """The provider's name in the catalogue."""
        return self._origin.provider

    @asynccontextmanager
    async def stream(self, call: ModelCall) -> AsyncIterator[Accepted]:
        """See `base.Adapter.stream`."""
        patience = Patience(self._settings, self._origin)
        fields = ollama_body(call.model, call.request, self._origin)
        body = msgspec.json.encode(fields | prefill_fields(call, self._settings))
        decoder = OllamaDecoder(self._origin, f"call_{uuid.uuid4().hex[:12]}")
        async with (
            self._connections.post("/api/chat", body, call.headers, patience) as answer,
            reading(answer, decoder, patience) as deltas,
        ):
            yield deltas

    def why_no_prefill(self, model: str, request: ModelRequest) -> str | None:  # noqa: ARG002 - as in Adapter
        """A final assistant message is gone on from by most templates (ollama issue 6778)."""
        if self._settings.prefill is False:
            return PREFILL_IS_OFF
        if request.reasoning is not None:
            return "a model that thinks first takes no begun answer"
        return None

    async def embed(self, call: EmbedCall) -> Embedded:
        """See `base.Adapter.embed`."""
        patience = Patience(self._settings, self._origin)
        body = msgspec.json.encode(embed_body(call))
        async with self._connections.post("/api/embed", body, call.headers, patience) as answer:
            data = await whole(answer, patience, self._origin)
            return read_embed(data, call, self._origin, answer.headers)

    async def probe(self) -> bool:
        """The server's version; see `base.Adapter.probe`."""
        return await self._connections.probe("/api/version")

    async def warm(self) -> None:
        """Open a connection; see `base.Adapter.warm`."""
        await self._connections.warm()

    async def close(self) -> None:
        """Close the connection pool."""
        await self._connections.close()
