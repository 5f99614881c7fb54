"""What is wrong with declared providers, models, prices and groups is told where it stands."""

import os
from pathlib import Path

import pytest

from atlas.contracts.errors import ConfigurationError
from atlas.provider_settings import GroupSettings, PriceSettings
from atlas.settings import Settings, load_settings, unserved_models

OURS = ("ATLAS_", "NATS_", "OPENAI_", "ANTHROPIC_", "OLLAMA_")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of ours, and a folder without a configuration file."""
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def _loaded(text: str) -> Settings:
    Path("atlas.yaml").write_text(text)
    return load_settings()


def _problem(text: str) -> str:
    """The one line that a configuration with one mistake is refused with."""
    with pytest.raises(ConfigurationError) as refusal:
        _loaded(text)
    (line,) = refusal.value.message.splitlines()
    return line.removeprefix("atlas.yaml: ")


def _model(said: str) -> str:
    return f"providers: {{acme: {{kind: openai, models: [{{name: m, {said}}}]}}}}"


def _group(said: str, name: str = "team") -> str:
    return f"groups: {{{name}: {{{said}}}}}"


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("members: []", "groups.team: a group without members; name at least one model"),
        ("strategy: random", "groups.team.members: is missing; set it"),
        ("members: mock/fast", "groups.team.members: give a list, such as [a, b], not 'mock/fast'"),
        ("members: [mock/fast, mock/fast]", "groups.team: mock/fast is a member twice"),
        (
            "strategy: weighted, members: [mock/fast]",
            "groups.team: member mock/fast has no weight; the strategy `weighted` needs it",
        ),
        (
            "strategy: latency, members: [{model: mock/fast, weight: 2}]",
            "groups.team: member mock/fast has a weight, which only the strategy `weighted` reads",
        ),
        (
            "strategy: latency, members: [mock/fast], cost_weight: 1",
            "groups.team: cost_weight is read by the strategy `adaptive` only",
        ),
        (
            "strategy: adaptive, members: [mock/fast], cost_weight: -1",
            "groups.team.cost_weight: give a number from 0 on, not -1",
        ),
        (
            "strategy: weighted, members: [{model: mock/fast, weight: 0}]",
            "groups.team.members.0.weight: give a number above 0, not 0",
        ),
        (
            "strategy: weighted, members: [{model: mock/fast, weight: .inf}]",
            "groups.team.members.0.weight: give a finite number",
        ),
        (
            "members: [mokc/fast]",
            "groups.team.members.0: there is no provider 'mokc'; did you mean 'mock/fast'?",
        ),
        (
            "members: [fast]",
            "groups.team.members.0.model: 'fast' names no provider; a member is a model of a",
        ),
        ("members: [mock/]", "groups.team.members.0: 'mock/' names no model"),
        (
            "members: [mock/fast], hedge_after_ms: 0",
            "groups.team.hedge_after_ms: give a number above 0, not 0",
        ),
    ],
)
def test_a_group_that_cannot_answer_as_it_says_is_refused(said: str, problem: str) -> None:
    assert _problem(_group(said)).startswith(problem)


def test_a_misspelt_strategy_is_refused_with_the_nearest_of_the_nine() -> None:
    problem = _problem(_group("strategy: round-robbin, members: [mock/fast]"))
    assert problem.startswith("groups.team.strategy: give 'failover'")
    assert problem.endswith("not 'round-robbin'; did you mean 'round_robin'?")


def test_a_member_of_a_vendor_without_a_key_is_a_problem_only_where_the_router_runs() -> None:
    settings = _loaded(_group("members: [mock/fast, openai/gpt-5]"))
    (problem,) = unserved_models(settings)
    assert problem.startswith("atlas.yaml: groups.team.members.1: 'openai/gpt-5' is served by")
    assert "set OPENAI_API_KEY" in problem


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (
            "openai/team",
            "groups.openai/team: 'openai/team' cannot name a group: a slash parts a provider from",
        ),
        ("'my team'", "groups.my team: 'my team' cannot name a group; give 1 to 64 of"),
        ("''", "groups.: '' cannot name a group"),
    ],
)
def test_a_group_whose_name_is_none_is_refused_with_the_reason(name: str, problem: str) -> None:
    assert _problem(_group("members: [mock/fast]", name)).startswith(problem)


def test_a_group_with_the_name_of_a_declared_model_is_refused() -> None:
    text = _model("price: free") + "\n" + _group("members: [acme/m]", "m")
    assert _problem(text) == (
        "groups.m: provider acme has a model of that name too, so it would mean two things; "
        "give the group another name"
    )


@pytest.mark.parametrize("name", ["acme.eu", "acme/eu", "'acme eu'", "a" * 65, "äcme"])
def test_a_provider_whose_name_cannot_be_a_key_is_refused(name: str) -> None:
    problem = _problem(f"providers: {{{name}: {{kind: mock}}}}")
    assert problem.endswith(
        "cannot name a provider; give 1 to 64 of the characters A-Z a-z 0-9 _ -"
    )


def test_a_strategy_without_a_place_for_its_weights_is_refused_with_the_place() -> None:
    assert "only the members of a group have" in _problem("router: {strategy: weighted}")


@pytest.mark.parametrize(
    ("price", "problem"),
    [
        ("{input_usd_per_mtok: 0, output_usd_per_mtok: 0}", ": a price of nothing; write `price:"),
        ("0", ": give `free`, or input_usd_per_mtok and output_usd_per_mtok"),
        ("fre", ": give `free`, or input_usd_per_mtok and output_usd_per_mtok"),
        (
            "{input_usd_per_mtok: -3, output_usd_per_mtok: 15}",
            ".input_usd_per_mtok: give a number from 0 on, not -3",
        ),
        (
            "{input_usd_per_mtok: 3, output_usd_per_mtok: .inf}",
            ".output_usd_per_mtok: give a finite number, not inf",
        ),
        ("{input_usd_per_mtok: 3}", ".output_usd_per_mtok: is missing; set it"),
        (
            "{input_usd_per_mtok: 3, output_usd_per_mtok: 15, cached_usd_per_mtok: 1}",
            ".cached_usd_per_mtok: unknown setting; did you mean 'cached_input_usd_per_mtok'?",
        ),
    ],
)
def test_a_price_that_is_none_is_refused_once_and_where_it_stands(price: str, problem: str) -> None:
    said = _problem(_model(f"price: {price}"))
    assert said.startswith(f"providers.acme.models.0.price{problem}")


@pytest.mark.parametrize(
    ("price", "read"),
    [
        ("free", "free"),
        (
            "{input_usd_per_mtok: 0, output_usd_per_mtok: 15}",
            PriceSettings(input_usd_per_mtok=0, output_usd_per_mtok=15),
        ),
    ],
)
def test_a_price_is_free_or_in_dollars(price: str, read: object) -> None:
    assert _loaded(_model(f"price: {price}")).providers["acme"].models[0].price == read


def test_a_misspelt_capability_is_refused_with_the_nearest_and_not_with_all_of_them() -> None:
    assert _problem(_model("capabilities: {cod: strong}")) == (
        "providers.acme.models.0.capabilities.cod: there is no 'cod'; did you mean 'code'?"
    )


def test_a_misspelt_level_is_refused_with_the_nearest() -> None:
    problem = _problem(_model("capabilities: {code: stong}"))
    assert problem.startswith("providers.acme.models.0.capabilities.code: give 'none'")
    assert problem.endswith("did you mean 'strong'?")


def test_a_model_that_is_declared_twice_is_refused() -> None:
    problem = _problem("providers: {acme: {kind: openai, models: [m, {name: m}]}}")
    assert problem == "providers.acme.models: 'm' stands there twice; name it once"


def test_members_may_be_names_alone() -> None:
    group = _loaded(_group("members: [mock/fast, mock/standard]")).groups["team"]
    assert group == GroupSettings.model_validate({"members": ["mock/fast", "mock/standard"]})


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("true", True),
        ("false", False),
        ("{continue_final_message: true}", {"continue_final_message": True}),
    ],
)
def test_a_provider_takes_begun_answers_or_not_or_with_fields_of_its_own(
    said: str, read: object
) -> None:
    loaded = _loaded(f"providers: {{house: {{kind: mock, prefill: {said}}}}}")
    assert loaded.providers["house"].prefill == read


def test_a_prefill_that_is_none_is_refused_once() -> None:
    problem = _problem("providers: {house: {kind: mock, prefill: sometimes}}")
    assert problem.count("prefill") == 1
    assert "give true, false, or the fields to send with a begun answer" in problem
