"""The arithmetic of budgets: periods, money, and what a counter's value allows."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.budget_settings import BudgetSettings
from atlas.contracts.inference import Budget, Cost, Usage
from provider_router.accounting.budgets import (
    Amounts,
    Estimate,
    Grant,
    Limit,
    Line,
    Scope,
    Unit,
    Verdict,
    amounts,
    counter_of,
    granted,
    limit_microusd,
    microusd,
    period,
    task_limits,
    tenant_limits,
    verdict,
)


def _ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("scope", "at", "key", "next_"),
    [
        (Scope.DAY, "2026-07-31T23:59:59.999", "2026-07-31", "2026-08-01"),
        (Scope.DAY, "2026-08-01T00:00:00", "2026-08-01", "2026-08-02"),
        (Scope.MONTH, "2026-01-31T12:00:00", "2026-01", "2026-02-01"),
        (Scope.MONTH, "2028-02-29T12:00:00", "2028-02", "2028-03-01"),
        (Scope.MONTH, "2026-12-01T00:00:00", "2026-12", "2027-01-01"),
    ],
)
def test_a_period_is_a_day_or_a_month_in_utc_and_tells_when_the_next_begins(
    scope: Scope, at: str, key: str, next_: str
):
    assert period(scope, _ms(at)) == (key, _ms(next_))


@pytest.mark.parametrize(
    ("usd", "micro"), [(0.0, 0), (0.000001, 1), (0.0000011, 2), (0.1 + 0.2, 300_000), (1e-12, 1)]
)
def test_money_that_was_spent_is_rounded_up_but_not_for_the_dust_of_binary_fractions(
    usd: float, micro: int
):
    assert microusd(usd) == micro


@pytest.mark.parametrize(
    ("usd", "micro"), [(5.0, 5_000_000), (0.0000019, 1), (1e-9, 1), (0.7, 700_000)]
)
def test_money_that_may_be_spent_is_rounded_down_but_never_to_nothing(usd: float, micro: int):
    assert limit_microusd(usd) == micro


@given(st.lists(st.floats(min_value=0, max_value=1000), max_size=20))
def test_no_sum_of_spent_money_is_counted_below_what_it_is(prices: list[float]):
    assert sum(map(microusd, prices)) >= sum(prices) * 1_000_000 - 0.001


def test_a_tenant_is_limited_by_day_and_month_in_each_unit_that_its_budget_names():
    settings = BudgetSettings.model_validate(
        {"tenants": {"acme": {"day": {"max_tokens": 9}, "month": {"max_tokens": 99, "max_usd": 1}}}}
    )
    limits = tenant_limits(settings, "acme", _ms("2026-07-31T10:00"))
    assert [(one.scope, one.key, one.unit, one.amount) for one in limits] == [
        ("day", "2026-07-31", "tokens", 9),
        ("month", "2026-07", "tokens", 99),
        ("month", "2026-07", "microusd", 1_000_000),
    ]
    assert tenant_limits(settings, "globex", 0) == []


def test_a_task_is_limited_by_its_id_without_an_end():
    (limit,) = task_limits("acme", "t1", Budget(max_usd=0.5, max_ms=10))
    assert limit == Limit("acme", Scope.TASK, "t1", Unit.MICROUSD, 500_000)


def test_an_error_says_whose_budget_it_is_how_much_is_left_and_when_it_resets():
    limit = Limit("acme", Scope.DAY, "2026-07-31", Unit.TOKENS, 1_000, _ms("2026-08-01"))
    error = limit.exceeded(990, _ms("2026-07-31T23:00"))
    assert "day 2026-07-31 of tenant acme, 1000 tokens, has 10 left" in error.message
    assert "until 2026-08-01 00:00 UTC" in error.message
    assert error.retry_after_ms == 3_600_000
    assert error.details is not None
    assert (error.details["scope"], error.details["limit"], error.details["spent"]) == (
        "day",
        1_000,
        990,
    )


def test_a_task_whose_budget_is_spent_has_nothing_to_wait_for():
    limit = Limit("acme", Scope.TASK, "t1", Unit.MICROUSD, 1_000)
    error = limit.exceeded(1_200, 0)
    assert (error.retry_after_ms, error.retryable) == (None, False)
    assert "task t1, 0.001 USD, has 0 left" in error.message


def test_usage_counts_input_and_output_tokens_and_money():
    used = amounts(Usage(input_tokens=3, output_tokens=4), Cost(total_usd=0.5))
    assert used == Amounts(7, 500_000)


@pytest.mark.parametrize(
    ("value", "grant"),
    [
        (100, Grant(kept=30, give_back=0)),
        (110, Grant(kept=20, give_back=10)),
        (125, Grant(kept=5, give_back=25)),
        (126, Grant(kept=0, give_back=30)),
        (500, Grant(kept=0, give_back=30)),
    ],
)
def test_what_is_over_the_limit_is_given_back_and_with_less_than_the_least_all_of_it(
    value: int, grant: Grant
):
    assert granted(100, value, asked=30, least=5) == grant


def test_a_stream_reserves_its_input_and_a_first_slice_and_grows_its_slices():
    estimate = Estimate(1_000, None, input_price=3.0, output_price=15.0)
    assert estimate.first() == Amounts(1_512, 3_000 + 7_680)
    assert [estimate.slice(number).tokens for number in range(6)] == [
        512,
        1_024,
        2_048,
        4_096,
        8_192,
        8_192,
    ]


def test_a_stream_reserves_no_more_output_than_it_may_have():
    assert Estimate(0, max_output_tokens=40).first() == Amounts(40, 0)


def _line(held: int, unit: Unit = Unit.TOKENS) -> Line:
    return Line(Limit("acme", Scope.DAY, "2026-07-31", unit, 10_000), held, held)


def test_a_counter_is_read_back_from_its_subject_but_for_its_amount():
    limit = Limit("acme", Scope.DAY, "2026-07-31", Unit.TOKENS, 10)
    assert counter_of(limit.subject) == replace(limit, amount=0)


@pytest.mark.parametrize(
    ("used", "said"),
    [
        (0, Verdict.OK),
        (49, Verdict.OK),
        (50, Verdict.EXTEND),
        (99, Verdict.EXTEND),
        (100, Verdict.WAIT),
    ],
)
def test_the_next_slice_is_asked_for_when_half_is_used_and_waited_for_when_all_is(
    used: int, said: Verdict
):
    assert verdict([_line(100)], Amounts(used), Amounts(100)) is said


def test_a_stream_that_costs_nothing_never_waits_for_money():
    line = _line(0, Unit.MICROUSD)
    assert verdict([line], Amounts(5_000, 0), Amounts(512, 0)) is Verdict.OK


def test_a_stream_asks_for_what_it_is_behind_and_the_next_slice():
    assert _line(100).wanted(130, 512) == (542, 31)
    assert _line(100).wanted(80, 512) == (512, 1)
