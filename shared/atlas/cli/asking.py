"""A question before what cannot be undone."""

import sys

import typer


def ask_first(question: str, *, is_sure: bool) -> None:
    """Go on only if the person at the terminal says so; `is_sure` is `--yes`.

    Raises:
        typer.BadParameter: Nobody is there to be asked.
        typer.Abort: The answer is no.
    """
    if is_sure:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter("nobody is at a terminal to be asked; say --yes")
    typer.confirm(f"{question} There is no way back.", abort=True, err=True)
