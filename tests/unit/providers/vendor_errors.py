"""Errors as vendors tell them, each with what Atlas makes of it: data for test_vendor_errors.

Bodies are from the vendors' documentation and from public reports, with messages left out. An error
comes as a refusal with a status, or inside a stream that began with 200.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from atlas.contracts.errors import (
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
    ProviderStreamError,
    ProviderTimeoutError,
)

type Next = Literal["retry", "another", "give up"]
"""What the router does: `retry` means another candidate at once or, without one, the same after a
wait; `another` means another candidate or the end."""


@dataclass(frozen=True)
class Verdict:
    """What an error is taken for."""

    error: type[ProviderError]
    category: str
    blame: str
    next: Next

    @property
    def is_retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.next == "retry"


AUTH = Verdict(ProviderAuthError, "auth", "operator", "another")
QUOTA = Verdict(ProviderQuotaExceededError, "quota", "operator", "another")
INVALID = Verdict(ProviderInvalidRequestError, "validation", "caller", "another")
NO_MODEL = Verdict(ProviderModelNotFoundError, "validation", "caller", "another")
TOO_LONG = Verdict(ProviderContextLengthError, "context_length", "caller", "give up")
FILTERED = Verdict(ProviderContentFilterError, "content_filter", "caller", "give up")
RATE = Verdict(ProviderRateLimitError, "rate_limit", "provider", "retry")
BUSY = Verdict(ProviderOverloadedError, "overloaded", "provider", "retry")
SERVER = Verdict(ProviderServerError, "server", "provider", "retry")
ODD = Verdict(ProviderError, "server", "provider", "retry")
LATE = Verdict(ProviderTimeoutError, "timeout", "provider", "retry")
MALFORMED = Verdict(ProviderStreamError, "connection", "provider", "retry")


@dataclass(frozen=True)
class Case:
    """One error of one vendor."""

    vendor: str
    status: int
    body: bytes
    verdict: Verdict
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_after_ms: int | None = None
    note: str = ""

    @property
    def kind(self) -> str:
        """The dialect in which the vendor is spoken to."""
        return self.vendor if self.vendor in ("anthropic", "ollama") else "openai"

    @property
    def api(self) -> str:
        """Which of OpenAI's APIs is asked."""
        return "responses" if self.vendor == "openai responses" else "chat"

    @property
    def id(self) -> str:
        """Its name in the test's output."""
        return "-".join([self.vendor, str(self.status), *([self.note] if self.note else [])])


def refused(
    vendor: str,
    status: int,
    body: object,
    verdict: Verdict,
    note: str = "",
    *,
    headers: Mapping[str, str] | None = None,
    retry_after_ms: int | None = None,
) -> Case:
    """A refusal: a status and a body, JSON unless it is text."""
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return Case(vendor, status, data, verdict, headers or {}, retry_after_ms, note)


def told(vendor: str, events: list[tuple[str, object]] | str, verdict: Verdict, note: str) -> Case:
    """An error inside a stream: a 200, and events by name (or lines as they are)."""
    if isinstance(events, str):
        return Case(vendor, 200, events.encode(), verdict, note=f"in stream, {note}")
    body = "".join(
        (f"event: {name}\n" if name else "") + f"data: {json.dumps(data)}\n\n"
        for name, data in events
    )
    return Case(vendor, 200, body.encode(), verdict, note=f"in stream, {note}")


def error(message: str = "…", **fields: object) -> dict[str, object]:
    """The usual envelope."""
    return {"error": {"message": message, **fields}}


def claude(kind: str, **fields: object) -> dict[str, object]:
    """Anthropic's envelope."""
    return {"type": "error", "error": {"type": kind, "message": "…", **fields}, "request_id": "r"}


def google(code: int, status: str, *details: Mapping[str, object]) -> list[dict[str, object]]:
    """The envelope of Google's OpenAI-compatible endpoint: a list."""
    return [{"error": {"code": code, "message": "…", "status": status, "details": list(details)}}]


