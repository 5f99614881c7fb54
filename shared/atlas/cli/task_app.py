"""`atlas task …`: names, options and help."""
# ruff: noqa: PLC0415 - a command imports what it needs when it runs, so that help is immediate

from collections.abc import Callable
from functools import wraps
from inspect import Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atlas.cli.options import FORMATS, PATTERNS, AsJson, By, Reason, Yes

if TYPE_CHECKING:
    from atlas.cli.submission import Submission

app = typer.Typer(no_args_is_help=True, help="Submit, watch and control tasks.")

TaskId = Annotated[str, typer.Argument(metavar="ID", help="The task's id.")]
Goal = Annotated[str, typer.Option("--goal", help="What is to be reached.")]
Inputs = Annotated[
    list[Path] | None,
    typer.Option("--input", help="A text file for the task; may be given again."),
]
PatternName = Annotated[
    str | None,
    typer.Option("--pattern", help=f"How it is broken down: {', '.join(PATTERNS)}."),
]
PatternOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="NAME=VALUE",
        help="What the pattern takes, such as `rounds=3`; may be given again.",
    ),
]
PlanFile = Annotated[
    Path | None, typer.Option("--plan", help="A plan of your own, as JSON or YAML.")
]
OnFailureName = Annotated[
    str | None,
    typer.Option("--on-failure", help="What a lost subtask does: fail, quorum, best_so_far."),
]
Quorum = Annotated[
    int | None,
    typer.Option(
        "--quorum", min=1, help="So many results side by side are enough; implies quorum."
    ),
]
PriorityName = Annotated[str | None, typer.Option("--priority", help="high, normal, low.")]
ApprovalName = Annotated[
    str | None, typer.Option("--approval", help="What you approve first: none, plan, subtasks.")
]
MaxParallel = Annotated[
    int | None,
    typer.Option("--max-parallel", min=1, help="How many subtasks may run at a time."),
]
MaxReplans = Annotated[
    int | None,
    typer.Option(
        "--max-replans", min=0, help="How often a model may change the plan where it fails."
    ),
]
ApprovalExpires = Annotated[
    int | None,
    typer.Option(
        "--approval-expires-ms", min=1, help="After so long it is taken as rejected, by nobody."
    ),
]
MaxUsd = Annotated[float | None, typer.Option("--max-usd", help="What it may cost at most.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", help="Tokens at most.")]
OwnId = Annotated[str | None, typer.Option("--id", help="An id of your own: a repeat is harmless.")]
SubtaskId = Annotated[str | None, typer.Option("--subtask", help="Only this subtask.")]


def _submission(
    goal: Goal,
    *,
    inputs: Inputs = None,
    pattern: PatternName = None,
    options: PatternOptions = None,
    plan: PlanFile = None,
    on_failure: OnFailureName = None,
    quorum: Quorum = None,
    max_parallel: MaxParallel = None,
    max_replans: MaxReplans = None,
    priority: PriorityName = None,
    approval: ApprovalName = None,
    approval_expires_ms: ApprovalExpires = None,
    max_usd: MaxUsd = None,
    max_tokens: MaxTokens = None,
    task_id: OwnId = None,
) -> "Submission":
    """The options of every command that submits a task."""
    from atlas.cli.submission import Submission

    return Submission(
        goal=goal,
        inputs=tuple(inputs or ()),
        pattern=pattern,
        options=tuple(options or ()),
        plan=plan,
        on_failure=on_failure,
        quorum=quorum,
        max_parallel=max_parallel,
        max_replans=max_replans,
        priority=priority,
        approval=approval,
        approval_expires_ms=approval_expires_ms,
        max_usd=max_usd,
        max_tokens=max_tokens,
        task_id=task_id,
    )


def _submits(command: Callable[..., None]) -> Callable[..., None]:
    """A command that is given a submission, with the options that make one before its own."""
    of_submission = signature(_submission).parameters
    own = {name: one for name, one in signature(command).parameters.items() if name != "submission"}

    @wraps(command)
    def with_options(**given: object) -> None:
        rest = {name: given.pop(name) for name in own}
        command(_submission(**given), **rest)  # type: ignore[arg-type] # typer checked them

    parameters = {**of_submission, **own}
    with_options.__signature__ = Signature(list(parameters.values()))  # type: ignore[attr-defined]
    with_options.__annotations__ = {name: one.annotation for name, one in parameters.items()}
    return with_options


