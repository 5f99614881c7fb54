r"""One error shape on the wire, and the exceptions that carry it in Python.

AtlasError
├── InvalidRequestError            what was sent cannot be read or makes no sense
│   ├── NotFoundError              no such stream, task or model
│   ├── ConflictError              the same id with another body
│   ├── InvalidTransitionError     a control that the state does not allow
│   └── PayloadTooLargeError       more than a message may hold
├── ConfigurationError             a setting is wrong, or an asset was changed
│   └── TopologyError              the NATS server or its JetStream assets do not fit
├── ConnectionFailedError          no NATS where we looked
├── RequestTimeoutError            nobody answered in time
├── NoResponderError               nobody listens on that door
├── StoreRefusedError              JetStream did not store a message
│   └── FencedError                ... because somebody else owns the stream by now
├── StreamGapError                 a part of a stream is lost and history lacks it too
├── OverloadedError                try again later
├── BudgetExceededError            a budget of tokens, money or time is spent
├── WorkCancelledError             somebody cancelled the stream or task
├── TaskFailedError                a task ended without its result
└── ProviderError                  a model's provider failed
    ├── ProviderInvalidRequestError    the provider refuses the request as such
    ├── ProviderAuthError              key missing, wrong or not allowed
    ├── ProviderModelNotFoundError     the provider does not know the model
    ├── ProviderRateLimitError         too many requests or tokens a minute
    ├── ProviderQuotaExceededError     no credit, spend limit reached
    ├── ProviderTimeoutError           no answer, or a silence between tokens
    ├── ProviderConnectionError        DNS, TCP, TLS, or a connection cut
    ├── ProviderServerError            5xx
    ├── ProviderOverloadedError        529, 503, or overload told inside a 200 stream
    ├── ProviderCircuitOpenError       not asked: it failed too often lately
    │   └── ProviderKeyRefusedError    ... or refused its key: waits for another configuration
    ├── ProviderBusyError              not asked: a limit of its account is reached
    ├── ProviderContentFilterError     refused for its content
    ├── ProviderContextLengthError     more tokens than the model takes
    └── ProviderStreamError            the stream itself is malformed or broke off
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar, Self

from pydantic import Field

from atlas.contracts.base import Contract, DurationMs, JsonObject


class ErrorCategory(StrEnum):
    """What kind of thing went wrong; decides who is to blame and what is retried."""

    VALIDATION = "validation"
    AUTH = "auth"
    RATE_LIMIT = "rate_limit"
    QUOTA = "quota"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    SERVER = "server"
    OVERLOADED = "overloaded"
    CONTENT_FILTER = "content_filter"
    CONTEXT_LENGTH = "context_length"
    BUDGET = "budget"
    CANCELLED = "cancelled"
    CONFIGURATION = "configuration"
    INTERNAL = "internal"


class Severity(StrEnum):
    """How loud an operator should hear it."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class ErrorInfo(Contract):
    """What went wrong, where, and what to do: the one error shape of Atlas."""

    code: str = Field(description="Stable, machine-readable, such as `not_found`.")
    category: ErrorCategory
    severity: Severity = Severity.ERROR
    message: str = Field(description="For a person: what was wrong, where, and what to do.")
    retryable: bool = Field(description="Whether the same request may succeed later.")
    retry_after_ms: DurationMs | None = Field(
        default=None, description="The earliest time at which a retry makes sense, from now."
    )
    provider: str | None = None
    http_status: int | None = Field(default=None, description="What the provider answered.")
    details: JsonObject | None = Field(
        default=None, description="Fields for a program, such as the paths of invalid fields."
    )


class ErrorReply(Contract):
    """What a request/reply door answers when it cannot do what was asked."""

    error: ErrorInfo


class AtlasError(Exception):
    """The root of every error that Atlas raises on purpose.

    Attributes mirror `ErrorInfo`; the class gives their defaults.
    """

    code: ClassVar[str] = "internal"
    category: ClassVar[ErrorCategory] = ErrorCategory.INTERNAL
    severity: ClassVar[Severity] = Severity.ERROR
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        retry_after_ms: int | None = None,
        provider: str | None = None,
        http_status: int | None = None,
        details: JsonObject | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_ms = retry_after_ms
        self.provider = provider
        self.http_status = http_status
        self.details = details

    def to_info(self) -> ErrorInfo:
        """The error as it goes over the wire."""
        return ErrorInfo(
            code=self.code,
            category=self.category,
            severity=self.severity,
            message=self.message,
            retryable=self.retryable,
            retry_after_ms=self.retry_after_ms,
            provider=self.provider,
            http_status=self.http_status,
            details=self.details,
        )

    def to_reply(self) -> ErrorReply:
        """The error as a request/reply door answers it."""
        return ErrorReply(error=self.to_info())

    @classmethod
    def of(cls, info: ErrorInfo) -> Self:
        """An error of this class with the fields of `info`."""
        return cls(
            info.message,
            retry_after_ms=info.retry_after_ms,
            provider=info.provider,
            http_status=info.http_status,
            details=info.details,
        )


class InvalidRequestError(AtlasError):
    """What was sent cannot be read or makes no sense."""

    code = "invalid_request"
    category = ErrorCategory.VALIDATION
    severity = Severity.WARNING


class NotFoundError(InvalidRequestError):
    """There is no stream, task or model of that name."""

    code = "not_found"


class ConflictError(InvalidRequestError):
    """The same id was used before with another body."""

    code = "conflict"


class InvalidTransitionError(InvalidRequestError):
    """A control that the present state does not allow; nothing was changed."""

    code = "invalid_transition"


