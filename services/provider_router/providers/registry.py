"""The one place that knows every kind of provider.

To add one: a module with an adapter, and a case here (and its kind in `ProviderSettings`).
"""

from atlas.provider_settings import ProviderSettings
from provider_router.providers.base import Adapter

# Imported where needed: the HTTP client takes half a second to import, and a router with nothing
# but the mock starts without it.
# ruff: noqa: PLC0415


def make_adapter(name: str, settings: ProviderSettings) -> Adapter:
    """The adapter for an account, named as the catalogue names it. Nothing is sent yet.

    Raises:
        ConfigurationError: Its key cannot be read or cannot be sent.
    """
    match settings.kind:
        case "anthropic":
            from provider_router.providers.anthropic.adapter import AnthropicAdapter

            return AnthropicAdapter(name, settings)
        case "openai":
            from provider_router.providers.openai.adapter import OpenAIAdapter

            return OpenAIAdapter(name, settings)
        case "ollama":
            from provider_router.providers.ollama.adapter import OllamaAdapter

            return OllamaAdapter(name, settings)
        case "mock":
            from provider_router.providers.mock.adapter import MockAdapter

            return MockAdapter(name, settings)
