"""The tools of a worker, and which of them a subtask may use."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from atlas.contracts.base import JsonObject
from atlas.contracts.errors import ConfigurationError
from atlas.worker.grants import SERVER_MARK, Grant
from atlas.worker.tools import AnyTool, ToolNotGrantedError


class ToolServer(Protocol):
    """A server that brings tools."""

    def health(self) -> JsonObject:
        """How it is, for `service.health`."""
        ...

    async def tools(self) -> Mapping[str, AnyTool]:
        """Its tools by the names under which models call them.

        Raises:
            ToolUnavailableError: It is not there now.
        """
        ...


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The tools of a worker by name, and the servers that bring more."""

    functions: Mapping[str, AnyTool]
    servers: Mapping[str, ToolServer]

    @classmethod
    def of(cls, functions: Iterable[AnyTool], servers: Mapping[str, ToolServer]) -> "Toolbox":
        """A box with these.

        Raises:
            ConfigurationError: Two have one name.
        """
        named: dict[str, AnyTool] = {}
        for one in functions:
            name = one.spec.name
            if name in named:
                raise ConfigurationError(f"there are two tools {name!r}; give one another name")
            named[name] = one
        return cls(named, servers)

    async def granted(self, grant: Grant, asked: Sequence[str], capability: str) -> list[AnyTool]:
        """The tools for a subtask, in the order of their names.

        Args:
            grant: What its capability may use.
            asked: What the subtask asks for; nothing: all that is granted.
            capability: For telling whose grant it is.

        Raises:
            ToolNotGrantedError: It asks for what is not granted, or what there is not.
            ToolUnavailableError: A server that is needed is not there now.
        """
        if refused := [name for name in asked if not grant.allows(name)]:
            raise ToolNotGrantedError(
                f"the subtask asks for the tools {', '.join(refused)}, and {capability!r} may use "
                f"{grant}; leave tools empty for these, or grant it more where its worker is "
                "configured",
                details={"refused": list(refused), "granted": list(grant.tools)},
            )
        known = dict(self.functions)
        for name, server in self.servers.items():
            if self._is_needed(name, grant, asked):
                known.update(await server.tools())
        if missing := [name for name in asked if name not in known]:
            raise ToolNotGrantedError(
                f"the subtask asks for the tools {', '.join(missing)}, which this worker has not; "
                f"it has {', '.join(sorted(filter(grant.allows, known))) or 'none'}"
            )
        names = asked or [name for name in known if grant.allows(name)]
        return [known[name] for name in sorted(set(names))]

    def _is_needed(self, server: str, grant: Grant, asked: Sequence[str]) -> bool:
        if asked:
            return any(name.startswith(server + SERVER_MARK) for name in asked)
        return grant.may_reach(server)
