"""Which models are tried, and what a name or a wish that nobody meets is answered."""

import pytest

from atlas.contracts.catalogue import ModelInfo, Strategy
from atlas.contracts.errors import ConfigurationError, InvalidRequestError, NotFoundError
from atlas.contracts.inference import Level, Message, ModelCapability, ModelRequest
from atlas.provider_settings import GroupSettings, LimitSettings, ProviderSettings
from atlas.settings import RouterSettings
from provider_router.routing.board import Board
from provider_router.routing.catalogue import Catalogue
from provider_router.routing.choosing import Chooser
from provider_router.routing.provider_accounts import AccountConfig

PROVIDERS = {
    "anthropic": ProviderSettings(kind="anthropic"),
    "openai": ProviderSettings(kind="openai"),
    "mock": ProviderSettings(kind="mock", models=["standard"]),
}


def chosen(
    providers: dict[str, ProviderSettings], default: str | None = None, **fields: object
) -> list[str]:
    """The models that are tried, in their order, by a configuration's order alone."""
    request = ModelRequest.model_validate(
        {"messages": [{"role": "user", "content": "Hello"}], **fields}
    )
    router = RouterSettings(default_model=default, strategy=Strategy.FAILOVER)
    catalogue = Catalogue(providers, {}, router)
    board = Board({name: AccountConfig("", LimitSettings()) for name in providers})
    plan = Chooser(board).plan(catalogue.choice(request))
    return [one.full_name for one in plan.candidates]


def test_an_unknown_model_is_told_with_the_nearest_known_one():
    with pytest.raises(NotFoundError, match="did you mean 'claude-sonnet-4-5'") as refusal:
        chosen(PROVIDERS, model="claude-sonet-4-5")
    assert (refusal.value.details or {})["nearest"] == "claude-sonnet-4-5"


def test_an_unknown_provider_is_told_with_those_that_there_are():
    with pytest.raises(NotFoundError, match="providers: anthropic, openai, mock"):
        chosen(PROVIDERS, model="acme/x")


@pytest.mark.parametrize(
    ("name", "said"),
    [("zzz", "model 'zzz'. Configured"), ("gpt5", "did you mean 'gpt-5'? Configured")],
)
def test_what_is_said_of_an_unknown_model_is_whole_sentences(name: str, said: str):
    with pytest.raises(NotFoundError) as refusal:
        chosen(PROVIDERS, model=name)
    assert said in refusal.value.message


def test_under_a_provider_an_unknown_name_is_passed_through():
    assert chosen(PROVIDERS, model="openai/next-year") == ["openai/next-year"]


def test_a_name_of_the_catalogue_finds_its_provider():
    assert chosen(PROVIDERS, model="gpt-4o") == ["openai/gpt-4o"]


def test_a_request_that_names_nothing_gets_the_first_model_of_each_real_provider_first():
    assert chosen(PROVIDERS)[:2] == ["anthropic/claude-sonnet-4-5", "openai/gpt-5"]
    assert not [name for name in chosen(PROVIDERS) if name.startswith("mock/")]


def test_the_default_model_comes_first():
    assert chosen(PROVIDERS, "openai/gpt-4o")[:2] == [
        "openai/gpt-4o",
        "anthropic/claude-sonnet-4-5",
    ]


OLLAMA = {"ollama": ProviderSettings(kind="ollama"), "mock": PROVIDERS["mock"]}


def test_a_default_model_that_no_list_names_is_in_the_catalogue():
    assert [
        one.model
        for one in Catalogue(OLLAMA, {}, RouterSettings(default_model="ollama/llama3.2")).models()
    ] == [
        "mock/standard",
        "ollama/llama3.2",
    ]


def test_the_mock_is_no_fallback_of_a_default_model_that_no_list_names():
    assert chosen(OLLAMA, "ollama/llama3.2") == ["ollama/llama3.2"]


def test_the_mock_meets_no_requirements_beside_a_default_model_that_no_list_names():
    wanted = {"capabilities": {"reasoning": "moderate"}}
    assert chosen(OLLAMA, "ollama/llama3.2", requirements=wanted) == ["ollama/llama3.2"]


def test_the_mock_answers_where_there_is_nothing_else():
    assert chosen({"mock": PROVIDERS["mock"]}) == ["mock/standard"]


