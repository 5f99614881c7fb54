"""From what a provider told to the most specific error of ours.

Decided by code, type and status, never by searching a message: a spend limit can be a 400, and an
overload can stand inside a stream that began with 200. How a vendor's SDK packs these is read in
the one context manager beside that vendor's adapter; this module knows no SDK.
"""

import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from pydantic import SecretStr

from atlas.contracts.errors import (
    ProviderAuthError,
    ProviderConnectionError,
    ProviderContentFilterError,
    ProviderContextLengthError,
    ProviderError,
    ProviderInvalidRequestError,
    ProviderModelNotFoundError,
    ProviderOverloadedError,
    ProviderQuotaExceededError,
    ProviderRateLimitError,
    ProviderServerError,
    ProviderStreamError,
    ProviderTimeoutError,
)

_MESSAGE_CHARACTERS = 500
"""A proxy may answer with a whole web page; its beginning is enough to know it."""


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


@dataclass(frozen=True, slots=True)
class Told:
    """What a provider said about a failure: in an answer's status and body, or in its stream.

    `status` is the HTTP status, or the number that a stream's error gave as its code.
    """

    message: str
    status: int | None = None
    type: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


_SPECIFIC: dict[str, type[ProviderError]] = {
    # no money: OpenAI and compatibles, then Anthropic's `billing_error` and its `error_code`s
    "insufficient_quota": ProviderQuotaExceededError,
    "billing_hard_limit_reached": ProviderQuotaExceededError,
    "billing_not_active": ProviderQuotaExceededError,
    "insufficient_balance": ProviderQuotaExceededError,
    "insufficient_credits": ProviderQuotaExceededError,
    "quota_exceeded": ProviderQuotaExceededError,
    "spend_limit_exceeded": ProviderQuotaExceededError,
    "billing_error": ProviderQuotaExceededError,
    "enforced_spend_limit_reached": ProviderQuotaExceededError,
    "contract_spend_limit_reached": ProviderQuotaExceededError,
    "linked_organization_spend_limit_reached": ProviderQuotaExceededError,
    "linked_organization_billing_unavailable": ProviderQuotaExceededError,
    # too long
    "context_length_exceeded": ProviderContextLengthError,
    "context_window_exceeded": ProviderContextLengthError,
    "model_context_window_exceeded": ProviderContextLengthError,
    # refused for its content
    "content_filter": ProviderContentFilterError,
    "content_policy_violation": ProviderContentFilterError,
    "image_content_policy_violation": ProviderContentFilterError,
    "misalignment_policy_violation": ProviderContentFilterError,
    "ResponsibleAIPolicyViolation": ProviderContentFilterError,
    "moderation_blocked": ProviderContentFilterError,
    "invalid_prompt": ProviderContentFilterError,
    "bio_policy": ProviderContentFilterError,
    "cyber_policy": ProviderContentFilterError,
    # no such model
    "model_not_found": ProviderModelNotFoundError,
    "model_not_available": ProviderModelNotFoundError,
    # overload and rate, whatever the status
    "overloaded_error": ProviderOverloadedError,
    "overloaded": ProviderOverloadedError,
    "server_is_overloaded": ProviderOverloadedError,
    "engine_overloaded": ProviderOverloadedError,
    "slow_down": ProviderOverloadedError,
    "capacity_exceeded": ProviderOverloadedError,
    "rate_limit_exceeded": ProviderRateLimitError,
    "rate_limit_error": ProviderRateLimitError,
    "ramp_limit_exceeded": ProviderRateLimitError,
    "invalid_api_key": ProviderAuthError,
}
"""Codes and types that say more than the status they come with."""

