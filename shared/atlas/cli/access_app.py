"""The commands `atlas access …`: who may connect to the NATS server, and what for."""
# ruff: noqa: PLC0415 - a command imports what it needs when it runs, so that help is immediate

from pathlib import Path
from typing import Annotated

import typer

from atlas.cli.options import AsJson

app = typer.Typer(
    no_args_is_help=True, help="Users of the NATS server, their seeds and their permissions."
)

_Folder = Annotated[Path, typer.Argument(help="Where users and seeds are.", file_okay=False)]
_Tenant = Annotated[str | None, typer.Option(help="Whose it is: of a publisher or a watcher.")]
_Capabilities = Annotated[
    list[str] | None,
    typer.Option("--capability", help="Of a worker that does not take everything; repeatable."),
]
_RoleName = Annotated[
    str, typer.Option("--role", help="`atlas access show` names them and tells what they may.")
]
_Url = Annotated[
    str, typer.Option("--url", help="Where the users will find the server, for `atlas.env`.")
]
_LOCAL_URL = "nats://127.0.0.1:4222"


@app.command("init")
def init(  # noqa: PLR0917 - options, given by name
    folder: _Folder,
    tenants: Annotated[
        list[str] | None,
        typer.Option("--tenant", help="Gets a publisher and a watcher; repeatable."),
    ] = None,
    listen: Annotated[
        str, typer.Option(help="Where a new nats.conf lets the server listen.")
    ] = "127.0.0.1:4222",
    store_dir: Annotated[
        Path | None,
        typer.Option(help="Where it lets it keep its data; FOLDER/jetstream if not given."),
    ] = None,
    max_file_store: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="How much it lets JetStream keep on disk, such as 10GB, or $NAME of a variable "
            "of the server; else three quarters of what is free when it starts.",
        ),
    ] = None,
    url: _Url = _LOCAL_URL,
    *,
    as_json: AsJson = False,
) -> None:
    """Make what is missing: users, their seeds, and the server's configuration.

    Makes a user for each service and for the operator, and a publisher and a watcher for each
    tenant; in a new folder for the tenant `default` if none is named. What is there stays: no seed
    is ever written over. Run it again after an upgrade, for the permissions that the new version
    needs. Then start the server with `nats-server --config FOLDER/nats/nats.conf`, or reload it,
    twice: with the first reload nobody answers a new user.
    """
    from atlas.cli import access as command
    from atlas.cli.session import run

    asked = command.Asked(folder, tuple(tenants or ()), listen, store_dir, max_file_store, url)
    run(lambda: command.init(asked, as_json=as_json), as_json=as_json)


@app.command("add-user")
def add_user(  # noqa: PLR0917 - options, given by name
    folder: _Folder,
    role: _RoleName,
    tenant: _Tenant = None,
    name: Annotated[
        str | None, typer.Option(help="Else the role, after the tenant where it has one.")
    ] = None,
    capabilities: _Capabilities = None,
    url: _Url = _LOCAL_URL,
    *,
    as_json: AsJson = False,
) -> None:
    """Make one more user. The server knows it after `nats-server --signal reload`, twice."""
    from atlas.cli import access as command
    from atlas.cli.session import run

    wanted = command.Wanted(role, tenant, name, tuple(capabilities or ()))
    run(lambda: command.add_user(folder, wanted, url, as_json=as_json), as_json=as_json)


@app.command("remove-user")
def remove_user(
    name: Annotated[str, typer.Argument(help="Its name.")],
    folder: _Folder,
    *,
    as_json: AsJson = False,
) -> None:
    """Remove a user and its seed. The server closes its connections when it is reloaded."""
    from atlas.cli import access as command
    from atlas.cli.session import run

    run(lambda: command.remove_user(folder, name, as_json=as_json), as_json=as_json)


@app.command("show")
def show(
    role: Annotated[str | None, typer.Argument(help="A role; without it, all by name.")] = None,
    tenant: _Tenant = None,
    name: Annotated[str | None, typer.Option(help="As for `add-user`.")] = None,
    capabilities: _Capabilities = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Show the roles, or what one of them may publish and hear."""
    from atlas.cli import access as command
    from atlas.cli.session import run

    wanted = None
    if role is not None:
        wanted = command.Wanted(role, tenant, name, tuple(capabilities or ()))
    run(lambda: command.show(wanted, as_json=as_json), as_json=as_json)
