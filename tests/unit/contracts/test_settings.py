"""Settings: environment over file over defaults, and every problem named at once."""

import os
from pathlib import Path

import pytest

from atlas.contracts.errors import ConfigurationError
from atlas.settings import (
    api_key,
    foreign_variables,
    has_real_provider,
    load_settings,
    unserved_models,
)

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
    return _refusal()


def _refusal() -> str:
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


@pytest.mark.parametrize(
    "given", ["max_tokens: 0", "max_tokens: -1", "max_usd: 0", "max_usd: .inf"]
)
def test_a_budget_of_nothing_or_of_everything_is_refused_where_it_stands(given: str) -> None:
    said = _problems(f"budgets: {{tenants: {{acme: {{day: {{{given}}}}}}}}}")
    assert f"budgets.tenants.acme.day.{given.partition(':')[0]}" in said
    assert "leave it out for no limit" in said


def test_a_budget_that_limits_nothing_is_refused() -> None:
    assert "limits nothing" in _problems("budgets: {tenants: {'*': {month: {}}}}")


def test_a_budget_of_what_is_no_tenant_is_refused() -> None:
    said = _problems("budgets: {tenants: {'a b': {day: {max_tokens: 5}}}}")
    assert "'a b' is no tenant" in said


@pytest.mark.parametrize(
    ("given", "meant"), [("mnth: {max_usd: 5}", "month"), ("day: {max_token: 5}", "max_tokens")]
)
def test_a_misspelt_budget_is_refused_with_the_nearest_known_name(given: str, meant: str) -> None:
    said = _problems(f"budgets: {{tenants: {{acme: {{{given}}}}}}}")
    assert f"did you mean {meant!r}?" in said


def test_a_tenant_without_a_budget_of_its_own_has_that_of_every_tenant() -> None:
    _file("budgets: {tenants: {'*': {day: {max_usd: 1}}, acme: {month: {max_usd: 9.5}}}}")
    budgets = load_settings().budgets
    acme, other = budgets.of("acme"), budgets.of("globex")
    assert acme is not None
    assert other is not None
    assert (acme.day, acme.month and acme.month.max_usd) == (None, 9.5)
    assert (other.day and other.day.max_usd, other.month) == (1, None)


def test_a_tenant_nobody_limits_has_no_budget() -> None:
    assert load_settings().budgets.of("acme") is None


@pytest.mark.parametrize("where", ["tenant", "router.max_streams", "providers.mine.kind"])
def test_every_problem_is_named_at_once(where: str) -> None:
    assert where in _problems(
        "tenant: 'a b'\nrouter: {max_streams: 0}\nproviders: {mine: {kind: telepathy}}"
    )


def test_a_problem_says_which_file_it_stands_in() -> None:
    assert _problems("router: {max_streams: 0}").startswith("atlas.yaml: router.max_streams: ")


def test_a_problem_says_which_variable_it_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    _file("router: {max_streams: 3}")
    monkeypatch.setenv("ATLAS_ROUTER__MAX_STREAMS", "0")
    assert _refusal() == "ATLAS_ROUTER__MAX_STREAMS: give a number above 0, not '0'"