_GENERAL: dict[str, type[ProviderError]] = {
    "invalid_request_error": ProviderInvalidRequestError,
    "authentication_error": ProviderAuthError,
    "permission_error": ProviderAuthError,
    "not_found_error": ProviderModelNotFoundError,
    "request_too_large": ProviderInvalidRequestError,
    "timeout_error": ProviderTimeoutError,
    "timeout": ProviderTimeoutError,
    "api_error": ProviderServerError,
    "server_error": ProviderServerError,
    "internal_error": ProviderServerError,
    "internal_server_error": ProviderServerError,
}
"""Types that say no more than a status; they count where there is none, inside a stream."""

_STATUS: dict[int, type[ProviderError]] = {
    401: ProviderAuthError,
    402: ProviderQuotaExceededError,
    403: ProviderAuthError,
    404: ProviderModelNotFoundError,
    408: ProviderTimeoutError,
    409: ProviderError,
    425: ProviderError,
    429: ProviderRateLimitError,
    503: ProviderOverloadedError,
    504: ProviderTimeoutError,
    529: ProviderOverloadedError,
}

_ADVICE: dict[type[ProviderError], str] = {
    ProviderAuthError: "check the provider's key and what it may do",
    ProviderQuotaExceededError: "add credit or raise the spend limit at the provider",
    ProviderModelNotFoundError: "check the model's name, the base_url and what the key may use",
    ProviderContextLengthError: "shorten the messages or choose a model with a longer context",
    ProviderContentFilterError: "change the content; the same request will be refused again",
    ProviderInvalidRequestError: "correct the request; the same one will be refused again",
}

_CLIENT_ERROR = 400
_SERVER_ERROR = 500
_TOO_LARGE = 413


def error_class(told: Told) -> type[ProviderError]:
    """The most specific class for what a provider told: code, then type, then status."""
    for name in (told.code, told.type):
        if name in _SPECIFIC:
            return _SPECIFIC[name]
    if told.status is not None and told.status >= _CLIENT_ERROR:
        fallback = (
            ProviderServerError if told.status >= _SERVER_ERROR else ProviderInvalidRequestError
        )
        return _STATUS.get(told.status, fallback)
    for name in (told.code, told.type):
        if name in _GENERAL:
            return _GENERAL[name]
    return ProviderServerError


def told_error(origin: Origin, told: Told) -> ProviderError:
    """The error for what a provider told, to be raised from the vendor's exception."""
    kind = error_class(told)
    where = f"answered {told.status}" if told.status else "told an error inside the stream"
    name = told.code or told.type
    message = f"{origin.provider} {where}{f' ({name})' if name else ''}: {told.message}"
    advice = _ADVICE.get(kind)
    if told.status == _TOO_LARGE:
        advice = "send fewer or smaller messages, images and files"
    return kind(
        origin.redact(f"{message}; {advice}" if advice else message),
        provider=origin.provider,
        http_status=told.status,
        retry_after_ms=retry_after_ms(told.headers),
    )


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
    """The error of a connection that failed, by the causes behind the vendor's exception.

    The aiohttp transport under both SDKs names a refused or dropped connection a timeout, so the
    outer exception is not believed: it is a timeout when a `TimeoutError` stands in the chain.

    Args:
        origin: The account.
        error: The vendor's exception, with its causes.
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


def retry_after_ms(headers: Mapping[str, str]) -> int | None:
    """How long the provider asks to wait: `retry-after-ms`, else `retry-after`.

    The latter holds seconds or an HTTP date (RFC 9110, section 10.2.3). None when absent or
    unreadable; a date in the past is 0.
    """
    found = {name.lower(): value for name, value in headers.items()}
    for name, unit in (("retry-after-ms", 1), ("retry-after", 1000)):
        if (value := found.get(name)) is not None:
            try:
                return max(0, round(float(value) * unit))
            except (ValueError, OverflowError):
                # not a number: a date, which only retry-after may hold
                if name == "retry-after":
                    return _until_ms(value)
    return None


def _until_ms(date: str) -> int | None:
    try:
        at = parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None
    return max(0, round((at - time.time()) * 1000))


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
