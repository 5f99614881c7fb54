"""The circuit of one provider: closed, open, half-open. Pure; times come in as arguments.

How failures weigh, by category and code of the error:

| error | effect |
|---|---|
| validation, content_filter, context_length, cancelled, budget | none: the caller's doing |
| configuration, internal | none: our own doing |
| server, overloaded, timeout, connection | weighs 1 in the window |
| `provider_connection` before content (refused, DNS, TLS) | weighs 2: more than one bad answer |
| rate_limit | holds the provider off until its Retry-After; never opens |
| quota | opens for a long cool-down |
| auth | opens until the configuration changes, but for a 403: that is about one model |

What other breakers got wrong, and what is done instead:

- A count of failures in a row opens on bad luck and, reset by one success, never opens at 50 %
  errors. Here a failure *rate* decides, over a window that forgets by count and by time, so it
  needs neither a busy provider (Hystrix's request volume) nor a quiet one.
- A fixed cool-down flaps for as long as the provider is down (LiteLLM). Here it doubles with each
  failed probe, and what it grew to is remembered for a while after closing.
- A second failure must not shorten a cool-down (BerriAI/litellm#40130): the later end wins.
- A probe that never reports must not hold the circuit half-open for ever
  (resilience4j/resilience4j#903): its place is leased. A cancelled probe gives its place back and
  counts neither way.
- An answer to a request that was sent before the circuit opened says nothing about now: outcomes
  count only in the generation that admitted them.
- The first content is good news at once, but an answer that breaks after it is one failure and no
  success: what was counted is taken back, and a circuit that it closed opens again. Else a provider
  that begins well and breaks nine answers in ten counts ten successes to nine failures, and stays.

Here a probe is a request that tries a half-open circuit. What a free question may do to a circuit
without a request (`watched`, `half_opened`) stands in `probing`.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

from atlas.contracts.errors import ErrorCategory, ErrorInfo
from provider_router.routing.circuit_record import (
    FOREVER_MS,
    CircuitRecord,
    Opening,
    OpeningReason,
    merge,
)
from provider_router.routing.circuit_window import CircuitSettings, Window, weight_of

_FORBIDDEN = 403

type CircuitState = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True)
class HoldOff:
    """A pause that the provider asked for."""

    until_ms: int = 0
    since_ms: int = 0
    in_a_row: int = 0
    """Without a success between."""


@dataclass(frozen=True, slots=True)
class Permit:
    """The leave to send one request; its outcome comes back with it, once."""

    number: int
    generation: int
    fingerprint: str
    is_probe: bool
    at_ms: int


@dataclass(frozen=True, slots=True)
class Circuit:
    """What one router knows about one provider's circuit.

    `admit` before each attempt, then exactly one of `succeeded`, `failed` and `released`. A long
    answer may report `succeeded` with its first content, and when it breaks later still `failed`,
    `has_content`, which takes the success back.
    """

    fingerprint: str
    """Of the configuration that decides who is asked with which key: base URL and credentials."""
    settings: CircuitSettings = field(default_factory=CircuitSettings)
    term: int = 0
    """Rises when the circuit closes or its configuration changes; ends what was said before."""
    heard_term: int = 0
    """The newest that any router told, also under a configuration that says nothing about ours."""
    opening: Opening | None = None
    hold_off: HoldOff = HoldOff()
    window: Window = field(default_factory=Window)
    probes: tuple[Permit, ...] = ()
    probe_successes: int = 0
    generation: int = 0
    permits: int = 0
    last_cool_down_ms: int = 0
    closed_at_ms: int = 0

    @property
    def newest_term(self) -> int:
        """What it says next is said in this term, or in a new one after it."""
        return max(self.term, self.heard_term)

    def state(self, now_ms: int) -> CircuitState:
        """One word for it; a held-off provider's circuit is not open."""
        if self.opening is None:
            return "closed"
        return "open" if now_ms < self.opening.until_ms else "half_open"

    def available_at_ms(self, now_ms: int) -> int:
        """The earliest time at which `admit` may say yes: now, or later; `FOREVER_MS` is never."""
        at_ms = max(now_ms, self.hold_off.until_ms)
        if self.opening is not None:
            at_ms = max(at_ms, self.opening.until_ms)
            out = self._outstanding(at_ms)
            if len(out) >= self.settings.probes:
                at_ms = min(probe.at_ms for probe in out) + self.settings.probe_lease_ms
        return at_ms

    def admit(self, now_ms: int) -> tuple["Circuit", Permit | None]:
        """Ask to send a request; None when it must go elsewhere."""
        if self.available_at_ms(now_ms) > now_ms:
            return self, None
        number, is_probe = self.permits + 1, self.opening is not None
        permit = Permit(number, self.generation, self.fingerprint, is_probe, now_ms)
        probes = (*self._outstanding(now_ms), permit) if is_probe else ()
        return replace(self, permits=number, probes=probes), permit

    def succeeded(self, permit: Permit, now_ms: int) -> "Circuit":
        """The provider did what was asked."""
        if permit.generation != self.generation:
            return self
        circuit = replace(self, hold_off=replace(self.hold_off, in_a_row=0))
        if self.opening is None:
            return replace(circuit, window=self.window_after(now_ms, 1.0, is_failure=False))
        successes = self.probe_successes + 1
        if successes >= self.settings.successes_to_close:
            return _closed(circuit, self.newest_term + 1, now_ms)
        return replace(_without(circuit, permit), probe_successes=successes)

    def failed(
        self, permit: Permit, error: ErrorInfo, now_ms: int, *, has_content: bool = False
    ) -> "Circuit":
        """The attempt failed; who is to blame and how much it weighs, the error says.

        Args:
            permit: Its leave.
            error: Why it failed.
            now_ms: The time.
            has_content: Whether it had begun well, and was reported as `succeeded` for that.
        """
        match error.category:
            case _ if permit.fingerprint != self.fingerprint:  # another key, perhaps another host
                return self
            case ErrorCategory.AUTH if error.http_status != _FORBIDDEN:
                return _opened(self, FOREVER_MS, "auth", error)
            case ErrorCategory.QUOTA:
                wait_ms = max(self.settings.quota_cool_down_ms, error.retry_after_ms or 0)
                return _opened(self, now_ms + wait_ms, "quota", error)
            case ErrorCategory.RATE_LIMIT:
                return _held_off(_without(self, permit), permit, error.retry_after_ms, now_ms)
        if weight_of(error):
            return _faulted(self, permit, error, now_ms, has_content=has_content)
        return self.released(permit)  # as of a 403: this key may not use this model; another it may

    def released(self, permit: Permit) -> "Circuit":
        """The attempt told nothing about the provider: cancelled, lost a race, a bad request."""
        return _without(self, permit)

    def reconfigured(self, fingerprint: str, now_ms: int) -> "Circuit":
        """Under another configuration a refused key is forgotten, the rest is probed now."""
        if fingerprint == self.fingerprint:
            return self
        circuit = replace(self, fingerprint=fingerprint, hold_off=HoldOff())
        term = self.newest_term + 1
        if self.opening is None:
            return replace(circuit, term=term, generation=self.generation + 1)
        if self._is_about_the_key:
            return _closed(circuit, term, now_ms)
        return _became(circuit, term, self.opening.model_copy(update={"until_ms": now_ms}))

    def watched(self, now_ms: int) -> Permit:
        """Leave for what is no request: it takes no place, and its word counts as long as one's."""
        return Permit(0, self.generation, self.fingerprint, is_probe=False, at_ms=now_ms)

    def half_opened(self, now_ms: int) -> "Circuit":
        """Do not wait for the end of the cool-down: what it waits for is over.

        It begins a term, as a closing does: else the later end that others know would win.
        """
        if self.opening is None or self.opening.until_ms <= now_ms:
            return self
        opening = self.opening.model_copy(update={"until_ms": now_ms})
        return _became(self, self.newest_term + 1, opening)

    def record(self, router: str, now_ms: int) -> CircuitRecord:
        """What the other routers, and this one after a restart, should know."""
        return CircuitRecord(
            fingerprint=self.fingerprint,
            term=self.term,
            opening=self.opening,
            hold_off_until_ms=self.hold_off.until_ms,
            router=router,
            at_ms=now_ms,
        )

    def heard(self, theirs: CircuitRecord) -> "Circuit":
        """With what another router, or an earlier life of this one, knew."""
        mine = self.record(theirs.router, theirs.at_ms)
        merged = merge(mine, theirs, fingerprint=self.fingerprint)
        circuit = replace(self, heard_term=max(self.heard_term, theirs.term))
        if merged.hold_off_until_ms > self.hold_off.until_ms:
            until_ms = merged.hold_off_until_ms
            circuit = replace(circuit, hold_off=replace(self.hold_off, until_ms=until_ms))
        if (merged.term, merged.opening) == (self.term, self.opening):
            return circuit
        if theirs.fingerprint != self.fingerprint and self._is_about_the_key:
            return circuit  # whatever becomes of theirs, our key is refused
        if merged.opening is None:
            return _closed(circuit, merged.term, theirs.at_ms)
        return _became(circuit, merged.term, merged.opening)

    def differs_from(self, before: "Circuit") -> bool:
        """Whether there is something to tell the other routers."""
        return (self.term, self.opening, self.hold_off.until_ms) != (
            before.term,
            before.opening,
            before.hold_off.until_ms,
        )

    def why_not(self, now_ms: int) -> str | None:
        """Why the provider takes no ordinary requests now, for a person; None when it does."""
        left_s = max(0.0, (self.available_at_ms(now_ms) - now_ms) / 1000)
        match self.state(now_ms), self.opening:
            case "open", Opening(reason="auth"):
                return "circuit open: the key was refused; waits for another configuration"
            case "open", Opening(code=code):
                return f"circuit open after {code}, probed in {left_s:.1f} s"
            case "half_open", Opening(code=code):
                return f"circuit half-open after {code}: {self.probe_successes} probes succeeded"
        return f"held off by its rate limit for {left_s:.1f} s" if left_s else None

    @property
    def _is_about_the_key(self) -> bool:
        return self.opening is not None and self.opening.is_about_the_key

    def _outstanding(self, now_ms: int) -> tuple[Permit, ...]:
        lease_ms = self.settings.probe_lease_ms
        return tuple(probe for probe in self.probes if now_ms - probe.at_ms < lease_ms)

    def window_after(self, now_ms: int, weight: float, *, is_failure: bool) -> Window:
        """The window with one more outcome."""
        return self.window.after(
            weight=weight, is_failure=is_failure, now_ms=now_ms, settings=self.settings
        )


