"""What this router knows of each provider's account: circuit, limits, how attempts went.

No I/O: whoever sends an attempt asks for a `Ticket` first and reports on it; `listener` hears of
every change that others should know (events, and the other routers).
"""

import asyncio
import hashlib
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from atlas.contracts.base import now_ms
from atlas.contracts.errors import (
    ErrorInfo,
    ProviderBusyError,
    ProviderCircuitOpenError,
    ProviderError,
    ProviderKeyRefusedError,
)
from atlas.contracts.inference import Cost, Usage
from atlas.provider_settings import BreakerSettings, LimitSettings
from provider_router.providers.classification import Blame, blame
from provider_router.routing.circuit import Circuit, Permit
from provider_router.routing.circuit_record import FOREVER_MS, CircuitRecord
from provider_router.routing.circuit_window import CircuitSettings
from provider_router.routing.figures import Figures, FiguresOfModels
from provider_router.routing.probing import NOTHING, Probing, spare_at_ms
from provider_router.routing.rate import RateLimits, Tokens, configured_limits

type Health = Literal["unknown", "healthy", "degraded", "unhealthy"]

_DEGRADED_FROM = 0.1
"""Share of failures in the window."""
_PLACE_AGAIN_MS = 1_000
"""When to ask again for a place at a provider where none got free in time."""


@dataclass(frozen=True, slots=True)
class AccountConfig:
    """What of a provider's configuration the board goes by."""

    fingerprint: str
    """Of whom is asked with which key: a refused key is forgotten when it changes."""
    limits: LimitSettings
    breaker: BreakerSettings = field(default_factory=BreakerSettings)


def fingerprint(kind: str, base_url: str | None, key: str | None) -> str:
    """Tells configurations of an account apart, without telling the key."""
    said = "\0".join((kind, base_url or "", key or ""))
    return hashlib.sha256(said.encode()).hexdigest()[:16]


