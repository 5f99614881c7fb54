"""The circuit of a provider: what opens it, what closes it, and what leaves it alone."""

from dataclasses import replace

import pytest

from atlas.contracts.errors import (
    AtlasError,
    BudgetExceededError,
    ConfigurationError,
    ProviderAuthError,
    ProviderConnectionError,
    ProviderContentFilterError,
    ProviderContextLengthError,
    ProviderInvalidRequestError,
    ProviderModelNotFoundError,
    ProviderOverloadedError,
    ProviderQuotaExceededError,
    ProviderRateLimitError,
    ProviderServerError,
    ProviderStreamError,
    ProviderTimeoutError,
    WorkCancelledError,
)
from provider_router.routing.circuit import Circuit, Permit
from provider_router.routing.circuit_record import FOREVER_MS
from provider_router.routing.circuit_window import CircuitSettings, weight_of

NOW = 1_000_000
SETTINGS = CircuitSettings()
NEW = Circuit("config-1")


def admitted(circuit: Circuit, now_ms: int) -> tuple[Circuit, Permit]:
    circuit, permit = circuit.admit(now_ms)
    assert permit is not None
    return circuit, permit


def after(
    circuit: Circuit, outcomes: list[AtlasError | None], now_ms: int = NOW, step_ms: int = 10
) -> Circuit:
    """The circuit after attempts, one by one; None is a success."""
    for outcome in outcomes:
        circuit, permit = admitted(circuit, now_ms)
        if outcome is None:
            circuit = circuit.succeeded(permit, now_ms)
        else:
            circuit = circuit.failed(permit, outcome.to_info(), now_ms)
        now_ms += step_ms
    return circuit


def opened(circuit: Circuit = NEW, now_ms: int = NOW) -> Circuit:
    circuit = after(circuit, [ProviderServerError("500")] * 5, now_ms, step_ms=0)
    assert circuit.state(now_ms) == "open"
    return circuit


def until_ms(circuit: Circuit) -> int:
    assert circuit.opening is not None
    return circuit.opening.until_ms


@pytest.mark.parametrize(
    "error",
    [
        ProviderInvalidRequestError("bad"),
        ProviderModelNotFoundError("no such model"),
        ProviderContentFilterError("no"),
        ProviderContextLengthError("long"),
        WorkCancelledError("stop"),
        BudgetExceededError("spent"),
        ConfigurationError("ours"),
        AtlasError("a bug of ours"),
    ],
    ids=lambda error: error.code,
)
def test_what_is_not_the_providers_fault_weighs_nothing_ever(error: AtlasError) -> None:
    assert weight_of(error.to_info()) == 0
    assert after(NEW, [error] * 500).state(NOW) == "closed"


@pytest.mark.parametrize(
    ("error", "failures"),
    [
        (ProviderServerError("500"), 5),
        (ProviderOverloadedError("529"), 5),
        (ProviderTimeoutError("late"), 5),
        (ProviderStreamError("cut"), 5),
        (ProviderConnectionError("refused"), 3),
    ],
    ids=lambda value: value.code if isinstance(value, AtlasError) else str(value),
)
def test_a_new_provider_that_only_fails_is_out_after_a_few_failures(
    error: AtlasError, failures: int
) -> None:
    assert after(NEW, [error] * (failures - 1)).state(NOW + 100) == "closed"
    assert after(NEW, [error] * failures).state(NOW + 100) == "open"


def test_a_provider_that_dies_under_load_is_out_after_fourteen_failures() -> None:
    busy = after(NEW, [None] * 10_000, step_ms=0)
    assert after(busy, [ProviderServerError("500")] * 13, step_ms=0).state(NOW) == "closed"
    assert after(busy, [ProviderServerError("500")] * 14, step_ms=0).state(NOW) == "open"


