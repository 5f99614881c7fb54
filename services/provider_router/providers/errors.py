"""The errors of providers: what was wrong, where, and what to do, with the key kept out."""

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import urlsplit

from pydantic import SecretStr

from atlas.contracts.base import JsonObject, now_ms
from atlas.contracts.errors import (
    ProviderAuthError,
    ProviderConnectionError,
    ProviderContentFilterError,
    ProviderContextLengthError,
    ProviderError,
    ProviderInvalidRequestError,
    ProviderModelNotFoundError,
    ProviderQuotaExceededError,
    ProviderStreamError,
    ProviderTimeoutError,
)
from provider_router.providers.classification import Told, error_class
from provider_router.providers.retry_after import retry_after_ms

_MESSAGE_CHARACTERS = 500
"""A proxy may answer with a whole web page; its beginning is enough to know it."""

_QUOTED_CHARACTERS = 120


@dataclass(frozen=True, slots=True)
class Origin:
    """Which account an error comes from; keeps its key out of every message."""

    provider: str
    base_url: str
    key: SecretStr | None = field(default=None, repr=False)

    def redact(self, text: str) -> str:
        """The text without the key, and of a readable length."""
        key = self.key.get_secret_value() if self.key else ""
        clean = text.replace(key, "***") if key else text
        return clean if len(clean) <= _MESSAGE_CHARACTERS else clean[:_MESSAGE_CHARACTERS] + "…"


_ADVICE: dict[type[ProviderError], str] = {
    ProviderAuthError: "check the provider's key and what it may do",
    ProviderQuotaExceededError: "add credit or raise the spend limit at the provider",
    ProviderModelNotFoundError: "check the model's name, the base_url and what the key may use",
    ProviderContextLengthError: "shorten the messages or choose a model with a longer context",
    ProviderContentFilterError: "change the content; the same request will be refused again",
    ProviderInvalidRequestError: "correct the request; the same one will be refused again",
}

_REQUEST_ID = ("x-request-id", "request-id", "apim-request-id", "cf-ray")


def told_error(origin: Origin, told: Told) -> ProviderError:
    """The error for what a provider told."""
    kind = error_class(told)
    where = "told an error inside the stream" if told.is_in_stream else f"answered {told.status}"
    name = next(iter(told.names), told.status if told.is_in_stream else None)
    message = f"{origin.provider} {where}{f' ({name})' if name else ''}: {told.message}"
    advice = _ADVICE.get(kind)
    if told.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        advice = "send fewer or smaller messages, images and files"
    wait_ms = retry_after_ms(told.headers, now_ms())
    error = kind(
        origin.redact(f"{message}; {advice}" if advice else message),
        provider=origin.provider,
        http_status=told.status,
        retry_after_ms=told.retry_after_ms if wait_ms is None else wait_ms,
        details=_details(told),
    )
    error.headers = told.headers
    return error


def _details(told: Told) -> JsonObject | None:
    """What a program may want: the provider's own names, and what to tell its support."""
    found: JsonObject = {
        "reason": told.reason,
        "code": told.code,
        "type": told.type,
        "request_id": next((told.headers[h] for h in _REQUEST_ID if h in told.headers), None),
    }
    return {name: value for name, value in found.items() if value is not None} or None


def stream_error(origin: Origin, what: str) -> ProviderStreamError:
    """The error of a stream that is malformed or ended before its end."""
    return ProviderStreamError(
        origin.redact(f"{origin.provider}: {what}"), provider=origin.provider
    )


def refused_here(origin: Origin, what: str) -> ProviderInvalidRequestError:
    """The error of a request that this provider's dialect cannot express; nothing was sent."""
    return ProviderInvalidRequestError(
        origin.redact(f"{origin.provider}: {what}"), provider=origin.provider
    )


def connection_error(origin: Origin, error: BaseException, *, is_open: bool) -> ProviderError:
    """The error of a connection that failed, by the causes behind the HTTP client's exception.

    Args:
        origin: The account.
        error: The HTTP client's exception, with its causes.
        is_open: Whether the answer had begun, so that it was cut.
    """
    causes = list(_causes(error))
    host = urlsplit(origin.base_url).netloc

    def failed(kind: type[ProviderError], what: str) -> ProviderError:
        return kind(origin.redact(f"{origin.provider}: {what}"), provider=origin.provider)

    if any(isinstance(cause, TimeoutError) for cause in causes):
        return failed(
            ProviderTimeoutError,
            f"{host} did not answer in time; check the network, or raise the provider's timeouts",
        )
    if any(isinstance(cause, ssl.SSLError | ssl.CertificateError) for cause in causes):
        return failed(
            ProviderConnectionError,
            f"no TLS with {host}: {causes[-1]}; check base_url's scheme and the certificates",
        )
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return failed(
            ProviderConnectionError,
            f"the name {host} cannot be resolved; check base_url and DNS",
        )
    if is_open:
        return failed(
            ProviderConnectionError,
            f"{host} cut the connection in the middle of the answer ({_name(causes[-1])})",
        )
    return failed(
        ProviderConnectionError,
        f"no connection to {host} ({_name(causes[-1])}); check base_url, that the server runs, "
        "and proxies",
    )


def no_http_error(origin: Origin, what: str) -> ProviderConnectionError:
    """The error of a server that answers something else than HTTP."""
    host = urlsplit(origin.base_url).netloc
    quoted = " ".join(what.split())[:_QUOTED_CHARACTERS]
    return ProviderConnectionError(
        origin.redact(
            f"{origin.provider}: {host} does not answer as an HTTP server does ({quoted}); "
            "check base_url, its port and its scheme"
        ),
        provider=origin.provider,
    )


def moved_error(origin: Origin, status: int, to: str | None) -> ProviderConnectionError:
    """The error of a server that sends elsewhere, where neither key nor prompt may follow."""
    where = f" to {to[:_QUOTED_CHARACTERS]}" if to else ""
    return ProviderConnectionError(
        origin.redact(
            f"{origin.provider} answered {status} and points{where}; redirects are not followed, "
            "because the key is for this server: set base_url to where it moved"
        ),
        provider=origin.provider,
        http_status=status,
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and those behind it, outermost first."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _name(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
