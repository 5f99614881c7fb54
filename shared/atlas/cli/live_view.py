"""A task on a terminal: a tree of subtasks that moves, drawn from the board."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from atlas.cli.board import Board, Row
from atlas.cli.figures import duration, money, one_line, tokens
from atlas.cli.graph import MARKS
from atlas.contracts.base import now_ms
from atlas.contracts.inference import Cost
from atlas.contracts.tasks import SubtaskState, TaskState

_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_FRAME_MS = 100
_LINES_AROUND = 6
"""What the header, the footer and the prompt take of the terminal's height."""

_COLOURS = {
    SubtaskState.WAITING: "dim",
    SubtaskState.AWAITING_APPROVAL: "yellow",
    SubtaskState.DISPATCHED: "cyan",
    SubtaskState.RETRYING: "yellow",
    SubtaskState.SUCCEEDED: "green",
    SubtaskState.FAILED: "red",
    SubtaskState.CANCELLED: "dim",
}
_STATES = {
    TaskState.COMPLETED: "green",
    TaskState.FAILED: "red",
    TaskState.CANCELLED: "dim",
    TaskState.PAUSED: "yellow",
    TaskState.AWAITING_APPROVAL: "yellow",
}
_UNDER_WAY = {SubtaskState.RUNNING, SubtaskState.RETRYING, SubtaskState.FAILED}


def draw(board: Board, width: int, height: int) -> RenderableType:
    """The board as it stands, cut to the size of the terminal."""
    now = board.ended_at_ms or now_ms()
    parts: list[RenderableType] = [_header(board, now, width)]
    rows, hidden = _fitting(list(board.rows.values()), max(height - _LINES_AROUND, 3))
    if rows:
        parts.append(_table(board, rows, now, width))
    if hidden:
        parts.append(Text(f"  … and {hidden} more", style="dim"))
    if board.changes:
        change = one_line(f"the plan was changed: {board.changes[-1]}", max(width - 4, 20))
        parts.append(Text(f"  {change}", style="dim"))
    if board.waits_for:
        parts.append(
            Text(
                f"  {board.waits_for} waits for you: atlas task approve {board.task_id}",
                style="yellow",
            )
        )
    return Group(*parts)


def _header(board: Board, now: int, width: int) -> Text:
    coming_usd = sum(map(board.coming_usd, board.rows.values()))
    cost = _money(board.cost, coming_usd)
    spent = f"{duration(board.took_ms(now) / 1000)}, {tokens(board.usage)}, {cost}"
    state = board.state.replace("_", " ")
    text = Text()
    text.append(one_line(board.goal or board.task_id, max(width - 60, 20)), style="bold")
    text.append(f"  {state}", style=_STATES.get(board.state, "cyan"))
    text.append(f"  {spent}", style="dim")
    text.truncate(width, overflow="ellipsis")
    return text


def _fitting(rows: list[Row], room: int) -> tuple[list[Row], int]:
    """Rows that fit, in the plan's order; what is under way goes before what is not."""
    if len(rows) <= room:
        return rows, 0
    first = [row for row in rows if row.state in _UNDER_WAY]
    rest = [row for row in rows if row.state not in _UNDER_WAY]
    kept = {row.subtask_id for row in (first + rest)[:room]}
    return [row for row in rows if row.subtask_id in kept], len(rows) - room


def _table(board: Board, rows: list[Row], now: int, width: int) -> Table:
    table = Table.grid(padding=(0, 1))
    depths = _depths(rows)
    names = [f"{'  ' * depths[row.subtask_id]}{row.subtask_id}" for row in rows]
    name_width = min(max(len(name) for name in names), 32)
    tail_width = max(width - name_width - 53, 16)
    table.add_column(width=3, justify="right")
    table.add_column(width=name_width, no_wrap=True)
    table.add_column(width=14, no_wrap=True)
    table.add_column(width=7, justify="right", no_wrap=True)
    table.add_column(width=11, justify="right", no_wrap=True)
    table.add_column(width=11, justify="right", no_wrap=True)
    table.add_column(width=tail_width, no_wrap=True)
    for name, row in zip(names, rows, strict=True):
        icon, style = _icon(row, now)
        table.add_row(
            Text(icon, style=style),
            Text(name, style="dim" if row.state is SubtaskState.WAITING else ""),
            Text(row.capability, style="dim"),
            Text(_took(row, now), style="dim"),
            Text(_tokens(row), style="dim"),
            Text(_money(row.cost, board.coming_usd(row)), style="dim"),
            _last(row, tail_width),
        )
    return table


def _depths(rows: list[Row]) -> dict[str, int]:
    """How far each subtask is from a beginning of the plan, at most 4 for the eye."""
    depths: dict[str, int] = {}
    for row in rows:  # a plan lists what is depended on first; what comes later counts as near
        before = [depths[one] for one in row.depends_on if one in depths]
        depths[row.subtask_id] = min(max(before) + 1, 4) if before else 0
    return depths


def _icon(row: Row, now: int) -> tuple[str, str]:
    if row.state is SubtaskState.RUNNING:
        return _SPINNER[now // _FRAME_MS % len(_SPINNER)], "cyan"
    return MARKS[row.state], _COLOURS[row.state]


def _took(row: Row, now: int) -> str:
    took_ms = row.took_ms(now)
    return "" if took_ms is None else duration(took_ms / 1000)


def _tokens(row: Row) -> str:
    """Those that its attempts gave, and an estimate of those that come just now."""
    counted = row.coming_tokens + (row.usage.output_tokens if row.usage else 0)
    return f"{'~' if row.coming_tokens else ''}{counted:,} tok" if counted else ""


def _money(cost: Cost | None, coming_usd: float) -> str:
    """What ended attempts cost, and an estimate for the text that comes just now."""
    if not coming_usd:
        return money(cost) if cost else ""
    return f"~{money((cost or Cost()) + Cost(total_usd=coming_usd))}"


def _last(row: Row, width: int) -> Text:
    """What the row has to say: the end of the answer while it runs, or what is wrong."""
    match row.state:
        case SubtaskState.RUNNING:
            flat = " ".join(row.tail.split())
            shown = flat if len(flat) <= width else f"…{flat[-(width - 1) :]}"
            return Text(shown or f"on {row.worker}", style="" if shown else "dim")
        case (
            SubtaskState.FAILED
            | SubtaskState.RETRYING
            | SubtaskState.CANCELLED
            | SubtaskState.DISPATCHED
        ):
            style = "red" if row.state is SubtaskState.FAILED else "yellow"
            return Text(one_line(row.note or "", width), style=style)
        case _:
            waits = f"after {', '.join(row.depends_on)}" if row.depends_on else ""
            is_waiting = row.state is SubtaskState.WAITING
            return Text(one_line(waits, width) if is_waiting else "", style="dim")
