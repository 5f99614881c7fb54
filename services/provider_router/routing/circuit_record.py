"""What routers tell each other about a provider's circuit, and how two such words become one.

Records travel off the request's path: every router publishes its own when it changed, hears the
others', and reads them all when it starts. They may come late, twice, and in any order, so merging
is a join: commutative, associative, idempotent.

A record counts by its term first. A circuit that closes, or half-opens before its time, begins a
new term, which ends what was said in older ones; within a term the later cool-down wins. A router
that opens its circuit in the moment in which another closes its own has its opening overruled by
the newer term; if the provider is still bad, the next few failures open it again.
"""

from typing import Literal

from atlas.contracts.base import Contract, Count, DurationMs, EpochMs

FOREVER_MS = 2**53 - 1
"""Until the configuration changes; the largest integer that JSON carries safely everywhere."""

type OpeningReason = Literal["failures", "quota", "auth"]


class Opening(Contract):
    """Why a circuit is open, and until when; past that it is half-open."""

    until_ms: EpochMs
    cool_down_ms: DurationMs
    """How long the wait has grown; the next failed probe doubles it."""
    reason: OpeningReason
    code: str
    """Of the error that opened it."""

    @property
    def order(self) -> tuple[int, int, str, str]:
        """The later cool-down is the greater."""
        return self.until_ms, self.cool_down_ms, self.reason, self.code

    @property
    def is_about_the_key(self) -> bool:
        """Whether it binds only those who use the same credentials."""
        return self.reason != "failures"


NO_OPENING = Opening(until_ms=0, cool_down_ms=0, reason="failures", code="")


class CircuitRecord(Contract):
    """One router's word about one provider."""

    fingerprint: str
    """Of the configuration under which it was learnt."""
    term: Count = 0
    opening: Opening | None = None
    """None when the circuit is closed."""
    hold_off_until_ms: EpochMs = 0
    """The provider asked for a pause until then; independent of term and opening."""
    router: str
    at_ms: EpochMs

    def seen_from(self, fingerprint: str) -> "CircuitRecord":
        """What of it binds a router under that configuration.

        That another configuration's key was refused, its quota spent, or its circuit closed says
        nothing about ours; a provider that is down is down for all.
        """
        if fingerprint == self.fingerprint:
            return self
        if self.opening is not None and not self.opening.is_about_the_key:
            return self
        return self.model_copy(update={"term": 0, "opening": None})

    def _order(self) -> tuple[object, ...]:
        opening = self.opening or NO_OPENING
        return self.term, opening.order, self.at_ms, self.router, self.fingerprint


def merge(mine: CircuitRecord, theirs: CircuitRecord, *, fingerprint: str) -> CircuitRecord:
    """The two records as one, as they bind a router under the configuration `fingerprint`."""
    pair = mine.seen_from(fingerprint), theirs.seen_from(fingerprint)
    one, other = sorted(pair, key=CircuitRecord._order)  # noqa: SLF001 - its own order
    hold_off_until_ms = max(one.hold_off_until_ms, other.hold_off_until_ms)
    return other.model_copy(update={"hold_off_until_ms": hold_off_until_ms})
