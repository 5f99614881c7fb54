"""What a provider told becomes the most specific error, by code, type and status."""

import socket
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from pydantic import SecretStr

from atlas.contracts.base import now_ms
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
    ProviderTimeoutError,
)
from provider_router.providers.classification import Told, error_class
from provider_router.providers.errors import Origin, connection_error, told_error
from provider_router.providers.retry_after import retry_after_ms

from .collected import ORIGIN


@pytest.mark.parametrize(
    ("status", "kind", "code", "expected"),
    [
        (400, "invalid_request_error", None, ProviderInvalidRequestError),
        (400, "invalid_request_error", "context_length_exceeded", ProviderContextLengthError),
        (400, None, "content_policy_violation", ProviderContentFilterError),
        (400, "image_generation_user_error", "moderation_blocked", ProviderContentFilterError),
        (400, "invalid_request_error", "enforced_spend_limit_reached", ProviderQuotaExceededError),
        (400, None, "billing_hard_limit_reached", ProviderQuotaExceededError),
        (400, None, "model_not_found", ProviderModelNotFoundError),
        (401, "invalid_request_error", "invalid_api_key", ProviderAuthError),
        (401, None, None, ProviderAuthError),
        (402, None, None, ProviderQuotaExceededError),
        (403, "permission_error", None, ProviderAuthError),
        (403, None, "insufficient_quota", ProviderQuotaExceededError),
        (403, "billing_error", None, ProviderQuotaExceededError),
        (404, "not_found_error", None, ProviderModelNotFoundError),
        (408, None, None, ProviderTimeoutError),
        (409, None, None, ProviderError),
        (413, "request_too_large", None, ProviderInvalidRequestError),
        (422, None, None, ProviderInvalidRequestError),
        (429, "rate_limit_error", None, ProviderRateLimitError),
        (429, "insufficient_quota", "insufficient_quota", ProviderQuotaExceededError),
        (429, "requests", "rate_limit_exceeded", ProviderRateLimitError),
        (429, None, None, ProviderRateLimitError),
        (500, "api_error", None, ProviderServerError),
        (502, None, None, ProviderServerError),
        (503, None, None, ProviderOverloadedError),
        (503, None, "slow_down", ProviderOverloadedError),
        (504, "timeout_error", None, ProviderTimeoutError),
        (529, "overloaded_error", None, ProviderOverloadedError),
        (None, "overloaded_error", None, ProviderOverloadedError),
        (None, "invalid_request_error", None, ProviderInvalidRequestError),
        (None, "authentication_error", None, ProviderAuthError),
        (None, "never_seen", None, ProviderServerError),
        (None, None, None, ProviderServerError),
        (200, None, None, ProviderServerError),
    ],
)
def test_code_type_and_status_choose_the_class(status, kind, code, expected):
    assert error_class(Told("x", status, kind, code)) is expected


def test_the_message_of_a_provider_never_chooses_the_class():
    told = Told("429 rate limit: context_length_exceeded, insufficient_quota", 400)
    assert error_class(told) is ProviderInvalidRequestError


def test_an_error_carries_provider_status_and_wait():
    error = told_error(ORIGIN, Told("slow down", 429, headers={"retry-after": "2"}))
    assert (error.provider, error.http_status, error.retry_after_ms) == ("acme", 429, 2000)


def test_a_message_names_the_provider_the_status_and_what_to_do():
    error = told_error(ORIGIN, Told("no such key", 401, code="invalid_api_key"))
    assert error.message == (
        "acme answered 401 (invalid_api_key): no such key; "
        "check the provider's key and what it may do"
    )


def test_a_key_in_a_providers_message_is_redacted():
    origin = Origin("acme", "https://x.test", SecretStr("sk-secret"))
    assert "sk-secret" not in told_error(origin, Told("bad key sk-secret", 401)).message


def test_a_web_page_instead_of_a_message_is_cut():
    assert len(told_error(ORIGIN, Told("<p>" * 10_000, 502)).message) < 600


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3000),
        ({"retry-after": "0.5"}, 500),
        ({"retry-after-ms": "250", "retry-after": "9"}, 250),
        ({"retry-after": "-1"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after-ms": "soon", "retry-after": "1"}, 1000),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
    ],
)
def test_the_wait_is_read_from_either_header(headers, expected):
    assert retry_after_ms(headers, now_ms()) == expected


def test_the_wait_may_be_a_date():
    at = datetime.now(UTC) + timedelta(seconds=60)
    found = retry_after_ms({"retry-after": format_datetime(at, usegmt=True)}, now_ms())
    assert found is not None
    assert 55_000 < found <= 60_000


@pytest.mark.parametrize(
    ("cause", "expected", "hint"),
    [
        (TimeoutError(), ProviderTimeoutError, "timeouts"),
        (socket.gaierror(-2, "unknown"), ProviderConnectionError, "DNS"),
        (ssl.SSLCertVerificationError("self-signed"), ProviderConnectionError, "certificates"),
        (ConnectionRefusedError(111, "refused"), ProviderConnectionError, "that the server runs"),
    ],
)
def test_the_cause_of_a_failed_connection_decides_and_the_message_helps(cause, expected, hint):
    outer = RuntimeError("connection error")
    outer.__cause__ = cause
    error = connection_error(ORIGIN, outer, is_open=False)
    assert type(error) is expected
    assert hint in error.message
    assert "api.acme.test" in error.message


def test_a_connection_lost_in_the_middle_says_so():
    error = connection_error(ORIGIN, ConnectionResetError(), is_open=True)
    assert isinstance(error, ProviderConnectionError)
    assert "in the middle" in error.message
