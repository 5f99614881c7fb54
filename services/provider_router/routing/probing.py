"""When an account is probed, and what a probe's answer proves. Pure; times come as arguments.

A probe (`Adapter.probe`) asks what costs nothing, such as the list of models. It proves that there
is a connection, and mostly that the key is taken; never that a model answers. So it opens a door
at most by half, requests open it whole:

| the probe | what it does to the circuit |
|---|---|
| is answered | what opened for want of a connection is half-open at once |
| is answered, after one that was refused the key | so is what opened for a refused key |
| finds no connection: refused, DNS, TLS | counts like a request that found none |
| fails in another way: silence, 5xx, overload, a limit, the key | nothing: `health` shows it |
| is not known to the server | nothing: it is not asked again before the configuration changes |

A probe does not take back that a model failed, was overloaded or silent: the list of models is up
all the while. One that is answered although the key was refused proves nothing either where it
never was refused itself: some servers give the list to anybody.

An open circuit is probed in the last third of its cool-down, so that the request that comes after
it need not find out; not before, for the cool-down is there to leave the provider alone, and grows
with each failure. Else an account is probed when it had neither request nor probe for
`probe_idle_ms`, give or take a quarter. A die thrown after each probe spreads them, so that many
routers do not ask together; what one of them finds of a circuit the others hear. No probe goes to
an account that its provider limits, or whose last free place in a minute it would take.
"""

from dataclasses import dataclass, replace

from atlas.contracts.errors import (
    ErrorCategory,
    ProviderConnectionError,
    ProviderError,
    ProviderTimeoutError,
)
from provider_router.routing.circuit import Circuit, Permit
from provider_router.routing.circuit_record import Opening
from provider_router.routing.rate import RateLimits, Tokens

NOTHING = Tokens(0, 0)
"""What a probe uses of an account, but for its place among the requests."""

_SOME = Tokens(1, 1)
"""Less than any request uses: an account without room for it is limited."""

_FIRST_MS = 5_000
"""An account that is new is probed within so much: whether its key is right shows soon."""

_LEAST_LEAD, _LEAD = 0.1, 0.2
"""Of a cool-down: how much of it is left at least when the circuit is probed, and the spread."""

_SPREAD = 0.5
"""Of the time between probes of an idle account."""


@dataclass(frozen=True, slots=True)
class Probing:
    """What probes told of an account under its present key and address."""

    since_ms: int
    """When it was configured so."""
    die: float
    """From 0 to 1, thrown anew for each probe."""
    at_ms: int | None = None
    """When a probe was answered or failed last."""
    error: ProviderError | None = None
    """Why the last one failed."""
    is_offered: bool = True
    opening: Opening | None = None
    """Of the circuit: the one that the last probe was about."""

    @property
    def was_refused_the_key(self) -> bool:
        """Whether the last probe was."""
        return self.error is not None and self.error.category is ErrorCategory.AUTH

    @property
    def is_dead(self) -> bool:
        """Whether the last probe failed in a way in which every request would."""
        return self.error is not None and (self.was_refused_the_key or is_unreachable(self.error))

    def due_at_ms(
        self, circuit: Circuit, *, active_at_ms: int, is_busy: bool, idle_ms: int
    ) -> int | None:
        """When the next probe is due, rate limits aside; None: not before something changes.

        Args:
            circuit: The account's.
            active_at_ms: When a request told something last; 0 is never.
            is_busy: Whether requests run.
            idle_ms: The time after which an account is idle.
        """
        if not self.is_offered:
            return None
        opening = circuit.opening
        if opening is not None and opening.reason == "failures" and opening != self.opening:
            lead = _LEAST_LEAD + _LEAD * self.die
            due_ms = opening.until_ms - int(opening.cool_down_ms * lead)
        elif is_busy:
            return None
        else:
            due_ms = self._idle_at_ms(active_at_ms, idle_ms)
        return max(circuit.hold_off.until_ms, due_ms)

    def _idle_at_ms(self, active_at_ms: int, idle_ms: int) -> int:
        if not active_at_ms and self.at_ms is None:
            return self.since_ms + int(min(_FIRST_MS, idle_ms) * self.die)
        spread = 1 + _SPREAD * (self.die - 0.5)
        return max(active_at_ms, self.at_ms or 0) + int(idle_ms * spread)

    def after(
        self, circuit: Circuit, permit: Permit, answer: bool | ProviderError, now_ms: int
    ) -> tuple["Probing", Circuit]:
        """What is known after a probe, here and of the circuit.

        Args:
            circuit: The account's.
            permit: Taken from the circuit when the probe began.
            answer: What `Adapter.probe` returned or raised.
            now_ms: The time.
        """
        if permit.fingerprint != circuit.fingerprint:  # it asked with another key, or elsewhere
            return self, circuit
        if answer is False:
            return replace(self, at_ms=None, error=None, is_offered=False), circuit
        error = answer if isinstance(answer, ProviderError) else None
        known = replace(self, at_ms=now_ms, error=error)
        if permit.generation != circuit.generation:  # the circuit is another one by now
            return known, circuit
        if error is None and self._proves_enough(circuit):
            circuit = circuit.half_opened(now_ms)
        known = replace(known, opening=circuit.opening)
        if error is not None and is_unreachable(error):  # what this prolongs is a new opening
            circuit = circuit.failed(permit, error.to_info(), now_ms)
        return known, circuit

    def _proves_enough(self, circuit: Circuit) -> bool:
        """Whether an answered probe takes back what the circuit opened for."""
        match circuit.opening:
            case Opening(reason="failures", code=ProviderConnectionError.code):
                return True
            case Opening(reason="auth"):
                return self.was_refused_the_key
        return False


def is_unreachable(error: ProviderError) -> bool:
    """Whether there was no connection, so that no request would have had one."""
    is_kind = isinstance(error, ProviderConnectionError | ProviderTimeoutError)
    return is_kind and not error.was_sent and error.http_status is None


def spare_at_ms(rates: RateLimits, now_ms: int) -> int:
    """When the account has room for a probe and a request after it."""
    after_it, _ = rates.started(NOTHING, now_ms)
    return after_it.may_start_at_ms(_SOME, now_ms)