def _without(circuit: Circuit, permit: Permit) -> Circuit:
    rest = tuple(probe for probe in circuit.probes if probe.number != permit.number)
    return circuit if rest == circuit.probes else replace(circuit, probes=rest)


def _held_off(circuit: Circuit, permit: Permit, asked_ms: int | None, now_ms: int) -> Circuit:
    """Many requests in flight may meet the same limit: only one sent after it makes a row."""
    hold_off = circuit.hold_off
    if permit.at_ms >= hold_off.since_ms or not hold_off.in_a_row:
        hold_off = HoldOff(hold_off.until_ms, now_ms, hold_off.in_a_row + 1)
    wait_ms = asked_ms or circuit.settings.hold_off_ms * 2 ** min(hold_off.in_a_row - 1, 20)
    until_ms = now_ms + min(wait_ms, circuit.settings.longest_hold_off_ms)
    return replace(circuit, hold_off=replace(hold_off, until_ms=max(hold_off.until_ms, until_ms)))


def _faulted(
    circuit: Circuit, permit: Permit, error: ErrorInfo, now_ms: int, *, has_content: bool
) -> Circuit:
    """Count a failure that is the provider's own."""
    if error.retry_after_ms:
        circuit = _held_off(circuit, permit, error.retry_after_ms, now_ms)
    if has_content and _has_closed(circuit, permit, now_ms):
        return _fell(circuit, error, now_ms)
    if permit.generation != circuit.generation:
        return circuit
    if circuit.opening is not None:
        return _cooled_down(circuit, 2 * circuit.opening.cool_down_ms, error, now_ms)
    weight = weight_of(error)
    if has_content:  # there is a connection, whatever broke it
        circuit, weight = replace(circuit, window=circuit.window.less_a_success()), 1.0
    window = circuit.window_after(now_ms, weight, is_failure=True)
    if not window.is_bad(circuit.settings):
        return replace(circuit, window=window)
    return _fell(circuit, error, now_ms)


