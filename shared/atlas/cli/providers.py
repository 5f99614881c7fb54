"""`atlas providers`: providers, groups, models and budgets, as one router sees them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from atlas.cli import spending
from atlas.cli.figures import clock
from atlas.cli.output import Output
from atlas.cli.session import DONE, connected
from atlas.cli.survey import tell_of_the_mock
from atlas.contracts.catalogue import GroupInfo, ModelInfo, ProviderInfo, ProvidersReply
from atlas.contracts.inference import Level

if TYPE_CHECKING:
    from rich.table import Table

_HEALTH_STYLES = {"healthy": "green", "degraded": "yellow", "unhealthy": "red"}


async def show(*, as_json: bool) -> int:
    """Show what a router offers, and how it fares."""
    output = Output(as_json=as_json)
    async with connected() as atlas:
        reply = await atlas.providers()
    if as_json:
        output.record(reply)
    elif output.is_terminal:
        _draw(reply, output)
    else:
        for line in lines(reply):
            output.line(line)
    spending.tell_if_unknown(reply, output)
    tell_of_the_mock(reply, output)
    return DONE


def lines(reply: ProvidersReply) -> list[str]:
    """A line for each provider, group, model, budget and what was used today."""
    return [
        *map(_provider, reply.providers),
        *map(_group, reply.groups),
        *map(_model, reply.models),
        *spending.lines(reply),
    ]


def circuit_in_words(one: ProviderInfo) -> str:
    """The state of a provider's circuit, and when it changes."""
    if one.circuit != "open":
        return one.circuit.replace("_", "-")
    if one.open_until_ms is None:
        return "open until its configuration changes"
    return f"open until {clock(one.open_until_ms)}"


def _provider(one: ProviderInfo) -> str:
    said = [f"{one.provider} ({one.kind}) {one.health}", f"circuit {circuit_in_words(one)}"]
    if one.in_flight:
        said.append(f"{one.in_flight} in flight")
    if one.attempts:
        said.append(f"{one.failures:,} of {one.attempts:,} attempts failed")
    if one.success_rate is not None:
        said.append(f"success {_success(one)} lately")
    if one.time_to_first_token_ms is not None:
        said.append(f"first token {_first_token(one)}")
    if one.probed_at_ms is not None:
        said.append(f"probe {_probe(one)}")
    return ", ".join(said) + (f": {one.last_error}" if one.last_error else "")


def _group(one: GroupInfo) -> str:
    return f"group {one.group}: {one.strategy} of {', '.join(one.members)}"


def _model(one: ModelInfo) -> str:
    return f"{one.model} {_context(one)} {_price(one)}"


def _success(one: ProviderInfo) -> str:
    return "" if one.success_rate is None else f"{100 * one.success_rate:.0f} %"


def _first_token(one: ProviderInfo) -> str:
    return "" if one.time_to_first_token_ms is None else f"{one.time_to_first_token_ms:,.0f} ms"


def _probe(one: ProviderInfo) -> str:
    """When it was probed last, and what was wrong."""
    if one.probed_at_ms is None:
        return ""
    return f"{one.probe_error or 'well'} at {clock(one.probed_at_ms)}"


def _context(one: ModelInfo) -> str:
    return f"{one.context_tokens:,}" if one.context_tokens else "?"


def _price(one: ModelInfo) -> str:
    if one.input_usd_per_mtok is None or one.output_usd_per_mtok is None:
        return "?"
    return f"${one.input_usd_per_mtok:g} / ${one.output_usd_per_mtok:g}"


def _draw(reply: ProvidersReply, output: Output) -> None:
    tables = [_providers_table(reply.providers)]
    if reply.groups:
        tables.append(_groups_table(reply.groups, reply.providers))
    tables.append(_models_table(reply))
    for table in tables:
        output.console.print(table)
        output.console.print()
    spending.draw(reply, output)
    output.console.print(f"default: {reply.default_model}", style="dim")


def _providers_table(providers: Sequence[ProviderInfo]) -> "Table":
    from rich.text import Text  # noqa: PLC0415 - only where somebody looks

    table = _table("provider", "kind", "health", "circuit")
    for title in ("in flight", "attempts", "failed", "success", "first token"):
        table.add_column(title, justify="right")
    table.add_column("probe")
    table.add_column("last error")
    for one in providers:
        table.add_row(
            one.provider,
            one.kind,
            Text(one.health, style=_HEALTH_STYLES.get(one.health, "dim")),
            Text(circuit_in_words(one), style="" if one.circuit == "closed" else "yellow"),
            f"{one.in_flight:,}",
            f"{one.attempts:,}",
            f"{one.failures:,}",
            _success(one),
            _first_token(one),
            Text(_probe(one), style="red" if one.probe_error else "dim"),
            one.last_error or "",
        )
    return table


def _groups_table(groups: Sequence[GroupInfo], providers: Sequence[ProviderInfo]) -> "Table":
    """The groups; a member behind an open circuit is struck out."""
    from rich.text import Text  # noqa: PLC0415 - only where somebody looks

    away = {one.provider for one in providers if one.circuit == "open"}
    table = _table("group", "strategy", "members")
    for one in groups:
        members = [
            Text(member, style="strike dim" if member.partition("/")[0] in away else "")
            for member in one.members
        ]
        table.add_row(one.group, one.strategy, Text(", ").join(members))
    return table


def _models_table(reply: ProvidersReply) -> "Table":
    from rich.text import Text  # noqa: PLC0415 - only where somebody looks

    table = _table("model", "context", "in / out per million tokens")
    table.add_column("strong in", no_wrap=True, overflow="ellipsis")
    for one in reply.models:
        strong = [
            name for name, level in one.capabilities.items() if level.rank >= Level.STRONG.rank
        ]
        is_default = one.model == reply.default_model
        name = Text(one.model, style="bold" if is_default else "")
        table.add_row(name, _context(one), _price(one), ", ".join(strong))
    return table


def _table(*titles: str) -> "Table":
    from rich.table import Table  # noqa: PLC0415 - only where somebody looks

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title in titles:
        table.add_column(title)
    return table
