"""What attempts teach about a member of a group, and how it is forgotten."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.contracts.errors import (
    AtlasError,
    ProviderAuthError,
    ProviderInvalidRequestError,
    ProviderOverloadedError,
    ProviderRateLimitError,
    ProviderServerError,
    ProviderTimeoutError,
)
from provider_router.routing.figures import (
    MOST_MODELS,
    PRIOR_FIRST_TOKEN_MS,
    PRIOR_SUCCESS,
    UNKNOWN,
    Figures,
    FiguresOfModels,
)

NOW = 1_000_000


def succeeded(figures: Figures, wait_ms: int = 300, now_ms: int = NOW, times: int = 1) -> Figures:
    for _ in range(times):
        began_ms = now_ms - wait_ms
        figures = figures.started(began_ms).first_token(began_ms, now_ms)
        figures = figures.succeeded(began_ms, now_ms, usd=0.002, output_tokens=500)
    return figures


def failed(figures: Figures, error: AtlasError, now_ms: int = NOW, wait_ms: int = 50) -> Figures:
    figures = figures.started(now_ms - wait_ms)
    return figures.failed(error.to_info(), now_ms - wait_ms, now_ms, has_first_token=False)


def test_what_was_never_tried_is_taken_for_an_ordinary_provider() -> None:
    assert UNKNOWN.is_unknown
    assert UNKNOWN.success_rate == PRIOR_SUCCESS
    assert UNKNOWN.expected_first_token_ms(NOW) == PRIOR_FIRST_TOKEN_MS


def test_figures_follow_what_happens() -> None:
    figures = succeeded(UNKNOWN, wait_ms=300, times=30)
    assert not figures.is_unknown
    assert figures.success_rate > 0.99
    assert figures.expected_first_token_ms(NOW) == pytest.approx(300, rel=0.1)
    assert figures.request_usd.value(0) == pytest.approx(0.002, rel=0.1)
    assert figures.usd_per_1k_output.value(0) == pytest.approx(0.004, rel=0.1)


def test_a_busy_member_that_changes_is_known_for_it_after_a_few_dozen_attempts() -> None:
    figures = succeeded(UNKNOWN, wait_ms=300, times=5_000)
    figures = succeeded(figures, wait_ms=3_000, times=80)
    assert figures.expected_first_token_ms(NOW) > 2_500


def test_what_is_not_refreshed_drifts_back_to_what_one_expects_of_any() -> None:
    figures = UNKNOWN
    for _ in range(40):
        figures = failed(figures, ProviderServerError("500"))
    rates = [figures.at(NOW + minutes * 60_000).success_rate for minutes in range(12)]
    assert rates == sorted(rates)
    assert rates[0] < 0.1
    assert rates[-1] > 0.9
    assert figures.at(NOW + 12 * 60_000).is_unknown


def test_the_callers_faults_tell_nothing() -> None:
    figures = succeeded(UNKNOWN, times=5)
    for error in (ProviderInvalidRequestError("bad"), ProviderAuthError("401")):
        after = failed(figures, error)
        assert after.success_rate == pytest.approx(figures.success_rate, abs=0.001)
        assert after.in_flight == 0


def test_a_silent_provider_looks_slow_before_its_first_timeout() -> None:
    figures = succeeded(UNKNOWN, wait_ms=300, times=40)
    for late_ms in range(0, 4_000, 100):
        figures = figures.started(NOW + late_ms)
    assert figures.expected_first_token_ms(NOW + 500) < 600
    assert figures.expected_first_token_ms(NOW + 4_000) > 2_000


def test_a_timeout_counts_as_at_least_so_long() -> None:
    figures = failed(succeeded(UNKNOWN, times=3), ProviderTimeoutError("silent"), wait_ms=10_000)
    assert figures.expected_first_token_ms(NOW) > 2_000


@pytest.mark.parametrize("error", [ProviderOverloadedError("529"), ProviderRateLimitError("429")])
def test_a_refusal_teaches_how_much_fits_and_that_grows_again(error: AtlasError) -> None:
    figures = UNKNOWN
    for _ in range(40):
        figures = figures.started(NOW)
    assert not figures.is_full
    figures = figures.failed(error.to_info(), NOW, NOW, has_first_token=False)
    assert figures.is_full
    assert figures.most_in_flight == pytest.approx(28)
    for _ in range(20):
        figures = figures.first_token(NOW, NOW)
        figures = figures.succeeded(NOW, NOW, usd=None, output_tokens=1)
    assert not figures.is_full
    assert 28 < figures.most_in_flight < 30
    assert figures.at(NOW + 3_600_000).most_in_flight > 1_000


def test_without_a_refusal_nothing_is_full() -> None:
    assert UNKNOWN.most_in_flight == math.inf
    assert not UNKNOWN.is_full


actions = st.lists(
    st.tuples(
        st.sampled_from(["start", "token", "good", "bad", "release", "wait"]), st.integers(0, 9)
    )
)


@given(actions)
def test_whatever_comes_counts_stay_right_and_figures_sane(taken: list[tuple[str, int]]) -> None:
    figures, now_ms = UNKNOWN, NOW
    waiting: list[int] = []
    streaming: list[int] = []
    broken = ProviderServerError("500").to_info()
    for action, number in taken:
        now_ms += number * 100
        match action:
            case "start":
                figures = figures.started(now_ms)
                waiting.append(now_ms)
            case "token" if waiting:
                began_ms = waiting.pop(number % len(waiting))
                figures = figures.first_token(began_ms, now_ms)
                streaming.append(began_ms)
            case "good" if streaming:
                began_ms = streaming.pop()
                figures = figures.succeeded(began_ms, now_ms, usd=0.1, output_tokens=number)
            case "bad" if waiting:
                figures = figures.failed(broken, waiting.pop(), now_ms, has_first_token=False)
            case "release" if streaming:
                figures = figures.released(streaming.pop(), now_ms, has_first_token=True)
            case _:
                pass
        assert figures.in_flight == len(waiting) + len(streaming)
        assert figures.waiting == len(waiting)
        assert figures.waiting_since_sum_ms == sum(waiting)
        assert 0 <= figures.success_rate <= 1
        assert figures.expected_first_token_ms(now_ms) >= 0


def ask(models: FiguresOfModels, model: str, now_ms: int) -> None:
    models.start(model, now_ms)
    ended = models.of(model).succeeded(now_ms, now_ms + 1, usd=None, output_tokens=1)
    models.put(model, ended)


def test_however_many_models_are_named_only_those_asked_last_are_remembered() -> None:
    models = FiguresOfModels()
    for number in range(3 * MOST_MODELS):
        ask(models, "in-use", NOW + number)
        ask(models, f"invented-{number}", NOW + number)
    assert len(models) == MOST_MODELS
    assert models.of("invented-0") is UNKNOWN
    assert not models.of("in-use").is_unknown
    assert not models.of(f"invented-{3 * MOST_MODELS - 1}").is_unknown


def test_a_model_whose_attempt_runs_is_not_forgotten_and_its_count_comes_back_to_none() -> None:
    models = FiguresOfModels()
    models.start("slow", NOW)
    for number in range(2 * MOST_MODELS):
        ask(models, f"invented-{number}", NOW + number)
    assert models.of("slow").in_flight == 1
    models.put("slow", models.of("slow").released(NOW, NOW + 9, has_first_token=False))
    assert models.of("slow").in_flight == 0
    ask(models, "one-more", NOW)
    assert models.of("slow") is UNKNOWN


def test_what_many_running_models_hold_is_given_back_when_they_are_done() -> None:
    models = FiguresOfModels()
    names = [f"running-{number}" for number in range(MOST_MODELS + 50)]
    for name in names:
        models.start(name, NOW)
    assert len(models) == MOST_MODELS + 50
    for name in names:
        models.put(name, models.of(name).released(NOW, NOW + 9, has_first_token=False))
    ask(models, "one-more", NOW)
    assert len(models) == MOST_MODELS
