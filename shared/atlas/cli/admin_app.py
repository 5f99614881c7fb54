"""The commands `atlas admin …`: for whoever operates Atlas."""
# ruff: noqa: PLC0415 - a command imports what it needs when it runs, so that help is immediate

from pathlib import Path
from typing import Annotated

import typer

from atlas.cli.options import AsJson

app = typer.Typer(no_args_is_help=True, help="The JetStream assets, and their backup.")


@app.command("assets")
def assets_(
    *,
    apply: Annotated[
        bool, typer.Option("--apply", help="Make what is missing, change what differs.")
    ] = False,
    allow_loss: Annotated[
        bool,
        typer.Option("--allow-loss", help="With --apply: also what may drop messages or copies."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show every JetStream stream of Atlas beside what the settings say.

    Services make what is missing and refuse to start where something differs, because somebody may
    have meant it; --apply changes it to what the settings here say. Exit status 1 when something
    is missing or differs.
    """
    from atlas.cli import admin
    from atlas.cli.session import run

    if allow_loss and not apply:
        raise typer.BadParameter("--allow-loss says what --apply may do; give both")
    run(
        lambda: admin.look(apply=apply, may_lose=allow_loss, as_json=as_json),
        as_json=as_json,
    )


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="A new folder.", file_okay=False)],
    *,
    as_json: AsJson = False,
) -> None:
    """Save every stream of Atlas: histories, task logs, queues, budgets, objects.

    Services may run: all that was accepted when it began is in it. What happened while it was
    taken is in it for a part, and is done again after a restore; stop the services first where
    nothing may be paid twice. The folder has the form of `nats stream backup`.
    """
    from atlas.cli import admin
    from atlas.cli.session import run

    run(lambda: admin.save(folder, as_json=as_json), as_json=as_json)


@app.command()
def restore(
    folder: Annotated[
        Path, typer.Argument(help="What `backup` wrote.", exists=True, file_okay=False)
    ],
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Remove streams that are there already.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make the streams of a backup, with as many replicas as the settings say.

    With every service stopped, and on a NATS server, or a cluster, that has none of them. Every
    task that has not ended goes on when services start.
    """
    from atlas.cli import admin
    from atlas.cli.session import run

    run(lambda: admin.restore(folder, replace=replace, as_json=as_json), as_json=as_json)