def test_a_provider_asked_once_a_minute_opens_too() -> None:
    quiet = after(NEW, [ProviderServerError("500")] * 8, step_ms=60_000)
    assert quiet.opening is not None


def test_a_failure_in_three_does_not_open() -> None:
    mixed: list[AtlasError | None] = [None, None, ProviderServerError("500")]
    assert after(NEW, mixed * 300).state(NOW + 9_000) == "closed"


def test_every_second_attempt_failing_opens() -> None:
    mixed: list[AtlasError | None] = [None, ProviderServerError("500")]
    circuit = NEW
    for outcome in mixed * 20:
        if circuit.state(NOW) == "closed":
            circuit = after(circuit, [outcome], NOW)
    assert circuit.state(NOW) == "open"


def test_an_open_circuit_admits_nobody_until_its_time() -> None:
    circuit = opened()
    assert circuit.admit(until_ms(circuit) - 1)[1] is None
    assert circuit.available_at_ms(NOW) == until_ms(circuit) == NOW + SETTINGS.cool_down_ms
    assert circuit.state(until_ms(circuit)) == "half_open"


def test_half_open_admits_a_bounded_number_of_probes() -> None:
    circuit, now_ms = opened(), NOW + SETTINGS.cool_down_ms
    for _ in range(SETTINGS.probes):
        circuit, permit = admitted(circuit, now_ms)
        assert permit.is_probe
    assert circuit.admit(now_ms)[1] is None


def test_a_cancelled_probe_gives_its_place_back_and_counts_neither_way() -> None:
    circuit, now_ms = opened(), NOW + SETTINGS.cool_down_ms
    for _ in range(100):
        before = circuit
        circuit, permit = admitted(circuit, now_ms)
        circuit = circuit.released(permit)
        assert replace(circuit, permits=0) == replace(before, permits=0)


def test_a_probe_that_fails_by_the_callers_fault_gives_its_place_back() -> None:
    circuit, now_ms = opened(), NOW + SETTINGS.cool_down_ms
    circuit = after(circuit, [ProviderInvalidRequestError("bad")] * 10, now_ms, step_ms=0)
    assert circuit.state(now_ms) == "half_open"
    assert circuit.probes == ()


def test_a_probe_that_never_reports_expires_with_its_lease() -> None:
    circuit, now_ms = opened(), NOW + SETTINGS.cool_down_ms
    for _ in range(SETTINGS.probes):
        circuit, _ = admitted(circuit, now_ms)
    free_ms = now_ms + SETTINGS.probe_lease_ms
    assert circuit.available_at_ms(now_ms) == free_ms
    assert circuit.admit(free_ms - 1)[1] is None
    assert circuit.admit(free_ms)[1] is not None


def test_closing_needs_several_successful_probes() -> None:
    circuit, now_ms = opened(), NOW + SETTINGS.cool_down_ms
    circuit = after(circuit, [None] * (SETTINGS.successes_to_close - 1), now_ms)
    assert circuit.state(now_ms) == "half_open"
    circuit = after(circuit, [None], now_ms)
    assert circuit.state(now_ms) == "closed"
    assert circuit.term == 1


def test_each_failed_probe_doubles_the_cool_down_up_to_a_bound() -> None:
    circuit, waits_ms = opened(), []
    for _ in range(10):
        now_ms = until_ms(circuit)
        circuit = after(circuit, [ProviderServerError("500")], now_ms)
        waits_ms.append(until_ms(circuit) - now_ms)
    assert waits_ms[:4] == [10_000, 20_000, 40_000, 60_000]
    assert waits_ms[-1] == SETTINGS.longest_cool_down_ms


