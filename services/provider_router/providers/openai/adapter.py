"""The adapter for OpenAI and compatible servers."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import msgspec

from atlas.contracts.base import JsonObject
from atlas.contracts.inference import ModelRequest
from atlas.provider_settings import ProviderSettings
from provider_router.providers.base import Accepted, Decoder, EmbedCall, Embedded, ModelCall
from provider_router.providers.connections import Connections
from provider_router.providers.openai.chat_decoder import ChatDecoder
from provider_router.providers.openai.chat_requests import chat_body
from provider_router.providers.openai.embeddings import embeddings_body, read_embeddings
from provider_router.providers.openai.responses_decoder import ResponsesDecoder
from provider_router.providers.openai.responses_requests import responses_body
from provider_router.providers.patience import Patience
from provider_router.providers.prefill import PREFILL_IS_OFF, prefill_fields
from provider_router.providers.transport import origin_of, reading, whole

BASE_URL = "https://api.openai.com/v1"

_RESPONSES_MODELS = re.compile(
    r"o[1-9]\d*(-|$)"  # o-series: o1, o3-pro, o4-mini-deep-research
    r"|gpt-\d+(\.\d+)?(-\w+)*-(pro|codex)(-|$)"  # gpt-5-pro, gpt-5.1-codex-max
    r"|codex-|computer-use-"
)


class OpenAIAdapter:
    """One account at OpenAI, or at any server that is compatible with its Chat Completions."""

    def __init__(self, name: str, settings: ProviderSettings) -> None:
        self._origin = origin_of(name, settings, BASE_URL)
        self._settings = settings
        self._is_openai = is_openai(self._origin.base_url)
        key = self._origin.key  # a server of one's own may want none
        headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
        self._connections = Connections(self._origin, settings, headers)

    @property
    def name(self) -> str:
        """The provider's name in the catalogue."""
        return self._origin.provider

    def uses_responses(self, model: str) -> bool:
        """Whether calls of this model go to the Responses API."""
        if self._settings.api == "auto":
            return self._is_openai and wants_responses(model)
        return self._settings.api == "responses"

    @asynccontextmanager
    async def stream(self, call: ModelCall) -> AsyncIterator[Accepted]:
        """See `base.Adapter.stream`."""
        patience = Patience(self._settings, self._origin)
        path, body, decoder = self._dialect(call)
        async with (
            self._connections.post(
                path, msgspec.json.encode(body), call.headers, patience
            ) as answer,
            reading(answer, decoder, patience) as deltas,
        ):
            yield deltas

    def why_no_prefill(self, model: str, request: ModelRequest) -> str | None:  # noqa: ARG002 - as in Adapter
        """OpenAI answers a final assistant message anew; servers of one's own may go on from it."""
        if self._settings.prefill is False:
            return PREFILL_IS_OFF
        if self.uses_responses(model):
            return "the Responses API takes no begun answer"
        if self._settings.prefill is None:
            return "it is not known to take a begun answer; if it does, set `prefill` for it"
        return None

    async def embed(self, call: EmbedCall) -> Embedded:
        """See `base.Adapter.embed`."""
        patience = Patience(self._settings, self._origin)
        body = msgspec.json.encode(embeddings_body(call, is_openai=self._is_openai))
        async with self._connections.post("/embeddings", body, call.headers, patience) as answer:
            data = await whole(answer, patience, self._origin)
            return read_embeddings(data, call, self._origin, answer.headers)

    async def probe(self) -> bool:
        """The list of models; see `base.Adapter.probe`."""
        return await self._connections.probe("/models")

    async def warm(self) -> None:
        """Open a connection; see `base.Adapter.warm`."""
        await self._connections.warm()

    async def close(self) -> None:
        """Close the connection pool."""
        await self._connections.close()

    def _dialect(self, call: ModelCall) -> tuple[str, JsonObject, Decoder]:
        """Where a call goes, what is sent there, and who reads the answer."""
        if self.uses_responses(call.model):
            body = responses_body(call.model, call.request, self._origin)
            return "/responses", body, ResponsesDecoder(self._origin)
        body = chat_body(call.model, call.request, self._origin, is_openai=self._is_openai)
        body |= prefill_fields(call, self._settings)
        return "/chat/completions", body, ChatDecoder(self._origin)


def is_openai(base_url: str) -> bool:
    """Whether this is OpenAI itself, in any of its regions, and not a compatible server."""
    host = urlsplit(base_url).hostname or ""
    return host == "api.openai.com" or host.endswith(".api.openai.com")


def wants_responses(model: str) -> bool:
    """Whether OpenAI serves this model best, or only, by the Responses API.

    By its name: the o-series, the `pro` and `codex` variants of GPT, `codex-*`, `computer-use-*`.
    """
    return _RESPONSES_MODELS.match(model) is not None
