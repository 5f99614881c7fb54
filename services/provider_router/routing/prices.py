"""What tokens cost: by the configuration, else by the price list of `genai-prices`."""

import contextlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import genai_prices
from genai_prices.data_snapshot import get_snapshot

from atlas.contracts.inference import Cost, Usage
from atlas.provider_settings import PriceSettings

_FREE = frozenset({"mock", "ollama"})
"""Dialects that run on one's own machine."""
_MTOK = 1_000_000
_SAMPLE = 1_000
"""Tokens by which a list price is shown: few, for some models cost more in a long context."""


@dataclass(frozen=True, slots=True)
class Pricing:
    """How the tokens of one model at one provider are paid."""

    kind: str
    model: str
    base_url: str | None = None
    """Tells the price list which vendor it is, where the dialect does not."""
    set_by_file: PriceSettings | Literal["free"] | None = None

    def cost(self, usage: Usage) -> Cost:
        """The price of these tokens; `complete` is false when the model has no known price."""
        usd = self._usd(usage)
        return Cost(complete=False) if usd is None else Cost(total_usd=usd)

    def usd_per_mtok(self) -> tuple[float, float] | None:
        """Input and output price of a million tokens, or None where unknown."""
        into = self._usd(Usage(input_tokens=_SAMPLE))
        out = self._usd(Usage(output_tokens=_SAMPLE))
        if into is None or out is None:
            return None
        return round(into * _MTOK / _SAMPLE, 6), round(out * _MTOK / _SAMPLE, 6)

    def _usd(self, usage: Usage) -> float | None:
        if isinstance(self.set_by_file, PriceSettings):
            return _by_file(self.set_by_file, usage)
        if self.set_by_file == "free" or self.kind in _FREE:
            return 0.0
        return _by_list(
            self.kind,
            self.base_url,
            self.model,
            usage.input_tokens,
            usage.output_tokens,
            usage.cached_input_tokens,
            usage.cache_write_tokens,
        )


def load_list() -> None:
    """Load the price list, which takes a third of a second, before a stream needs it."""
    get_snapshot()


def _by_file(price: PriceSettings, usage: Usage) -> float:
    cached = usage.cached_input_tokens
    cached_price = price.cached_input_usd_per_mtok
    if cached_price is None:
        cached_price = price.input_usd_per_mtok
    usd = (
        (usage.input_tokens - cached) * price.input_usd_per_mtok
        + cached * cached_price
        + usage.output_tokens * price.output_usd_per_mtok
    )
    return max(usd, 0.0) / _MTOK


@lru_cache(maxsize=1024)
def _by_list(  # noqa: PLR0917 - a cache key
    kind: str,
    base_url: str | None,
    model: str,
    input_: int,
    output: int,
    cached: int,
    written: int,
) -> float | None:
    usage = genai_prices.Usage(
        input_tokens=input_,
        output_tokens=output,
        cache_read_tokens=cached or None,
        cache_write_tokens=written or None,
    )
    if base_url is not None:
        with contextlib.suppress(LookupError):
            return float(
                genai_prices.calc_price(usage, model, provider_api_url=base_url).total_price
            )
    try:  # a proxy of the vendor's own is not in the list; its models are
        return float(genai_prices.calc_price(usage, model, provider_id=kind).total_price)
    except LookupError:
        return None