def quota_failure(quota: str) -> dict[str, object]:
    """Google's detail that names a quota."""
    kind = "type.googleapis.com/google.rpc.QuotaFailure"
    return {"@type": kind, "violations": [{"quotaId": quota, "quotaValue": "20"}]}


RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37.5s"}
WORD: tuple[str, object] = ("", {"choices": [{"index": 0, "delta": {"content": "a"}}]})
SPENT = "enforced_spend_limit_reached"
HTML = "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"

ANTHROPIC = [
    refused("anthropic", 400, claude("invalid_request_error"), INVALID),
    refused("anthropic", 400, claude("invalid_request_error", details={"error_code": SPENT}), QUOTA,
            "a spend limit as a 400"),
    refused("anthropic", 400, claude("invalid_request_error",
            details={"error_code": "model_context_window_exceeded"}), TOO_LONG, "too long"),
    refused("anthropic", 401, claude("authentication_error"), AUTH),
    refused("anthropic", 402, claude("billing_error"), QUOTA),
    refused("anthropic", 403, claude("permission_error"), AUTH),
    refused("anthropic", 404, claude("not_found_error"), NO_MODEL),
    refused("anthropic", 409, claude("conflict_error"), ODD),
    refused("anthropic", 413, claude("request_too_large"), INVALID),
    refused("anthropic", 429, claude("rate_limit_error"), RATE, headers={"Retry-After": "12"},
            retry_after_ms=12_000),
    refused("anthropic", 429, claude("rate_limit_error", details={"error_code": SPENT}), QUOTA,
            "a spend limit as a 429"),
    refused("anthropic", 429, claude("rate_limit_error",
            details={"error_code": "ramp_limit_exceeded"}), RATE, "too steep a rise"),
    refused("anthropic", 500, claude("api_error"), SERVER),
    refused("anthropic", 503, HTML, BUSY, "a page"),
    refused("anthropic", 504, claude("timeout_error"), LATE),
    refused("anthropic", 529, claude("overloaded_error"), BUSY),
    told("anthropic", [("error", claude("overloaded_error"))], BUSY, "overloaded"),
    told("anthropic", [("error", claude("api_error"))], SERVER, "a fault"),
    told("anthropic", [("error", claude("rate_limit_error"))], RATE, "rate"),
    told("anthropic", [("error", claude("timeout_error"))], LATE, "late"),
    told("anthropic", [("error", claude("invalid_request_error"))], INVALID, "invalid"),
    told("anthropic", [("", claude("overloaded_error"))], BUSY, "a proxy dropped the event's name"),
]  # fmt: skip

