"""What a command prints: JSON lines, or text; results on stdout, everything else on stderr."""

import json
import sys
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from atlas.contracts.base import Contract
    from atlas.contracts.errors import AtlasError


class Output:
    """Where one command prints to."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    @cached_property
    def console(self) -> "Console":
        """Rich, on stdout."""
        from rich.console import Console  # noqa: PLC0415 - 60 ms, and only where used

        return Console(highlight=False, emoji=False)

    @property
    def is_terminal(self) -> bool:
        """Whether somebody looks at stdout, and JSON was not asked for."""
        return not self.as_json and sys.stdout.isatty()

    def show(self, value: "Contract | Mapping[str, object]", text: str) -> None:
        """Print a value as JSON, or its text."""
        if self.as_json:
            self.record(value)
        else:
            self.line(text)

    def record(self, value: "Contract | Mapping[str, object]") -> None:
        """Print a value as one line of JSON."""
        shown = (
            json.dumps(value, ensure_ascii=False)
            if isinstance(value, Mapping)
            else value.to_json().decode()
        )
        print(shown, flush=True)

    def line(self, text: str) -> None:
        """Print a line on stdout."""
        print(text, flush=True)

    def piece(self, text: str) -> None:
        """Print a part of a line on stdout, at once."""
        print(text, end="", flush=True)

    def note(self, text: str) -> None:
        """Tell something that is no result, on stderr."""
        print(text, file=sys.stderr, flush=True)

    def error(self, error: "AtlasError") -> None:
        """Say on stderr what went wrong: one line, or one for each problem."""
        if self.as_json:
            print(error.to_reply().to_json().decode(), file=sys.stderr, flush=True)
            return
        for line in error.message.splitlines():
            self.note(f"error: {line}")
