"""`atlas task show --graph`: a task's plan as it stands, told or drawn."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from atlas.cli.board import Board
from atlas.cli.graph import Graph, graph_of
from atlas.cli.graph_mermaid import as_mermaid
from atlas.cli.graph_svg import as_svg
from atlas.cli.graph_text import as_text
from atlas.cli.options import FORMATS
from atlas.cli.output import Output
from atlas.cli.session import DONE, connected
from atlas.contracts.base import now_ms
from atlas.contracts.errors import InvalidRequestError

_DRAWN: dict[str, Callable[[Graph], str]] = {
    "text": as_text,
    "mermaid": as_mermaid,
    "svg": as_svg,
}
_ENDINGS = {".svg": "svg", ".mmd": "mermaid", ".mermaid": "mermaid", ".txt": "text"}


async def show(task_id: str, format_: str | None, path: Path | None, *, as_json: bool) -> int:
    """Print the graph, or write it into a file.

    Raises:
        InvalidRequestError: There is no such format, or the file cannot be written.
        NotFoundError: There is no such task.
    """
    output = Output(as_json=as_json)
    kind = format_of(format_, path)
    board = Board(task_id)
    async with connected() as atlas:
        for event in await atlas.task_handle(task_id).log():
            board.take(event)
    drawn = _DRAWN[kind](graph_of(board, now_ms()))
    if path is None:
        output.show({"task_id": task_id, "format": kind, "graph": drawn}, drawn)
        return DONE
    await asyncio.to_thread(_write, path, drawn)
    output.show({"task_id": task_id, "format": kind, "path": str(path)}, f"{kind} in {path}")
    return DONE


def format_of(format_: str | None, path: Path | None) -> str:
    """The format that was asked for, or that the file's name says; text where none does.

    Raises:
        InvalidRequestError: There is no such format, or the file's name tells none.
    """
    if format_ is not None:
        if format_ not in FORMATS:
            raise InvalidRequestError(
                f"--format: there is no {format_!r}; take one of {', '.join(FORMATS)}"
            )
        return format_
    if path is None:
        return "text"
    found = _ENDINGS.get(path.suffix.lower())
    if found is None:
        raise InvalidRequestError(
            f"--output: {path} tells no format; end it with one of {', '.join(_ENDINGS)}, "
            "or say --format"
        )
    return found


def _write(path: Path, drawn: str) -> None:
    try:
        path.write_text(f"{drawn}\n", encoding="utf-8")
    except OSError as error:
        raise InvalidRequestError(
            f"--output: {path} cannot be written: {error.strerror}; name another file"
        ) from error
