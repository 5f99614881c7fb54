"""Examples of errors, events and dead letters."""

from atlas.contracts.base import Contract
from atlas.contracts.errors import ErrorCategory, ErrorInfo, ErrorReply, Severity
from atlas.contracts.events import AttemptOutcome, AttemptReport, DeadLetter, Event, Offer
from atlas.contracts.inference import Cost, Level, Usage, UsageSource

AT_MS = 1_767_225_600_000

ERROR = ErrorInfo(
    code="provider_rate_limit",
    category=ErrorCategory.RATE_LIMIT,
    severity=Severity.WARNING,
    message="openai answered 429: too many tokens this minute; wait, or allow another provider",
    retryable=True,
    retry_after_ms=1_500,
    provider="openai",
    http_status=429,
    details={"limit": "tokens_per_minute"},
)

ERRORS_AND_EVENTS: dict[str, Contract] = {
    "ErrorInfo": ERROR,
    "ErrorReply": ErrorReply(error=ERROR),
    "Event": Event(
        event_id="01970000-0000-7000-8000-000000000001",
        type="provider.circuit",
        source="provider_router",
        at_ms=AT_MS,
        data={"provider": "openai", "circuit": "open"},
    ),
    "AttemptReport": AttemptReport(
        provider="openai",
        model="openai/gpt-5",
        outcome=AttemptOutcome.FAILED,
        error="provider_rate_limit",
        hedged=True,
        usage=Usage(
            input_tokens=800,
            output_tokens=40,
            reasoning_tokens=10,
            cached_input_tokens=512,
            source=UsageSource.ESTIMATED,
        ),
        cost=Cost(total_usd=0.0012),
    ),
    "Offer": Offer(level=Level.STRONG, description="Into any language of Europe."),
    "DeadLetter": DeadLetter(
        kind="request",
        id="story-1",
        subject="atlas.default.stream.story-1.request.interactive",
        at_ms=AT_MS,
        error=ERROR,
        payload_base64="eyJtZXNzYWdlIjogW119",
        truncated=True,
    ),
}