def test_requirements_are_met_by_models_that_have_every_level():
    wanted = {"capabilities": {"premium": "strong"}}
    assert chosen(PROVIDERS, requirements=wanted) == ["anthropic/claude-opus-4-5"]


def test_requirements_that_nobody_meets_are_told_with_what_the_nearest_lacks():
    wanted = {"capabilities": {"premium": "strong", "inexpensive": "strong"}}
    with pytest.raises(
        InvalidRequestError, match=r"nearest, anthropic/claude-opus-4-5, lacks inexpensive strong"
    ):
        chosen(PROVIDERS, requirements=wanted)


def test_a_default_that_does_not_exist_is_refused_at_start():
    with pytest.raises(NotFoundError, match="did you mean 'openai/gpt-5'"):
        Catalogue(PROVIDERS, {}, RouterSettings(default_model="opnai/gpt-5"))


def test_no_model_at_all_is_a_matter_of_configuration():
    with pytest.raises(ConfigurationError, match="no model to answer"):
        chosen({"local": ProviderSettings(kind="ollama")})


def test_a_group_with_the_name_of_a_well_known_model_is_refused_at_start():
    group = GroupSettings.model_validate({"members": ["openai/gpt-5"]})
    with pytest.raises(ConfigurationError, match=r"groups\.gpt-5: openai/gpt-5 may be named"):
        Catalogue(PROVIDERS, {"gpt-5": group})


def test_a_group_with_a_member_of_an_unknown_provider_is_refused_at_start():
    group = GroupSettings.model_validate({"members": ["openia/gpt-5"]})
    with pytest.raises(NotFoundError, match="did you mean 'openai/gpt-5'"):
        Catalogue(PROVIDERS, {"team": group})


def test_a_group_may_have_the_name_of_a_model_that_nobody_offers():
    group = GroupSettings.model_validate({"members": ["mock/standard"]})
    (shown,) = Catalogue({"mock": PROVIDERS["mock"]}, {"gpt-5": group}).groups()
    assert shown.members == ["mock/standard"]


def known(models: list[object], **settings: object) -> dict[str, ModelInfo]:
    """What the catalogue tells of one provider's models."""
    provider = {"kind": "openai", "models": models, **settings}
    catalogue = Catalogue({"acme": ProviderSettings.model_validate(provider)})
    return {one.model: one for one in catalogue.models()}


def test_what_the_file_declares_of_a_model_goes_before_what_is_known_of_it():
    price = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
    declared = {"name": "gpt-4o", "capabilities": {"code": "exceptional"}, "price": price}
    told = known([{**declared, "context_tokens": 32_000}])["acme/gpt-4o"]
    assert told.capabilities[ModelCapability.CODE] is Level.EXCEPTIONAL
    assert told.capabilities[ModelCapability.VISION] is Level.STRONG  # known, and not declared
    assert told.context_tokens == 32_000
    assert (told.input_usd_per_mtok, told.output_usd_per_mtok) == (1, 2)


def test_a_model_that_nobody_knows_is_moderate_in_what_is_not_declared_and_sees_nothing():
    told = known([{"name": "own", "capabilities": {"math": "none"}}])["acme/own"]
    assert told.capabilities[ModelCapability.MATH] is Level.NONE
    assert told.capabilities[ModelCapability.CODE] is Level.MODERATE
    assert ModelCapability.VISION not in told.capabilities
    assert told.context_tokens is None


def test_the_well_known_models_of_a_vendor_are_not_offered_at_another_address():
    assert "acme/gpt-5" in known([])
    assert known([], base_url="http://acme/v1") == {}


def test_a_vendors_own_name_offers_its_well_known_models_also_through_a_proxy():
    proxied = ProviderSettings(kind="openai", base_url="http://proxy/v1")
    models = Catalogue({"openai": proxied}).models()
    assert "openai/gpt-5" in [one.model for one in models]


def test_a_provider_that_lists_models_offers_those_alone():
    assert list(known(["own"])) == ["acme/own"]


def test_embedding_models_are_not_asked_for_text():
    assert list(known(["own", "text-embedding-3-small"])) == ["acme/own"]


