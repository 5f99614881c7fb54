"""How long a provider asks to wait, by its response's headers. Pure."""

import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

_LONGEST_MS = 30 * 86_400_000
"""No wait is longer; a header may hold any number."""


def retry_after_ms(headers: Mapping[str, str], now_ms: int) -> int | None:
    """`retry-after-ms`, else `retry-after`: seconds or an HTTP date (RFC 9110, section 10.2.3).

    None when absent or unreadable; a date in the past is 0.
    """
    found = {name.lower(): value.strip() for name, value in headers.items()}
    for name, unit_ms in (("retry-after-ms", 1), ("retry-after", 1000)):
        number = _number(found.get(name))
        if number is not None:
            return round(min(max(0.0, number * unit_ms), _LONGEST_MS))
    try:
        at_s = parsedate_to_datetime(found["retry-after"]).timestamp()
    except (KeyError, ValueError, OverflowError):
        return None
    return min(max(0, round(at_s * 1000) - now_ms), _LONGEST_MS)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
