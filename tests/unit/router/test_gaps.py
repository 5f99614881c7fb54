"""The histogram of gaps: percentiles near the true ones, whatever the gaps."""

import math
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_router.streaming import gaps as module
from provider_router.streaming.gaps import Gaps


class Clock:
    """The module's clock, at times that a test says."""

    def __init__(self, times_ns: list[int]) -> None:
        self._times = iter(times_ns)

    def monotonic_ns(self) -> int:
        return next(self._times)


def gaps_of(gaps_ns: list[int]) -> Gaps:
    gaps = Gaps()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "time", Clock(list(accumulate(gaps_ns, initial=10**9))))
        for _ in range(len(gaps_ns) + 1):
            gaps.chunk_came()
    return gaps


@given(
    st.lists(st.integers(0, 2**50), min_size=1, max_size=200),
    st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]),
)
def test_a_percentile_is_the_true_one_to_about_six_percent(gaps_ns: list[int], share: float):
    told_ms = gaps_of(gaps_ns).percentile_ms(share)
    true_ns = sorted(gaps_ns)[max(0, math.ceil(share * len(gaps_ns)) - 1)]
    assert told_ms is not None
    assert told_ms * 1e6 == pytest.approx(true_ns, rel=1 / 15, abs=3_000)


def test_no_clock_is_too_long_for_it():
    assert gaps_of([2**62]).percentile_ms(0.5) == pytest.approx(2**62 / 1e6, rel=1 / 15)


def test_one_chunk_is_no_gap_and_neither_is_what_an_interruption_made():
    gaps = Gaps()
    gaps.chunk_came()
    gaps.interrupted()
    gaps.chunk_came()
    assert gaps.percentile_ms(0.5) is None
    gaps.chunk_came()
    assert gaps.percentile_ms(0.5) is not None