OPENAI = [
    refused("openai", 400, error(type="invalid_request_error", param="messages", code=None),
            INVALID),
    refused("openai", 400, error(type="invalid_request_error", code="context_length_exceeded"),
            TOO_LONG),
    refused("openai", 400, error(type="invalid_request_error", code="content_policy_violation"),
            FILTERED),
    refused("openai", 400, error(type="invalid_request_error", code="invalid_prompt"), FILTERED),
    refused("openai", 400, error(type="image_generation_user_error", code="moderation_blocked"),
            FILTERED),
    refused("openai", 400, error(code="billing_hard_limit_reached"), QUOTA, "a spend limit"),
    refused("openai", 401, error(type="invalid_request_error", code="invalid_api_key"), AUTH),
    refused("openai", 403, error(type="request_forbidden",
            code="unsupported_country_region_territory"), AUTH),
    refused("openai", 404, error(type="invalid_request_error", code="model_not_found"), NO_MODEL),
    refused("openai", 429, error(type="requests", code="rate_limit_exceeded"), RATE,
            headers={"Retry-After-Ms": "250", "Retry-After": "1"}, retry_after_ms=250),
    refused("openai", 429, error(type="tokens", code="rate_limit_exceeded"), RATE, "tokens",
            headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, retry_after_ms=0),
    refused("openai", 429, error(type="insufficient_quota", code="insufficient_quota"), QUOTA),
    refused("openai", 429, error(code="organization_spend_limit_exceeded"), QUOTA, "spend limit"),
    refused("openai", 429, error(code="project_spend_limit_exceeded"), QUOTA, "project's limit"),
    refused("openai", 500, error(type="server_error", code=None), SERVER),
    refused("openai", 503, error(type="server_error", code="slow_down"), BUSY),
    refused("openai", 503, error(type="service_unavailable", code="server_is_overloaded"), BUSY),
    refused("openai", 408, "", LATE, "without a body"),
    refused("openai", 524, HTML, LATE, "Cloudflare waited in vain"),
    told("openai", [WORD, ("", error(type="server_error", code=None))], SERVER, "a fault"),
    told("openai", [WORD, ("error", error(type="insufficient_quota"))], QUOTA, "no money"),
    told("openai", [WORD, ("", error(code="rate_limit_exceeded"))], RATE, "rate"),
    refused("openai responses", 400, error(code="context_length_exceeded"), TOO_LONG),
    refused("openai responses", 429, error(code="rate_limit_exceeded"), RATE),
    told("openai responses", [("error", {"type": "error", "code": "rate_limit_exceeded",
         "message": "…", "param": None})], RATE, "flat"),
    told("openai responses", [("error", {"type": "error", "error": {"type": "tokens",
         "code": "rate_limit_exceeded", "message": "…"}})], RATE, "in an envelope"),
    told("openai responses", [("response.failed", {"type": "response.failed", "response": {
         "error": {"code": "server_error", "message": "…"}}})], SERVER, "failed"),
    told("openai responses", [("response.failed", {"type": "response.failed", "response": {
         "error": {"code": "invalid_prompt", "message": "…"}}})], FILTERED, "flagged"),
    told("openai responses", [("response.failed", {"type": "response.failed", "response": {
         "error": None}})], SERVER, "failed without a word"),
]  # fmt: skip

OLLAMA = [
    refused("ollama", 400, {"error": "invalid options"}, INVALID),
    refused("ollama", 401, {"error": "unauthorized", "signin_url": "https://x.test"}, AUTH),
    refused("ollama", 404, {"error": "model 'x' not found"}, NO_MODEL),
    refused("ollama", 429, {"error": "you have reached your usage limit"}, RATE),
    refused("ollama", 500, {"error": "llama runner process has terminated"}, SERVER),
    refused("ollama", 502, HTML, SERVER, "a page"),
    refused("ollama", 503, {"error": "server busy, maximum pending requests exceeded"}, BUSY),
    told("ollama", '{"error":"an error was encountered while running the model"}\n', SERVER,
         "a fault"),
]  # fmt: skip

