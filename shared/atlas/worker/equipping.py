"""What a worker's agents are given: its tools, and the MCP servers that bring more."""

import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping

from atlas.contracts.errors import ConfigurationError
from atlas.objects import Objects
from atlas.worker.agent import Agents
from atlas.worker.calling import Caller
from atlas.worker.function_tools import FunctionTool, declared_tools
from atlas.worker.grants import Grant
from atlas.worker.threads import Threads
from atlas.worker.toolbox import Toolbox, ToolServer
from atlas.worker_settings import McpServerSettings, WorkerSettings


@contextlib.asynccontextmanager
async def equipped(
    functions: Iterable[FunctionTool],
    settings: WorkerSettings,
    grants: Iterable[Grant],
    objects: Objects,
) -> AsyncIterator[Agents]:
    """Agents with tools, while the block runs.

    Only the servers are started whose tools somebody may use.

    Raises:
        ConfigurationError: A declared tool cannot be used, or the SDK of MCP is not installed.
    """
    all_grants = list(grants)
    needed = {
        name: one
        for name, one in settings.mcp.items()
        if any(grant.may_reach(name) for grant in all_grants)
    }
    named = [*functions, *declared_tools(settings.tools)]
    caller = Caller(
        Threads(settings.tool_threads), settings.tool_timeout_ms / 1000, settings.max_result_bytes
    )
    async with _servers(needed) as servers:
        toolbox = Toolbox.of(named, servers)
        try:
            yield Agents(toolbox, caller, objects, settings.limits, settings.shown_result_bytes)
        finally:
            await caller.close()


@contextlib.asynccontextmanager
async def _servers(
    needed: Mapping[str, McpServerSettings],
) -> AsyncIterator[Mapping[str, ToolServer]]:
    if not needed:
        yield {}
        return
    try:
        from atlas.worker.mcp_servers import connected  # noqa: PLC0415 - a second, and an extra
    except ImportError as error:
        raise ConfigurationError(
            f"worker.mcp: MCP's SDK cannot be imported: {error}; install atlas-llm[mcp]"
        ) from error
    async with connected(needed) as servers:
        yield servers
