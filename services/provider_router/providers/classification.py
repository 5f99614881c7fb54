"""What kind of failure a provider told: by names and status, never by searching a message. Pure.

A spend limit can be a 400, a rate limit a 413, and an overload can stand inside a stream that began
with 200. Where a body holds the names is read in `refusals`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus

from atlas.contracts.errors import (
    ErrorCategory,
    ProviderAuthError,
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


@dataclass(frozen=True, slots=True)
class Told:
    """What a provider said about a failure: in an answer's status and body, or in its stream.

    `status` is the HTTP status, or the number that a stream's error gave as its code. `reason` is
    a name that says more than `code`, which says more than `type`. `headers` are of the answer,
    their names in lower case.
    """

    message: str
    status: int | None = None
    type: str | None = None
    code: str | None = None
    reason: str | None = None
    retry_after_ms: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    is_in_stream: bool = False

    @property
    def names(self) -> list[str]:
        """What is told by name, the most telling first."""
        return [name for name in (self.reason, self.code, self.type) if name]


_QUOTA, _RATE, _FILTER = (
    ProviderQuotaExceededError,
    ProviderRateLimitError,
    ProviderContentFilterError,
)
_LENGTH, _MODEL, _BUSY = (
    ProviderContextLengthError,
    ProviderModelNotFoundError,
    ProviderOverloadedError,
)
_AUTH, _INVALID, _SERVER, _LATE = (
    ProviderAuthError,
    ProviderInvalidRequestError,
    ProviderServerError,
    ProviderTimeoutError,
)

_SPECIFIC: dict[str, type[ProviderError]] = {
    # no money: OpenAI and compatibles, Anthropic's `billing_error` and `error_code`s, OpenRouter
    "insufficient_quota": _QUOTA,
    "billing_hard_limit_reached": _QUOTA,
    "billing_not_active": _QUOTA,
    "insufficient_balance": _QUOTA,
    "insufficient_credits": _QUOTA,
    "quota_exceeded": _QUOTA,
    "daily_quota": _QUOTA,
    "spend_limit_exceeded": _QUOTA,
    "organization_spend_limit_exceeded": _QUOTA,
    "project_spend_limit_exceeded": _QUOTA,
    "blocked_api_access": _QUOTA,  # Groq, at its spend limit, with a 400
    "billing_error": _QUOTA,
    "enforced_spend_limit_reached": _QUOTA,
    "contract_spend_limit_reached": _QUOTA,
    "linked_organization_spend_limit_reached": _QUOTA,
    "linked_organization_billing_unavailable": _QUOTA,
    "openrouter_credits": _QUOTA,
    "openrouter_key_limit": _QUOTA,
    "openrouter_guardrail_budget": _QUOTA,
    "openrouter_workspace_budget": _QUOTA,
    # too long; llama.cpp says so with a 500 too
    "context_length_exceeded": _LENGTH,
    "context_window_exceeded": _LENGTH,
    "model_context_window_exceeded": _LENGTH,
    "exceed_context_size_error": _LENGTH,
    # refused for its content
    "content_filter": _FILTER,
    "content_policy_violation": _FILTER,
    "image_content_policy_violation": _FILTER,
    "misalignment_policy_violation": _FILTER,
    "ResponsibleAIPolicyViolation": _FILTER,
    "moderation_blocked": _FILTER,
    "invalid_prompt": _FILTER,
    "bio_policy": _FILTER,
    "cyber_policy": _FILTER,
    "flagged_input": _FILTER,
    # no such model
    "model_not_found": _MODEL,
    "model_not_available": _MODEL,
    "model_decommissioned": _MODEL,
    "DeploymentNotFound": _MODEL,
    # overload and rate, whatever the status
    "overloaded_error": _BUSY,
    "overloaded": _BUSY,
    "server_is_overloaded": _BUSY,
    "engine_overloaded": _BUSY,
    "slow_down": _BUSY,
    "capacity_exceeded": _BUSY,
    "queue_exceeded": _BUSY,
    "service_tier_capacity_exceeded": _BUSY,
    "MODEL_CAPACITY_EXHAUSTED": _BUSY,
    "NoCapacity": _BUSY,
    "rate_limit_exceeded": _RATE,
    "rate_limit_error": _RATE,
    "rate_limited": _RATE,
    "ramp_limit_exceeded": _RATE,
    "openrouter_in_flight_budget": _RATE,  # a 402 that passes
    # a wrong key, also where it is a 400
    "invalid_api_key": _AUTH,
    "API_KEY_INVALID": _AUTH,
    "model_terms_required": _AUTH,
    "organization_restricted": _AUTH,
    # the model wrote what its server could not read: a 400 at Groq, and the next try may pass
    "tool_use_failed": _SERVER,
    "json_validate_failed": _SERVER,
}
"""Names that say more than the status they come with."""

_GENERAL: dict[str, type[ProviderError]] = {
    "invalid_request_error": _INVALID,
    "authentication_error": _AUTH,
    "permission_error": _AUTH,
    "not_found_error": _MODEL,
    "request_too_large": _INVALID,
    "timeout_error": _LATE,
    "timeout": _LATE,
    "api_error": _SERVER,
    "server_error": _SERVER,
    "internal_error": _SERVER,
    "internal_server_error": _SERVER,
    "unavailable_error": _BUSY,  # llama.cpp, while it loads the model
    # vLLM
    "BadRequestError": _INVALID,
    "NotFoundError": _MODEL,
    # Text Generation Inference
    "validation": _INVALID,
    # Google's canonical codes
    "INVALID_ARGUMENT": _INVALID,
    "FAILED_PRECONDITION": _INVALID,
    "UNAUTHENTICATED": _AUTH,
    "PERMISSION_DENIED": _AUTH,
    "NOT_FOUND": _MODEL,
    "RESOURCE_EXHAUSTED": _RATE,
    "DEADLINE_EXCEEDED": _LATE,
    "UNAVAILABLE": _BUSY,
}
"""Names that say no more than a status; they count where there is none, inside a stream."""

_STATUS: dict[int, type[ProviderError]] = {
    401: _AUTH,
    402: _QUOTA,
    403: _AUTH,
    404: _MODEL,
    408: _LATE,
    409: ProviderError,
    410: _MODEL,
    425: ProviderError,
    429: _RATE,
    498: _BUSY,  # Groq, when its flex tier is full
    499: ProviderError,
    503: _BUSY,
    504: _LATE,
    522: _LATE,  # Cloudflare found no answer behind it
    524: _LATE,
    529: _BUSY,
}


class Blame(StrEnum):
    """Who can do something about an error."""

    CALLER = "caller"
    """The request is wrong or too long; another provider may still take it."""
    OPERATOR = "operator"
    """Key, credit or settings of the account."""
    PROVIDER = "provider"
    """The provider or the way to it; it may pass."""


_BLAME: dict[ErrorCategory, Blame] = {
    ErrorCategory.VALIDATION: Blame.CALLER,
    ErrorCategory.CONTENT_FILTER: Blame.CALLER,
    ErrorCategory.CONTEXT_LENGTH: Blame.CALLER,
    ErrorCategory.BUDGET: Blame.CALLER,
    ErrorCategory.CANCELLED: Blame.CALLER,
    ErrorCategory.AUTH: Blame.OPERATOR,
    ErrorCategory.QUOTA: Blame.OPERATOR,
    ErrorCategory.CONFIGURATION: Blame.OPERATOR,
}


def blame(category: ErrorCategory) -> Blame:
    """Who is to blame for an attempt that failed in this way."""
    return _BLAME.get(category, Blame.PROVIDER)


def is_no_such_question(told: Told) -> bool:
    """Whether a server that was asked for a list or a version has none to give to this key.

    What is called the caller's fault cannot be, for nothing was asked of a model: 404, 405 and
    their like say that there is no such thing here. A 403 is a key that may do other things (a
    restricted one of OpenAI's, without `api.model.read`, writes answers all the same).
    """
    kind = error_class(told)
    may_do_other_things = kind is _AUTH and told.status == HTTPStatus.FORBIDDEN
    return may_do_other_things or blame(kind.category) is Blame.CALLER


def error_class(told: Told) -> type[ProviderError]:
    """The most specific class for what a provider told: by name, then by status.

    A request that is too large is never taken for a rate limit, as Groq names it: it would be
    refused for ever (design B6).
    """
    named = next((_SPECIFIC[name] for name in told.names if name in _SPECIFIC), None)
    if told.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return named if named is _LENGTH else _INVALID
    if named is not None:
        return named
    if told.status is not None and told.status >= HTTPStatus.BAD_REQUEST:
        is_theirs = told.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        return _STATUS.get(told.status, _SERVER if is_theirs else _INVALID)
    return next((_GENERAL[name] for name in told.names if name in _GENERAL), _SERVER)