def _has_closed(circuit: Circuit, permit: Permit, now_ms: int) -> bool:
    """Whether the circuit is closed on the word of this probe, and of no more than its like."""
    return (
        permit.is_probe
        and circuit.opening is None
        and permit.generation == circuit.generation - 1
        and now_ms - permit.at_ms < circuit.settings.probe_lease_ms
    )


def _fell(circuit: Circuit, error: ErrorInfo, now_ms: int) -> Circuit:
    """Open from closed, for longer when the last time is not long ago."""
    healthy_ms = max(0, now_ms - circuit.closed_at_ms)
    forgotten = 0.5 ** (healthy_ms / circuit.settings.cool_down_half_life_ms)
    return _cooled_down(circuit, int(2 * circuit.last_cool_down_ms * forgotten), error, now_ms)


def _cooled_down(circuit: Circuit, wanted_ms: int, error: ErrorInfo, now_ms: int) -> Circuit:
    bounded_ms = min(wanted_ms, circuit.settings.longest_cool_down_ms)
    cool_down_ms = max(circuit.settings.cool_down_ms, bounded_ms)
    return _opened(circuit, now_ms + cool_down_ms, "failures", error, cool_down_ms)


def _opened(
    circuit: Circuit, until_ms: int, reason: OpeningReason, error: ErrorInfo, cool_down_ms: int = 0
) -> Circuit:
    opening = Opening(until_ms=until_ms, cool_down_ms=cool_down_ms, reason=reason, code=error.code)
    if circuit.opening is not None and circuit.opening.order >= opening.order:
        return circuit
    return _became(circuit, circuit.newest_term, opening)


def _became(circuit: Circuit, term: int, opening: Opening) -> Circuit:
    return replace(
        circuit,
        term=term,
        opening=opening,
        window=Window(),
        probes=(),
        probe_successes=0,
        generation=circuit.generation + 1,
    )


def _closed(circuit: Circuit, term: int, now_ms: int) -> Circuit:
    if circuit.opening is None:
        return replace(circuit, term=term)
    return replace(
        circuit,
        term=term,
        opening=None,
        window=Window(),
        probes=(),
        probe_successes=0,
        generation=circuit.generation + 1,
        last_cool_down_ms=circuit.opening.cool_down_ms,
        closed_at_ms=now_ms,
    )