class Account:
    """One provider's account, as this router sees it."""

    def __init__(self, name: str, config: AccountConfig, changed: "Changed") -> None:
        self.name = name
        self._changed = changed
        self._figures = FiguresOfModels()
        self._told_health: Health = "unknown"
        self._limits = config.limits
        self.circuit = Circuit(config.fingerprint, _breaker(config.breaker))
        self.rates = _rates(config.limits)
        self.probing = Probing(now_ms(), _die())
        self.in_flight = 0
        self.attempts = 0
        self.failures = 0
        self.last_error: str | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()

    def configure(self, config: AccountConfig) -> None:
        """Go on under a changed configuration."""
        circuit = replace(self.circuit, settings=_breaker(config.breaker))
        if config.fingerprint != circuit.fingerprint:
            self.probing = Probing(now_ms(), _die())
        self._update(circuit.reconfigured(config.fingerprint, now_ms()))
        if config.limits != self._limits:
            self._limits = config.limits
            self.rates = _rates(config.limits)

    def heard(self, record: CircuitRecord) -> None:
        """Take what another router, or an earlier life of this one, knew."""
        self._update(self.circuit.heard(record), is_heard=True)

    @property
    def health(self) -> Health:
        """One word for it."""
        now = now_ms()
        if self.circuit.state(now) != "closed":
            return "unhealthy"
        if self.circuit.hold_off.until_ms > now:
            return "degraded"
        if (probed_ms := self.probing.at_ms) is not None and probed_ms > self._active_at_ms:
            if self.probing.error is not None:
                return "unhealthy" if self.probing.is_dead else "degraded"
            if not self.attempts:
                return "healthy"
        if self.attempts == 0:
            return "unknown"
        window = self.circuit.window
        is_failing = window.total and window.failures >= _DEGRADED_FROM * window.total
        return "degraded" if is_failing else "healthy"

    def available_at_ms(self, expected: Tokens) -> int:
        """When an attempt may start: now, later, or `FOREVER_MS`; concurrency not counted."""
        now = now_ms()
        return max(self._circuit_at_ms(now), self.rates.may_start_at_ms(expected, now))

    def _circuit_at_ms(self, now: int) -> int:
        """When its circuit lets an attempt through.

        Where probes have all places of a half-open circuit, one is likely free when a first token
        is to be expected. The end of their lease is only the latest time: whoever was told that
        would wait, or give up, for nothing.
        """
        at_ms = self.circuit.available_at_ms(now)
        if at_ms <= now or self.circuit.state(now) != "half_open":
            return at_ms
        expected_ms = max(1, round(self.overall(now).expected_first_token_ms(now)))
        return min(at_ms, max(now + expected_ms, self.circuit.hold_off.until_ms))

    @property
    def is_full(self) -> bool:
        """Whether as many attempts run as may."""
        most = self._limits.max_concurrency
        return most is not None and self.in_flight >= most

    def why_not(self, expected: Tokens) -> str | None:
        """Why an attempt could not start now, for a person; None when it could."""
        now = now_ms()
        if self.circuit.available_at_ms(now) > now:
            return self.circuit.why_not(now)
        wait_ms = self.rates.may_start_at_ms(expected, now) - now
        if wait_ms > 0:
            return f"its rate limit is used up for {wait_ms / 1000:.1f} s"
        return f"{self.in_flight} attempts run, as many as may" if self.is_full else None

    async def enter(self, model: str, expected: Tokens, *, patience_s: float) -> "Ticket":
        """Leave to send one attempt, after a wait for a busy provider that is not too long.

        Raises:
            ProviderCircuitOpenError: It must go elsewhere; a `ProviderKeyRefusedError` for good.
            ProviderBusyError: A limit is reached for longer than that; after a wait it says when
                to try again.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + patience_s
        while True:
            try:
                return self.admit(model, expected)
            except ProviderBusyError as error:
                left_s = deadline_s - loop.time()
                wait_s = error.retry_after_ms / 1000 if error.retry_after_ms else left_s
                if left_s <= 0 or wait_s > left_s:
                    if patience_s and error.retry_after_ms is None:
                        error.retry_after_ms = _PLACE_AGAIN_MS
                    raise
                await self._room(wait_s)

    async def _room(self, timeout_s: float) -> None:
        """Wait until an attempt has ended here, first come, first served, or for so long."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            async with asyncio.timeout(timeout_s):
                await place
        except TimeoutError:
            return
        finally:
            if place in self._waiting:
                self._waiting.remove(place)

    def figures(self, model: str) -> Figures:
        """How attempts at one of its models went."""
        return self._figures.of(model)

    def overall(self, now_ms: int) -> Figures:
        """The figures of its model that was asked last."""
        return self._figures.newest().at(now_ms)

    def probe_due_at_ms(self, idle_ms: int) -> int | None:
        """When it should be probed: now, later, or None for not before something changes."""
        due_ms = self.probing.due_at_ms(
            self.circuit,
            active_at_ms=self._active_at_ms,
            is_busy=self.in_flight > 0,
            idle_ms=idle_ms,
        )
        return None if due_ms is None else max(due_ms, spare_at_ms(self.rates, now_ms()))

    async def probe(self, asking: Callable[[], Awaitable[bool]]) -> None:
        """Take what a probe tells; it has a place among the requests, and is no attempt."""
        permit = self.circuit.watched(now_ms())
        self.rates, number = self.rates.started(NOTHING, now_ms())
        answer: bool | ProviderError
        try:
            answer = await asking()
        except ProviderError as error:
            answer = error
        finally:
            self.rates = self.rates.finished(number, None, now_ms())
        probing, circuit = self.probing.after(self.circuit, permit, answer, now_ms())
        self.probing = replace(probing, die=_die())
        self._update(circuit)

    @property
    def _active_at_ms(self) -> int:
        """When an attempt told something last; 0 is never."""
        return self._figures.newest().at_ms

    def admit(self, model: str, expected: Tokens) -> "Ticket":
        """Leave to send one attempt now.

        Raises:
            ProviderCircuitOpenError: It must go elsewhere, or wait; a `ProviderKeyRefusedError`
                waits in vain.
            ProviderBusyError: A limit is reached; says when it is not.
        """
        now = now_ms()
        circuit, permit = self.circuit.admit(now)
        if permit is None:
            raise self._is_open(now)
        start_ms = self.rates.may_start_at_ms(expected, now)
        if start_ms > now or self.is_full:
            raise ProviderBusyError(
                f"{self.name}: {self.why_not(expected)}",
                provider=self.name,
                retry_after_ms=max(1, start_ms - now) if start_ms > now else None,
            )
        before, self.circuit = self.circuit, circuit
        self.rates, number = self.rates.started(expected, now)
        self._figures.start(model, now)
        self.in_flight += 1
        self.attempts += 1
        if permit.is_probe and not before.probes:
            self._changed(self, is_heard=False)
        return Ticket(self, model, permit, number)

    def _is_open(self, now: int) -> ProviderError:
        why, at_ms = f"{self.name}: {self.circuit.why_not(now)}", self._circuit_at_ms(now)
        if at_ms < FOREVER_MS:
            return ProviderCircuitOpenError(why, provider=self.name, retry_after_ms=at_ms - now)
        return ProviderKeyRefusedError(
            f"{why}: correct the key that providers.{self.name} names by api_key_env or "
            "api_key_file; a changed file counts within seconds, a changed variable after a "
            "restart of the routers",
            provider=self.name,
        )

    def report(self, model: str, circuit: Circuit, figures: Figures) -> None:
        """Take what an attempt taught; for its ticket."""
        self._figures.put(model, figures)
        self._update(circuit)

    def end(self, number: int, usage: Usage | None) -> None:
        """An attempt is over; for its ticket."""
        self.in_flight -= 1
        used = Tokens(usage.input_tokens, usage.output_tokens) if usage else None
        self.rates = self.rates.finished(number, used, now_ms())
        while self._waiting:
            if not (place := self._waiting.popleft()).done():
                place.set_result(None)
                break

    def _update(self, circuit: Circuit, *, is_heard: bool = False) -> None:
        before, self.circuit = self.circuit, circuit
        if circuit.differs_from(before) or self.health != self._told_health:
            self._told_health = self.health
            self._changed(self, is_heard=is_heard)


