"""`atlas config check`: every problem at once, or what is in effect."""

from atlas.cli.output import Output
from atlas.cli.session import DONE, configured
from atlas.contracts.errors import ConfigurationError
from atlas.credentials import credentials
from atlas.settings import (
    Settings,
    api_key,
    config_path,
    foreign_variables,
    has_real_provider,
    origin,
    secrets_of,
    unserved_models,
)
from atlas.wire import without_secrets


async def check(*, as_json: bool) -> int:
    """Read the configuration; show it without secrets.

    Raises:
        ConfigurationError: Names every problem.
    """
    settings = configured()
    problems = [
        *_provider_problems(settings),
        *_server_problems(settings),
        *_file_problems(settings),
        *unserved_models(settings),
    ]
    if problems:
        raise ConfigurationError("\n".join(problems), details={"problems": len(problems)})
    Output(as_json=as_json).show(_summary(settings), _as_text(settings))
    return DONE


def _provider_problems(settings: Settings) -> list[str]:
    problems = []
    for name, provider in settings.providers.items():
        try:
            key = api_key(provider)
        except ConfigurationError as error:
            problems.append(f"{origin().place(('providers', name))}: {error.message}")
            continue
        if provider.api_key_env and key is None:
            where = origin().place(("providers", name, "api_key_env"))
            problems.append(
                f"{where}: {provider.api_key_env} is not set; set it, or remove the provider"
            )
    return problems


def _server_problems(settings: Settings) -> list[str]:
    problems = []
    for name, server in settings.worker.mcp.items():
        try:
            secrets_of(server)
        except ConfigurationError as error:
            problems.append(f"{origin().place(('worker', 'mcp', name))}: {error.message}")
    return problems


def _file_problems(settings: Settings) -> list[str]:
    """What is wrong with the files that say who we are on NATS."""
    try:
        credentials(settings.nats)
    except ConfigurationError as error:
        return [error.message]
    return []


def _summary(settings: Settings) -> dict[str, object]:
    shown = settings.model_dump(mode="json", exclude={"providers", "nats"})
    shown["config_file"] = str(config_path()) if config_path().is_file() else None
    shown["ignored_variables"] = foreign_variables()
    shown["nats"] = {
        **settings.nats.model_dump(mode="json"),
        "url": without_secrets(settings.nats.url),
    }
    shown["providers"] = {
        name: provider.model_dump(mode="json", exclude_defaults=True)
        for name, provider in settings.providers.items()
    }
    return shown


def _as_text(settings: Settings) -> str:
    file = config_path()
    lines = [
        f"file       {file}" if file.is_file() else f"file       none ({file} is not there)",
        f"nats       {without_secrets(settings.nats.url)}",
        f"tenant     {settings.tenant}",
    ]
    for name, provider in settings.providers.items():
        key = "with a key" if api_key(provider) is not None else "without a key"
        where = f" at {provider.base_url}" if provider.base_url else ""
        lines.append(f"provider   {name}: {provider.kind}{where}, {key}")
    for name, group in settings.groups.items():
        members = ", ".join(
            one.model if one.weight is None else f"{one.model} ({one.weight:g})"
            for one in group.members
        )
        late = f", hedged after {group.hedge_after_ms:,} ms" if group.hedge_after_ms else ""
        lines.append(f"group      {name}: {group.strategy} of {members}{late}")
    for name, one in settings.worker.specialisations.items():
        tools = f", with {', '.join(one.tools)}" if one.tools else ""
        lines.append(f"capability {name}{tools}")
    lines += [f"tool       {name}: {place}" for name, place in settings.worker.tools.items()]
    for name, server in settings.worker.mcp.items():
        where = f"started as {server.command}" if server.command else f"at {server.url}"
        lines.append(f"server     {name}: MCP, {where}")
    if not has_real_provider(settings):
        lines.append("           only the mock answers: no vendor's key or host is set")
    lines += [f"ignored    {name}: no setting of this program" for name in foreign_variables()]
    return "\n".join([*lines, "the configuration is valid"])
