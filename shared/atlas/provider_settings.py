"""How providers, models and groups are declared. Part of `settings`, which reads them."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from atlas.contracts.base import JsonObject, PositiveMs
from atlas.contracts.catalogue import Strategy
from atlas.contracts.ids import ID_PATTERN
from atlas.contracts.inference import Level, ModelCapability


def is_http(url: str) -> bool:
    """Whether it is a URL that a provider may have."""
    return url.startswith(("http://", "https://"))


def http_url(value: str) -> str:
    """The URL, when it is one.

    Raises:
        ValueError: It is none; says what to write.
    """
    if not is_http(value):
        raise ValueError(f"give a URL that begins with http:// or https://, not {value!r}")
    return value


def _provider_name(name: str) -> str:
    """Names become keys in NATS and stand before the slash of a model's name."""
    if not re.fullmatch(ID_PATTERN, name):
        raise ValueError(
            f"{name!r} cannot name a provider; give 1 to 64 of the characters A-Z a-z 0-9 _ -"
        )
    return name


def _group_name(name: str) -> str:
    if "/" in name:
        raise ValueError(
            f"{name!r} cannot name a group: a slash parts a provider from its model, so it would "
            f"be read as a model; write {name.replace('/', '-')!r}"
        )
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
        raise ValueError(
            f"{name!r} cannot name a group; give 1 to 64 of the characters A-Z a-z 0-9 _ . -"
        )
    return name


def _member_name(name: str) -> str:
    if "/" not in name:
        raise ValueError(
            f"{name!r} names no provider; a member is a model of a provider, as `provider/name`"
        )
    return name


def _repeated(names: list[str]) -> str | None:
    """The first name that stands there twice."""
    return next((name for name in names if names.count(name) > 1), None)


type ProviderName = Annotated[str, AfterValidator(_provider_name)]
type GroupName = Annotated[str, AfterValidator(_group_name)]
type _UsdPerMtok = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A part of the settings: frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PriceSettings(Section):
    """What a model's tokens cost, in US dollars per million."""

    input_usd_per_mtok: _UsdPerMtok
    output_usd_per_mtok: _UsdPerMtok
    cached_input_usd_per_mtok: _UsdPerMtok | None = Field(
        default=None, description="What was read from the provider's cache; else as other input."
    )

    @model_validator(mode="after")
    def _is_a_price(self) -> Self:
        if not self.input_usd_per_mtok and not self.output_usd_per_mtok:
            raise ValueError("a price of nothing; write `price: free` for what costs nothing")
        return self


class ModelSettings(Section):
    """A model of a provider: what is said here goes before what is known of it."""

    name: str = Field(min_length=1, description="The provider's own name of it.")
    capabilities: dict[ModelCapability, Level] = Field(default_factory=dict)
    context_tokens: int | None = Field(default=None, gt=0)
    price: PriceSettings | Literal["free"] | None = Field(
        default=None, description="Else the price list's."
    )

    @field_validator("price", mode="before")
    @classmethod
    def _free_or_a_price(cls, value: object) -> PriceSettings | Literal["free"] | None:
        """One problem for a wrong price, where a union would tell of each of its members."""
        if value is None or isinstance(value, PriceSettings):
            return value
        if value == "free":
            return "free"
        if not isinstance(value, dict):
            raise ValueError(  # noqa: TRY004 - pydantic turns ValueError into its own error
                "give `free`, or input_usd_per_mtok and output_usd_per_mtok, in US dollars per "
                "million tokens"
            )
        return PriceSettings.model_validate(value)


class LimitSettings(Section):
    """What an account may be asked; what its answers tell of its limits counts besides."""

    max_concurrency: int | None = Field(
        default=None, gt=0, description="Attempts at a time, per router."
    )
    requests_per_minute: int | None = Field(default=None, gt=0, description="Per router.")
    tokens_per_minute: int | None = Field(default=None, gt=0, description="Per router.")


class FaultSettings(Section):
    """Faults that the mock provider injects; for tests of one's own system."""

    status: int | None = Field(default=None, ge=400, le=599, description="Refuse with a status.")
    retry_after_ms: PositiveMs | None = None
    stall_after_chunks: int | None = Field(default=None, ge=0, description="Then fall silent.")
    break_after_chunks: int | None = Field(default=None, ge=0, description="Then cut the line.")
    overload_after_chunks: int | None = Field(
        default=None, ge=0, description="Then tell an overload inside the stream."
    )
    times: int | None = Field(
        default=None, ge=1, description="Only the first so many calls fail; None: all."
    )


class MockSettings(Section):
    """How the mock provider behaves."""

    seed: int = 0
    first_token_ms: int = Field(default=120, ge=0)
    token_ms: int = Field(default=12, ge=0, description="Mean time between chunks.")
    tokens: int = Field(default=120, gt=0, description="Mean length of an answer.")
    tool_rounds: int = Field(
        default=1, ge=0, description="Answers that call tools, where they are offered; then text."
    )
    tool_calls: int = Field(default=1, ge=1, description="In each of these, of different tools.")
    fault: FaultSettings = FaultSettings()


