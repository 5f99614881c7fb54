"""Rate limits: read from vendors' headers as they document them, and obeyed before a refusal."""

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_router.providers.retry_after import retry_after_ms
from provider_router.routing.rate import RateLimits, Tokens, configured_limits
from provider_router.routing.rate_headers import read_rate_headers, read_reset

NOW = 1_755_780_059_000
"""2025-08-21T12:40:59Z"""
SMALL = Tokens(100, 100)

ANTHROPIC = {
    "anthropic-ratelimit-input-tokens-limit": "80000",
    "anthropic-ratelimit-input-tokens-remaining": "79000",
    "anthropic-ratelimit-input-tokens-reset": "2025-08-21T12:41:00Z",
    "anthropic-ratelimit-output-tokens-limit": "16000",
    "anthropic-ratelimit-output-tokens-remaining": "12000",
    "anthropic-ratelimit-output-tokens-reset": "2025-08-21T12:41:14Z",
    "anthropic-ratelimit-requests-limit": "1000",
    "anthropic-ratelimit-requests-remaining": "999",
    "anthropic-ratelimit-requests-reset": "2025-08-21T12:40:59Z",
    "anthropic-ratelimit-tokens-limit": "96000",
    "anthropic-ratelimit-tokens-remaining": "91000",
    "anthropic-ratelimit-tokens-reset": "2025-08-21T12:41:00Z",
}
OPENAI = {
    "x-ratelimit-limit-requests": "5000",
    "x-ratelimit-limit-tokens": "160000",
    "x-ratelimit-limit-tokens_usage_based": "160000",
    "x-ratelimit-remaining-requests": "4999",
    "x-ratelimit-remaining-tokens": "159976",
    "x-ratelimit-remaining-tokens_usage_based": "159976",
    "x-ratelimit-reset-requests": "12ms",
    "x-ratelimit-reset-tokens": "9ms",
    "x-ratelimit-reset-tokens_usage_based": "9ms",
}
OPENAI_FREE = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-limit-tokens": "150000",
    "x-ratelimit-remaining-requests": "59",
    "x-ratelimit-remaining-tokens": "149984",
    "x-ratelimit-reset-requests": "1s",
    "x-ratelimit-reset-tokens": "6m0s",
}
GROQ = {
    "retry-after": "2",
    "x-ratelimit-limit-requests": "14400",
    "x-ratelimit-limit-tokens": "18000",
    "x-ratelimit-remaining-requests": "14370",
    "x-ratelimit-remaining-tokens": "17997",
    "x-ratelimit-reset-requests": "2m59.56s",
    "x-ratelimit-reset-tokens": "7.66s",
}
CEREBRAS = {
    "x-ratelimit-limit-requests-day": "14400",
    "x-ratelimit-limit-tokens-minute": "60000",
    "x-ratelimit-remaining-requests-day": "14300",
    "x-ratelimit-remaining-tokens-minute": "50000",
    "x-ratelimit-reset-requests-day": "33011.382867",
    "x-ratelimit-reset-tokens-minute": "11.382867",
}
OPENROUTER = {
    "X-RateLimit-Limit": "20",
    "X-RateLimit-Remaining": "0",
    "X-RateLimit-Reset": str(NOW + 30_000),
}
AZURE_BROKEN = {
    "x-ratelimit-limit-tokens": "-1",
    "x-ratelimit-remaining-tokens": "-1",
    "x-ratelimit-reset-tokens": "0",
}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            ANTHROPIC,
            {
                "input-tokens": ("input_tokens", 80_000, 79_000, 1_000),
                "output-tokens": ("output_tokens", 16_000, 12_000, 15_000),
                "requests": ("requests", 1_000, 999, 0),
                "tokens": ("tokens", 96_000, 91_000, 1_000),
            },
        ),
        (
            OPENAI,
            {
                "requests": ("requests", 5_000, 4_999, 12),
                "tokens": ("tokens", 160_000, 159_976, 9),
                "tokens_usage_based": ("tokens", 160_000, 159_976, 9),
            },
        ),
        (
            OPENAI_FREE,
            {
                "requests": ("requests", 60, 59, 1_000),
                "tokens": ("tokens", 150_000, 149_984, 360_000),
            },
        ),
        (
            GROQ,
            {
                "requests": ("requests", 14_400, 14_370, 179_560),
                "tokens": ("tokens", 18_000, 17_997, 7_660),
            },
        ),
        (
            CEREBRAS,
            {
                "requests-day": ("requests", 14_400, 14_300, 33_011_383),
                "tokens-minute": ("tokens", 60_000, 50_000, 11_383),
            },
        ),
        (OPENROUTER, {"requests": ("requests", 20, 0, 30_000)}),
        (AZURE_BROKEN, {}),
        ({"x-ratelimit-remaining-requests": "7"}, {"requests": ("requests", None, 7, None)}),
        ({"x-ratelimit-limit-requests": "many", "x-ratelimit-reset-requests": "soon"}, {}),
        ({"anthropic-ratelimit-unified-status": "allowed", "x-ratelimit-limit-images": "5"}, {}),
        ({"content-type": "text/event-stream"}, {}),
    ],
    ids=[
        "anthropic",
        "openai",
        "openai-free",
        "groq",
        "cerebras",
        "openrouter",
        "azure-broken",
        "azure-without-limit",
        "nonsense",
        "other-families",
        "none",
    ],
)
def test_headers_are_read_as_their_vendor_documents_them(headers, expected) -> None:
    told = {
        limit.key: (
            limit.unit,
            limit.limit,
            limit.remaining,
            None if limit.reset_ms is None else round(limit.reset_ms),
        )
        for limit in read_rate_headers(headers, NOW).limits
    }
    assert told == expected


