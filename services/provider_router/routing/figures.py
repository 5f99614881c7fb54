"""What attempts taught about a member of a group: speed, success, cost, load. Pure.

Every figure is a discounted average. It forgets by count, so that a busy member's figures follow
it within seconds, and by time, so that those of a member nobody asks drift back to what one would
expect of any: that is how a member that was bad once is tried again.
"""

import math
from dataclasses import dataclass, replace

from atlas.contracts.errors import ErrorCategory, ErrorInfo
from provider_router.routing.circuit_window import weight_of

_HALF_LIFE_MS = 60_000
_SPAN = 40.0
"""About so many of the last observations matter."""

PRIOR_SUCCESS = 0.95
PRIOR_FIRST_TOKEN_MS = 800.0
"""What one expects of a provider one knows nothing about."""
_PRIOR_WEIGHT = 1.0

_FORGOTTEN = 0.1
"""Less than so much of one observation is as good as none."""

_SHRINK, _GROW = 0.7, 0.5
"""How the learnt bound on requests in flight falls on a refusal and rises with a success near it:
additive increase and multiplicative decrease, as TCP has it."""


@dataclass(frozen=True, slots=True)
class Average:
    """A discounted average: the sum of values and of their weights."""

    total: float = 0.0
    weight: float = 0.0

    def faded(self, kept: float) -> "Average":
        """The same average with less weight."""
        return Average(self.total * kept, self.weight * kept)

    def after(self, value: float) -> "Average":
        """With one more value."""
        kept = 1 - 1 / _SPAN
        return Average(self.total * kept + value, self.weight * kept + 1)

    def value(self, prior: float) -> float:
        """The average, pulled to the prior by the weight of one observation."""
        return (self.total + prior * _PRIOR_WEIGHT) / (self.weight + _PRIOR_WEIGHT)


