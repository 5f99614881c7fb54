"""What follows a failed attempt: which candidate, after which wait, or the end. Pure."""

import random
from collections.abc import Collection
from dataclasses import dataclass

from atlas.contracts.errors import ErrorCategory, ErrorInfo
from provider_router.routing.choosing import Candidate

_BASE_MS = 250
_CAP_MS = 8_000
_LONGEST_RETRY_AFTER_MS = 60_000
"""A provider that asks for a longer wait is given up for this stream."""

_FINAL = frozenset(
    {ErrorCategory.CONTENT_FILTER, ErrorCategory.CONTEXT_LENGTH, ErrorCategory.CANCELLED}
)
_ANOTHER_MAY_DO = frozenset(
    {ErrorCategory.AUTH, ErrorCategory.QUOTA, ErrorCategory.VALIDATION, ErrorCategory.CONFIGURATION}
)


@dataclass(frozen=True, slots=True)
class NextAttempt:
    """Try `candidate` after `wait_ms`."""

    candidate: Candidate
    wait_ms: int


def next_attempt(
    error: ErrorInfo,
    candidates: list[Candidate],
    failed: Candidate,
    *,
    attempt: int,
    max_attempts: int,
    jitter: random.Random,
    refused: Collection[Candidate] = (),
) -> NextAttempt | None:
    """The attempt that follows attempt number `attempt` (from 1), or None when it was the last.

    Another candidate is tried at once. The same one is tried again only for an error that may
    pass, with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter") and never
    before the provider's own `retry_after_ms`. One of `refused` failed before with an error that
    does not pass: it has no second turn.
    """
    if attempt >= max_attempts or error.category in _FINAL:
        return None
    if not error.retryable and error.category not in _ANOTHER_MAY_DO:
        return None
    place = candidates.index(failed)
    others = [one for one in [*candidates[place + 1 :], *candidates[:place]] if one not in refused]
    if others and attempt < len(candidates):
        return NextAttempt(others[0], 0)
    if not others and not error.retryable:
        return None
    asked_ms = error.retry_after_ms or 0 if error.retryable else 0
    if asked_ms > _LONGEST_RETRY_AFTER_MS:
        return None
    backoff_ms = jitter.uniform(0, min(_CAP_MS, _BASE_MS * 2**attempt))
    return NextAttempt(others[0] if others else failed, max(asked_ms, int(backoff_ms)))
