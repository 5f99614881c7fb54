"""The adapter for Anthropic's Messages API."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from atlas.contracts.inference import ModelRequest
from atlas.provider_settings import ProviderSettings
from provider_router.providers.anthropic.decoder import MessagesDecoder
from provider_router.providers.anthropic.requests import is_adaptive, messages_body
from provider_router.providers.base import Accepted, EmbedCall, Embedded, ModelCall
from provider_router.providers.connections import Connections
from provider_router.providers.errors import refused_here
from provider_router.providers.patience import Patience
from provider_router.providers.prefill import PREFILL_IS_OFF, prefill_fields
from provider_router.providers.transport import origin_of, reading

BASE_URL = "https://api.anthropic.com"
_VERSION = "2023-06-01"
"""Of the API; there is no newer one, what is new comes by `anthropic-beta`."""


class AnthropicAdapter:
    """One account at Anthropic, or at a server that speaks its Messages API.

    `provider_options` may hold `betas`, a list, as the vendor's SDK takes it: it becomes the header
    `anthropic-beta`, which the API wants for such options as `mcp_servers`.
    """

    def __init__(self, name: str, settings: ProviderSettings) -> None:
        self._origin = origin_of(name, settings, BASE_URL)
        self._settings = settings
        headers = {"anthropic-version": _VERSION}
        if self._origin.key is not None:
            key = self._origin.key.get_secret_value()
            headers["X-Api-Key"] = key
            if settings.base_url is not None:  # a compatible server may read the one or the other
                headers["Authorization"] = f"Bearer {key}"
        self._connections = Connections(self._origin, settings, headers)

    @property
    def name(self) -> str:
        """The provider's name in the catalogue."""
        return self._origin.provider

    @asynccontextmanager
    async def stream(self, call: ModelCall) -> AsyncIterator[Accepted]:
        """See `base.Adapter.stream`."""
        patience = Patience(self._settings, self._origin)
        body = messages_body(call.model, call.request, self._origin)
        body |= prefill_fields(call, self._settings)
        headers = dict(call.headers)
        if isinstance(betas := body.pop("betas", None), list):
            headers["anthropic-beta"] = ",".join(str(beta) for beta in betas)
        async with (
            self._connections.post(
                "/v1/messages", msgspec.json.encode(body), headers, patience
            ) as answer,
            reading(answer, MessagesDecoder(self._origin), patience) as deltas,
        ):
            yield deltas

    def why_no_prefill(self, model: str, request: ModelRequest) -> str | None:
        """A final assistant turn is gone on from, but not by all models and never after thinking.

        Since 4.6 models refuse it ("This model does not support assistant message prefill").
        """
        prefill = self._settings.prefill
        if prefill is False:
            return PREFILL_IS_OFF
        if request.reasoning is not None or "thinking" in (request.provider_options or {}):
            return "a model that thinks first takes no begun answer"
        if prefill is None and is_adaptive(model):
            return "models since Claude 4.6 take no begun answer"
        return None

    async def embed(self, call: EmbedCall) -> Embedded:
        """Anthropic has no embeddings.

        Raises:
            ProviderInvalidRequestError: Always.
        """
        raise refused_here(
            self._origin,
            f"Anthropic has no embeddings, so none by {call.model!r}; name a model of a provider "
            "of kind openai (or compatible with it), ollama or mock",
        )

    async def probe(self) -> bool:
        """The list of models; see `base.Adapter.probe`."""
        return await self._connections.probe("/v1/models")

    async def warm(self) -> None:
        """Open a connection; see `base.Adapter.warm`."""
        await self._connections.warm()

    async def close(self) -> None:
        """Close the connection pool."""
        await self._connections.close()
