"""Figures as a person reads them."""

import time

from atlas.contracts.inference import Cost, Usage, UsageSource

_CENT = 0.01
_MINUTE_S = 60


def tokens(usage: Usage) -> str:
    """Tokens in and out, with `~` where they are estimated."""
    mark = "~" if usage.source is UsageSource.ESTIMATED else ""
    return f"{mark}{usage.input_tokens:,} in, {mark}{usage.output_tokens:,} out"


def money(cost: Cost) -> str:
    """US dollars; `≥` where a part has no known price."""
    mark = "" if cost.complete else "≥ "
    digits = 2 if cost.total_usd >= _CENT or cost.total_usd == 0 else 6
    return f"{mark}${cost.total_usd:.{digits}f}"


def duration(seconds: float) -> str:
    """Such as `4.2s` or `3m 07s`."""
    if seconds < _MINUTE_S:
        return f"{seconds:.1f}s"
    return f"{int(seconds // _MINUTE_S)}m {int(seconds % _MINUTE_S):02d}s"


def clock(at_ms: int) -> str:
    """The local time of day."""
    return time.strftime("%H:%M:%S", time.localtime(at_ms / 1000))


def one_line(text: str, width: int) -> str:
    """The text without line breaks, cut to a width."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: max(width - 1, 0)] + "…"


def counted(number: int, noun: str) -> str:
    """Such as `1 subtask` or `1,200 subtasks`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def by_and_why(by: str | None, reason: str | None) -> str:
    """Such as ` by me: enough`; what is not known is left out."""
    return (f" by {by}" if by else "") + (f": {reason}" if reason else "")
