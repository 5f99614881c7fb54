"""When an account is probed, and what a probe's answer may do to its circuit."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.contracts.errors import (
    AtlasError,
    ProviderAuthError,
    ProviderConnectionError,
    ProviderError,
    ProviderOverloadedError,
    ProviderQuotaExceededError,
    ProviderRateLimitError,
    ProviderServerError,
    ProviderTimeoutError,
)
from atlas.provider_settings import LimitSettings
from atlas.settings import Settings
from provider_router.routing.board import Board
from provider_router.routing.circuit import Circuit
from provider_router.routing.circuit_record import FOREVER_MS
from provider_router.routing.probing import Probing, spare_at_ms
from provider_router.routing.provider_accounts import AccountConfig
from provider_router.routing.rate import RateLimits, Tokens, configured_limits

NOW = 10_000_000
IDLE_MS = 60_000
NEW = Probing(since_ms=NOW, die=0.5)
CLOSED = Circuit("config-1")

NO_CONNECTION = ProviderConnectionError("refused")
SERVER = ProviderServerError("500")
WRONG_KEY = ProviderAuthError("no", http_status=401)
HUNG = ProviderTimeoutError("silent")
HUNG.was_sent = True
NO_ANSWER_TO_SYN = ProviderTimeoutError("no connection in time")
GATEWAY = ProviderTimeoutError("504", http_status=504)
LIMITED = ProviderRateLimitError("slowly", retry_after_ms=30_000)
SPENT = ProviderQuotaExceededError("nothing left")
BUSY = ProviderOverloadedError("529")


def opened(error: AtlasError, times: int = 5) -> Circuit:
    """A circuit that attempts opened which failed in this way."""
    circuit = CLOSED
    for _ in range(times):
        circuit, permit = circuit.admit(NOW)
        if permit is None:
            break
        circuit = circuit.failed(permit, error.to_info(), NOW)
    assert circuit.state(NOW) == "open"
    return circuit


def probed(
    circuit: Circuit,
    *answers: bool | ProviderError,
    probing: Probing = NEW,
    now_ms: int = NOW + 1_000,
) -> tuple[Probing, Circuit]:
    """After these answers, one by one."""
    for answer in answers:
        probing, circuit = probing.after(circuit, circuit.watched(now_ms), answer, now_ms)
    return probing, circuit


def due_ms(
    probing: Probing, circuit: Circuit = CLOSED, *, active_at_ms: int = 0, is_busy: bool = False
) -> int | None:
    return probing.due_at_ms(circuit, active_at_ms=active_at_ms, is_busy=is_busy, idle_ms=IDLE_MS)


# When.


@given(st.floats(0, 1))
def test_a_new_account_is_probed_within_seconds(die):
    due = due_ms(replace(NEW, die=die))
    assert due is not None
    assert NOW <= due <= NOW + 5_000


@given(st.floats(0, 1), st.integers(0, 1_000_000), st.integers(0, 1_000_000))
def test_an_idle_account_is_probed_a_while_after_its_last_request_or_probe(die, request, probe):
    probing = replace(NEW, die=die, at_ms=NOW + probe)
    due = due_ms(probing, active_at_ms=NOW + request)
    assert due is not None
    assert 0.75 * IDLE_MS - 1 <= due - NOW - max(request, probe) <= 1.25 * IDLE_MS


def test_dice_keep_routers_from_probing_together():
    assert len({due_ms(replace(NEW, at_ms=NOW, die=die / 10)) for die in range(11)}) == 11


def test_an_account_with_requests_is_not_probed():
    assert due_ms(NEW, is_busy=True) is None


@given(st.floats(0, 1))
def test_an_open_circuit_is_probed_in_the_last_third_of_its_cool_down(die):
    circuit = opened(NO_CONNECTION)
    assert circuit.opening is not None
    due = due_ms(replace(NEW, die=die), circuit, active_at_ms=NOW)
    assert due is not None
    until_ms, cool_down_ms = circuit.opening.until_ms, circuit.opening.cool_down_ms
    assert until_ms - cool_down_ms / 3 <= due <= until_ms - cool_down_ms / 10


def test_an_open_circuit_is_probed_also_while_old_requests_run():
    assert due_ms(NEW, opened(NO_CONNECTION), is_busy=True) is not None


def test_an_account_that_was_idle_long_before_its_circuit_opened_is_left_alone_as_well():
    circuit = opened(NO_CONNECTION)
    assert circuit.opening is not None
    assert (due_ms(replace(NEW, at_ms=NOW - 10 * IDLE_MS), circuit) or 0) > NOW


def test_an_opening_that_a_probe_prolonged_is_probed_before_its_new_end():
    probing, circuit = probed(opened(NO_CONNECTION), NO_CONNECTION, now_ms=NOW + 4_000)
    assert due_ms(probing, circuit) == NOW + 4_000 + 10_000 - 2_000


def test_an_opening_that_came_while_a_probe_ran_is_probed_before_its_end():
    asked = opened(NO_CONNECTION)
    permit = asked.watched(NOW)
    prolonged = asked.failed(permit, NO_CONNECTION.to_info(), NOW + 4_000)
    for answer in (True, NO_CONNECTION):
        probing, circuit = NEW.after(prolonged, permit, answer, NOW + 4_001)
        assert due_ms(probing, circuit) == NOW + 4_000 + 10_000 - 2_000


def test_what_a_probe_half_opened_is_not_probed_at_once_again():
    probing, circuit = probed(opened(NO_CONNECTION), True)
    assert due_ms(probing, circuit, active_at_ms=NOW) == NOW + 1_000 + IDLE_MS


def test_an_opening_is_probed_once_and_then_as_an_idle_account():
    probing, circuit = probed(opened(SERVER), True)
    due = due_ms(probing, circuit, active_at_ms=NOW)
    assert due == NOW + 1_000 + IDLE_MS


@pytest.mark.parametrize("error", [WRONG_KEY, SPENT])
def test_what_opened_for_long_is_probed_as_an_idle_account(error):
    circuit, when_ms = opened(error, times=1), NOW + 3_000
    assert due_ms(replace(NEW, at_ms=when_ms), circuit, active_at_ms=NOW) == when_ms + IDLE_MS


def test_an_account_that_asked_for_a_pause_gets_it():
    circuit, permit = CLOSED.admit(NOW)
    assert permit is not None
    circuit = circuit.failed(permit, LIMITED.to_info(), NOW)
    assert due_ms(NEW, circuit) == NOW + 30_000


def test_a_server_without_a_free_question_is_not_asked_again():
    probing, circuit = probed(CLOSED, NO_CONNECTION, False)
    assert due_ms(probing, circuit) is None
    assert (probing.at_ms, probing.error, circuit.state(NOW)) == (None, None, "closed")


def test_a_probe_leaves_a_place_for_the_request_after_it():
    rates = configured_limits(requests_per_minute=2, now_ms=NOW)
    assert spare_at_ms(RateLimits(), NOW) == NOW
    assert spare_at_ms(rates, NOW) == NOW
    rates, _ = rates.started(Tokens(0, 0), NOW)
    assert spare_at_ms(rates, NOW) == NOW + 30_000


def test_an_account_without_tokens_left_is_not_probed():
    rates, _ = configured_limits(tokens_per_minute=60, now_ms=NOW).started(Tokens(60, 0), NOW)
    assert spare_at_ms(rates, NOW) > NOW


# What an answer does.


def test_an_answered_probe_half_opens_what_opened_for_want_of_a_connection():
    before = opened(NO_CONNECTION)
    _, circuit = probed(before, True)
    assert circuit.state(NOW + 1_000) == "half_open"
    _, permit = circuit.admit(NOW + 1_000)
    assert permit is not None
    assert permit.is_probe
    other = before.heard(circuit.record("another", NOW + 1_000))
    assert other.state(NOW + 1_000) == "half_open"


@pytest.mark.parametrize("error", [SERVER, BUSY, HUNG, NO_ANSWER_TO_SYN, GATEWAY, SPENT, WRONG_KEY])
def test_an_answered_probe_does_not_take_back_what_it_cannot_see(error):
    before = opened(error)
    assert probed(before, True, True)[1] == before


def test_a_key_that_probes_were_refused_too_is_tried_when_one_takes_it():
    probing, circuit = probed(opened(WRONG_KEY, times=1), WRONG_KEY)
    assert circuit.available_at_ms(NOW) == FOREVER_MS
    probing, circuit = probed(circuit, True, probing=probing)
    assert circuit.state(NOW + 1_000) == "half_open"
    circuit, permit = circuit.admit(NOW + 1_000)
    assert permit is not None
    circuit = circuit.failed(permit, WRONG_KEY.to_info(), NOW + 1_000)
    assert probed(circuit, True, probing=probing)[1].available_at_ms(NOW) == FOREVER_MS


def test_probes_alone_never_close_a_circuit():
    probing, circuit = probed(opened(NO_CONNECTION), *[True] * 20)
    assert circuit.state(NOW + 1_000) == "half_open"
    assert probing.error is None


@pytest.mark.parametrize("error", [NO_CONNECTION, NO_ANSWER_TO_SYN])
@pytest.mark.parametrize("cause", [NO_CONNECTION, SERVER])
def test_a_probe_without_a_connection_prolongs_an_opening_as_a_request_would(cause, error):
    before = opened(cause)
    late_ms = NOW + 4_000
    circuit = probed(before, error, now_ms=late_ms)[1]
    assert circuit.opening is not None
    assert (circuit.opening.until_ms, circuit.opening.code) == (late_ms + 10_000, error.code)


def test_probes_without_a_connection_open_a_circuit_as_requests_would():
    assert probed(CLOSED, NO_CONNECTION, NO_CONNECTION)[1].state(NOW) == "closed"
    assert probed(CLOSED, *[NO_CONNECTION] * 3)[1].state(NOW) == "open"


@pytest.mark.parametrize("error", [HUNG, GATEWAY, SERVER, BUSY, LIMITED, SPENT, WRONG_KEY])
@pytest.mark.parametrize("cause", [None, NO_CONNECTION, SERVER, WRONG_KEY])
def test_a_probe_that_fails_with_a_connection_changes_no_circuit(cause, error):
    before = CLOSED if cause is None else opened(cause)
    probing, circuit = probed(before, *[error] * 10)
    assert circuit == before
    assert probing.error is error
    assert probing.is_dead is (error is WRONG_KEY)


def test_what_a_probe_saw_before_the_circuit_changed_does_not_count():
    asked = opened(NO_CONNECTION)
    permit = asked.watched(NOW)
    opened_anew = asked.failed(permit, NO_CONNECTION.to_info(), NOW + 1)
    for answer in (True, NO_CONNECTION):
        assert NEW.after(opened_anew, permit, answer, NOW + 2)[1] == opened_anew


def test_what_was_asked_with_another_key_is_forgotten():
    circuit = CLOSED.reconfigured("config-2", NOW)
    for answer in (True, False, WRONG_KEY, NO_CONNECTION):
        assert NEW.after(circuit, CLOSED.watched(NOW), answer, NOW) == (NEW, circuit)


# What an account makes of it.


async def of(answer: bool | ProviderError) -> bool:
    if isinstance(answer, ProviderError):
        raise answer
    return answer


def config(fingerprint: str = "config-1") -> AccountConfig:
    return AccountConfig(fingerprint, LimitSettings())


@pytest.fixture
def board() -> Board:
    return Board({"acme": config()})


@pytest.mark.parametrize(
    ("answer", "health"),
    [
        (True, "healthy"),
        (False, "unknown"),
        (WRONG_KEY, "unhealthy"),
        (NO_CONNECTION, "unhealthy"),
        (HUNG, "degraded"),
        (BUSY, "degraded"),
    ],
)
async def test_a_probe_tells_the_health_of_an_account_that_nobody_used(board, answer, health):
    told = []
    board.listen(lambda account, *, is_heard: told.append((account.health, is_heard)))
    await board.of("acme").probe(lambda: of(answer))
    assert board.of("acme").health == health
    assert told == ([] if health == "unknown" else [(health, False)])


async def test_a_probe_is_no_attempt_and_its_place_among_the_requests_is_given_back(board):
    account = board.of("acme")
    for answer in (True, HUNG):
        await account.probe(lambda answer=answer: of(answer))
    assert (account.attempts, account.failures, account.in_flight) == (0, 0, 0)
    assert account.overall(NOW).is_unknown
    assert not account.rates.in_flight


async def test_a_request_after_a_failed_probe_has_the_word(board):
    account = board.of("acme")
    await account.probe(lambda: of(WRONG_KEY))
    account.admit("some-model", Tokens(1, 1)).content_came()
    assert account.health == "healthy"


async def test_a_server_without_a_free_question_is_asked_again_under_another_configuration(board):
    account = board.of("acme")
    await account.probe(lambda: of(False))
    board.configure({"acme": config()})
    assert account.probe_due_at_ms(IDLE_MS) is None
    board.configure({"acme": config("config-2")})
    assert account.probe_due_at_ms(IDLE_MS) is not None


@pytest.mark.parametrize("value", [-1, 60, 999])
def test_a_time_that_would_ask_providers_all_the_time_is_refused(value):
    with pytest.raises(ValueError, match="probe_idle_ms"):
        Settings.model_validate({"router": {"probe_idle_ms": value}})
