"""The MCP servers of a worker: started once, kept alive, asked for tools. The SDK stands here only.

Each server is the business of one task, which connects, takes over again what was lost, waits
longer after each failure, and closes at the end. A server that does not start is told in the log
and in `service.health`; the worker goes on without it, and what needs its tools fails until it is
there.
"""

import asyncio
import contextlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Literal

import httpx2
import structlog
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CONNECTION_CLOSED, CallToolResult, TextContent
from mcp_types import Tool as ServerTool

from atlas.contracts.base import JsonObject
from atlas.contracts.errors import AtlasError
from atlas.contracts.inference import Tool
from atlas.settings import secrets_of
from atlas.worker.calling import CallResult
from atlas.worker.grants import SERVER_MARK, matches_any
from atlas.worker.threads import Threads
from atlas.worker.tools import (
    AnyTool,
    ToolArgumentsError,
    ToolContext,
    ToolProblemError,
    ToolUnavailableError,
    is_tool_name,
)
from atlas.worker_settings import McpServerSettings

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0
_STEADY_S = 10.0
"""A server that was there for so long is tried again at once."""
_LOOK_S = 15.0
"""How often a server that nobody calls is asked for its tools, to know that it is there."""
_PATIENCE_S = 5.0
"""How long a subtask waits for a server that starts, or comes back."""
_MOST_TOOLS = 200
_MOST_PAGES = 20
_KEY = "atlas/idempotency_key"
"""In the `_meta` of a call."""

log = structlog.get_logger("atlas.worker")
logging.getLogger("mcp").setLevel(logging.CRITICAL)
"""Of what a server does wrong the SDK tells each instance with its traceback; we tell the state."""


