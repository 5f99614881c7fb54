"""What tokens cost, by the price list of `genai-prices`."""

from functools import lru_cache

import genai_prices

from atlas.contracts.inference import Cost, Usage

_FREE = frozenset({"mock", "ollama"})
"""Dialects that run on one's own machine."""


def price_of(kind: str, model: str, usage: Usage) -> Cost:
    """The price of an attempt's tokens; `complete` is false when the model has no known price."""
    if kind in _FREE:
        return Cost()
    usd = _usd(
        kind,
        model,
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_input_tokens,
        usage.cache_write_tokens,
    )
    return Cost(complete=False) if usd is None else Cost(total_usd=usd)


def usd_per_mtok(kind: str, model: str) -> tuple[float, float] | None:
    """Input and output price of a million tokens, or None where unknown."""
    if kind in _FREE:
        return 0.0, 0.0
    million = 1_000_000
    into, out = _usd(kind, model, million, 0, 0, 0), _usd(kind, model, 0, million, 0, 0)
    return None if into is None or out is None else (into, out)


@lru_cache(maxsize=1024)
def _usd(  # noqa: PLR0917 - a cache key
    kind: str, model: str, input_: int, output: int, cached: int, written: int
) -> float | None:
    usage = genai_prices.Usage(
        input_tokens=input_,
        output_tokens=output,
        cache_read_tokens=cached or None,
        cache_write_tokens=written or None,
    )
    try:
        return float(genai_prices.calc_price(usage, model, provider_id=kind).total_price)
    except LookupError:
        return None
