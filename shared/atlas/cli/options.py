"""Options that many commands share."""

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why; stands in the history.")]
By = Annotated[str | None, typer.Option("--by", help="Who says so.")]

PATTERNS = ("auto", "single", "sequential", "parallel")
"""What `--pattern` takes: what the controller of this version can plan. A test compares the two."""
