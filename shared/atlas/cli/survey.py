"""`atlas providers` and `atlas events`: what there is and what happens."""

import json
from contextlib import aclosing

from atlas.cli.figures import clock
from atlas.cli.output import Output
from atlas.cli.session import DONE, connected
from atlas.client import Atlas
from atlas.contracts.catalogue import ModelInfo, ProviderInfo, ProvidersReply
from atlas.contracts.errors import NoResponderError, RequestTimeoutError
from atlas.contracts.events import Event

ONLY_MOCK = "no ANTHROPIC_API_KEY / OPENAI_API_KEY / OLLAMA_HOST: the mock provider answers"
NO_REAL_MODEL = (
    "no provider but the mock has a model, so it answers: name one, such as "
    "ATLAS_ROUTER__DEFAULT_MODEL=ollama/llama3.2 for the router"
)
NO_ROUTER = "no router answers yet: the work is kept and begins when one runs (`atlas up`)"

_HEARTBEATS = {"service.health", "service.metrics"}
_HEALTH_STYLES = {"healthy": "green", "degraded": "yellow", "unhealthy": "red"}


async def tell_who_answers(atlas: Atlas, output: Output) -> None:
    """Say on stderr when only the mock answers, or nobody yet."""
    try:
        reply = await atlas.providers()
    except (NoResponderError, RequestTimeoutError):
        output.note(NO_ROUTER)
        return
    _tell_of_the_mock(reply, output)


def _tell_of_the_mock(reply: ProvidersReply, output: Output) -> None:
    mocks = {one.provider for one in reply.providers if one.kind == "mock"}
    if len(mocks) == len(reply.providers):
        output.note(ONLY_MOCK)
    elif all(one.provider in mocks for one in reply.models):
        output.note(NO_REAL_MODEL)


async def providers(*, as_json: bool) -> int:
    """Show what a router offers."""
    output = Output(as_json=as_json)
    async with connected() as atlas:
        reply = await atlas.providers()
    if as_json:
        output.record(reply)
    elif output.is_terminal:
        _draw(reply, output)
    else:
        for line in (*map(_provider, reply.providers), *map(_model, reply.models)):
            output.line(line)
    _tell_of_the_mock(reply, output)
    return DONE


async def events(source: str, type_: str, *, everything: bool, as_json: bool) -> int:
    """Show what the services tell until Ctrl-C; heartbeats only when asked for."""
    output = Output(as_json=as_json)
    wants_all = everything or type_ in _HEARTBEATS
    async with connected() as atlas, aclosing(atlas.events(source, type_)) as heard:
        async for event in heard:
            if wants_all or event.type not in _HEARTBEATS:
                output.show(event, _event(event))
    return DONE


def _event(event: Event) -> str:
    data = " ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in event.data.items()
    )
    return f"{clock(event.at_ms)} {event.source} {event.type} {data}".rstrip()


def _provider(one: ProviderInfo) -> str:
    error = f": {one.last_error}" if one.last_error else ""
    return f"{one.provider} ({one.kind}) {one.health}, circuit {one.circuit}{error}"


def _model(one: ModelInfo) -> str:
    return f"{one.model} {_context(one)} {_price(one)}"


def _context(one: ModelInfo) -> str:
    return f"{one.context_tokens:,}" if one.context_tokens else "?"


def _price(one: ModelInfo) -> str:
    if one.input_usd_per_mtok is None or one.output_usd_per_mtok is None:
        return "?"
    return f"${one.input_usd_per_mtok:g} / ${one.output_usd_per_mtok:g}"


def _draw(reply: ProvidersReply, output: Output) -> None:
    from rich.table import Table  # noqa: PLC0415 - only where somebody looks
    from rich.text import Text  # noqa: PLC0415 - as above

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("provider", "kind", "health", "circuit", "attempts", "failures", "last error"):
        table.add_column(title)
    for one in reply.providers:
        table.add_row(
            one.provider,
            one.kind,
            Text(one.health, style=_HEALTH_STYLES.get(one.health, "dim")),
            one.circuit.replace("_", "-"),
            f"{one.attempts:,}",
            f"{one.failures:,}",
            one.last_error or "",
        )
    output.console.print(table)
    models = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("model", "context", "in / out per million tokens"):
        models.add_column(title)
    models.add_column("strong in", no_wrap=True, overflow="ellipsis")
    for model in reply.models:
        strong = [name for name, level in model.capabilities.items() if level.rank > 2]  # noqa: PLR2004 - above moderate
        is_default = model.model == reply.default_model
        name = Text(model.model, style="bold" if is_default else "")
        models.add_row(name, _context(model), _price(model), ", ".join(strong))
    output.console.print()
    output.console.print(models)
    output.console.print(f"default: {reply.default_model}", style="dim")