@app.command()
@_submits
def run(
    submission: "Submission",
    *,
    standalone: Annotated[
        bool, typer.Option("--standalone", help="With a NATS server and services of its own.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Submit a task, follow it to its end, and print the answer.

    Ctrl-C stops following; the task goes on (with --standalone everything ends).
    """
    from atlas.cli import tasks
    from atlas.cli.session import run as run_command

    run_command(
        lambda: tasks.run(submission, standalone=standalone, as_json=as_json), as_json=as_json
    )


@app.command()
@_submits
def submit(submission: "Submission", *, as_json: AsJson = False) -> None:
    """Submit a task and print its id; it is accepted also while no service runs."""
    from atlas.cli import tasks
    from atlas.cli.session import run as run_command

    run_command(lambda: tasks.submit(submission, as_json=as_json), as_json=as_json)


@app.command()
def watch(task_id: TaskId, *, as_json: AsJson = False) -> None:
    """Follow a task from its beginning to its end, and print the answer."""
    from atlas.cli import tasks
    from atlas.cli.session import run as run_command

    run_command(lambda: tasks.watch(task_id, as_json=as_json), as_json=as_json)


@app.command()
def show(
    task_id: TaskId,
    *,
    graph: Annotated[
        bool, typer.Option("--graph", help="Its plan: what waits for what, and what each used.")
    ] = False,
    format_: Annotated[
        str | None,
        typer.Option("--format", help=f"Of the graph: {', '.join(FORMATS)}; else by the file."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Where the graph goes: a file such as plan.svg or plan.mmd."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show where a task is now, or with --graph its plan as text or as a picture."""
    from atlas.cli import graphs, tasks
    from atlas.cli.session import run as run_command

    if graph or format_ or output:
        run_command(lambda: graphs.show(task_id, format_, output, as_json=as_json), as_json=as_json)
    run_command(lambda: tasks.show(task_id, as_json=as_json), as_json=as_json)


@app.command("list")
def list_(
    state: Annotated[str | None, typer.Option(help="Only tasks in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    *,
    as_json: AsJson = False,
) -> None:
    """List tasks, the newest first."""
    from atlas.cli import tasks
    from atlas.cli.session import run as run_command

    run_command(lambda: tasks.list_tasks(state, limit, as_json=as_json), as_json=as_json)


@app.command()
def pause(
    task_id: TaskId, reason: Reason = None, by: By = None, *, as_json: AsJson = False
) -> None:
    """Start nothing new, and hold the streams that run."""
    _control(task_id, "pause", None, reason, by, as_json=as_json)


@app.command()
def resume(
    task_id: TaskId, reason: Reason = None, by: By = None, *, as_json: AsJson = False
) -> None:
    """Let a paused task go on."""
    _control(task_id, "resume", None, reason, by, as_json=as_json)


@app.command()
def cancel(
    task_id: TaskId, reason: Reason = None, by: By = None, *, as_json: AsJson = False
) -> None:
    """End a task for good, with every stream under it."""
    _control(task_id, "cancel", None, reason, by, as_json=as_json)


@app.command()
def approve(
    task_id: TaskId,
    subtask: SubtaskId = None,
    reason: Reason = None,
    by: By = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Approve the plan or a subtask that waits for it."""
    _control(task_id, "approve", subtask, reason, by, as_json=as_json)


@app.command()
def reject(
    task_id: TaskId,
    subtask: SubtaskId = None,
    reason: Reason = None,
    by: By = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Reject the plan or a subtask that waits for approval."""
    _control(task_id, "reject", subtask, reason, by, as_json=as_json)


@app.command()
def delete(task_id: TaskId, *, yes: Yes = False, as_json: AsJson = False) -> None:
    """Remove all that is stored of a task that has ended, its streams too; there is no way back."""
    from atlas.cli import tasks
    from atlas.cli.asking import ask_first
    from atlas.cli.session import run as run_command

    ask_first(f"Remove all that is stored of task {task_id} and its streams?", is_sure=yes)
    run_command(lambda: tasks.delete(task_id, as_json=as_json), as_json=as_json)


def _control(
    task_id: str,
    action: str,
    subtask: str | None,
    reason: str | None,
    by: str | None,
    *,
    as_json: bool,
) -> None:
    from atlas.cli import tasks
    from atlas.cli.session import run as run_command

    run_command(
        lambda: tasks.control(task_id, action, subtask, reason, by, as_json=as_json),
        as_json=as_json,
    )
