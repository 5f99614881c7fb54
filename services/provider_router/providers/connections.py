"""The HTTP connections of one account: pooled, warmed, bounded, closed, and their failures mapped.

`aiohttp` and nothing above it: the vendors' SDKs cost more for opening a stream than for all that
is read from it (docs/decisions/0005-transport.md). This is the only module that imports it.
"""

import asyncio
import io
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from http import HTTPStatus
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import structlog

from atlas.contracts.errors import ProviderError
from atlas.provider_settings import ProviderSettings
from provider_router.providers.classification import is_no_such_question
from provider_router.providers.errors import (
    Origin,
    connection_error,
    moved_error,
    no_http_error,
    told_error,
)
from provider_router.providers.patience import Patience
from provider_router.providers.refusals import read_refusal

_KEEP_ALIVE_S = 30.0
"""Shorter than any provider's own, so that a connection is not reused while it closes."""
_READ_AHEAD_BYTES = 16 * 2**10
"""What is read ahead of the decoder, at most twice this; beyond it TCP holds the provider."""
_HEADER_BYTES = 32 * 2**10
_LARGE_BYTES = 2**20
"""aiohttp warns of larger ones."""
_REFUSAL_BYTES = 256 * 2**10
"""What is asked for besides an answer is read no further."""
_JSON_BEGINS = (b"{", b"[")

log = structlog.get_logger("atlas.connections")


class Body(Protocol):
    """The body of an accepted answer."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The answer's headers, names in lower case."""
        ...

    async def read(self) -> bytes:
        """What came since, as soon as there is any; empty at the end.

        Raises:
            ProviderError: The connection failed.
        """
        ...

    def ready(self) -> bytes:
        """What came since, without waiting; empty where a `read` would wait, and at the end.

        Raises:
            ProviderError: The connection failed.
        """
        ...

    def held(self) -> AbstractContextManager[None]:
        """Within it nothing is read ahead: what comes waits in the kernel, and holds the sender."""
        ...