@dataclass(frozen=True, slots=True)
class Figures:
    """One member's figures, as one router learnt them.

    `started`, then `first_token` when it comes, then exactly one of `succeeded`, `failed` and
    `released`, which are told whether it came.
    """

    success: Average = Average()
    first_token_ms: Average = Average()
    request_usd: Average = Average()
    usd_per_1k_output: Average = Average()
    in_flight: int = 0
    waiting: int = 0
    """Of those in flight, without a first token."""
    waiting_since_sum_ms: int = 0
    """The sum of the times at which those began."""
    most_in_flight: float = math.inf
    """Beyond so many the provider refused lately."""
    at_ms: int = 0

    @property
    def is_unknown(self) -> bool:
        """Whether no attempt told anything yet, or so long ago that it is forgotten."""
        return self.success.weight < _FORGOTTEN and self.first_token_ms.weight < _FORGOTTEN

    @property
    def is_full(self) -> bool:
        """Whether one more request would likely be refused: then it waits or goes elsewhere.

        Whoever sends it all the same gets overload errors, which look like a provider that is
        down; its circuit opens, the others get its load, and fall one after the other.
        """
        return self.in_flight + 1 > self.most_in_flight

    @property
    def success_rate(self) -> float:
        """The expected share of attempts that succeed."""
        return self.success.value(PRIOR_SUCCESS)

    def expected_first_token_ms(self, now_ms: int) -> float:
        """The expected time to the first token.

        Those that still wait count with what they have waited so far, as censored observations:
        their time enters the sum, and they do not enter the count (the estimate of greatest
        likelihood for exponential waits). So a provider that falls silent looks slow within
        seconds, long before its first timeout.
        """
        waited_ms = max(0, self.waiting * now_ms - self.waiting_since_sum_ms)
        known = self.first_token_ms
        return Average(known.total + waited_ms, known.weight).value(PRIOR_FIRST_TOKEN_MS)

    def at(self, now_ms: int) -> "Figures":
        """As they stand now."""
        elapsed_ms = max(0, now_ms - self.at_ms)
        if not elapsed_ms:
            return self
        kept = 0.5 ** (elapsed_ms / _HALF_LIFE_MS)
        return replace(
            self,
            success=self.success.faded(kept),
            first_token_ms=self.first_token_ms.faded(kept),
            request_usd=self.request_usd.faded(kept),
            usd_per_1k_output=self.usd_per_1k_output.faded(kept),
            most_in_flight=self.most_in_flight / max(kept, 0.01),
            at_ms=now_ms,
        )

    def started(self, now_ms: int) -> "Figures":
        """An attempt began."""
        return replace(
            self.at(now_ms),
            in_flight=self.in_flight + 1,
            waiting=self.waiting + 1,
            waiting_since_sum_ms=self.waiting_since_sum_ms + now_ms,
        )

    def first_token(self, began_ms: int, now_ms: int) -> "Figures":
        """The first content came of the attempt that began then."""
        figures = _waited(self.at(now_ms), began_ms)
        return replace(figures, first_token_ms=figures.first_token_ms.after(now_ms - began_ms))

    def succeeded(
        self, began_ms: int, now_ms: int, *, usd: float | None, output_tokens: int
    ) -> "Figures":
        """An attempt came to its end, after its first token, at that price if it is known."""
        figures = self.released(began_ms, now_ms, has_first_token=True)
        bound = figures.most_in_flight
        if self.in_flight >= bound / 2:
            bound += _GROW / max(1.0, bound)
        figures = replace(figures, success=figures.success.after(1.0), most_in_flight=bound)
        if usd is None:
            return figures
        per_1k = figures.usd_per_1k_output
        if output_tokens:
            per_1k = per_1k.after(1000 * usd / output_tokens)
        return replace(
            figures, request_usd=figures.request_usd.after(usd), usd_per_1k_output=per_1k
        )

    def failed(
        self, error: ErrorInfo, began_ms: int, now_ms: int, *, has_first_token: bool
    ) -> "Figures":
        """An attempt failed. A caller's fault tells nothing about the member."""
        figures = self.released(began_ms, now_ms, has_first_token=has_first_token)
        is_refusal = error.category in {ErrorCategory.RATE_LIMIT, ErrorCategory.OVERLOADED}
        if not is_refusal and not weight_of(error):
            return figures
        first_token_ms, bound = figures.first_token_ms, figures.most_in_flight
        if error.category is ErrorCategory.TIMEOUT and not has_first_token:
            first_token_ms = first_token_ms.after(now_ms - began_ms)  # at least so long
        if is_refusal:
            bound = max(1.0, min(bound, self.in_flight) * _SHRINK)
        return replace(
            figures,
            success=figures.success.after(0.0),
            first_token_ms=first_token_ms,
            most_in_flight=bound,
        )

    def released(self, began_ms: int, now_ms: int, *, has_first_token: bool) -> "Figures":
        """An attempt is over and tells nothing: cancelled, lost a race, a bad request."""
        figures = self.at(now_ms)
        if not has_first_token:
            figures = _waited(figures, began_ms)
        return replace(figures, in_flight=max(0, figures.in_flight - 1))


def _waited(figures: Figures, began_ms: int) -> Figures:
    """Without one that waited since then."""
    rest = max(0, figures.waiting - 1)
    since_sum_ms = figures.waiting_since_sum_ms - began_ms if rest else 0
    return replace(figures, waiting=rest, waiting_since_sum_ms=since_sum_ms)


UNKNOWN = Figures()
"""Of a member that was never tried."""

MOST_MODELS = 256
"""Of one account whose figures are kept. Under a provider's name any model may be asked for, also
such as there are not, so without a bound whoever asks would decide how much a router remembers."""


class FiguresOfModels:
    """The figures of an account's models: of those in use, and of those asked last."""

    def __init__(self) -> None:
        self._by_name: dict[str, Figures] = {}  # in the order of their last attempt's start

    def of(self, model: str) -> Figures:
        """A model's; `UNKNOWN` when it was never asked, or so many others since."""
        return self._by_name.get(model, UNKNOWN)

    def newest(self) -> Figures:
        """Those that changed last."""
        return max(self._by_name.values(), key=lambda one: one.at_ms, default=UNKNOWN)

    def start(self, model: str, now_ms: int) -> None:
        """An attempt at a model begins; those not asked for longest are forgotten for it."""
        figures = self._by_name.pop(model, UNKNOWN)
        self._by_name[model] = figures.started(now_ms)
        if (surplus := len(self._by_name) - MOST_MODELS) > 0:
            idle = [name for name, one in self._by_name.items() if not one.in_flight]
            for oldest in idle[:surplus]:
                del self._by_name[oldest]

    def put(self, model: str, figures: Figures) -> None:
        """What an attempt that runs taught."""
        self._by_name[model] = figures

    def __len__(self) -> int:
        """How many models are known."""
        return len(self._by_name)
