"""Passive health of providers: what every attempt tells about the one that served it."""

from dataclasses import dataclass, field
from typing import Literal

from atlas.contracts.errors import ErrorCategory, ErrorInfo

_UNHEALTHY_AFTER = 3
"""Failures in a row."""

_CALLERS_FAULT = frozenset(
    {
        ErrorCategory.VALIDATION,
        ErrorCategory.CONTENT_FILTER,
        ErrorCategory.CONTEXT_LENGTH,
        ErrorCategory.CANCELLED,
        ErrorCategory.BUDGET,
    }
)

type Health = Literal["unknown", "healthy", "degraded", "unhealthy"]


@dataclass(slots=True)
class ProviderHealth:
    """How one provider's attempts went, as this router saw them."""

    attempts: int = 0
    failures: int = 0
    failures_in_a_row: int = 0
    last_error: str | None = None

    @property
    def state(self) -> Health:
        """One word for it."""
        if self.attempts == 0:
            return "unknown"
        if self.failures_in_a_row == 0:
            return "healthy"
        return "unhealthy" if self.failures_in_a_row >= _UNHEALTHY_AFTER else "degraded"


@dataclass(slots=True)
class HealthBoard:
    """The health of all providers."""

    _by_provider: dict[str, ProviderHealth] = field(default_factory=dict)

    def of(self, provider: str) -> ProviderHealth:
        """The health of one provider."""
        return self._by_provider.setdefault(provider, ProviderHealth())

    def succeeded(self, provider: str) -> bool:
        """Count a good attempt; tells whether the state changed."""
        return self._count(provider, None)

    def failed(self, provider: str, error: ErrorInfo) -> bool:
        """Count a failed attempt unless the caller is to blame; tells if the state changed."""
        if error.category in _CALLERS_FAULT:
            return False
        return self._count(provider, error)

    def _count(self, provider: str, error: ErrorInfo | None) -> bool:
        health = self.of(provider)
        before = health.state
        health.attempts += 1
        if error is None:
            health.failures_in_a_row = 0
        else:
            health.failures += 1
            health.failures_in_a_row += 1
            health.last_error = error.code
        return health.state != before
