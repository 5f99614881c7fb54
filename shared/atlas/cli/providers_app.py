"""`atlas providers …`: names, options and help."""
# ruff: noqa: PLC0415 - a command imports what it needs when it runs, so that help is immediate

from typing import Annotated

import typer

from atlas.cli.options import AsJson, Capabilities, TaskTypeName

app = typer.Typer(invoke_without_command=True)


@app.callback()
def providers(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Show providers, groups, models and budgets: health, circuits, load, prices."""
    if context.invoked_subcommand is not None:
        return
    from atlas.cli import providers as command
    from atlas.cli.session import run

    run(lambda: command.show(as_json=as_json), as_json=as_json)


@app.command()
def explain(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What would be asked.")] = "Hello",
    model: Annotated[str | None, typer.Option(help="A model's or a group's name.")] = None,
    task_type: TaskTypeName = None,
    capabilities: Capabilities = None,
    context_tokens: Annotated[
        int | None, typer.Option(min=1, help="The least context size, in tokens.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Show which models would be asked, in their order, and why the others would not."""
    from atlas.cli import explanation
    from atlas.cli.session import run

    asked = explanation.Asked(prompt, model, task_type, capabilities, context_tokens)
    run(lambda: explanation.explain(asked, as_json=as_json), as_json=as_json)