class ProviderSettings(Section):
    """One account of one provider."""

    kind: Literal["anthropic", "openai", "ollama", "mock"] = Field(
        description="The dialect; `openai` speaks to every compatible base URL."
    )
    base_url: Annotated[str, AfterValidator(http_url)] | None = None
    api_key_env: str | None = Field(default=None, description="The variable that holds the key.")
    api_key_file: Path | None = Field(default=None, description="The file that holds the key.")
    api: Literal["auto", "chat", "responses"] = Field(
        default="auto", description="OpenAI only: `auto` takes Responses where the model wants it."
    )
    prefill: bool | JsonObject | None = Field(
        default=None,
        description="Whether its models go on from a begun answer (`fallback.on_failure: "
        "continue`): `true`, `false`, or the fields that a server wants for it in the body, such "
        "as vLLM's `{continue_final_message: true, add_generation_prompt: false}`. Else as its "
        "kind is known to do: `anthropic` before Claude 4.6, `ollama` and `mock`, not `openai`.",
    )
    models: list[ModelSettings] = Field(
        default_factory=list, description="Names offered by this provider, or more about each."
    )
    limits: LimitSettings = LimitSettings()
    connect_timeout_ms: PositiveMs = 5_000
    first_token_timeout_ms: PositiveMs = 120_000
    idle_timeout_ms: PositiveMs = Field(default=60_000, description="Between two reads.")
    attempt_timeout_ms: PositiveMs = Field(
        default=1_800_000, description="A whole attempt, without the time it was paused."
    )
    probe: bool = Field(
        default=True, description="Ask it now and then what costs nothing, while no request does."
    )
    probe_timeout_ms: PositiveMs = Field(
        default=5_000, description="For a probe's answer, besides connect_timeout_ms."
    )
    max_connections: int = Field(
        default=1_000, gt=0, description="Per router; so many attempts run at a time at most."
    )
    mock: MockSettings = MockSettings()

    @field_validator("prefill", mode="before")
    @classmethod
    def _is_a_flag_or_fields(cls, value: object) -> object:
        """One problem for a wrong value, where a union would tell of each of its members."""
        if value is None or isinstance(value, bool | dict):
            return value
        raise ValueError("give true, false, or the fields to send with a begun answer")

    @field_validator("models", mode="before")
    @classmethod
    def _names_are_models(cls, value: object) -> object:
        if isinstance(value, list):
            return [{"name": one} if isinstance(one, str) else one for one in value]
        return value

    @field_validator("models", mode="after")
    @classmethod
    def _each_model_once(cls, models: list[ModelSettings]) -> list[ModelSettings]:
        if twice := _repeated([one.name for one in models]):
            raise ValueError(f"{twice!r} stands there twice; name it once")
        return models

    @model_validator(mode="after")
    def _key_from_one_place(self) -> Self:
        if self.api_key_env and self.api_key_file:
            raise ValueError("give api_key_env or api_key_file, not both")
        return self


class BreakerSettings(Section):
    """When a provider's circuit opens, for how long, and what closes it."""

    failure_rate: float = Field(
        default=0.5, gt=0, le=1, description="Opens at this share of the last attempts."
    )
    cool_down_ms: PositiveMs = Field(default=5_000, description="Doubles with each failed probe.")
    longest_cool_down_ms: PositiveMs = 60_000
    probes: int = Field(default=2, ge=1, description="At a time, when the cool-down is over.")
    successes_to_close: int = Field(default=2, ge=1)


class MemberSettings(Section):
    """A model in a group."""

    model: Annotated[str, AfterValidator(_member_name)] = Field(description="`provider/name`.")
    weight: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class GroupSettings(Section):
    """Models that answer under one name, in an order that a strategy makes."""

    strategy: Strategy = Strategy.FAILOVER
    members: list[MemberSettings] = Field(description="Names, or `{model, weight}`.")
    hedge_after_ms: PositiveMs | None = Field(
        default=None, description="As in a request's `fallback`, which goes before it."
    )
    cost_weight: float | None = Field(
        default=None,
        ge=0,
        le=1_000,
        description="`adaptive` only: how much price counts against success and speed; 0 nothing, "
        "0.4 by default, 50 almost alone.",
    )

    @field_validator("members", mode="before")
    @classmethod
    def _names_are_members(cls, value: object) -> object:
        if isinstance(value, list):
            return [{"model": one} if isinstance(one, str) else one for one in value]
        return value

    @model_validator(mode="after")
    def _fits_its_strategy(self) -> Self:
        if not self.members:
            raise ValueError("a group without members; name at least one model")
        names = [member.model for member in self.members]
        if twice := _repeated(names):
            raise ValueError(f"{twice} is a member twice; name it once")
        has_weight = [member.model for member in self.members if member.weight is not None]
        if self.strategy is Strategy.WEIGHTED and len(has_weight) < len(names):
            lacking = next(name for name in names if name not in has_weight)
            raise ValueError(f"member {lacking} has no weight; the strategy `weighted` needs it")
        if self.strategy is not Strategy.WEIGHTED and has_weight:
            raise ValueError(
                f"member {has_weight[0]} has a weight, which only the strategy `weighted` reads; "
                "remove it or change the strategy"
            )
        if self.cost_weight is not None and self.strategy is not Strategy.ADAPTIVE:
            raise ValueError(
                "cost_weight is read by the strategy `adaptive` only; "
                "remove it or change the strategy"
            )
        return self
