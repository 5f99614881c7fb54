"""The root of the command line: names, options and help of the commands."""
# ruff: noqa: PLC0415 - a command imports what it needs when it runs, so that help is immediate

from pathlib import Path
from typing import Annotated

import typer

from atlas.cli.access_app import app as access_app
from atlas.cli.admin_app import app as admin_app
from atlas.cli.options import AsJson, Capabilities, TaskTypeName
from atlas.cli.providers_app import app as providers_app
from atlas.cli.stream_app import app as stream_app
from atlas.cli.task_app import app as task_app

app = typer.Typer(
    name="atlas",
    help="LLM work over NATS: streams that outlive their connections, "
    "tasks that outlive their processes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 done, 1 the work failed, 2 wrong use or no NATS, 130 interrupted. "
    "Where NATS is: NATS_URL, or nats://127.0.0.1:4222.",
)
config_app = typer.Typer(no_args_is_help=True, help="The configuration.")
app.add_typer(stream_app, name="stream")
app.add_typer(task_app, name="task")
app.add_typer(providers_app, name="providers")
app.add_typer(config_app, name="config")
app.add_typer(admin_app, name="admin")
app.add_typer(access_app, name="access")


@app.command()
def up(
    routers: Annotated[int, typer.Option(min=0, help="How many provider routers.")] = 1,
    controllers: Annotated[int, typer.Option(min=0, help="How many agent controllers.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="How many agent workers.")] = 1,
    store: Annotated[
        Path | None,
        typer.Option(help="Keep the NATS server's data in this folder.", file_okay=False),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Run everything on this machine until Ctrl-C.

    Starts a NATS server of its own unless NATS_URL names one, and every service as a process.
    When all are ready, prints one line: `ready nats://HOST:PORT`. Logs go to stderr. A service
    that dies is started again. Without --store the server's data goes when the command ends.
    """
    from atlas.cli import up as command
    from atlas.cli.session import run

    plan = command.Plan(routers, controllers, workers, store)
    run(lambda: command.up(plan, as_json=as_json), as_json=as_json)


@app.command()
def chat(
    model: Annotated[
        str | None, typer.Option(help="Such as `anthropic/claude-…`, or a group's name.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="Instructions for the model.")] = None,
    task_type: TaskTypeName = None,
    capabilities: Capabilities = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Talk with a model; Ctrl-D ends the conversation.

    While an answer comes on a terminal: space pauses it and lets it go on, c or Ctrl-C ends it.
    With --json every event of each answer.
    """
    from atlas.cli.chat import Wanted
    from atlas.cli.chat import chat as command

    command(Wanted(model, system, task_type, capabilities), as_json=as_json)


@app.command()
def events(
    source: Annotated[str, typer.Option(help="A service, such as `provider_router`.")] = "*",
    type_: Annotated[str, typer.Option("--type", help="Such as `provider.>`.")] = ">",
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Also the heartbeats of the services.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what the services tell, from now on, until Ctrl-C."""
    from atlas.cli import survey
    from atlas.cli.session import run

    run(
        lambda: survey.events(source, type_, everything=everything, as_json=as_json),
        as_json=as_json,
    )


@app.command()
def top(
    interval_s: Annotated[
        float, typer.Option("--interval", min=0.2, max=3600, help="Seconds between two looks.")
    ] = 1.0,
    *,
    once: Annotated[bool, typer.Option("--once", help="Look once, print it, and end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what runs now: services, workers, queues, providers, streams and tasks.

    Live on a terminal, until Ctrl-C. What does not answer within two seconds is shown as such.
    """
    from atlas.cli import top as command
    from atlas.cli.session import run

    run(lambda: command.top(once=once, interval_s=interval_s, as_json=as_json), as_json=as_json)


@app.command()
def doctor(
    service: Annotated[
        str | None,
        typer.Option(help="Only: does an instance of this service on this host answer?"),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Check NATS, its assets, the services and the providers' keys; say what to do."""
    from atlas.cli import doctor as command
    from atlas.cli.session import run

    run(lambda: command.doctor(service, as_json=as_json), as_json=as_json)


@config_app.command("check")
def config_check(*, as_json: AsJson = False) -> None:
    """Check the configuration and show what is in effect, without secrets."""
    from atlas.cli import config
    from atlas.cli.session import run

    run(lambda: config.check(as_json=as_json), as_json=as_json)


def _shown(is_asked: bool) -> None:
    if is_asked:
        version()
        raise typer.Exit


@app.callback()
def root(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_shown, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """What every command takes."""


@app.command()
def version(*, as_json: AsJson = False) -> None:
    """Show the version."""
    from importlib.metadata import version as installed

    from atlas.cli.output import Output

    found = installed("atlas-llm")
    Output(as_json=as_json).show({"version": found}, f"atlas {found}")