def test_what_the_cool_down_grew_to_is_forgotten_slowly_after_closing() -> None:
    circuit = opened()
    for _ in range(2):
        circuit = after(circuit, [ProviderServerError("500")], until_ms(circuit))
    closed_ms = until_ms(circuit)
    circuit = after(circuit, [None, None], closed_ms, step_ms=0)
    assert circuit.state(closed_ms) == "closed"

    def cool_down_ms(healthy_ms: int) -> int:
        again = opened(circuit, closed_ms + healthy_ms)
        return until_ms(again) - closed_ms - healthy_ms

    assert cool_down_ms(0) == 40_000, "it was 20 s; falling at once is as bad as a failed probe"
    assert cool_down_ms(SETTINGS.cool_down_half_life_ms) == 20_000
    assert cool_down_ms(3_600_000) == SETTINGS.cool_down_ms


def test_outcomes_of_requests_sent_before_the_circuit_opened_change_nothing() -> None:
    circuit, slow = admitted(NEW, NOW)
    circuit = opened(circuit)
    now_ms = until_ms(circuit)
    late = ProviderTimeoutError("after a minute").to_info()
    assert circuit.succeeded(slow, now_ms) == circuit
    assert circuit.failed(slow, late, now_ms) == circuit
    closed = after(circuit, [None, None], now_ms)
    assert closed.failed(slow, late, now_ms) == closed


CUT = ProviderConnectionError("cut in the middle").to_info()


def broken_off(circuit: Circuit, now_ms: int = NOW) -> Circuit:
    """The circuit after an answer that began well."""
    circuit, permit = admitted(circuit, now_ms)
    return circuit.succeeded(permit, now_ms).failed(permit, CUT, now_ms, has_content=True)


def test_an_answer_that_breaks_off_is_one_failure_and_no_success() -> None:
    circuit = NEW
    for _ in range(4):
        circuit = broken_off(circuit)
        assert circuit.window.failures == pytest.approx(circuit.window.total)
        assert circuit.state(NOW) == "closed"
    assert broken_off(circuit).state(NOW) == "open"


def test_a_provider_that_breaks_off_six_answers_in_ten_is_out() -> None:
    circuit = after(NEW, [None] * 20)
    for number in range(60):
        if circuit.state(NOW) == "closed":
            circuit = broken_off(circuit) if number % 10 < 6 else after(circuit, [None])
    assert circuit.state(NOW) == "open"


def test_a_probe_that_breaks_off_after_it_closed_the_circuit_opens_it_again_for_longer() -> None:
    circuit, now_ms = opened(), NOW + SETTINGS.cool_down_ms
    circuit, one = admitted(circuit, now_ms)
    circuit, two = admitted(circuit, now_ms)
    circuit = circuit.succeeded(one, now_ms).succeeded(two, now_ms)
    assert circuit.state(now_ms) == "closed"
    circuit = circuit.failed(one, CUT, now_ms, has_content=True)
    assert until_ms(circuit) == now_ms + 2 * SETTINGS.cool_down_ms
    assert circuit.failed(two, CUT, now_ms, has_content=True) == circuit


def test_a_probe_that_breaks_off_long_after_it_closed_the_circuit_says_nothing() -> None:
    circuit, now_ms = opened(), NOW + SETTINGS.cool_down_ms
    circuit, one = admitted(circuit, now_ms)
    closed = after(circuit.succeeded(one, now_ms), [None], now_ms)
    late_ms = now_ms + SETTINGS.probe_lease_ms
    assert closed.failed(one, CUT, late_ms, has_content=True) == closed


def test_a_rate_limit_holds_off_and_never_opens() -> None:
    circuit = after(NEW, [ProviderRateLimitError("429", retry_after_ms=7_000)])
    assert circuit.state(NOW) == "closed"
    assert circuit.admit(NOW + 6_999)[1] is None
    assert circuit.admit(NOW + 7_000)[1] is not None
    for _ in range(50):
        now_ms = circuit.available_at_ms(NOW)
        circuit = after(circuit, [ProviderRateLimitError("429", retry_after_ms=7_000)], now_ms)
    assert circuit.opening is None


