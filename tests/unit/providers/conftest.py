"""A key in the environment, and adapters that are closed again."""

import pytest

from provider_router.providers.registry import make_adapter

from .collected import KEY, settings


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("ACME_KEY", KEY)


@pytest.fixture
async def adapters():
    """Makes adapters, and closes them."""
    made = []

    def make(kind, url, **fields):
        adapter = make_adapter("acme", settings(kind, url, api_key_env="ACME_KEY", **fields))
        made.append(adapter)
        return adapter

    yield make
    for adapter in made:
        await adapter.close()
