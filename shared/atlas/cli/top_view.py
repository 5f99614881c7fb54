"""What runs now as tables of words, for a terminal or a pipe. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from atlas.cli.figures import clock, duration, money, one_line, tokens
from atlas.cli.providers import circuit_in_words
from atlas.client.overview import Overview, Providers, Queue, RunningTask
from atlas.client.roll import RunningStream, ServiceSeen
from atlas.contracts.catalogue import GroupInfo

if TYPE_CHECKING:
    from rich.console import RenderableType

_WORKER = "agent_worker"
_TEXT_WIDTH = 60
_BAR = 8
_MOST_ROWS = 40
_STYLES = {
    "silent": "red",
    "draining": "yellow",
    "unhealthy": "red",
    "degraded": "yellow",
    "open": "red",
    "half-open": "yellow",
    "paused": "yellow",
    "awaiting approval": "yellow",
}
"""Cells that begin with these words, and how they stand out."""


@dataclass(frozen=True, slots=True)
class Section:
    """One table: a title, what its columns are, its rows, and what else is to be said."""

    title: str
    columns: tuple[str, ...] = ()
    rows: Sequence[tuple[str, ...]] = ()
    note: str = ""


def sections(overview: Overview) -> list[Section]:
    """Everything that there is to tell, in the order of a screen."""
    workers = [one for one in overview.services if one.service == _WORKER]
    others = [one for one in overview.services if one.service != _WORKER]
    asked = {
        "queues": overview.queues and _queues(overview.queues),
        "providers": overview.providers and _providers(overview.providers),
        "streams": overview.streams
        and Section(
            f"streams ({overview.streams.count:,} open)",
            ("stream", "model", "since"),
            [_stream(one, overview.at_ms) for one in reversed(overview.streams.shown)],
        ),
        "tasks": overview.tasks
        and Section(
            f"tasks ({overview.tasks.count:,} open)",
            ("task", "state", "done", "tokens", "cost", "since", "goal"),
            [_task(one, overview.at_ms) for one in reversed(overview.tasks.shown)],
        ),
    }
    told = [
        Section(
            "services",
            ("service", "instance", "state", "load", "so far", "up"),
            [_service(one) for one in others],
            "" if others else "none was heard of; start them with `atlas up`",
        ),
        Section(
            "workers",
            ("worker", "state", "load", "so far", "up", "can"),
            [_worker(one) for one in workers],
            "" if workers else "none was heard of; start one with `atlas-agent-worker`",
        ),
    ]
    for title, section in asked.items():
        told.append(section or Section(title, note=overview.unanswered.get(title, "none")))
        if title == "providers" and overview.providers and overview.providers.groups:
            told.append(_groups(overview.providers))
    return told


def as_text(overview: Overview) -> str:
    """Plain text, for a pipe."""
    lines = [f"at {clock(overview.at_ms)}"]
    for section in sections(overview):
        lines += ["", section.title]
        if section.rows:
            lines += _aligned([section.columns, *section.rows])
        if section.note:
            lines.append(f"  {section.note}")
    return "\n".join(lines)


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()


def draw(overview: Overview, height: int) -> "RenderableType":
    """The same for a terminal, cut to its height: each table gets the same number of rows."""
    from rich.console import Group  # noqa: PLC0415 - only where somebody looks
    from rich.text import Text  # noqa: PLC0415 - as above

    told = sections(overview)
    most = max(takewhile(lambda n: _height(told, n) <= height, range(1, _MOST_ROWS)), default=1)
    parts: list[RenderableType] = [Text(f"atlas top  {clock(overview.at_ms)}  Ctrl-C ends it")]
    for section in told:
        parts.append(Text(section.title, style="bold"))
        if section.rows:
            parts.append(_table(section, most))
        if hidden := len(section.rows[most:]):
            parts.append(Text(f"  … and {hidden} more", style="dim"))
        if section.note:
            silent = section.title in overview.unanswered
            parts.append(Text(f"  {section.note}", style="red" if silent else "dim"))
    return Group(*parts)


def _height(told: Iterable[Section], most: int) -> int:
    """Lines of the screen when each table has so many rows."""
    return 1 + sum(
        1
        + (1 + min(len(one.rows), most) if one.rows else 0)
        + (len(one.rows) > most)
        + bool(one.note)
        for one in told
    )


def _table(section: Section, most: int) -> "RenderableType":
    from rich.table import Table  # noqa: PLC0415 - only where somebody looks
    from rich.text import Text  # noqa: PLC0415 - as above

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("")
    for title in section.columns:
        table.add_column(title, no_wrap=True, overflow="ellipsis")
    for row in section.rows[:most]:
        table.add_row("", *(Text(cell, style=_style(cell)) for cell in row))
    return table


def _style(cell: str) -> str:
    return next((style for word, style in _STYLES.items() if cell.startswith(word)), "")


def _service(one: ServiceSeen) -> tuple[str, ...]:
    loads = {"streams": "streams", "open_tasks": "open tasks"}
    load = [f"{what} {n:,}" for name, what in loads.items() if (n := one.count(name)) is not None]
    problem = " with an old configuration" if "configuration_problem" in one.health else ""
    return (
        one.service.replace("_", " "),
        one.instance,
        one.state + problem,
        ", ".join(load),
        _so_far(one),
        _up(one),
    )


def _worker(one: ServiceSeen) -> tuple[str, ...]:
    can, load = one.health.get("capabilities"), one.health.get("load")
    busy = load if isinstance(load, Mapping) else {}
    named = ", ".join(_busy(str(name), busy) for name in can) if isinstance(can, list) else ""
    return one.instance, one.state, _load(one), _so_far(one), _up(one), one_line(named, _TEXT_WIDTH)


def _busy(capability: str, load: Mapping[str, object]) -> str:
    """A capability, and how many subtasks run that need it."""
    running = load.get(capability)
    return f"{capability} ({running:,})" if isinstance(running, int) else capability


def _load(one: ServiceSeen) -> str:
    running, bound = one.count("running") or 0, one.count("concurrency") or 0
    full = round(_BAR * min(running / bound, 1)) if bound else 0
    return f"{'█' * full}{'░' * (_BAR - full)} {running:,}/{bound:,}"


def _so_far(one: ServiceSeen) -> str:
    """What ended there, or what it decided, since it started."""
    metrics = one.metrics or {}
    ended = metrics.get("streams") or metrics.get("subtasks")
    if isinstance(ended, Mapping):
        return ", ".join(f"{number:,} {how}" for how, number in ended.items() if number)
    decisions = metrics.get("decisions")
    return f"{decisions:,} decisions" if isinstance(decisions, int) else ""


def _up(one: ServiceSeen) -> str:
    uptime_ms = (one.metrics or {}).get("uptime_ms")
    return duration(uptime_ms / 1000) if isinstance(uptime_ms, int) else ""


def _queues(queues: list[Queue]) -> Section:
    """Those in which something is; of the others their number."""
    busy = [one for one in queues if one.waiting or one.in_progress]
    rows = [
        (
            one.consumer,
            one.stream,
            f"{one.waiting:,}",
            f"{one.in_progress:,}",
            f"{one.delivered_again:,}",
        )
        for one in busy
    ]
    idle = len(queues) - len(busy)
    columns = ("consumer", "stream", "waiting", "in progress", "delivered again")
    return Section("queues", columns, rows, f"{idle} empty" if idle else "")


def _providers(told: Providers) -> Section:
    rows = [
        (
            one.provider,
            one.health,
            circuit_in_words(one),
            f"{one.in_flight:,}",
            f"{told.models.get(one.provider, 0):,}",
            "" if one.success_rate is None else f"{100 * one.success_rate:.0f} %",
            "" if one.time_to_first_token_ms is None else f"{one.time_to_first_token_ms:,.0f} ms",
            one_line(one.last_error or one.probe_error or "", _TEXT_WIDTH),
        )
        for one in told.providers
    ]
    return Section(
        "providers",
        (
            *("provider", "health", "circuit", "in flight"),
            *("models", "success", "first token", "last error"),
        ),
        rows,
        f"as router {told.router} sees them",
    )


def _groups(told: Providers) -> Section:
    """Groups, and which of their members can be asked now."""
    away = {one.provider for one in told.providers if one.circuit == "open"}
    rows = [_group(one, away) for one in told.groups]
    return Section("groups", ("group", "strategy", "candidates", "away"), rows)


def _group(one: GroupInfo, away: set[str]) -> tuple[str, ...]:
    out = [member for member in one.members if member.partition("/")[0] in away]
    able = [member for member in one.members if member not in out]
    return one.group, one.strategy, ", ".join(able), ", ".join(out)


def _stream(one: RunningStream, at_ms: int) -> tuple[str, ...]:
    return one.stream_id, one.model or "", _since(one.started_at_ms, at_ms)


def _task(one: RunningTask, at_ms: int) -> tuple[str, ...]:
    return (
        one.task_id,
        one.state.replace("_", " "),
        f"{one.subtasks_done:,}/{one.subtasks:,}",
        tokens(one.usage),
        money(one.cost),
        _since(one.accepted_at_ms, at_ms),
        one_line(one.goal, _TEXT_WIDTH),
    )


def _since(began_ms: int | None, at_ms: int) -> str:
    return "" if began_ms is None else duration(max(at_ms - began_ms, 0) / 1000)
