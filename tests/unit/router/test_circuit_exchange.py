"""Circuits that routers tell each other: merging is a join, and what binds whom."""

from hypothesis import given
from hypothesis import strategies as st

from atlas.contracts.errors import (
    AtlasError,
    ProviderAuthError,
    ProviderConnectionError,
    ProviderInvalidRequestError,
    ProviderOverloadedError,
    ProviderQuotaExceededError,
    ProviderRateLimitError,
    ProviderServerError,
)
from provider_router.routing.circuit import Circuit, Permit
from provider_router.routing.circuit_record import CircuitRecord, Opening, merge
from provider_router.routing.circuit_window import CircuitSettings

NOW = 1_000_000
ME = "config-1"
SETTINGS = CircuitSettings()

openings = st.builds(
    Opening,
    until_ms=st.integers(0, 5),
    cool_down_ms=st.integers(0, 2),
    reason=st.sampled_from(["failures", "quota", "auth"]),
    code=st.sampled_from(["a", "b"]),
)
records = st.builds(
    CircuitRecord,
    fingerprint=st.sampled_from([ME, "config-2"]),
    term=st.integers(0, 2),
    opening=st.none() | openings,
    hold_off_until_ms=st.integers(0, 3),
    router=st.sampled_from(["r1", "r2"]),
    at_ms=st.integers(0, 2),
)


def join(one: CircuitRecord, other: CircuitRecord) -> CircuitRecord:
    return merge(one, other, fingerprint=ME)


@given(records, records)
def test_merging_is_commutative(one: CircuitRecord, other: CircuitRecord) -> None:
    assert join(one, other) == join(other, one)


@given(records, records, records)
def test_merging_is_associative(a: CircuitRecord, b: CircuitRecord, c: CircuitRecord) -> None:
    assert join(join(a, b), c) == join(a, join(b, c))


@given(records, records)
def test_hearing_the_same_again_changes_nothing(one: CircuitRecord, other: CircuitRecord) -> None:
    assert join(one, one) == one.seen_from(ME)
    assert join(join(one, other), other) == join(one, other)


@given(records, records)
def test_within_a_term_the_later_cool_down_wins(one: CircuitRecord, other: CircuitRecord) -> None:
    bound = [record.seen_from(ME) for record in (one, other)]
    term = max(record.term for record in bound)
    ends = [r.opening.until_ms if r.opening else 0 for r in bound if r.term == term]
    merged = join(one, other)
    assert (merged.opening.until_ms if merged.opening else 0) == max(ends)


@given(records)
def test_a_record_comes_back_from_json_as_it_was(record: CircuitRecord) -> None:
    assert CircuitRecord.model_validate_json(record.to_json()) == record


ERRORS: list[AtlasError | None] = [
    None,
    ProviderServerError("500"),
    ProviderConnectionError("refused"),
    ProviderOverloadedError("529", retry_after_ms=700),
    ProviderRateLimitError("429", retry_after_ms=900),
    ProviderRateLimitError("429"),
    ProviderQuotaExceededError("no credit"),
    ProviderAuthError("401"),
    ProviderInvalidRequestError("bad"),
]
steps = st.lists(
    st.tuples(st.sampled_from(["admit", "end", "break", "release", "wait"]), st.integers(0, 8)),
    max_size=80,
)


@given(steps)
def test_whatever_happens_probes_stay_bounded_and_cool_downs_never_shrink(
    taken: list[tuple[str, int]],
) -> None:
    circuit, now_ms = Circuit(ME), NOW
    flying: list[Permit] = []
    for step, number in taken:
        before = circuit
        match step:
            case "admit":
                circuit, permit = circuit.admit(now_ms)
                assert (permit is not None) == (before.available_at_ms(now_ms) <= now_ms)
                flying += [permit] if permit else []
            case "end" if flying:
                permit, error = flying.pop(number % len(flying)), ERRORS[number]
                circuit = (
                    circuit.succeeded(permit, now_ms)
                    if error is None
                    else circuit.failed(permit, error.to_info(), now_ms)
                )
            case "break" if flying:
                permit = flying.pop(number % len(flying))
                cut = ProviderConnectionError("cut").to_info()
                circuit = circuit.succeeded(permit, now_ms)
                circuit = circuit.failed(permit, cut, now_ms, has_content=True)
                assert circuit.window.total >= circuit.window.failures - 1e-9
            case "release" if flying:
                circuit = circuit.released(flying.pop(number % len(flying)))
            case _:
                now_ms += number * 1_000
        assert len(circuit.probes) <= SETTINGS.probes
        assert circuit.term in {before.term, before.term + 1}
        assert circuit.hold_off.until_ms >= before.hold_off.until_ms
        if before.opening and circuit.opening and circuit.term == before.term:
            assert circuit.opening.until_ms >= before.opening.until_ms


