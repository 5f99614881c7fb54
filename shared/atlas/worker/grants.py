"""Which tools a capability may use. Pure.

A grant names tools, or the beginning of their names with a `*` after it. What is denied is denied,
whatever else is granted.
"""

from collections.abc import Iterable
from dataclasses import dataclass

SERVER_MARK = "__"
"""Stands between the name of an MCP server and that of its tool."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Tools that may be used; by default none."""

    tools: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    def allows(self, name: str) -> bool:
        """Whether the tool may be used."""
        return matches_any(self.tools, name) and not matches_any(self.deny, name)

    def may_reach(self, server: str) -> bool:
        """Whether some tool of an MCP server may be among those."""
        prefix = server + SERVER_MARK
        return any(
            one.startswith(prefix) or (one.endswith("*") and prefix.startswith(one[:-1]))
            for one in self.tools
        ) and not any(one.endswith("*") and prefix.startswith(one[:-1]) for one in self.deny)

    def __str__(self) -> str:
        if not self.tools:
            return "no tools"
        denied = f", but not {', '.join(self.deny)}" if self.deny else ""
        return ", ".join(self.tools) + denied


def matches_any(patterns: Iterable[str], name: str) -> bool:
    """Whether a name is one of those, or begins as one that ends with `*`."""
    return any(name.startswith(one[:-1]) if one.endswith("*") else name == one for one in patterns)