def test_a_problem_of_a_section_in_one_variable_says_both_places_it_may_stand_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _file("router: {max_streams: 3}")
    monkeypatch.setenv("ATLAS_ROUTER", '{"max_streams": 0}')
    assert _refusal().startswith("atlas.yaml or ATLAS_ROUTER: router.max_streams: ")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ATLAS_TENNANT", "ATLAS_TENANT"),
        ("ATLAS_LOGLEVEL", "ATLAS_LOG_LEVEL"),
        ("ATLAS_CONFG", "ATLAS_CONFIG"),
        ("ATLAS_NATS_URL", "ATLAS_NATS__URL"),
        ("ATLAS_ROUTER_MAX_STREAMS", "ATLAS_ROUTER__MAX_STREAMS"),
        ("ATLAS_ROUTER__MAX_STREEMS", "ATLAS_ROUTER__MAX_STREAMS"),
        ("ATLAS_DEFAULT_MODEL", "ATLAS_ROUTER__DEFAULT_MODEL"),
        ("ATLAS_PROVIDERS__GROQ__KNID", "ATLAS_PROVIDERS__GROQ__KIND"),
        ("ATLAS_PROVIDER__GROQ__KIND", "ATLAS_PROVIDERS__GROQ__KIND"),
        ("ATLAS_PROVIDERS__GROQ__MOCK__SEAD", "ATLAS_PROVIDERS__GROQ__MOCK__SEED"),
        ("ATLAS_TENANT__X", "ATLAS_TENANT"),
        ("ATLAS_PROVIDER", "ATLAS_PROVIDERS"),
    ],
)
def test_a_misspelt_variable_is_refused_once_with_the_nearest_known_name(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv(name, "1")
    assert _refusal().count(f"{name}:") == 1
    assert f"{name}: unknown setting; did you mean {meant}?" in _refusal()


def test_a_variable_of_a_section_that_resembles_nothing_is_refused_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ATLAS_ROUTER__ZZZ", "1")
    assert _refusal() == "ATLAS_ROUTER__ZZZ: unknown setting; remove it"


def test_misspelt_variables_stand_in_one_list_with_other_problems(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ATLAS_TENNANT", "acme")
    assert len(_problems("router: {max_streams: 0}\ntenant: a b").splitlines()) == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ATLAS_CONFIG", ""),
        ("atlas_tenant", "acme"),
        ("ATLAS_ROUTER", '{"max_streams": 7}'),
        ("ATLAS_PROVIDERS", '{"groq": {"kind": "openai"}}'),
        ("ATLAS_PROVIDERS__MOCK__KIND", "mock"),
        ("ATLAS_CONTROLLER__PLANNER_REQUIREMENTS__TASK_TYPE", "code_generation"),
    ],
)
def test_every_variable_that_is_a_setting_is_known(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert load_settings()
    assert foreign_variables() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ATLAS_ROUTER_SERVICE_HOST", "10.0.0.1"),
        ("ATLAS_ROUTER_PORT", "tcp://10.0.0.1:80"),
        ("ATLAS_NATS_SERVICE_PORT_CLIENT", "4222"),
        ("ATLAS_NATS_PORT_4222_TCP_ADDR", "10.0.0.1"),
    ],
)
def test_what_kubernetes_sets_for_a_service_of_our_name_is_no_misspelt_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert load_settings()
    assert foreign_variables() == []


def test_a_variable_of_another_program_called_atlas_is_told_and_not_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ATLAS_PUBLIC_KEY", "x")
    assert load_settings()
    assert foreign_variables() == ["ATLAS_PUBLIC_KEY"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tenannt: acme", "tenannt: unknown setting; did you mean 'tenant'?"),
        ("tenant: a b", "tenant: give 1 to 64 of the characters A-Z a-z 0-9 _ -, not 'a b'"),
        ("tenant: 3", "tenant: give a text, in quotes, not 3"),
        ("log_level: INFO", "not 'INFO'; did you mean 'info'?"),
        ("router: {max_streams: many}", "router.max_streams: give a whole number, not 'many'"),
        ("router: {max_attempts: 0}", "router.max_attempts: give a number from 1 on, not 0"),
        ("topology: {replicas: 9}", "topology.replicas: give a number up to 5, not 9"),
        ("topology: {replay_hours: x}", "topology.replay_hours: give a number, not 'x'"),
        ("worker: {capabilities: code}", "give a list, such as [a, b], not 'code'"),
        ("router:", "router: give `name: value` pairs, or remove it"),
        ("providers: {x: {}}", "providers.x.kind: is missing; set it"),
        ("providers: {x: {kind: opnai}}", "'ollama' or 'mock', not 'opnai'; did you mean 'openai'"),
        (
            "providers: {x: {kind: openai, base_url: 'box:80'}}",
            "x.base_url: give a URL that begins with http:// or https://, not 'box:80'",
        ),
        ("- tenant", "atlas.yaml: holds no settings; write each as `name: value`"),
        ("1: 2", "atlas.yaml: 1: unknown setting; remove it"),
    ],
)
def test_a_problem_says_what_to_write(text: str, said: str) -> None:
    assert said in _problems(text)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ATLAS_WORKER__CAPABILITIES", "a,b", 'give a JSON list, such as ["a", "b"], not \'a,b\''),
        ("ATLAS_PROVIDERS__X__MODELS", "a", 'give a JSON list, such as ["a", "b"], not \'a\''),
        ("ATLAS_ROUTER", "a", "give a JSON object, such as {\"name\": 1}, not 'a'"),
    ],
)
def test_a_variable_that_must_be_json_and_is_not_is_refused_with_an_example(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    assert f"{name}: {said}" in _refusal()


def test_a_vendors_address_that_is_none_is_refused_under_the_vendors_own_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("OPENAI_BASE_URL", "proxy")
    assert _refusal().startswith("OPENAI_BASE_URL: give a URL")


def test_a_file_that_is_no_yaml_is_refused_with_the_place() -> None:
    (line,) = _problems("tenant: acme\nrouter: [").splitlines()
    assert "atlas.yaml: not YAML: " in line
    assert "line 2" in line


def test_a_file_that_cannot_be_read_is_refused_as_such() -> None:
    Path("atlas.yaml").mkdir()
    assert _refusal() == "atlas.yaml: Is a directory; give a readable file"


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
    key = api_key(load_settings().providers["openai"])
    assert key is not None
    assert key.get_secret_value() == "secret"


def test_a_key_is_read_from_the_file_that_the_settings_name() -> None:
    Path("key").write_text("secret\n")
    _file("providers: {mine: {kind: openai, api_key_file: key}}")
    key = api_key(load_settings().providers["mine"])
    assert key is not None
    assert key.get_secret_value() == "secret"


def test_a_key_file_that_is_gone_is_named() -> None:
    _file("providers: {mine: {kind: openai, api_key_file: gone}}")
    with pytest.raises(ConfigurationError, match="api_key_file gone"):
        api_key(load_settings().providers["mine"])


def test_a_key_from_two_places_is_refused() -> None:
    said = _problems("providers: {mine: {kind: openai, api_key_file: a, api_key_env: B}}")
    assert "not both" in said


def test_settings_do_not_show_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "hush-hush")
    assert "hush-hush" not in repr(load_settings())


