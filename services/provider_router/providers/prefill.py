"""Begun answers: what the settings of an account say of them."""

from atlas.contracts.base import JsonObject
from atlas.provider_settings import ProviderSettings
from provider_router.providers.base import ModelCall

PREFILL_IS_OFF = "the provider's settings say `prefill: false`"


def prefill_fields(call: ModelCall, settings: ProviderSettings) -> JsonObject:
    """The fields that a server wants in a body that ends with a begun answer."""
    prefill = settings.prefill
    return dict(prefill) if call.is_continued and isinstance(prefill, dict) else {}