def failing(circuit: Circuit, now_ms: int, error: AtlasError, times: int = 5) -> Circuit:
    for _ in range(times):
        circuit, permit = circuit.admit(now_ms)
        assert permit is not None
        circuit = circuit.failed(permit, error.to_info(), now_ms)
    return circuit


def test_a_circuit_opened_by_one_router_is_obeyed_by_the_other_and_by_a_restarted_one() -> None:
    told = failing(Circuit(ME), NOW, ProviderServerError("500")).record("r1", NOW)
    other, permit = Circuit(ME).heard(told).admit(NOW + 1)
    assert permit is None
    assert other.state(NOW + 1) == "open"
    assert other.available_at_ms(NOW) == NOW + SETTINGS.cool_down_ms


def test_a_circuit_closed_by_one_router_closes_for_the_other() -> None:
    one = failing(Circuit(ME), NOW, ProviderServerError("500"))
    two = Circuit(ME).heard(one.record("r1", NOW))
    later = NOW + SETTINGS.cool_down_ms
    for _ in range(SETTINGS.successes_to_close):
        one, permit = one.admit(later)
        assert permit is not None
        one = one.succeeded(permit, later)
    assert two.heard(one.record("r1", later)).state(later) == "closed"


def test_a_failed_probe_elsewhere_prolongs_the_cool_down_here() -> None:
    one = failing(Circuit(ME), NOW, ProviderServerError("500"))
    two = Circuit(ME).heard(one.record("r1", NOW))
    later = NOW + SETTINGS.cool_down_ms
    two, mine = two.admit(later)
    one = failing(one, later, ProviderServerError("500"), times=1)
    two = two.heard(one.record("r1", later))
    assert two.state(later) == "open"
    assert mine is not None
    assert two.succeeded(mine, later) == two, "its probe was admitted before that was known"


def test_a_refused_key_binds_only_routers_with_that_configuration() -> None:
    told = failing(Circuit("config-0"), NOW, ProviderAuthError("401"), times=1).record("r0", NOW)
    mine = Circuit(ME)
    assert mine.heard(told) == mine
    assert Circuit("config-0").heard(told).admit(NOW)[1] is None


def test_a_refused_key_stays_refused_whatever_routers_with_another_key_tell() -> None:
    refused = failing(Circuit("config-0"), NOW, ProviderAuthError("401"), times=1)
    changed = refused.reconfigured(ME, NOW)
    down = failing(changed, NOW, ProviderServerError("500"))
    for told in (changed, down):
        heard = refused.heard(told.record("r1", NOW))
        assert heard.opening == refused.opening
        assert heard.reconfigured(ME, NOW + 1).term > told.term


def test_what_a_router_says_counts_for_those_that_are_terms_ahead_under_another_configuration() -> (
    None
):
    ahead = Circuit("config-0", term=7)
    mine = failing(Circuit(ME).heard(ahead.record("r1", NOW)), NOW, ProviderServerError("500"))
    assert ahead.heard(mine.record("r2", NOW)).state(NOW) == "open"


def test_a_provider_that_is_down_is_down_under_every_configuration() -> None:
    told = failing(Circuit("config-0"), NOW, ProviderServerError("500")).record("r0", NOW)
    assert Circuit(ME).heard(told).state(NOW) == "open"


def test_a_hold_off_is_shared() -> None:
    limit = ProviderRateLimitError("429", retry_after_ms=4_000)
    told = failing(Circuit(ME), NOW, limit, times=1).record("r1", NOW)
    assert Circuit(ME).heard(told).available_at_ms(NOW) == NOW + 4_000


def test_a_new_configuration_here_is_probed_although_others_still_cool_down() -> None:
    one = failing(Circuit("config-0"), NOW, ProviderServerError("500"))
    old = one.record("r1", NOW)
    mine = Circuit("config-0").heard(old).reconfigured(ME, NOW + 1)
    assert mine.heard(old).state(NOW + 1) == "half_open"


def test_it_knows_when_there_is_something_to_tell() -> None:
    quiet = failing(Circuit(ME), NOW, ProviderServerError("500"), times=1)
    assert not quiet.differs_from(Circuit(ME))
    assert failing(Circuit(ME), NOW, ProviderServerError("500")).differs_from(quiet)
