"""Options that many commands share."""

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why; stands in the history.")]
TaskTypeName = Annotated[
    str | None, typer.Option("--task-type", help="Such as `code_generation`; else it is detected.")
]
Capabilities = Annotated[
    str | None,
    typer.Option(
        metavar="NAME:LEVEL,…", help="What a model must have, such as `code:strong,math:moderate`."
    ),
]
By = Annotated[str | None, typer.Option("--by", help="Who says so.")]

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

PATTERNS = (
    "auto",
    "single",
    "sequential",
    "parallel",
    "pipeline",
    "map_reduce",
    "debate",
    "vote",
    "route",
    "evaluate_optimize",
)
"""What `--pattern` takes: what the controller of this version can plan. A test compares the two."""

FORMATS = ("text", "mermaid", "svg")
"""What a task's graph is told or drawn as."""

END = -1
"""What `--from end` is read as: no event before the last."""
