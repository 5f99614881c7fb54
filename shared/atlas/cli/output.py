"""What a command prints: JSON lines, or text; results on stdout, everything else on stderr.

A pipe gets every byte as it is; a terminal gets nothing that it would obey (`atlas.cli.terminal`).
"""

import json
import sys
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, TextIO

from atlas.cli.terminal import harmless, harmless_json

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
        from atlas.cli.rich_console import SafeConsole  # noqa: PLC0415 - 60 ms, and only where used

        return SafeConsole(highlight=False, emoji=False)

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
        print(harmless_json(shown) if sys.stdout.isatty() else shown, flush=True)

    def line(self, text: str) -> None:
        """Print a line on stdout."""
        _print(text, sys.stdout)

    def piece(self, text: str) -> None:
        """Print a part of a line on stdout, at once."""
        _print(text, sys.stdout, end="")

    def note(self, text: str) -> None:
        """Tell something that is no result, on stderr."""
        _print(text, sys.stderr)

    def error(self, error: "AtlasError") -> None:
        """Say on stderr what went wrong: one line, or one for each problem."""
        if self.as_json:
            _print(harmless_json(error.to_reply().to_json().decode()), sys.stderr)
            return
        for line in error.message.splitlines():
            self.note(f"error: {line}")


def _print(text: str, to: TextIO, end: str = "\n") -> None:
    print(harmless(text) if to.isatty() else text, end=end, file=to, flush=True)