COMPATIBLE = [
    refused("azure", 400, error(type=None, param="prompt", code="content_filter", status=400,
            innererror={"code": "ResponsibleAIPolicyViolation"}), FILTERED),
    refused("azure", 401, error(code="401"), AUTH),
    refused("azure", 401, {"statusCode": 401, "message": "Unauthorized"}, AUTH, "its gateway"),
    refused("azure", 404, error(code="DeploymentNotFound"), NO_MODEL),
    refused("azure", 429, error(code="429"), RATE, headers={"Retry-After": "86400"},
            retry_after_ms=86_400_000),
    refused("azure", 429, error(code="NoCapacity"), BUSY, "no capacity"),
    refused("groq", 400, error(type="invalid_request_error", code="tool_use_failed",
            failed_generation="<function"), SERVER, "its model's fault"),
    refused("groq", 400, error(type="invalid_request_error", code="json_validate_failed"), SERVER,
            "no JSON"),
    refused("groq", 400, error(type="invalid_request_error", code="blocked_api_access"), QUOTA,
            "a spend limit"),
    refused("groq", 400, error(type="invalid_request_error", code="organization_restricted"), AUTH,
            "restricted"),
    refused("groq", 400, error(type="invalid_request_error", code="model_decommissioned"), NO_MODEL,
            "gone"),
    refused("groq", 413, error(type="tokens", code="rate_limit_exceeded"), INVALID,
            "never small enough"),
    refused("groq", 429, error(type="tokens", code="rate_limit_exceeded"), RATE,
            headers={"retry-after": "7.66"}, retry_after_ms=7_660),
    refused("groq", 498, error(code="capacity_exceeded"), BUSY),
    refused("mistral", 401, {"detail": "Unauthorized"}, AUTH),
    refused("mistral", 422, {"detail": [{"loc": ["body", "messages"], "msg": "Field required"}]},
            INVALID),
    refused("mistral", 429, {"object": "error", "message": "Rate limit exceeded",
            "type": "rate_limited", "param": None, "code": "1300"}, RATE),
    refused("mistral", 429, {"object": "error", "message": "…", "param": None, "code": "3505",
            "type": "service_tier_capacity_exceeded"}, BUSY, "capacity"),
    refused("mistral", 400, {"object": "error", "message": "…", "type": "invalid_request_error"},
            INVALID),
    told("mistral", [WORD, ("", {"object": "error", "message": "…", "code": "1300",
         "type": "rate_limited"})], RATE, "without an envelope"),
    refused("deepseek", 402, error("Insufficient Balance", type="unknown_error", param=None,
            code="invalid_request_error"), QUOTA),
    refused("deepseek", 422, error(type="invalid_request_error"), INVALID),
    refused("deepseek", 503, error(type="service_unavailable_error"), BUSY),
    refused("openrouter", 402, error(code=402, metadata={"limit_source": "openrouter_credits"}),
            QUOTA),
    refused("openrouter", 402, error(code=402, metadata={"limit_source":
            "openrouter_in_flight_budget"}), RATE, "passes", headers={"Retry-After": "3"},
            retry_after_ms=3_000),
    refused("openrouter", 403, error(code=403, metadata={"reasons": ["violence"],
            "flagged_input": "…", "provider_name": "OpenAI"}), FILTERED, "flagged"),
    refused("openrouter", 403, error(code=403, metadata={"limit_source":
            "openrouter_guardrail_budget"}), QUOTA, "a budget"),
    refused("openrouter", 408, error(code=408), LATE),
    refused("openrouter", 502, error(code=502, metadata={"raw": "…"}), SERVER),
    refused("openrouter", 503, error(code=503), BUSY),
    told("openrouter", [WORD, ("", {**error(code=502), "choices": [{"index": 0, "delta": {},
         "finish_reason": "error"}]})], SERVER, "a status as its code"),
    told("openrouter", [WORD, ("", {**error(code=429), "choices": []})], RATE, "rate"),
    told("openrouter", [WORD, ("", {**error(code="server_error"), "choices": []})], SERVER, "name"),
    told("openrouter", json.dumps(error(code=402)), QUOTA, "a JSON body with a 200"),
    refused("vllm", 400, {"object": "error", "message": "…", "type": "BadRequestError",
            "param": None, "code": 400}, INVALID, "without an envelope"),
    refused("vllm", 400, error(type="BadRequestError", param="input_tokens", code=400), TOO_LONG),
    refused("vllm", 401, {"error": "Unauthorized"}, AUTH),
    refused("vllm", 404, error(type="NotFoundError", param="model", code=404), NO_MODEL),
    refused("vllm", 500, "Internal Server Error", SERVER, "plain text"),
    told("vllm", [WORD, ("", error(type="InternalServerError", code=500))], SERVER, "a fault"),
    told("vllm", [WORD, ("", error(type="BadRequestError", code=400))], INVALID, "invalid"),
    told("vllm", [WORD, ("", {"object": "error", "message": "…", "type": "BadRequestError",
         "code": 400})], INVALID, "without an envelope"),
    refused("llama.cpp", 400, error(code=400, type="exceed_context_size_error", n_ctx=256),
            TOO_LONG),
    refused("llama.cpp", 500, error(code=500, type="exceed_context_size_error"), TOO_LONG),
    refused("llama.cpp", 503, error(code=503, type="unavailable_error"), BUSY, "still loading"),
    refused("llama.cpp", 501, error(code=501, type="not_supported_error"), SERVER),
    refused("tgi", 422, {"error": "…", "error_type": "validation"}, INVALID),
    refused("tgi", 429, {"error": "Model is overloaded", "error_type": "overloaded"}, BUSY),
    told("tgi", [WORD, ("", {"error": "…", "error_type": "incomplete_generation"})], SERVER, "cut"),
    refused("together", 400, error(type="invalid_request_error", code="model_not_available"),
            NO_MODEL),
    refused("together", 401, error(type="invalid_request_error", code="invalid_api_key"), AUTH),
    refused("together", 402, error(type="credit_limit", code=None), QUOTA),
    refused("together", 429, error(type="rate_limit", code=None), RATE),
    refused("together", 503, error(type="service_unavailable", code=None), BUSY),
    refused("xai", 400, {"code": "Client specified an invalid argument",
            "error": "Incorrect API key provided"}, INVALID, "a wrong key, told only in words"),
    refused("xai", 403, {"code": "The caller does not have permission", "error": "…"}, AUTH),
    refused("cerebras", 429, {"message": "…", "type": "too_many_requests_error",
            "param": "queue", "code": "queue_exceeded"}, BUSY),
    refused("gemini", 400, google(400, "INVALID_ARGUMENT"), INVALID),
    refused("gemini", 400, google(400, "INVALID_ARGUMENT", {"reason": "API_KEY_INVALID"}), AUTH,
            "a wrong key"),
    refused("gemini", 404, google(404, "NOT_FOUND"), NO_MODEL),
    refused("gemini", 429, google(429, "RESOURCE_EXHAUSTED", quota_failure(
            "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"), RETRY_INFO), RATE,
            retry_after_ms=37_500),
    refused("gemini", 429, google(429, "RESOURCE_EXHAUSTED", quota_failure(
            "GenerateRequestsPerDayPerProjectPerModel-FreeTier"), RETRY_INFO), QUOTA, "for the day",
            retry_after_ms=37_500),
    refused("gemini", 429, google(429, "RESOURCE_EXHAUSTED", {"reason":
            "MODEL_CAPACITY_EXHAUSTED"}), BUSY, "no capacity"),
    refused("gemini", 503, google(503, "UNAVAILABLE"), BUSY),
    refused("gemini", 504, google(504, "DEADLINE_EXCEEDED"), LATE),
    told("gemini", [WORD, ("", google(503, "UNAVAILABLE")[0])], BUSY, "overloaded"),
    told("gemini", [WORD, ("", {"error": {"status": "RESOURCE_EXHAUSTED"}})], RATE, "a name only"),
]  # fmt: skip

PROXIES = [
    refused("a proxy", 502, HTML, SERVER, "a page"),
    refused("a proxy", 503, "", BUSY, "nothing", headers={"Retry-After": "2"},
            retry_after_ms=2_000),
    refused("a proxy", 504, "upstream request timeout", LATE, "plain text"),
    refused("a proxy", 400, "[]", INVALID, "an empty list"),
    refused("a proxy", 500, '"down"', SERVER, "a JSON string"),
    refused("a proxy", 403, b"\xff\xfe".decode("latin-1"), AUTH, "bytes of another encoding"),
    Case("a proxy", 200, b"", MALFORMED, note="nothing at all"),
    Case("a proxy", 200, HTML.encode(), MALFORMED, note="a page with a 200"),
    Case("a proxy", 200, b"\x00\xff\x10garbage\n\n", MALFORMED, note="garbage"),
    Case("a proxy", 200, b"data: {nonsense\n\n", MALFORMED, note="an event that is no JSON"),
]  # fmt: skip

CASES = [*ANTHROPIC, *OPENAI, *OLLAMA, *COMPATIBLE, *PROXIES]
