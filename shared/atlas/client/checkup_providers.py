"""Whether providers can be asked: their circuits, probes, groups and keys, for `atlas doctor`."""

from collections.abc import Collection

from atlas import subjects
from atlas.bus import Bus
from atlas.client.finding import Finding, ok, problem, warning
from atlas.contracts.catalogue import GroupInfo, ProviderInfo, ProvidersReply, ProvidersRequest
from atlas.contracts.errors import AtlasError, ConfigurationError, ProviderAuthError
from atlas.settings import VENDOR_KEYS, Settings, api_key, has_real_provider, unserved_models

_ANSWER_S = 1.0


async def routing(bus: Bus, settings: Settings) -> list[Finding]:
    """Circuits and groups as a router sees them; without one, groups as they are configured."""
    unserved = [problem("models", told) for told in unserved_models(settings)]
    door = subjects.api(settings.tenant, "providers")
    try:
        reply = await bus.request(door, ProvidersRequest(), ProvidersReply, timeout_s=_ANSWER_S)
    except AtlasError:  # that no router answers is told above
        groups = [
            ok(f"group {name}", f"{group.strategy} of {len(group.members)} models")
            for name, group in settings.groups.items()
        ]
        return unserved or groups
    circuits = [found for one in reply.providers if (found := _circuit(one)) is not None]
    probes = [found for one in reply.providers if (found := _probe(one)) is not None]
    away = {one.provider for one in reply.providers if one.circuit == "open"}
    return [*unserved, *circuits, *probes, *(_group(one, away) for one in reply.groups)]


def _circuit(one: ProviderInfo) -> Finding | None:
    check = f"circuit of {one.provider}"
    why = f" after {one.last_error}" if one.last_error else ""
    if one.circuit == "closed":
        return None
    if one.circuit == "open" and one.open_until_ms is None:
        return problem(check, f"open{why}: {_key_refused(one)}")
    message = f"{one.circuit.replace('_', '-')}{why}; others are asked until a probe succeeds"
    return warning(check, message)


def _probe(one: ProviderInfo) -> Finding | None:
    """What a router's probe of a provider found wrong, where no circuit tells it."""
    if one.probe_error is None or one.circuit != "closed":
        return None
    if one.probe_error == ProviderAuthError.code:
        return problem(f"probe of {one.provider}", f"failed: {_key_refused(one)}")
    message = f"failed: {one.probe_error}; check its base_url and the way to it from the router"
    return warning(f"probe of {one.provider}", message)


def _key_refused(one: ProviderInfo) -> str:
    return (
        f"its key was refused; correct the key that providers.{one.provider} names by api_key_env "
        "or api_key_file: a changed file counts within seconds, a changed variable after a restart "
        "of the routers"
    )


def _group(one: GroupInfo, away: Collection[str]) -> Finding:
    """Whether a group can answer, with the circuits as they are."""
    check = f"group {one.group}"
    out = [member for member in one.members if member.partition("/")[0] in away]
    said = f"{one.strategy} of {len(one.members)} models"
    if not out:
        return ok(check, said)
    message = f"{said}; behind open circuits: {', '.join(out)}"
    return problem(check, message) if len(out) == len(one.members) else warning(check, message)


def providers(settings: Settings) -> list[Finding]:
    """Whether each provider that is configured here has its key, and whether there is any."""
    findings = []
    for name, provider in settings.providers.items():
        check = f"provider {name}"
        try:
            key = api_key(provider)
        except ConfigurationError as error:
            findings.append(problem(check, error.message))
            continue
        if provider.api_key_env and key is None:
            message = f"{provider.api_key_env} is not set; set it, or remove the provider"
            findings.append(problem(check, message))
        elif key is None and provider.base_url is None and provider.kind in VENDOR_KEYS:
            variable = VENDOR_KEYS[provider.kind]
            message = (
                f"{provider.kind} asks for a key, and none is named; give its variable "
                f"(`api_key_env: {variable}`) or its file (`api_key_file`), or remove the provider"
            )
            findings.append(problem(check, message))
        elif provider.kind != "mock":
            where = provider.base_url or "the vendor's own address"
            has = "with a key" if key is not None else "without a key"
            message = f"{provider.kind} at {where}, {has}"
            findings.append(ok(check, message))
    if not has_real_provider(settings):
        message = (
            "only the mock answers; set ANTHROPIC_API_KEY, OPENAI_API_KEY or OLLAMA_HOST for the "
            "router"
        )
        findings.append(warning("providers", message))
    return findings
