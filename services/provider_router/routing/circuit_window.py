"""What outcomes weigh, and when a window of them is bad enough to open a circuit. Pure."""

from dataclasses import dataclass, replace

from atlas.contracts.errors import ErrorCategory, ErrorInfo, ProviderConnectionError

_WEIGHTS = {
    ErrorCategory.SERVER: 1.0,
    ErrorCategory.OVERLOADED: 1.0,
    ErrorCategory.TIMEOUT: 1.0,
    ErrorCategory.CONNECTION: 1.0,
}
_NO_CONNECTION_WEIGHT = 2.0


def weight_of(error: ErrorInfo) -> float:
    """How much a failure tells against its provider; 0 when it is not the provider's fault."""
    if error.code == ProviderConnectionError.code:
        return _NO_CONNECTION_WEIGHT
    return _WEIGHTS.get(error.category, 0.0)


@dataclass(frozen=True, slots=True)
class CircuitSettings:
    """When a circuit opens, for how long, and what closes it."""

    failure_rate: float = 0.5
    """Opens at this share of failures in the window."""
    least_weight: float = 4.0
    """... but not before so much weighs in it: five failures, or three refused connections."""
    window_outcomes: float = 20.0
    """The window forgets by count: about so many of the last outcomes matter. A provider that dies
    under load is out after 14 failures; one that fails 30 % of the time stays in."""
    window_half_life_ms: int = 300_000
    """... and by time, so that yesterday's failures do not count today."""
    cool_down_ms: int = 5_000
    longest_cool_down_ms: int = 60_000
    """A probe costs one request; knowing a minute late that a provider is back costs many."""
    cool_down_half_life_ms: int = 60_000
    """After closing, what the cool-down grew to is forgotten by half in so much time."""
    hold_off_ms: int = 1_000
    """After a rate limit without Retry-After; doubles while that repeats."""
    longest_hold_off_ms: int = 300_000
    """A provider may ask for more; then it is asked again after this."""
    quota_cool_down_ms: int = 3_600_000
    probes: int = 2
    """At most so many requests try a half-open circuit at a time."""
    probe_lease_ms: int = 120_000
    """A probe that has not reported by then is taken for lost."""
    successes_to_close: int = 2


@dataclass(frozen=True, slots=True)
class Window:
    """Outcomes, the younger the heavier."""

    failures: float = 0.0
    total: float = 0.0
    at_ms: int = 0

    def after(
        self, *, weight: float, is_failure: bool, now_ms: int, settings: CircuitSettings
    ) -> "Window":
        """With one more outcome."""
        age_ms = max(0, now_ms - self.at_ms)
        kept = 0.5 ** (age_ms / settings.window_half_life_ms)
        kept *= (1 - 1 / settings.window_outcomes) ** weight
        return Window(
            self.failures * kept + (weight if is_failure else 0.0),
            self.total * kept + weight,
            max(now_ms, self.at_ms),
        )

    def less_a_success(self) -> "Window":
        """Without one of the successes, as far as there is one that is not forgotten yet."""
        return replace(self, total=self.total - min(1.0, self.total - self.failures))

    def is_bad(self, settings: CircuitSettings) -> bool:
        """Whether the circuit has to open."""
        is_enough = self.total >= settings.least_weight
        return is_enough and self.failures >= settings.failure_rate * self.total