class PayloadTooLargeError(InvalidRequestError):
    """A message is larger than NATS takes; permanent, so never retried."""

    code = "payload_too_large"


class ConfigurationError(AtlasError):
    """A setting is wrong; every problem is named at once."""

    code = "configuration"
    category = ErrorCategory.CONFIGURATION


class TopologyError(ConfigurationError):
    """The NATS server or one of its JetStream assets does not fit."""

    code = "topology"


class ConnectionFailedError(AtlasError):
    """NATS could not be reached."""

    code = "connection_failed"
    category = ErrorCategory.CONNECTION
    retryable = True


class RequestTimeoutError(AtlasError):
    """Nobody answered a request in time."""

    code = "timeout"
    category = ErrorCategory.TIMEOUT
    retryable = True


class NoResponderError(AtlasError):
    """Nobody listens on that door: the service is not running."""

    code = "no_responder"
    category = ErrorCategory.CONNECTION
    retryable = True


class StoreRefusedError(AtlasError):
    """JetStream refused to store a message."""

    code = "store_refused"
    category = ErrorCategory.SERVER
    retryable = True


class FencedError(StoreRefusedError):
    """An expected sequence was not met: somebody else was first."""

    code = "fenced"
    retryable = False


class StreamGapError(AtlasError):
    """Events of a stream are missing, also in its history."""

    code = "stream_gap"


class OverloadedError(AtlasError):
    """There is more work than may be queued; see `retry_after_ms`."""

    code = "overloaded"
    category = ErrorCategory.OVERLOADED
    severity = Severity.WARNING
    retryable = True


class BudgetExceededError(AtlasError):
    """A budget of tokens, money or time is spent."""

    code = "budget_exceeded"
    category = ErrorCategory.BUDGET
    severity = Severity.WARNING


class WorkCancelledError(AtlasError):
    """Somebody cancelled the stream or the task."""

    code = "cancelled"
    category = ErrorCategory.CANCELLED
    severity = Severity.INFO


class TaskFailedError(AtlasError):
    """A task ended without its result."""

    code = "task_failed"


class ProviderError(AtlasError):
    """A model's provider failed in a way that has no better name."""

    code = "provider_error"
    category = ErrorCategory.SERVER
    retryable = True

    headers: Mapping[str, str] = MappingProxyType({})
    """Of the provider's response, in lower case: rate limits for its router, never on the wire."""

    was_sent: bool = False
    """Whether the provider had the request when it fell silent, so that it may have to be paid."""


class ProviderInvalidRequestError(ProviderError):
    """The provider refuses the request as such; it would refuse it again."""

    code = "provider_invalid_request"
    category = ErrorCategory.VALIDATION
    severity = Severity.WARNING
    retryable = False


class ProviderAuthError(ProviderError):
    """The key is missing, wrong or not allowed to do this."""

    code = "provider_auth"
    category = ErrorCategory.AUTH
    retryable = False


class ProviderModelNotFoundError(ProviderInvalidRequestError):
    """The provider does not know the model."""

    code = "provider_model_not_found"


class ProviderRateLimitError(ProviderError):
    """Too many requests or tokens for this minute."""

    code = "provider_rate_limit"
    category = ErrorCategory.RATE_LIMIT
    severity = Severity.WARNING


class ProviderQuotaExceededError(ProviderError):
    """No credit is left, or a spend limit is reached."""

    code = "provider_quota_exceeded"
    category = ErrorCategory.QUOTA
    retryable = False


class ProviderTimeoutError(ProviderError):
    """The provider did not answer in time, or fell silent between tokens."""

    code = "provider_timeout"
    category = ErrorCategory.TIMEOUT


class ProviderConnectionError(ProviderError):
    """No connection: DNS, TCP, TLS, or it was cut before an answer."""

    code = "provider_connection"
    category = ErrorCategory.CONNECTION


class ProviderServerError(ProviderError):
    """The provider answered with a server error."""

    code = "provider_server"


class ProviderOverloadedError(ProviderError):
    """The provider is overloaded; it may say so inside a stream that began with 200."""

    code = "provider_overloaded"
    category = ErrorCategory.OVERLOADED


class ProviderCircuitOpenError(ProviderError):
    """Its circuit is open: the provider is not asked until it may have recovered."""

    code = "provider_circuit_open"
    category = ErrorCategory.OVERLOADED


class ProviderKeyRefusedError(ProviderCircuitOpenError):
    """It refused its key: the provider is not asked until its configuration changes."""

    code = "provider_key_refused"
    category = ErrorCategory.AUTH
    severity = Severity.ERROR
    retryable = False


class ProviderBusyError(ProviderError):
    """A limit of the account is reached; the provider is not asked before it would refuse."""

    code = "provider_busy"
    category = ErrorCategory.RATE_LIMIT


class ProviderContentFilterError(ProviderError):
    """The provider refuses the content."""

    code = "provider_content_filter"
    category = ErrorCategory.CONTENT_FILTER
    retryable = False


class ProviderContextLengthError(ProviderInvalidRequestError):
    """The request holds more tokens than the model takes."""

    code = "provider_context_length"
    category = ErrorCategory.CONTEXT_LENGTH


class ProviderStreamError(ProviderError):
    """The provider's stream is malformed, or broke off before its end."""

    code = "provider_stream"
    category = ErrorCategory.CONNECTION


def _tree(root: type[AtlasError]) -> dict[str, type[AtlasError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


_BY_CODE = _tree(AtlasError)


def error_from(info: ErrorInfo) -> AtlasError:
    """The exception for an error that came over the wire, the most specific that we know."""
    return _BY_CODE.get(info.code, AtlasError).of(info)