def test_the_later_of_two_hold_offs_wins() -> None:
    circuit, one = admitted(NEW, NOW)
    circuit, two = admitted(circuit, NOW)
    long = ProviderRateLimitError("429", retry_after_ms=9_000).to_info()
    short = ProviderRateLimitError("429", retry_after_ms=1_000).to_info()
    circuit = circuit.failed(one, long, NOW + 10).failed(two, short, NOW + 20)
    assert circuit.available_at_ms(NOW) == NOW + 9_010


def test_a_hold_off_is_bounded_whatever_the_provider_asks() -> None:
    circuit = after(NEW, [ProviderRateLimitError("429", retry_after_ms=86_400_000)])
    assert circuit.available_at_ms(NOW) == NOW + SETTINGS.longest_hold_off_ms


def test_rate_limits_without_retry_after_hold_off_longer_each_time_but_a_burst_counts_once() -> (
    None
):
    circuit, permits = NEW, []
    for _ in range(30):
        circuit, permit = admitted(circuit, NOW)
        permits.append(permit)
    limit = ProviderRateLimitError("429").to_info()
    for permit in permits:
        circuit = circuit.failed(permit, limit, NOW + 5)
    assert circuit.available_at_ms(NOW) == NOW + 5 + 1_000
    waits_ms = []
    for _ in range(3):
        now_ms = circuit.available_at_ms(NOW)
        circuit = after(circuit, [ProviderRateLimitError("429")], now_ms)
        waits_ms.append(circuit.available_at_ms(now_ms) - now_ms)
    assert waits_ms == [2_000, 4_000, 8_000]


def test_a_retry_after_with_a_server_error_is_honoured_too() -> None:
    circuit = after(NEW, [ProviderOverloadedError("503", retry_after_ms=3_000)])
    assert circuit.state(NOW) == "closed"
    assert circuit.available_at_ms(NOW) == NOW + 3_000


def test_what_a_key_may_not_use_says_nothing_about_the_provider():
    refused = ProviderAuthError("403", http_status=403)
    assert after(NEW, [refused] * 10).state(NOW) == "closed"


def test_a_refused_key_opens_until_the_configuration_changes() -> None:
    circuit = after(NEW, [ProviderAuthError("401")])
    assert circuit.available_at_ms(NOW) == FOREVER_MS
    assert circuit.admit(NOW + 10**11)[1] is None
    assert circuit.reconfigured("config-1", NOW) == circuit
    assert circuit.reconfigured("config-2", NOW).admit(NOW)[1] is not None


def test_a_late_answer_to_the_old_key_does_not_condemn_the_new_one() -> None:
    circuit, permit = admitted(NEW, NOW)
    circuit = circuit.reconfigured("config-2", NOW)
    assert circuit.failed(permit, ProviderAuthError("401").to_info(), NOW + 5) == circuit


def test_a_spent_quota_opens_for_long_and_is_then_probed() -> None:
    circuit = after(NEW, [ProviderQuotaExceededError("no credit")])
    assert circuit.available_at_ms(NOW) == NOW + SETTINGS.quota_cool_down_ms
    assert circuit.state(NOW + SETTINGS.quota_cool_down_ms) == "half_open"


def test_a_changed_configuration_is_probed_at_once() -> None:
    circuit = opened().reconfigured("config-2", NOW + 1)
    assert circuit.state(NOW + 1) == "half_open"


def test_it_says_why_it_takes_no_requests() -> None:
    assert NEW.why_not(NOW) is None
    assert opened().why_not(NOW) == "circuit open after provider_server, probed in 5.0 s"
    assert "key was refused" in str(after(NEW, [ProviderAuthError("401")]).why_not(NOW))
    held = after(NEW, [ProviderRateLimitError("429", retry_after_ms=2_000)])
    assert held.why_not(NOW) == "held off by its rate limit for 2.0 s"
    assert "half-open" in str(opened().why_not(NOW + SETTINGS.cool_down_ms))
