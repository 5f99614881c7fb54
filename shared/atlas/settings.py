"""All settings; besides that of telemetry the only module that reads the environment.

`ATLAS_*` variables (nested with `__`) over `atlas.yaml` (`ATLAS_CONFIG` names another file) over
defaults; besides them the names everyone knows: `NATS_URL`, `NATS_CREDS`, the vendors' keys and
hosts (contract A8). `OTEL_*` is read in `telemetry/settings.py`, and by OpenTelemetry itself.
"""

import json
import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from atlas import config_file, problems
from atlas.budget_settings import BudgetSettings
from atlas.contracts.base import JsonObject, PositiveMs
from atlas.contracts.catalogue import Strategy
from atlas.contracts.errors import ConfigurationError
from atlas.limit_settings import MediaSettings, TaskLimitSettings
from atlas.nats_settings import NatsSettings
from atlas.provider_settings import (
    BreakerSettings,
    GroupName,
    GroupSettings,
    ModelSettings,
    ProviderName,
    ProviderSettings,
    Section,
    is_http,
)
from atlas.worker_settings import McpServerSettings, WorkerSettings

CONFIG_FILE = "atlas.yaml"
_SHORTEST_PROBE_IDLE_MS = 1_000


def _subject_token(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
        raise ValueError(f"give 1 to 64 of the characters A-Z a-z 0-9 _ -, not {value!r}")
    return value


_MOCK_MODELS = [ModelSettings(name="standard"), ModelSettings(name="fast")]


class MonitoringSettings(Section):
    """Where a service answers monitors: `/livez` and `/readyz` over HTTP."""

    host: str = Field(default="127.0.0.1", description="0.0.0.0 where others ask.")
    port: int | None = Field(
        default=None, ge=0, le=65_535, description="0: any that is free; not set: nobody listens."
    )


class TopologySettings(Section):
    """Sizes of the JetStream assets; every service of a deployment must say the same."""

    replicas: int = Field(default=1, ge=1, le=5)
    replay_hours: float = Field(default=24.0, gt=0, description="How long streams are replayable.")
    max_bytes: int = Field(
        default=4 * 2**30, gt=0, description="Bound of the stream history, in bytes."
    )
    task_days: float = Field(
        default=30.0,
        gt=0,
        description="How long task logs are kept; a task may be open for nine tenths of it.",
    )
    max_submissions: int = Field(
        default=100_000, gt=0, description="Submitted tasks that may wait to be accepted."
    )
    max_submission_bytes: int = Field(
        default=2**30, gt=0, description="Bound of them together, in bytes."
    )
    ack_wait_ms: PositiveMs = Field(
        default=5_000,
        description="Silence after which a request or a subtask goes to another process.",
    )


class RouterSettings(Section):
    """The provider router."""

    default_model: str | None = Field(
        default=None, description="For requests that name none: a model's or a group's name."
    )
    strategy: Strategy = Field(
        default=Strategy.TASK_AWARE,
        description="In which order models are tried for a request that names no model or group.",
    )
    max_streams: int = Field(default=1_000, gt=0, description="Running and paused, per router.")
    store_window: int = Field(
        default=2_048, ge=128, description="Events sent but not yet known to be stored, per router."
    )
    drain_ms: PositiveMs = Field(default=20_000, description="What a shutdown waits for streams.")
    max_attempts: int = Field(default=3, ge=1, le=20, description="Attempts per stream.")
    circuit: BreakerSettings = BreakerSettings()
    probe_idle_ms: int = Field(
        default=60_000,
        ge=0,
        description="A provider that had no request for about so long is probed; 0: none ever is.",
    )

    @field_validator("probe_idle_ms", mode="after")
    @classmethod
    def _is_no_hammering(cls, value: int) -> int:
        if 0 < value < _SHORTEST_PROBE_IDLE_MS:
            raise ValueError(
                f"{value} ms would ask providers all the time; give {_SHORTEST_PROBE_IDLE_MS:,} "
                "or more, or 0 for no probes"
            )
        return value

    @model_validator(mode="after")
    def _has_what_its_strategy_needs(self) -> Self:
        if self.strategy is Strategy.WEIGHTED:
            raise ValueError(
                "strategy `weighted` needs weights, which only the members of a group have; "
                "declare a group and name it as default_model"
            )
        return self


class ControllerSettings(Section):
    """The agent controller."""

    reconcile_interval_ms: PositiveMs = 1_000
    dispatch_timeout_ms: PositiveMs = Field(
        default=15_000, description="A dispatched subtask that nobody started is sent again."
    )
    subtask_max_attempts: int = Field(default=3, ge=1, le=20)
    subtask_timeout_ms: PositiveMs = 600_000
    retry_base_ms: PositiveMs = 500
    planner_requirements: JsonObject | None = None
    max_plan_nodes: int = Field(default=50, ge=1, description="In a plan made by a model.")
    max_plan_depth: int = Field(default=20, ge=1, description="Of these in a row.")
    limits: TaskLimitSettings = TaskLimitSettings()
    patterns: dict[Annotated[str, AfterValidator(_subject_token)], str] = Field(
        default_factory=dict,
        description="Patterns of one's own: name to `module:function`; the controller's Python "
        "must find the module.",
    )
    drain_ms: PositiveMs = 10_000


_VENDORS: dict[str, tuple[Literal["anthropic", "openai", "ollama"], str, str]] = {
    "anthropic": ("anthropic", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
    "openai": ("openai", "OPENAI_API_KEY", "OPENAI_BASE_URL"),
}
VENDOR_KEYS = {kind: key for kind, key, _ in _VENDORS.values()}
"""The variable that holds a key, of those kinds whose vendor asks for one."""
_KEYS = {name: key for name, (_, key, _) in _VENDORS.items()} | {"ollama": "OLLAMA_HOST"}
"""The variable that brings a vendor in."""


class Settings(BaseSettings):
    """Everything that can be set, for every service and the command line."""

    model_config = SettingsConfigDict(
        env_prefix="ATLAS_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    tenant: Annotated[str, AfterValidator(_subject_token)] = "default"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    health_interval_ms: PositiveMs = Field(
        default=1_000, description="How often services say that they are there."
    )
    parent_pid: int | None = Field(
        default=None, gt=0, description="A service ends when this is no longer its parent process."
    )
    nats: NatsSettings = NatsSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    topology: TopologySettings = TopologySettings()
    router: RouterSettings = RouterSettings()
    controller: ControllerSettings = ControllerSettings()
    worker: WorkerSettings = WorkerSettings()
    budgets: BudgetSettings = BudgetSettings()
    media: MediaSettings = MediaSettings()
    providers: dict[ProviderName, ProviderSettings] = Field(
        default_factory=dict, description="Declared providers; vendors with a key join them."
    )
    groups: dict[GroupName, GroupSettings] = Field(
        default_factory=dict, description="Models that answer under one name, by a strategy."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is the library's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is given: `load_settings` reads the sources, to name every problem at once."""
        return (init_settings,)


class _Environment(EnvSettingsSource):
    """`ATLAS_*`, as the settings take them."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: str) -> object:
        """A list or a section is JSON; what is not is refused where it stands, like any value."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except json.JSONDecodeError:
            return value


def child_environment() -> dict[str, str]:
    """The environment that services started from here inherit."""
    return dict(os.environ)


def config_path() -> Path:
    """The configuration file: `ATLAS_CONFIG`, or `atlas.yaml` here. It need not exist."""
    return Path(os.environ.get(problems.CONFIG_VARIABLE) or CONFIG_FILE)


def origin() -> problems.Origin:
    """Where the settings of this process come from, for telling where a problem stands."""
    path = config_path()
    names = frozenset(name.upper() for name in os.environ)
    return problems.Origin(path if path.is_file() else None, names)


def foreign_variables() -> list[str]:
    """Variables with our prefix that resemble no setting, such as those of another Atlas."""
    return [one.variable for one in _unknown_variables() if not one.is_ours]


def load_settings(**overrides: object) -> Settings:
    """Read file and environment.

    Raises:
        ConfigurationError: Names every problem at once, each with where it stands and a suggestion.
    """
    path = config_path()
    if os.environ.get(problems.CONFIG_VARIABLE) and not path.is_file():
        raise ConfigurationError(f"ATLAS_CONFIG names {path}, which is no file; correct the path")
    said = config_file.over(config_file.read(path), _Environment(Settings)())
    said = config_file.over(said, overrides)
    unknown = [one for one in _unknown_variables() if one.is_ours]
    found = [*map(str, unknown), *_vendor_problems()]
    found += problems.of_names(said, (*_KEYS, "mock"), origin())
    found += problems.of_tools(said, origin())
    try:
        settings = Settings(**said)  # type: ignore[arg-type]
    except ValidationError as error:
        found += problems.of_values(error, Settings, origin(), unknown)
        raise _refusal(found) from error
    if found:
        raise _refusal(found)
    return settings.model_copy(
        update={
            "nats": _nats_from_environment(settings.nats),
            "providers": {**settings.providers, **_found_providers(settings.providers)},
        }
    )


def unserved_models(settings: Settings) -> list[str]:
    """Why a router with these settings could not serve the models that they name; empty: it can.

    Stricter than `load_settings`, for where the router runs: elsewhere a vendor's key need not be
    set.
    """
    models = {
        name: [model.name for model in provider.models]
        for name, provider in settings.providers.items()
    }
    named: list[problems.Named] = [(("router", "default_model"), settings.router.default_model)]
    for name, group in settings.groups.items():
        named += [
            (("groups", name, "members", place), member.model)
            for place, member in enumerate(group.members)
        ]
    return problems.of_models(named, models, _KEYS, origin())


def api_key(provider: ProviderSettings) -> SecretStr | None:
    """A provider's key, or None when there is none to use.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    if provider.api_key_env:
        value = os.environ.get(provider.api_key_env)
        return SecretStr(value) if value else None
    if provider.api_key_file:
        try:
            return SecretStr(provider.api_key_file.read_text().strip())
        except OSError as error:
            raise ConfigurationError(
                f"api_key_file {provider.api_key_file}: {error.strerror}; "
                "give the path of a readable file"
            ) from error
    return None


def secrets_of(server: McpServerSettings) -> dict[str, str]:
    """What an MCP server gets that no stranger may read: variables, or headers.

    Raises:
        ConfigurationError: A variable that it names is not set.
    """
    plain = {**server.env, **server.headers}
    found = {name: value.get_secret_value() for name, value in plain.items()}
    for name, variable in server.secrets.items():
        value = os.environ.get(variable)
        if not value:
            raise ConfigurationError(
                f"secrets.{name}: {variable} is not set; set it, or remove the server"
            )
        found[name] = value
    return found


def has_real_provider(settings: Settings) -> bool:
    """Whether anything but the mock can answer."""
    return any(provider.kind != "mock" for provider in settings.providers.values())


def _nats_from_environment(nats: NatsSettings) -> NatsSettings:
    update: dict[str, object] = {}
    if url := os.environ.get("NATS_URL"):
        update["url"] = url
    if creds := os.environ.get("NATS_CREDS"):
        update |= {"creds": Path(creds), "nkey_seed_file": None}
    return nats.model_copy(update=update)


def _found_providers(declared: dict[str, ProviderSettings]) -> dict[str, ProviderSettings]:
    """The vendors whose key or host stands in the environment, and the mock."""
    found: dict[str, ProviderSettings] = {}
    for name, (kind, key_variable, url_variable) in _VENDORS.items():
        if name not in declared and os.environ.get(key_variable):
            found[name] = ProviderSettings(
                kind=kind,
                api_key_env=key_variable,
                base_url=os.environ.get(url_variable) or None,
            )
    if "ollama" not in declared and (host := os.environ.get("OLLAMA_HOST")):
        url = host if is_http(host) else f"http://{host}"
        found["ollama"] = ProviderSettings(kind="ollama", base_url=url)
    if "mock" not in declared:
        found["mock"] = ProviderSettings(kind="mock", models=_MOCK_MODELS)
    return found


def _vendor_problems() -> list[str]:
    """What is wrong with the vendors' own variables."""
    return [
        f"{url_variable}: give a URL that begins with http:// or https://, not {url!r}"
        for _, key_variable, url_variable in _VENDORS.values()
        if os.environ.get(key_variable)
        and (url := os.environ.get(url_variable))
        and not is_http(url)
    ]


def _unknown_variables() -> list[problems.Unknown]:
    return problems.unknown_variables(Settings, os.environ)


def _refusal(found: list[str]) -> ConfigurationError:
    return ConfigurationError("\n".join(found), details={"problems": len(found)})
