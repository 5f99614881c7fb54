"""What follows a failed attempt, decided from the error and what is left to try."""

import random

import pytest

from atlas.contracts.errors import (
    AtlasError,
    ProviderAuthError,
    ProviderConnectionError,
    ProviderContentFilterError,
    ProviderContextLengthError,
    ProviderError,
    ProviderInvalidRequestError,
    ProviderOverloadedError,
    ProviderQuotaExceededError,
    ProviderRateLimitError,
    ProviderServerError,
    ProviderStreamError,
    ProviderTimeoutError,
    WorkCancelledError,
)
from provider_router.routing.choosing import Candidate
from provider_router.routing.prices import Pricing
from provider_router.routing.retry import NextAttempt, next_attempt

ONE = Candidate("one", "m", "default", Pricing("openai", "m"))
TWO = Candidate("two", "m", "fallback", Pricing("anthropic", "m"))
THREE = Candidate("three", "m", "fallback", Pricing("openai", "m"))
PASSING: list[type[ProviderError]] = [
    ProviderRateLimitError,
    ProviderOverloadedError,
    ProviderServerError,
    ProviderTimeoutError,
    ProviderConnectionError,
    ProviderStreamError,
]
ONLY_HERE: list[type[ProviderError]] = [
    ProviderAuthError,
    ProviderQuotaExceededError,
    ProviderInvalidRequestError,
]
FINAL: list[type[AtlasError]] = [
    ProviderContentFilterError,
    ProviderContextLengthError,
    WorkCancelledError,
]


def after(
    error: AtlasError, candidates: list[Candidate], *, attempt: int = 1, at_most: int = 3
) -> NextAttempt | None:
    return next_attempt(
        error.to_info(),
        candidates,
        candidates[(attempt - 1) % len(candidates)],
        attempt=attempt,
        max_attempts=at_most,
        jitter=random.Random(1),
    )


@pytest.mark.parametrize("error", PASSING + ONLY_HERE)
def test_another_candidate_is_tried_at_once(error: type[ProviderError]):
    assert after(error("x", provider="one"), [ONE, TWO]) == NextAttempt(TWO, 0)


@pytest.mark.parametrize("error", PASSING)
def test_the_only_candidate_is_tried_again_for_an_error_that_may_pass(error: type[ProviderError]):
    follows = after(error("x", provider="one"), [ONE])
    assert follows is not None
    assert follows.candidate == ONE
    assert 0 <= follows.wait_ms <= 500


@pytest.mark.parametrize("error", ONLY_HERE)
def test_the_only_candidate_is_not_asked_again_what_it_refused(error: type[ProviderError]):
    assert after(error("x", provider="one"), [ONE]) is None


@pytest.mark.parametrize("error", FINAL)
def test_some_errors_are_the_end_whoever_else_there_is(error: type[AtlasError]):
    assert after(error("x"), [ONE, TWO]) is None


def test_the_last_attempt_is_followed_by_nothing():
    assert after(ProviderServerError("x"), [ONE, TWO], attempt=3) is None


def test_each_candidate_has_its_turn_before_the_first_is_asked_again_after_a_wait():
    follows = after(ProviderServerError("x"), [ONE, TWO], attempt=2)
    assert follows is not None
    assert follows.candidate == ONE


def test_who_refused_for_good_has_no_second_turn_and_the_others_keep_theirs():
    def next_after(error: ProviderError, failed: Candidate) -> NextAttempt | None:
        return next_attempt(
            error.to_info(),
            [ONE, TWO, THREE],
            failed,
            attempt=3,
            max_attempts=4,
            jitter=random.Random(1),
            refused=[ONE],
        )

    follows = next_after(ProviderServerError("x"), THREE)
    assert follows is not None
    assert follows.candidate == TWO
    follows = next_after(ProviderAuthError("x"), THREE)
    assert follows is not None
    assert follows.candidate == TWO


def test_who_is_left_alone_by_refusals_is_tried_again():
    follows = next_attempt(
        ProviderServerError("x").to_info(),
        [ONE, TWO],
        TWO,
        attempt=2,
        max_attempts=3,
        jitter=random.Random(1),
        refused=[ONE],
    )
    assert follows is not None
    assert follows.candidate == TWO


def test_when_all_have_refused_for_good_there_is_no_further_attempt():
    follows = next_attempt(
        ProviderAuthError("x").to_info(),
        [ONE, TWO],
        TWO,
        attempt=2,
        max_attempts=9,
        jitter=random.Random(1),
        refused=[ONE],
    )
    assert follows is None


def test_the_same_provider_is_never_asked_before_it_said():
    error = ProviderRateLimitError("x", retry_after_ms=30_000)
    assert after(error, [ONE]) == NextAttempt(ONE, 30_000)


def test_a_provider_that_asks_for_more_than_a_minute_is_given_up():
    assert after(ProviderRateLimitError("x", retry_after_ms=60_001), [ONE]) is None