class Changed(Protocol):
    """Hears of an account whose circuit or health changed; must not block."""

    def __call__(self, account: Account, *, is_heard: bool) -> None:
        """Take note; `is_heard` says that another router told us."""
        ...


class Ticket:
    """One attempt's leave, on which its outcome is reported."""

    __slots__ = (
        "_account",
        "_began_ms",
        "_has_content",
        "_has_ended",
        "_model",
        "_number",
        "_permit",
    )

    def __init__(self, account: Account, model: str, permit: Permit, number: int) -> None:
        self._account = account
        self._model = model
        self._permit = permit
        self._number = number
        self._began_ms = now_ms()
        self._has_content = False
        self._has_ended = False

    def told(self, headers: Mapping[str, str]) -> None:
        """The response's headers came: what they tell of the account's limits counts."""
        if headers:
            account = self._account
            account.rates = account.rates.told(self._number, headers, now_ms())

    def content_came(self) -> None:
        """The provider answers: good enough for its circuit, and a time for its figures."""
        account, now = self._account, now_ms()
        self._has_content = True
        account.report(
            self._model,
            account.circuit.succeeded(self._permit, now),
            account.figures(self._model).first_token(self._began_ms, now),
        )

    def succeeded(self, usage: Usage, cost: Cost) -> None:
        """The answer is whole, and this is what it took."""
        account, now = self._account, now_ms()
        if not self._has_content:  # an empty answer is one
            self.content_came()
        figures = account.figures(self._model).succeeded(
            self._began_ms,
            now,
            usd=cost.total_usd if cost.complete else None,
            output_tokens=usage.output_tokens,
        )
        account.report(self._model, account.circuit, figures)

    def failed(self, error: ErrorInfo) -> None:
        """The attempt failed; the error says who is to blame."""
        account, now = self._account, now_ms()
        if blame(error.category) is not Blame.CALLER:
            account.failures += 1
            account.last_error = error.code
        account.report(
            self._model,
            account.circuit.failed(self._permit, error, now, has_content=self._has_content),
            account.figures(self._model).failed(
                error, self._began_ms, now, has_first_token=self._has_content
            ),
        )

    def released(self) -> None:
        """The attempt told nothing about the provider: cancelled, or it lost a race."""
        account = self._account
        account.report(
            self._model,
            account.circuit.released(self._permit),
            account.figures(self._model).released(
                self._began_ms, now_ms(), has_first_token=self._has_content
            ),
        )

    def ended(self, usage: Usage) -> None:
        """The attempt is over, whatever became of it."""
        if not self._has_ended:
            self._has_ended = True
            self._account.end(self._number, usage)


def _die() -> float:
    """When within its time the next probe goes out; throws anew for each."""
    return random.random()  # noqa: S311 - a time, not a secret


def _breaker(settings: BreakerSettings) -> CircuitSettings:
    return CircuitSettings(
        failure_rate=settings.failure_rate,
        cool_down_ms=settings.cool_down_ms,
        longest_cool_down_ms=settings.longest_cool_down_ms,
        probes=settings.probes,
        successes_to_close=settings.successes_to_close,
    )


def _rates(limits: LimitSettings) -> RateLimits:
    return configured_limits(
        requests_per_minute=limits.requests_per_minute,
        tokens_per_minute=limits.tokens_per_minute,
        now_ms=now_ms(),
    )
