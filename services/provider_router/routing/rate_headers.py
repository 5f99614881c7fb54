"""What vendors tell about their rate limits in response headers. Pure; never raises.

| dialect | names | reset |
|---|---|---|
| Anthropic | `anthropic-ratelimit-{requests,tokens,…}-{limit,remaining,reset}` | RFC 3339 |
| OpenAI, Groq | `x-ratelimit-{limit,remaining,reset}-{requests,tokens}` | `6m0s`, `20ms` |
| Azure | the same | seconds |
| Cerebras, Mistral | the same with a window: `…-requests-day`, `…-tokens-minute` | seconds |
| OpenRouter | `x-ratelimit-{limit,remaining,reset}` | epoch ms |

and for all of them `retry-after-ms`, or `retry-after` in seconds or as an HTTP date (RFC 9110,
section 10.2.3). Sources: the vendors' pages on rate limits. Azure sends limits of -1 on its
Responses API (openai/openai-dotnet#838); what makes no sense is left out.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from provider_router.providers.retry_after import retry_after_ms

type Unit = Literal["requests", "tokens", "input_tokens", "output_tokens"]

_ANTHROPIC = re.compile(
    r"anthropic-ratelimit-(?P<key>(?:input-|output-)?(?:requests|tokens))"
    r"-(?P<field>limit|remaining|reset)"
)
_OPENAI = re.compile(r"x-ratelimit-(?P<field>limit|remaining|reset)(?:-(?P<key>[a-z0-9_-]+))?")
_KEY = re.compile(r"(?:project-)?(?P<unit>(?:input[-_]|output[-_])?(?:requests|tokens))(?![a-z])")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|d|h|m|s)")
_UNIT_MS = {
    "d": 86_400_000.0,
    "h": 3_600_000.0,
    "m": 60_000.0,
    "s": 1_000.0,
    "ms": 1.0,
    "us": 1e-3,
    "µs": 1e-3,
    "ns": 1e-6,
}
_EPOCH_S = 1e9
_EPOCH_MS = 1e12
"""A bare number from here on is a time, not a duration."""
_WINDOWS_MS = {"second": 1_000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000}
_MINUTE_MS = 60_000
_LONGEST_RESET_MS = 31 * 86_400_000.0
"""No window is longer than a month; what claims to be is nonsense."""


@dataclass(frozen=True, slots=True)
class ToldLimit:
    """One limit as a header set tells it."""

    key: str
    """Its name with its window, such as `requests` or `tokens-minute`."""
    unit: Unit
    limit: int | None
    remaining: int
    reset_ms: float | None
    """Until it is full again, from now."""
    window_ms: int
    """What its name says, else a minute."""
    is_window_certain: bool


@dataclass(frozen=True, slots=True)
class Told:
    """Everything that a header set tells about rates."""

    limits: tuple[ToldLimit, ...] = ()
    retry_after_ms: int | None = None


def read_rate_headers(headers: Mapping[str, str], now_ms: int) -> Told:
    """What these response headers, in any case, tell about rate limits."""
    fields: dict[str, dict[str, str]] = {}
    anthropic: set[str] = set()
    for name, value in headers.items():
        lower = name.lower()
        if "ratelimit" not in lower:
            continue
        if found := _ANTHROPIC.fullmatch(lower):
            anthropic.add(found["key"])
        elif not (found := _OPENAI.fullmatch(lower)):
            continue
        fields.setdefault(found["key"] or "requests", {})[found["field"]] = value
    limits = (
        _told(key, told, now_ms, is_per_minute=key in anthropic) for key, told in fields.items()
    )
    return Told(
        tuple(limit for limit in limits if limit is not None), retry_after_ms(headers, now_ms)
    )


def read_reset(text: str, now_ms: int) -> float | None:
    """Milliseconds from now: of a duration, a number of seconds, or a time; None if unreadable."""
    value = text.strip()
    reset_ms = _duration_ms(value.lower())
    if reset_ms is None:
        reset_ms = _until_ms(value, now_ms)
    return None if reset_ms is None else min(max(0.0, reset_ms), _LONGEST_RESET_MS)


def _duration_ms(value: str) -> float | None:
    parts = _DURATION.findall(value)
    if not parts or "".join(amount + unit for amount, unit in parts) != value:
        return None
    return sum(float(amount) * _UNIT_MS[unit] for amount, unit in parts)


def _until_ms(value: str, now_ms: int) -> float | None:
    number = _number(value)
    if number is not None:
        if number >= _EPOCH_MS:
            return number - now_ms
        return number * 1000 - now_ms if number >= _EPOCH_S else number * 1000
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return at.timestamp() * 1000 - now_ms


def _told(
    key: str, fields: Mapping[str, str], now_ms: int, *, is_per_minute: bool
) -> ToldLimit | None:
    unit = _KEY.match(key)
    remaining = _number(fields.get("remaining"))
    limit = _number(fields.get("limit"))
    if unit is None or remaining is None or remaining < 0 or (limit is not None and limit <= 0):
        return None
    window_ms = next((ms for name, ms in _WINDOWS_MS.items() if key.endswith(f"-{name}")), None)
    return ToldLimit(
        key=key,
        unit=_UNITS[unit["unit"].replace("-", "_")],
        limit=None if limit is None else int(limit),
        remaining=int(remaining),
        reset_ms=read_reset(fields["reset"], now_ms) if "reset" in fields else None,
        window_ms=window_ms or _MINUTE_MS,
        is_window_certain=is_per_minute or window_ms is not None,
    )


_UNITS: dict[str, Unit] = {
    "requests": "requests",
    "tokens": "tokens",
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
}


def _number(text: str | None) -> float | None:
    """A finite number, or None."""
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