@pytest.mark.parametrize(
    "name",
    [
        "mock/fast",
        "groq/anything",
        "gpt-5",
        "no-such-name-but-that-is-for-the-router-to-know",
        "meta-llama/llama-4",
    ],
)
def test_a_default_model_of_a_configured_provider_or_without_one_is_taken(name: str) -> None:
    _file(
        f"router: {{default_model: {name}}}\n"
        "providers: {groq: {kind: openai, models: [meta-llama/llama-4]}}"
    )
    assert unserved_models(load_settings()) == []


def test_a_default_model_of_a_provider_that_there_is_not_is_refused_with_the_nearest() -> None:
    said = _problems("router: {default_model: grok/llama}\nproviders: {groq: {kind: openai}}")
    assert said == (
        "atlas.yaml: router.default_model: there is no provider 'grok'; did you mean 'groq/llama'?"
    )


def test_a_default_model_of_a_provider_that_resembles_none_is_refused_with_those_there_are() -> (
    None
):
    said = _problems("router: {default_model: acme/x}")
    assert "there is no provider 'acme'; declare it under providers, or name a model of" in said


def test_a_default_model_that_names_only_a_provider_is_refused() -> None:
    assert "'mock/' names no model" in _problems("router: {default_model: mock/}")


def test_a_default_model_in_a_variable_is_refused_under_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ATLAS_ROUTER__DEFAULT_MODEL", "mokc/fast")
    assert _refusal() == (
        "ATLAS_ROUTER__DEFAULT_MODEL: there is no provider 'mokc'; did you mean 'mock/fast'?"
    )


def test_a_wrong_default_model_stands_in_one_list_with_other_problems() -> None:
    said = _problems("router: {default_model: acme/x, max_streams: 0}\nproviders: {x: {}}")
    assert [line.split(": ")[1] for line in said.splitlines()] == [
        "router.default_model",
        "router.max_streams",
        "providers.x.kind",
    ]


def test_a_default_model_of_a_vendor_without_a_key_is_a_problem_only_where_the_router_runs() -> (
    None
):
    _file("router: {default_model: anthropic/claude-sonnet-4-5}")
    (problem,) = unserved_models(load_settings())
    assert problem == (
        "atlas.yaml: router.default_model: 'anthropic/claude-sonnet-4-5' is served by anthropic, "
        "which is not configured; set ANTHROPIC_API_KEY, or name a model of mock"
    )


def test_a_default_model_of_a_vendor_with_a_key_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    _file("router: {default_model: anthropic/claude-sonnet-4-5}")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    assert unserved_models(load_settings()) == []
