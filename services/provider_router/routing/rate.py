"""When a request may start without being refused for its rate. Pure; times come as arguments.

Every limit, configured or learnt from headers, is a token bucket: vendors document theirs so
(Anthropic, OpenAI, Groq), and a reset header then means "full again at". A limit that is in truth
a fixed window is overestimated by what the bucket thinks has flowed back; its 429 comes with a
Retry-After, which is obeyed too.

A request is debited when it starts, by what it is expected to use. What a response's headers tell
replaces the learnt level, less the requests that started after that one and are still in flight:
its provider may not have counted those yet. Requests before it are in the told figure already.
Other processes that use the same account show in it as well.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from provider_router.routing.rate_headers import ToldLimit, Unit, read_rate_headers

_MINUTE_MS = 60_000
_LONGEST_WAIT_MS = 300_000
"""A Retry-After beyond this is asked again after this; the circuit bounds its hold-off alike."""

_TELLING = 0.05
"""From this share of a limit on, what is missing tells how fast the limit fills."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a request is expected to use, or did."""

    input_tokens: int
    output_tokens: int

    def amount(self, unit: Unit) -> int:
        """How much of a limit in that unit."""
        match unit:
            case "requests":
                return 1
            case "tokens":
                return self.input_tokens + self.output_tokens
            case "input_tokens":
                return self.input_tokens
            case "output_tokens":
                return self.output_tokens


@dataclass(frozen=True, slots=True)
class Bucket:
    """A level that rises steadily to its limit; below zero it is overdrawn."""

    unit: Unit
    limit: float
    level: float
    refill_per_ms: float
    at_ms: int

    def at(self, now_ms: int) -> "Bucket":
        """As it stands now."""
        elapsed_ms = max(0, now_ms - self.at_ms)
        level = min(self.limit, self.level + elapsed_ms * self.refill_per_ms)
        return replace(self, level=level, at_ms=max(now_ms, self.at_ms))

    def less(self, amount: float) -> "Bucket":
        """With so much taken out; a negative amount is given back."""
        return replace(self, level=min(self.limit, self.level - amount))

    def ready_at_ms(self, amount: float, now_ms: int) -> int:
        """When it holds so much. What is more than the limit may start when the bucket is full."""
        missing = min(amount, self.limit) - self.at(now_ms).level
        if missing <= 1e-9:  # noqa: PLR2004 - float dust of many refills
            return now_ms
        return now_ms + max(1, math.ceil(missing / self.refill_per_ms - 1e-9))


@dataclass(frozen=True, slots=True)
class RateLimits:
    """The limits of one provider's account, as one router knows them."""

    configured: Mapping[str, Bucket] = field(default_factory=dict)
    learnt: Mapping[str, Bucket] = field(default_factory=dict)
    in_flight: Mapping[int, Tokens] = field(default_factory=dict)
    """Expected use, by the request's number."""
    last_number: int = 0
    told_by: int = 0
    """The youngest request whose headers were read: what older ones tell is stale."""
    not_before_ms: int = 0
    """Asked for by a Retry-After."""

    def may_start_at_ms(self, expected: Tokens, now_ms: int) -> int:
        """The earliest time at which such a request keeps to every limit; `now_ms` is at once."""
        ready = [
            bucket.ready_at_ms(expected.amount(bucket.unit), now_ms)
            for buckets in (self.configured, self.learnt)
            for bucket in buckets.values()
        ]
        return max(now_ms, self.not_before_ms, *ready)

    def started(self, expected: Tokens, now_ms: int) -> tuple["RateLimits", int]:
        """A request goes out; gives the number by which `told` and `finished` know it."""
        number = self.last_number + 1
        limits = replace(
            self,
            configured=_debited(self.configured, expected, now_ms),
            learnt=_debited(self.learnt, expected, now_ms),
            in_flight={**self.in_flight, number: expected},
            last_number=number,
        )
        return limits, number

    def told(self, number: int, headers: Mapping[str, str], now_ms: int) -> "RateLimits":
        """The response to that request came, whatever its status, with these headers."""
        told = read_rate_headers(headers, now_ms)
        limits = self
        if told.retry_after_ms:
            wait_ms = min(told.retry_after_ms, _LONGEST_WAIT_MS)
            limits = replace(self, not_before_ms=max(self.not_before_ms, now_ms + wait_ms))
        if number < self.told_by or not told.limits:
            return limits
        younger = [one for other, one in self.in_flight.items() if other > number]
        learnt = dict(self.learnt)
        for limit in told.limits:
            bucket = _learnt(limit, learnt.get(limit.key), now_ms)
            uncounted = sum(one.amount(limit.unit) for one in younger)
            learnt[limit.key] = bucket.less(uncounted)
        return replace(limits, learnt=learnt, told_by=number)

    def finished(self, number: int, used: Tokens | None, now_ms: int) -> "RateLimits":
        """That request is over; `used` corrects what was expected, None leaves it.

        Vendors count output as it is made where it has a limit of its own (Anthropic), and by
        `max_tokens` in advance where it has not (OpenAI): only the former is corrected.
        """
        expected = self.in_flight.get(number)
        if expected is None:
            return self
        rest = {other: one for other, one in self.in_flight.items() if other != number}
        if used is None:
            return replace(self, in_flight=rest)
        configured = {
            key: bucket.at(now_ms).less(used.amount(bucket.unit) - expected.amount(bucket.unit))
            for key, bucket in self.configured.items()
        }
        learnt = {
            key: bucket.at(now_ms).less(used.output_tokens - expected.output_tokens)
            if bucket.unit == "output_tokens"
            else bucket
            for key, bucket in self.learnt.items()
        }
        return replace(self, in_flight=rest, configured=configured, learnt=learnt)


def configured_limits(
    *, requests_per_minute: int | None = None, tokens_per_minute: int | None = None, now_ms: int
) -> RateLimits:
    """Limits by the configuration, obeyed beside those that are learnt."""
    given: tuple[tuple[Unit, int | None], ...] = (
        ("requests", requests_per_minute),
        ("tokens", tokens_per_minute),
    )
    buckets = {
        str(unit): Bucket(unit, limit, limit, limit / _MINUTE_MS, now_ms)
        for unit, limit in given
        if limit
    }
    return RateLimits(configured=buckets)


def _debited(buckets: Mapping[str, Bucket], expected: Tokens, now_ms: int) -> Mapping[str, Bucket]:
    return {
        key: bucket.at(now_ms).less(expected.amount(bucket.unit)) for key, bucket in buckets.items()
    }


def _learnt(told: ToldLimit, known: Bucket | None, now_ms: int) -> Bucket:
    """The bucket as told: how fast it fills follows from how much is missing until its reset.

    While little is missing that tells little (OpenAI's own example lacks 16 of 150,000 tokens for
    six minutes), and it does not matter yet.
    """
    limit = float(told.limit or max(told.remaining, known.limit if known else 1))
    missing = limit - told.remaining
    refill_per_ms = known.refill_per_ms if known else limit / told.window_ms
    if told.is_window_certain:
        refill_per_ms = limit / told.window_ms
    elif told.reset_ms and missing >= _TELLING * limit:
        refill_per_ms = missing / told.reset_ms
    return Bucket(told.unit, limit, min(told.remaining, limit), refill_per_ms, now_ms)
