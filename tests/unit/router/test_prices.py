"""What tokens cost: the file first, then who is free, then the price list by vendor."""

import pytest

from atlas.contracts.inference import Cost, Usage
from atlas.provider_settings import PriceSettings
from provider_router.routing.prices import Pricing

USAGE = Usage(input_tokens=1_000_000, output_tokens=1_000_000, cached_input_tokens=400_000)
FILE = PriceSettings(input_usd_per_mtok=2, output_usd_per_mtok=10)
CACHED = FILE.model_copy(update={"cached_input_usd_per_mtok": 0.5})
GROQ = "https://api.groq.com/openai/v1"


def test_the_price_of_the_file_goes_before_the_list():
    assert Pricing("openai", "gpt-4o", set_by_file=FILE).usd_per_mtok() == (2, 10)


def test_cached_input_costs_as_other_input_unless_the_file_says_more():
    assert Pricing("openai", "m", set_by_file=FILE).cost(USAGE) == Cost(total_usd=12)


def test_cached_input_costs_what_the_file_says():
    assert Pricing("openai", "m", set_by_file=CACHED).cost(USAGE) == Cost(total_usd=11.4)


def test_what_the_file_calls_free_costs_nothing_and_that_is_known():
    assert Pricing("openai", "gpt-4o", set_by_file="free").cost(USAGE) == Cost(total_usd=0)


@pytest.mark.parametrize("kind", ["ollama", "mock"])
def test_what_runs_on_ones_own_machine_is_free(kind: str):
    assert Pricing(kind, "any").usd_per_mtok() == (0, 0)


def test_the_price_of_the_file_goes_before_being_free():
    assert Pricing("ollama", "any", set_by_file=FILE).usd_per_mtok() == (2, 10)


def test_a_model_of_the_list_has_its_price():
    price = Pricing("anthropic", "claude-sonnet-4-5").usd_per_mtok()
    assert price == (3, 15)


def test_cached_input_of_the_list_is_cheaper():
    full = Usage(input_tokens=100_000)
    cached = full.model_copy(update={"cached_input_tokens": 90_000})
    pricing = Pricing("anthropic", "claude-sonnet-4-5")
    assert pricing.cost(cached).total_usd < 0.25 * pricing.cost(full).total_usd


def test_a_compatible_endpoint_has_the_prices_of_the_vendor_at_its_address():
    assert Pricing("openai", "llama-3.3-70b-versatile").usd_per_mtok() is None
    price = Pricing("openai", "llama-3.3-70b-versatile", GROQ).usd_per_mtok()
    assert price is not None
    assert 0 < price[0] < price[1] < 2


def test_a_proxy_of_ones_own_has_the_prices_of_its_dialects_vendor():
    direct = Pricing("openai", "gpt-4o").usd_per_mtok()
    assert Pricing("openai", "gpt-4o", "http://proxy.local/v1").usd_per_mtok() == direct


def test_a_price_that_nobody_knows_makes_the_cost_incomplete():
    assert Pricing("openai", "home-made").usd_per_mtok() is None
    assert Pricing("openai", "home-made").cost(USAGE) == Cost(total_usd=0, complete=False)