def test_members_of_groups_are_in_the_catalogue_also_where_no_list_names_them():
    group = GroupSettings.model_validate({"members": ["ollama/llama3.2"]})
    catalogue = Catalogue(OLLAMA, {"local": group})
    assert "ollama/llama3.2" in [one.model for one in catalogue.models()]
    assert catalogue.choice(_hello(model="local")).group == "local"


def test_a_group_that_is_the_default_answers_what_names_nothing():
    group = GroupSettings.model_validate({"members": ["mock/standard"], "strategy": "latency"})
    catalogue = Catalogue(PROVIDERS, {"team": group}, RouterSettings(default_model="team"))
    choice = catalogue.choice(_hello())
    assert (choice.group, choice.strategy) == ("team", Strategy.LATENCY)


def test_a_member_that_is_not_able_falls_out_of_its_group_with_the_reason():
    seeing = {"name": "seeing", "capabilities": {"vision": "strong"}}
    providers = {"acme": ProviderSettings.model_validate({"kind": "openai", "models": [seeing]})}
    group = GroupSettings.model_validate({"members": ["acme/blind", "acme/seeing"]})
    image = {"type": "image", "url": "https://example.com/a.png"}
    request = ModelRequest.model_validate(
        {"messages": [{"role": "user", "content": [image]}], "model": "team"}
    )
    choice = Catalogue(providers, {"team": group}).choice(request)
    assert [one.full_name for one in choice.able] == ["acme/seeing"]
    ((unfit, lacks),) = choice.unfit
    assert (unfit.full_name, lacks) == ("acme/blind", ["vision basic (has none)"])


def _team(**asked: object) -> list[str]:
    """Who may answer of a group with a model that sees, one that codes, and one that does both."""
    named = {"seeing": {"vision": "strong"}, "coding": {"code": "strong"},
             "both": {"vision": "basic", "code": "strong"}}  # fmt: skip
    models = [{"name": name, "capabilities": levels} for name, levels in named.items()]
    providers = {"acme": ProviderSettings.model_validate({"kind": "openai", "models": models})}
    group = GroupSettings.model_validate({"members": [f"acme/{name}" for name in named]})
    choice = Catalogue(providers, {"team": group}).choice(_hello(**asked))
    return [one.name for one in choice.able]


@pytest.mark.parametrize(
    ("capabilities", "able"),
    [
        ({}, ["seeing", "coding", "both"]),
        ({"vision": "basic"}, ["seeing", "both"]),
        ({"vision": "basic", "code": "strong"}, ["both"]),
    ],
)
def test_requirements_narrow_a_group_that_is_named(capabilities: object, able: list[str]):
    assert _team(model="team", requirements={"capabilities": capabilities}) == able


def test_requirements_that_no_member_of_a_group_meets_are_told_with_what_the_nearest_lacks():
    wanted = {"capabilities": {"vision": "strong", "code": "strong"}}
    with pytest.raises(
        InvalidRequestError,
        match=r"no member of group 'team' meets them; the nearest, acme/seeing, lacks code strong",
    ) as refused:
        _team(model="team", requirements=wanted)
    unfit = (refused.value.details or {})["unfit"]
    assert isinstance(unfit, list)
    assert len(unfit) == 3


def test_one_model_that_is_named_is_held_to_what_is_required_of_it():
    wanted = {"capabilities": {"vision": "strong"}}
    assert _team(model="acme/seeing", requirements=wanted) == ["seeing"]
    for name in ("acme/coding", "coding", "acme/unheard-of"):
        with pytest.raises(InvalidRequestError, match=r"lacks vision strong \(has none\)"):
            _team(model=name, requirements=wanted)


def test_one_model_that_is_named_without_requirements_is_asked_whatever_is_known_of_it():
    image = {"type": "image", "url": "https://example.com/a.png"}
    request = _hello(model="acme/unheard-of").model_copy(
        update={"messages": [Message.model_validate({"role": "user", "content": [image]})]}
    )
    providers = {"acme": ProviderSettings.model_validate({"kind": "openai"})}
    assert [one.name for one in Catalogue(providers).choice(request).able] == ["unheard-of"]


def _hello(**fields: object) -> ModelRequest:
    return ModelRequest.model_validate(
        {"messages": [{"role": "user", "content": "Hello"}], **fields}
    )