class Connections:
    """A pool for one origin; its first use opens it, in the loop that runs then."""

    def __init__(
        self, origin: Origin, settings: ProviderSettings, headers: Mapping[str, str]
    ) -> None:
        self._origin = origin
        self._settings = settings
        self._headers = {"Content-Type": "application/json", **headers}
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def post(
        self, path: str, body: bytes, headers: Mapping[str, str], patience: Patience
    ) -> AsyncIterator[Body]:
        """Send a request; entered once status and headers of an accepted one are there.

        Leaving closes the connection at once, unless the answer was read to its end: then it went
        back into the pool.

        A redirect is not followed: key and prompt are for this origin.

        Raises:
            ProviderError: No connection, no answer in time, a refusal, or a redirect.
        """
        url, both = self._url(path), {**self._headers, **headers}
        try:
            response = await patience.wait(
                self._opened().post(url, data=_sendable(body), headers=both, allow_redirects=False)
            )
        except (aiohttp.ClientError, OSError) as error:
            raise _failure(self._origin, error, is_open=False) from error
        try:
            if response.status >= HTTPStatus.BAD_REQUEST:
                raise await self._refusal(response, patience)
            if response.status >= HTTPStatus.MULTIPLE_CHOICES:
                raise moved_error(self._origin, response.status, response.headers.get("Location"))
            yield _Body(response, self._origin)
        finally:
            response.close()

    async def probe(self, path: str) -> bool:
        """Ask for a document that costs nothing; see `base.Adapter.probe`.

        An answer that is no JSON comes from somebody else, such as a web page for every path, and
        a redirect is not followed: the key is for this origin.
        """
        wait_s = (self._settings.connect_timeout_ms + self._settings.probe_timeout_ms) / 1000
        is_open = False
        try:
            async with (
                asyncio.timeout(wait_s) as deadline,
                self._opened().get(
                    self._url(path), headers=self._headers, allow_redirects=False
                ) as response,
            ):
                is_open = True
                body = await _read_up_to(response.content, _REFUSAL_BYTES)
        except (aiohttp.ClientError, OSError) as error:
            failure = _failure(self._origin, error, is_open=is_open)
            failure.was_sent = is_open or deadline.expired()
            raise failure from error
        if response.status < HTTPStatus.BAD_REQUEST:
            return response.status == HTTPStatus.OK and body.lstrip()[:1] in _JSON_BEGINS
        told = read_refusal(response.status, _lower(response.headers), body)
        if is_no_such_question(told):
            return False
        raise told_error(self._origin, told)

    async def warm(self) -> None:
        """Open a connection for the first request to find; a failure is logged, not raised.

        It gets the base URL, which is free and needs no key: whatever the provider answers, the
        connection stands. (After a HEAD aiohttp keeps none, and a bare connect it keeps never.)
        """
        try:
            async with asyncio.timeout(self._settings.connect_timeout_ms / 1000):
                async with self._opened().get(self._url(""), allow_redirects=False) as response:
                    await _read_up_to(response.content, _REFUSAL_BYTES)
        except (aiohttp.ClientError, OSError) as error:
            failure = _failure(self._origin, error, is_open=False)
            log.warning("not_warmed", provider=self._origin.provider, error=failure.message)

    async def close(self) -> None:
        """Close every connection, also those in use."""
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._settings.max_connections, keepalive_timeout=_KEEP_ALIVE_S
                ),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=self._settings.connect_timeout_ms / 1000
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                proxy=_proxy_of(self._origin.base_url),
                read_bufsize=_READ_AHEAD_BYTES,
                max_line_size=_HEADER_BYTES,
                max_field_size=_HEADER_BYTES,
            )
        return self._session

    def _url(self, path: str) -> str:
        return self._origin.base_url.rstrip("/") + path

    async def _refusal(self, response: aiohttp.ClientResponse, patience: Patience) -> ProviderError:
        """The error that a refusal tells; one whose body does not come is told by its status."""
        body = b""
        try:
            body = await patience.wait(_read_up_to(response.content, _REFUSAL_BYTES))
        except (ProviderError, aiohttp.ClientError, OSError) as error:
            log.debug("refusal_not_read", provider=self._origin.provider, error=str(error))
        told = read_refusal(response.status, _lower(response.headers), body)
        return told_error(self._origin, told)


class _Body:
    """See `Body`."""

    def __init__(self, response: aiohttp.ClientResponse, origin: Origin) -> None:
        self._response = response
        self._content = response.content
        self._origin = origin
        self.headers: Mapping[str, str] = _lower(response.headers)

    async def read(self) -> bytes:
        try:
            return await self._content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise _failure(self._origin, error, is_open=True) from error

    def ready(self) -> bytes:
        try:
            return self._content.read_nowait()
        except (aiohttp.ClientError, OSError) as error:
            raise _failure(self._origin, error, is_open=True) from error

    @contextmanager
    def held(self) -> Iterator[None]:
        connection = self._response.connection
        transport = None if connection is None else connection.transport
        if transport is None or not transport.is_reading():  # over, or full and held already
            yield
            return
        transport.pause_reading()
        try:
            yield
        finally:
            if not transport.is_closing():
                transport.resume_reading()


async def _read_up_to(content: aiohttp.StreamReader, most_bytes: int) -> bytes:
    pieces, left = [], most_bytes
    while left > 0 and (piece := await content.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _failure(origin: Origin, error: Exception, *, is_open: bool) -> ProviderError:
    if isinstance(error, aiohttp.ClientResponseError):  # no status line
        return no_http_error(origin, error.message)
    return connection_error(origin, error, is_open=is_open)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _proxy_of(url: str) -> str | None:
    """The proxy that the environment names for a URL, as every HTTP client reads it."""
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return proxy if proxy and proxy.startswith("http") else None


def _sendable(body: bytes) -> bytes | io.BytesIO:
    """A large body, such as pictures, goes out in pieces: in one it would hold up every stream."""
    return body if len(body) <= _LARGE_BYTES else io.BytesIO(body)