class McpServer:
    """One server, as its task keeps it."""

    def __init__(self, name: str, settings: McpServerSettings) -> None:
        self.name = name
        self._settings = settings
        self._client: Client | None = None
        self._tools: dict[str, AnyTool] = {}
        self._why = "it has not answered yet"
        self._calls = 0
        self._is_there = asyncio.Event()
        self._is_lost = False
        self._has_news = asyncio.Event()
        """It was lost, or a call was given up."""

    def health(self) -> JsonObject:
        """How it is."""
        if self._client is None:
            return {"state": "down", "error": self._why}
        return {"state": "ready", "tools": len(self._tools)}

    async def tools(self) -> Mapping[str, AnyTool]:
        """Its tools by the names under which models call them.

        Raises:
            ToolUnavailableError: It is not there, and does not come soon.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await self._is_there.wait()
        if self._client is None:
            raise ToolUnavailableError(
                f"the MCP server {self.name!r} is not there now: {self._why}; its tools can be "
                "used once it is",
                retry_after_ms=int(_PATIENCE_S * 1000),
            )
        return self._tools

    @property
    def call_timeout_ms(self) -> int | None:
        """Of a call of its tools, where the settings say it."""
        return self._settings.call_timeout_ms

    async def run(self) -> None:
        """Keep it connected. Never returns."""
        wait_s = _FIRST_WAIT_S
        while True:
            began = time.monotonic()
            try:
                await self._be_connected()
            except Exception as error:  # noqa: BLE001 - whatever a server does, it is tried again
                self._why = _in_short(error)
            if time.monotonic() - began > _STEADY_S:
                wait_s = _FIRST_WAIT_S
            log.warning("mcp_server_down", server=self.name, error=self._why, retry_in_s=wait_s)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    async def call(self, tool: str, arguments: JsonObject, context: ToolContext) -> CallResult:
        """What a tool of it answers.

        Raises:
            ToolUnavailableError: It is gone, or left the call unanswered.
            ToolProblemError: It refuses the call.
        """
        client = self._client
        if client is None:
            raise ToolUnavailableError(f"the MCP server {self.name!r} is gone: {self._why}")
        self._calls += 1
        try:
            meta = {_KEY: context.idempotency_key}
            result = await client.call_tool(tool, arguments, meta=meta)  # type: ignore[arg-type]
        except MCPError as error:
            if error.code == CONNECTION_CLOSED:
                self._why = f"its connection was lost in a call of {tool!r}"
                self._is_lost = True
                self._has_news.set()
                raise ToolUnavailableError(f"the MCP server {self.name!r}: {self._why}") from error
            raise ToolProblemError(error.message) from error
        except asyncio.CancelledError:
            self._has_news.set()
            raise
        finally:
            self._calls -= 1
        return _read(result)

    async def _be_connected(self) -> None:
        """Connect, and look after the connection until it is lost.

        Raises:
            Exception: Why it could not be made, or how it was lost.
        """
        self._is_lost = False
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(self._settings.start_timeout_ms / 1000):
                client = await stack.enter_async_context(_client_of(self._settings))
                self._tools = await self._listed(client)
            self._client, self._why = client, "its connection was lost"
            self._is_there.set()
            log.info("mcp_server_ready", server=self.name, tools=sorted(self._tools))
            try:
                await self._look_after(client)
            finally:
                self._client = None
                self._is_there.clear()

    async def _look_after(self, client: Client) -> None:
        """Return when the connection is lost.

        While a call is carried out a server need not answer anything else: it may have one hand.

        Raises:
            TimeoutError: It does not say any more which tools it has.
        """
        while not self._is_lost:
            self._has_news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._has_news.wait()
            if not self._is_lost and self._calls == 0:
                async with asyncio.timeout(self._settings.start_timeout_ms / 1000):
                    self._tools = await self._listed(client)

    async def _listed(self, client: Client) -> dict[str, AnyTool]:
        """Its tools, as far as they are allowed and can be called."""
        found: dict[str, AnyTool] = {}
        cursor: str | None = None
        for _ in range(_MOST_PAGES):
            page = await client.list_tools(cursor=cursor, cache_mode="bypass")
            for one in page.tools:
                if len(found) < _MOST_TOOLS and self._is_taken(one.name):
                    tool = McpTool.of(self, one)
                    found[tool.spec.name] = tool
            cursor = page.next_cursor
            if cursor is None:
                break
        return found

    def _is_taken(self, tool: str) -> bool:
        settings = self._settings
        if not matches_any(settings.allow, tool) or matches_any(settings.deny, tool):
            return False
        if not is_tool_name(self.name + SERVER_MARK + tool):
            log.warning("mcp_tool_left_out", server=self.name, tool=tool[:100], why="its name")
            return False
        return True


@dataclass(frozen=True, slots=True)
class McpTool:
    """A tool of a server."""

    server: McpServer
    its_name: str
    spec: Tool
    timeout_ms: int | None
    kind: Literal["function", "extension"] = "extension"

    @classmethod
    def of(cls, server: McpServer, told: ServerTool) -> "McpTool":
        """The tool as its server tells of it."""
        spec = Tool(
            name=server.name + SERVER_MARK + told.name,
            description=told.description or told.title,
            parameters=dict(told.input_schema),
        )
        return cls(server, told.name, spec, server.call_timeout_ms)

    async def call(self, arguments: str, context: ToolContext, threads: Threads) -> object:  # noqa: ARG002 - as in AnyTool
        """What it answers.

        Raises:
            ToolArgumentsError: The arguments are no JSON object; whether they fit the server says.
            ToolProblemError: Why there is no answer.
        """
        try:
            given = json.loads(arguments.strip() or "{}")
        except ValueError as error:
            raise ToolArgumentsError(f"the arguments are no JSON: {error}") from error
        if not isinstance(given, dict):
            raise ToolArgumentsError("the arguments are no JSON object; give one")
        return await self.server.call(self.its_name, given, context)


@contextlib.asynccontextmanager
async def connected(
    servers: Mapping[str, McpServerSettings],
) -> AsyncIterator[Mapping[str, McpServer]]:
    """Servers that are kept connected while the block runs, and closed after it."""
    made = {name: McpServer(name, settings) for name, settings in servers.items()}
    running = [asyncio.create_task(one.run()) for one in made.values()]
    try:
        yield made
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@contextlib.asynccontextmanager
async def _client_of(settings: McpServerSettings) -> AsyncIterator[Client]:
    """A client of the server; its secrets are read anew, they may have been changed.

    Raises:
        ConfigurationError: A secret is not set.
        FileNotFoundError: There is no such program.
    """
    secrets = secrets_of(settings)
    async with contextlib.AsyncExitStack() as stack:
        if settings.url is not None:
            # Whoever calls bounds how long an answer may take.
            timeout = httpx2.Timeout(settings.start_timeout_ms / 1000, read=None)
            http = httpx2.AsyncClient(headers=secrets, timeout=timeout)
            await stack.enter_async_context(http)
            transport = streamable_http_client(settings.url, http_client=http)
        else:
            transport = stdio_client(_program(settings, secrets))
        yield await stack.enter_async_context(Client(transport, cache=None))


def _program(settings: McpServerSettings, environment: dict[str, str]) -> StdioServerParameters:
    """The program, tied to this process: it ends with it, also when this is killed."""
    command = str(settings.command)
    found = shutil.which(command, path=environment.get("PATH"))
    if found is None:
        raise FileNotFoundError(f"there is no program {command!r} on the PATH")
    tether = ["-m", "atlas.tethered", str(os.getpid()), found, *settings.args]
    return StdioServerParameters(
        command=sys.executable, args=tether, env=environment, cwd=settings.cwd
    )


def _read(result: CallToolResult) -> CallResult:
    """What a model reads of an answer: its texts, and of anything else what it was."""
    parts = [
        one.text if isinstance(one, TextContent) else f"[{one.type}, which is left out]"
        for one in result.content
    ]
    if not parts and result.structured_content is not None:
        parts = [json.dumps(result.structured_content, ensure_ascii=False)]
    return CallResult("\n".join(parts), ToolProblemError.code if result.is_error else None)


def _in_short(error: BaseException) -> str:
    """Why a connection failed: of a group the first cause."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    if isinstance(error, AtlasError | MCPError | FileNotFoundError):
        return str(error)[:500]
    return f"{type(error).__name__}: {error}"[:500]
