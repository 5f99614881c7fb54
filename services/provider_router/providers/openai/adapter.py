"""The adapter for OpenAI and compatible servers, and the only module that imports its SDK."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urlsplit

import httpx2
import openai

from atlas.settings import ProviderSettings
from provider_router.providers.base import Decoder, Delta, ModelCall
from provider_router.providers.errors import Origin, Told, connection_error, told_error
from provider_router.providers.openai.chat_decoder import ChatDecoder
from provider_router.providers.openai.chat_requests import chat_body
from provider_router.providers.openai.responses_decoder import ResponsesDecoder
from provider_router.providers.openai.responses_requests import responses_body
from provider_router.providers.transport import Patience, origin_of, reading

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
        key = self._origin.key.get_secret_value() if self._origin.key else None
        self._headers: dict[str, str | openai.Omit] = {}
        if key is None:
            # The SDK insists on a key, and a server of one's own may want none.
            self._headers["Authorization"] = openai.omit
        self._client = openai.AsyncOpenAI(
            api_key=key or "none",
            base_url=self._origin.base_url,
            max_retries=0,
            http_client=openai.DefaultAioHttpClient(
                timeout=httpx2.Timeout(None, connect=settings.connect_timeout_ms / 1000),
                limits=httpx2.Limits(max_connections=settings.max_connections),
            ),
        )

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
    async def stream(self, call: ModelCall) -> AsyncIterator[AsyncIterator[list[Delta]]]:
        """See `base.Adapter.stream`."""
        patience = Patience(self._settings, self._origin)
        decoder: Decoder
        with openai_errors(self._origin):
            if self.uses_responses(call.model):
                decoder = ResponsesDecoder(self._origin)
                response = await patience.wait(self._send_responses(call))
            else:
                decoder = ChatDecoder(self._origin)
                response = await patience.wait(self._send_chat(call))
        async with reading(
            response,
            decoder,
            patience,
            lambda: openai_errors(self._origin, is_open=True),
        ) as deltas:
            yield deltas

    async def close(self) -> None:
        """Close the connection pool."""
        await self._client.close()

    # Both contexts below are entered by hand: leaving one closes the response before we have read
    # it. The body goes out as we built it, so that options the SDK does not know pass through.

    async def _send_chat(self, call: ModelCall) -> httpx2.Response:
        body = chat_body(call.model, call.request, self._origin, is_openai=self._is_openai)
        response = await self._client.chat.completions.with_streaming_response.create(
            model=call.model,
            messages=[],
            stream=True,
            extra_body=body,
            extra_headers=self._headers | dict(call.headers),
        ).__aenter__()
        return response.http_response

    async def _send_responses(self, call: ModelCall) -> httpx2.Response:
        response = await self._client.responses.with_streaming_response.create(
            model=call.model,
            stream=True,
            extra_body=responses_body(call.model, call.request, self._origin),
            extra_headers=self._headers | dict(call.headers),
        ).__aenter__()
        return response.http_response


def is_openai(base_url: str) -> bool:
    """Whether this is OpenAI itself, in any of its regions, and not a compatible server."""
    host = urlsplit(base_url).hostname or ""
    return host == "api.openai.com" or host.endswith(".api.openai.com")


def wants_responses(model: str) -> bool:
    """Whether OpenAI serves this model best, or only, by the Responses API.

    By its name: the o-series, the `pro` and `codex` variants of GPT, `codex-*`, `computer-use-*`.
    """
    return _RESPONSES_MODELS.match(model) is not None


@contextmanager
def openai_errors(origin: Origin, *, is_open: bool = False) -> Iterator[None]:
    """Turn what the SDK and its HTTP client raise into our errors, with the cause chained.

    Args:
        origin: The account that is called.
        is_open: Whether the answer has begun.
    """
    try:
        yield
    except openai.APIStatusError as error:
        raise told_error(origin, _told(error)) from error
    except (openai.APIConnectionError, httpx2.HTTPError, OSError) as error:
        raise connection_error(origin, error, is_open=is_open) from error


def _told(error: openai.APIStatusError) -> Told:
    """What the body says; compatible servers put a number, or nothing, where OpenAI has a code."""
    body = error.body if isinstance(error.body, dict) else {}
    message = body.get("message")
    return Told(
        message if isinstance(message, str) else error.message,
        status=error.status_code,
        type=error.type if isinstance(error.type, str) else None,
        code=error.code,
        headers=error.response.headers,
    )
