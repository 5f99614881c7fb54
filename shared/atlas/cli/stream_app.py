"""`atlas stream …`: names, options and help."""
# ruff: noqa: PLC0415 - a command imports what it needs when it runs, so that help is immediate

import contextlib
from typing import Annotated

import typer

from atlas.cli.options import END, AsJson, By, Reason, Yes

app = typer.Typer(no_args_is_help=True, help="Watch and control streams.")

StreamId = Annotated[str, typer.Argument(metavar="ID", help="The stream's id.")]


def _place(said: str | int) -> int:
    """Where to begin; -1 stands for the end."""
    if said == "end":
        return END
    with contextlib.suppress(ValueError):
        if (place := int(said)) >= 0:
            return place
    raise typer.BadParameter(f"{said!r} is neither a seq (0, 1, 2 …) nor `end`")


@app.command()
def watch(
    stream_id: StreamId,
    from_seq: Annotated[
        int,
        typer.Option(
            "--from",
            metavar="SEQ|end",
            parser=_place,
            help="The first event to show; `end`: nothing before the stream has ended.",
        ),
    ] = 0,
    *,
    as_json: AsJson = False,
) -> None:
    """Show a stream's text as it comes; with --json every event.

    With `--from end` the final text alone, or with --json the last event.
    """
    from atlas.cli import streams
    from atlas.cli.session import run

    run(lambda: streams.watch(stream_id, from_seq, as_json=as_json), as_json=as_json)


@app.command()
def show(stream_id: StreamId, *, as_json: AsJson = False) -> None:
    """Show where a stream is now: state, figures, who paused or cancelled it and why, its text."""
    from atlas.cli import streams
    from atlas.cli.session import run

    run(lambda: streams.show(stream_id, as_json=as_json), as_json=as_json)


@app.command()
def pause(
    stream_id: StreamId, reason: Reason = None, by: By = None, *, as_json: AsJson = False
) -> None:
    """Hold a stream; the provider waits, nothing is lost."""
    _control(stream_id, "pause", reason, by, as_json=as_json)


@app.command()
def resume(
    stream_id: StreamId, reason: Reason = None, by: By = None, *, as_json: AsJson = False
) -> None:
    """Let a paused stream flow again."""
    _control(stream_id, "resume", reason, by, as_json=as_json)


@app.command()
def cancel(
    stream_id: StreamId, reason: Reason = None, by: By = None, *, as_json: AsJson = False
) -> None:
    """End a stream for good; the provider's connection is closed at once."""
    _control(stream_id, "cancel", reason, by, as_json=as_json)


@app.command()
def delete(stream_id: StreamId, *, yes: Yes = False, as_json: AsJson = False) -> None:
    """Remove all that is stored of a stream that has ended; there is no way back."""
    from atlas.cli import streams
    from atlas.cli.asking import ask_first
    from atlas.cli.session import run

    ask_first(f"Remove all that is stored of stream {stream_id}?", is_sure=yes)
    run(lambda: streams.delete(stream_id, as_json=as_json), as_json=as_json)


def _control(
    stream_id: str, action: str, reason: str | None, by: str | None, *, as_json: bool
) -> None:
    from atlas.cli import streams
    from atlas.cli.session import run

    run(lambda: streams.control(stream_id, action, reason, by, as_json=as_json), as_json=as_json)