@pytest.mark.parametrize(
    ("text", "reset_ms"),
    [
        ("6m0s", 360_000),
        ("1s", 1_000),
        ("20ms", 20),
        ("1h2m3s", 3_723_000),
        ("2m59.56s", 179_560),
        ("1d", 86_400_000),
        ("12", 12_000),
        ("0", 0),
        ("-5", 0),
        ("1.5", 1_500),
        (str(NOW // 1000 + 9), 9_000),
        (str(NOW + 9), 9),
        ("2025-08-21T12:41:09Z", 10_000),
        ("2025-08-21T14:41:09+02:00", 10_000),
        ("2025-08-21T12:40:00Z", 0),
        ("9" * 400 + "h", 31 * 86_400_000),
        ("1e300", 31 * 86_400_000),
        ("", None),
        ("soon", None),
        ("5 apples", None),
        ("nan", None),
    ],
)
def test_a_reset_is_a_duration_a_number_of_seconds_or_a_time(text, reset_ms) -> None:
    read = read_reset(text, NOW)
    assert read == (None if reset_ms is None else pytest.approx(reset_ms))


@pytest.mark.parametrize(
    ("headers", "wait_ms"),
    [
        ({"Retry-After": "2"}, 2_000),
        ({"retry-after": "0.5"}, 500),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1_500),
        ({"retry-after-ms": "?", "retry-after": "2"}, 2_000),
        ({"retry-after": formatdate(NOW / 1000 + 30, usegmt=True)}, 30_000),
        ({"retry-after": formatdate(NOW / 1000 - 30, usegmt=True)}, 0),
        ({"retry-after": "later"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_a_retry_after_is_seconds_or_milliseconds_or_a_date(headers, wait_ms) -> None:
    assert retry_after_ms(headers, NOW) == wait_ms


odd_values = st.text(max_size=12) | st.sampled_from(["-1", "0", "1e308", "1e-308", "9" * 99, "1h"])


@given(st.dictionaries(st.sampled_from([*ANTHROPIC, *OPENAI, *GROQ]), odd_values, max_size=20))
def test_no_header_value_makes_it_raise(headers: dict[str, str]) -> None:
    RateLimits().told(1, headers, NOW).may_start_at_ms(SMALL, NOW)


def learnt(headers: dict[str, str], now_ms: int = NOW) -> RateLimits:
    limits, number = RateLimits().started(SMALL, now_ms)
    return limits.told(number, headers, now_ms).finished(number, SMALL, now_ms)


def test_without_any_limit_everything_starts_at_once() -> None:
    assert RateLimits().may_start_at_ms(Tokens(10**6, 10**6), NOW) == NOW


def test_a_learnt_limit_is_obeyed_before_the_provider_refuses() -> None:
    limits = learnt({**ANTHROPIC, "anthropic-ratelimit-requests-remaining": "3"})
    starts = 0
    while limits.may_start_at_ms(SMALL, NOW) == NOW:
        limits, _ = limits.started(SMALL, NOW)
        starts += 1
    assert starts == 3
    assert limits.may_start_at_ms(SMALL, NOW) == NOW + 60, "1,000 a minute"


def test_output_tokens_have_a_limit_of_their_own() -> None:
    limits = learnt({**ANTHROPIC, "anthropic-ratelimit-output-tokens-remaining": "500"})
    assert limits.may_start_at_ms(Tokens(10, 500), NOW) == NOW
    assert limits.may_start_at_ms(Tokens(10, 4_500), NOW) == NOW + 15_000


def test_how_fast_a_limit_fills_follows_from_what_is_missing_until_its_reset() -> None:
    spent = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "24h0m0s"}
    limits = learnt({**GROQ, "retry-after": "", **spent})
    assert limits.may_start_at_ms(SMALL, NOW) == NOW + 6_000, "14,400 a day are one in 6 s"


def test_the_little_that_is_missing_of_a_full_limit_does_not_make_it_slow() -> None:
    limits = learnt(OPENAI_FREE)
    limits, _ = limits.started(Tokens(100_000, 49_984), NOW)
    assert limits.may_start_at_ms(Tokens(1_000, 1_500), NOW) == NOW + 1_000, "150,000 a minute"


def test_a_retry_after_holds_until_it_is_over_but_not_for_ever() -> None:
    assert learnt(GROQ).may_start_at_ms(SMALL, NOW) == NOW + 2_000
    assert learnt({"retry-after": "86400"}).may_start_at_ms(SMALL, NOW) == NOW + 300_000


def test_a_shorter_retry_after_does_not_end_a_longer_one() -> None:
    limits = learnt({"retry-after": "30"}).told(2, {"retry-after": "1"}, NOW + 5)
    assert limits.may_start_at_ms(SMALL, NOW + 5) == NOW + 30_000


def test_requests_in_flight_that_the_provider_has_not_counted_are_not_forgotten() -> None:
    limits, first = RateLimits().started(SMALL, NOW)
    limits, _ = limits.started(SMALL, NOW)
    limits, _ = limits.started(SMALL, NOW)
    limits = limits.told(first, {**OPENAI, "x-ratelimit-remaining-requests": "2"}, NOW)
    assert limits.learnt["requests"].level == 0, "two were sent after the one that tells"


def test_what_an_older_request_tells_late_is_stale() -> None:
    limits, first = RateLimits().started(SMALL, NOW)
    limits, second = limits.started(SMALL, NOW)
    limits = limits.told(second, {**OPENAI, "x-ratelimit-remaining-requests": "10"}, NOW)
    limits = limits.told(first, {**OPENAI, "x-ratelimit-remaining-requests": "4000"}, NOW)
    assert limits.learnt["requests"].level == 10


def test_a_request_larger_than_the_limit_may_start_when_the_bucket_is_full() -> None:
    limits = configured_limits(tokens_per_minute=1_000, now_ms=NOW)
    huge = Tokens(5_000, 5_000)
    assert limits.may_start_at_ms(huge, NOW) == NOW
    limits, _ = limits.started(SMALL, NOW)
    assert limits.may_start_at_ms(huge, NOW) == NOW + 12_000


def test_configured_and_learnt_limits_are_both_obeyed() -> None:
    limits = configured_limits(requests_per_minute=60, now_ms=NOW)
    for _ in range(60):
        limits, number = limits.started(SMALL, NOW)
    limits = limits.told(number, OPENAI, NOW)
    assert limits.may_start_at_ms(SMALL, NOW) == NOW + 1_000


def test_what_was_not_used_is_given_back_to_a_configured_limit() -> None:
    limits = configured_limits(tokens_per_minute=6_000, now_ms=NOW)
    limits, number = limits.started(Tokens(1_000, 5_000), NOW)
    assert limits.may_start_at_ms(SMALL, NOW) == NOW + 2_000
    limits = limits.finished(number, Tokens(1_000, 100), NOW)
    assert limits.may_start_at_ms(SMALL, NOW) == NOW
    assert limits.in_flight == {}


@given(
    st.lists(
        st.tuples(st.integers(0, 3_000), st.integers(1, 400), st.integers(1, 400)), max_size=60
    )
)
def test_whoever_waits_as_told_never_overdraws_a_limit(
    requests: list[tuple[int, int, int]],
) -> None:
    limits = configured_limits(requests_per_minute=30, tokens_per_minute=2_000, now_ms=NOW)
    now_ms = NOW
    for gap_ms, input_tokens, output_tokens in requests:
        expected = Tokens(input_tokens, output_tokens)
        now_ms = limits.may_start_at_ms(expected, now_ms + gap_ms)
        limits, _ = limits.started(expected, now_ms)
        assert all(bucket.level >= -1e-6 for bucket in limits.configured.values())
