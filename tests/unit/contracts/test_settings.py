"""Settings: environment over file over defaults, and every problem named at once."""

import os
from pathlib import Path

import pytest

from atlas.contracts.errors import ConfigurationError
from atlas.settings import has_real_provider, load_settings

OURS = ("ATLAS_", "NATS_", "OPENAI_", "ANTHROPIC_", "OLLAMA_")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of ours, and a folder without a configuration file."""
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def _file(text: str) -> None:
    Path("atlas.yaml").write_text(text)


def _problems(text: str) -> str:
    _file(text)
    with pytest.raises(ConfigurationError) as refusal:
        load_settings()
    return refusal.value.message


def test_without_file_and_environment_the_defaults_hold() -> None:
    assert load_settings().nats.url == "nats://127.0.0.1:4222"


def test_without_file_and_environment_there_is_the_mock_alone() -> None:
    assert set(load_settings().providers) == {"mock"}


def test_the_mock_is_no_real_provider() -> None:
    assert not has_real_provider(load_settings())


def test_the_file_goes_over_the_defaults() -> None:
    _file("tenant: acme")
    assert load_settings().tenant == "acme"


def test_the_environment_goes_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    _file("tenant: acme")
    monkeypatch.setenv("ATLAS_TENANT", "globex")
    assert load_settings().tenant == "globex"


def test_a_nested_setting_is_reached_with_two_underscores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATLAS_ROUTER__MAX_STREAMS", "7")
    assert load_settings().router.max_streams == 7


def test_a_nested_variable_leaves_its_neighbours_to_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _file("router: {max_attempts: 9}")
    monkeypatch.setenv("ATLAS_ROUTER__MAX_STREAMS", "7")
    assert load_settings().router.max_attempts == 9


def test_atlas_config_names_another_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("other.yaml").write_text("tenant: initech")
    monkeypatch.setenv("ATLAS_CONFIG", "other.yaml")
    assert load_settings().tenant == "initech"


def test_atlas_config_that_names_no_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATLAS_CONFIG", "gone.yaml")
    with pytest.raises(ConfigurationError, match=r"gone\.yaml, which is no file"):
        load_settings()


def test_nats_url_goes_over_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    _file("nats: {url: 'nats://file:4222'}")
    monkeypatch.setenv("NATS_URL", "nats://known:4222")
    assert load_settings().nats.url == "nats://known:4222"


def test_nats_creds_names_the_credentials_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_CREDS", "me.creds")
    assert load_settings().nats.creds == Path("me.creds")


def test_an_unknown_setting_is_refused_with_the_nearest_known_name() -> None:
    assert "tenannt" in (said := _problems("tenannt: acme"))
    assert "did you mean 'tenant'?" in said


def test_an_unknown_nested_setting_is_refused_with_the_nearest_known_name() -> None:
    assert "did you mean 'max_streams'?" in _problems("router: {max_stream: 1}")


def test_an_unknown_setting_of_a_provider_is_refused_with_the_nearest_known_name() -> None:
    said = _problems("providers: {mine: {kind: openai, base_ulr: 'http://x'}}")
    assert "did you mean 'base_url'?" in said


@pytest.mark.parametrize("where", ["tenant", "router.max_streams", "providers.mine.kind"])
def test_every_problem_is_named_at_once(where: str) -> None:
    assert where in _problems(
        "tenant: 'a b'\nrouter: {max_streams: 0}\nproviders: {mine: {kind: telepathy}}"
    )


def test_a_problem_says_which_file_it_may_stand_in() -> None:
    assert "atlas.yaml" in _problems("router: {max_streams: 0}")


def test_a_file_that_is_no_yaml_is_refused_as_such() -> None:
    assert "not YAML" in _problems("tenant: [")


@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
def test_a_vendor_with_a_key_joins_the_providers(
    monkeypatch: pytest.MonkeyPatch, vendor: str
) -> None:
    monkeypatch.setenv(f"{vendor.upper()}_API_KEY", "secret")
    assert load_settings().providers[vendor].kind == vendor


def test_a_vendor_with_a_key_is_a_real_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert has_real_provider(load_settings())


def test_a_vendor_with_an_empty_key_stays_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "")
    assert "openai" not in load_settings().providers


def test_a_vendor_is_reached_where_its_own_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://proxy/v1")
    assert load_settings().providers["openai"].base_url == "http://proxy/v1"


@pytest.mark.parametrize("host", ["box:11434", "http://box:11434"])
def test_ollama_is_reached_with_or_without_a_scheme(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", host)
    assert load_settings().providers["ollama"].base_url == "http://box:11434"


def test_a_declared_provider_is_not_replaced_by_a_found_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _file("providers: {openai: {kind: openai, base_url: 'http://mine/v1'}}")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert load_settings().providers["openai"].base_url == "http://mine/v1"


def test_a_key_is_read_from_the_variable_that_the_settings_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    key = load_settings().providers["openai"].api_key()
    assert key is not None
    assert key.get_secret_value() == "secret"


def test_a_key_is_read_from_the_file_that_the_settings_name() -> None:
    Path("key").write_text("secret\n")
    _file("providers: {mine: {kind: openai, api_key_file: key}}")
    key = load_settings().providers["mine"].api_key()
    assert key is not None
    assert key.get_secret_value() == "secret"


def test_a_key_file_that_is_gone_is_named() -> None:
    _file("providers: {mine: {kind: openai, api_key_file: gone}}")
    with pytest.raises(ConfigurationError, match="api_key_file gone"):
        load_settings().providers["mine"].api_key()


def test_a_key_from_two_places_is_refused() -> None:
    said = _problems("providers: {mine: {kind: openai, api_key_file: a, api_key_env: B}}")
    assert "not both" in said


def test_settings_do_not_show_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "hush-hush")
    assert "hush-hush" not in repr(load_settings())
