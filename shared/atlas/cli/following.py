"""Follows one task to its end: a live tree on a terminal, lines in a pipe, or JSON."""

import asyncio
import json
from contextlib import aclosing

from atlas.cli import lines
from atlas.cli.board import Board
from atlas.cli.figures import counted, duration, money, tokens
from atlas.cli.output import Output
from atlas.cli.session import DONE, FAILED, report
from atlas.client import Atlas, Task
from atlas.contracts.errors import AtlasError
from atlas.contracts.task_events import (
    SubtaskFailed,
    SubtaskStarted,
    SubtaskSucceeded,
    TaskCancelled,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TerminalTaskEvent,
)

_FRAME_S = 0.1


async def follow(atlas: Atlas, task: Task, output: Output) -> int:
    """Show a task until it ends, then its answer; gives the exit status."""
    board = Board(task.task_id)
    if output.is_terminal:
        end = await _live(atlas, task, board, output)
    else:
        end = await _plain(task, board, output)
    try:
        completed = await task.outcome(end)
    except AtlasError as error:
        if not output.as_json:  # the terminal event was printed, and it says why
            report(error, output)
        return FAILED
    if not output.as_json:
        _answer(completed, output)
    if output.is_terminal:
        output.console.print(f"\n{_summary(board, end)}", style="dim")
    return DONE


async def _plain(task: Task, board: Board, output: Output) -> TerminalTaskEvent:
    async with aclosing(task.events()) as events:
        async for event in events:
            board.take(event)
            if output.as_json:
                output.record(event)
            else:
                output.line(lines.line(event, _took_ms(board, event)))
            if isinstance(event, TaskCompleted | TaskFailed | TaskCancelled):
                return event
    raise AtlasError(f"task {task.task_id}: its log ended without an end")


def _took_ms(board: Board, event: TaskEvent) -> int | None:
    """How long that took which this entry ends."""
    match event:
        case TaskCompleted() | TaskFailed() | TaskCancelled():
            return board.took_ms(event.at_ms)
        case SubtaskSucceeded() | SubtaskFailed():
            return board.rows[event.subtask_id].took_ms(event.at_ms)
        case _:
            return None


async def _live(atlas: Atlas, task: Task, board: Board, output: Output) -> TerminalTaskEvent:
    from rich.live import Live  # noqa: PLC0415 - only where somebody looks

    from atlas.cli.live_view import draw  # noqa: PLC0415 - as above

    console = output.console
    end: TerminalTaskEvent | None = None
    with Live(console=console, auto_refresh=False, redirect_stdout=False) as live:

        async def animate() -> None:
            while True:
                live.update(draw(board, console.width, console.height), refresh=True)
                await asyncio.sleep(_FRAME_S)

        async with asyncio.TaskGroup() as group:
            owned = [group.create_task(animate()), group.create_task(_price(atlas, board))]
            async with aclosing(task.events()) as events:
                async for event in events:
                    board.take(event)
                    if isinstance(event, SubtaskStarted) and event.stream_id:
                        listening = _listen(atlas, board, event.subtask_id, event.stream_id)
                        owned.append(group.create_task(listening))
                    if isinstance(event, TaskCompleted | TaskFailed | TaskCancelled):
                        end = event
            for one in owned:
                one.cancel()
        live.update(draw(board, console.width, console.height), refresh=True)
    if end is None:
        raise AtlasError(f"task {task.task_id}: its log ended without an end")
    return end


async def _price(atlas: Atlas, board: Board) -> None:
    """Bring what models cost onto the board, for an estimate while they answer."""
    try:
        reply = await atlas.providers()
    except AtlasError:
        return  # without a router nothing comes that could be estimated
    board.prices = {
        one.model: one.output_usd_per_mtok
        for one in reply.models
        if one.output_usd_per_mtok is not None
    }


async def _listen(atlas: Atlas, board: Board, subtask_id: str, stream_id: str) -> None:
    """Bring the tokens of one stream onto the board; the log says how the subtask ends."""
    row = board.rows[subtask_id]
    try:
        async with atlas.watch_stream(stream_id) as stream:
            async for piece in stream:
                if row.stream_id == stream_id:
                    started = stream.reading.started
                    row.model = started.model if started else None
                    row.say(piece, restart=piece.restart)
    except AtlasError as error:
        row.note = row.note or error.message


def _answer(completed: TaskCompleted, output: Output) -> None:
    value = completed.output
    is_text = isinstance(value, str)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
    if not output.is_terminal:
        output.line("")
        output.line(text)
        return
    from rich.markdown import Markdown  # noqa: PLC0415 - 40 ms, and only where somebody looks
    from rich.syntax import Syntax  # noqa: PLC0415 - as above

    output.console.print()
    shown = Markdown(text) if is_text else Syntax(text, "json", background_color="default")
    output.console.print(shown)


def _summary(board: Board, end: TerminalTaskEvent) -> str:
    """One line: how many subtasks, how long, what it cost."""
    took = board.took_ms(end.at_ms) / 1000
    spent = f"{tokens(end.usage)}, {money(end.cost)}"
    return f"{counted(len(board.rows), 'subtask')} in {duration(took)}, {spent}; task {end.task_id}"
