"""Which attempt follows a failed one of a stream, as its request and its candidates allow."""

import random

from atlas.contracts.errors import ErrorInfo
from atlas.contracts.inference import ModelRequest
from provider_router.routing.choosing import Candidate
from provider_router.routing.retry import NextAttempt, next_attempt
from provider_router.streaming.attempt import Attempt
from provider_router.streaming.continuing import refuses_continuation


class Fallback:
    """Decides for one stream, and remembers who refused it for good."""

    def __init__(
        self, request: ModelRequest, candidates: list[Candidate], max_attempts: int
    ) -> None:
        self._is_wanted = request.fallback.on_failure != "fail"
        self._candidates = candidates
        self._max_attempts = max_attempts
        self._refused: list[Candidate] = []
        self._jitter = random.Random()  # noqa: S311 - spreads retries, guards nothing

    def after(self, error: ErrorInfo, failed: Attempt, tries: int) -> NextAttempt | None:
        """What follows attempt number `tries`; None when it was the last."""
        if not self._is_wanted:
            return None
        follows = next_attempt(
            error,
            self._candidates,
            failed.candidate,
            attempt=tries,
            max_attempts=self._max_attempts,
            jitter=self._jitter,
            refused=self._refused,
        )
        if refuses_continuation(error, failed):  # it may be taken as a whole
            if follows is None and tries < self._max_attempts:
                return NextAttempt(failed.candidate, 0)
        elif not error.retryable:
            self._refused.append(failed.candidate)
        return follows
