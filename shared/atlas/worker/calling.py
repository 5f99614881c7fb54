"""One call of a tool, contained: whatever it does, the worker goes on, and the model reads why.

A tool may hang, raise, exit, refuse to be cancelled, or give what nobody can read. None of that
leaves `Caller.call`, but for the cancellation of whoever called.
"""

import asyncio
import traceback
from dataclasses import dataclass, field

import structlog

from atlas.contracts.errors import AtlasError
from atlas.telemetry import captures_content
from atlas.worker.results import text_of
from atlas.worker.threads import Threads
from atlas.worker.tools import AnyTool, ToolContext, ToolProblemError, ToolTimeoutError

_LONGEST_PROBLEM = 1_000
"""Characters of what a tool raised."""
_MOST_FRAMES = 20
_WRITERS = 2
_CLOSE_S = 1.0

log = structlog.get_logger("atlas.worker")


@dataclass(frozen=True, slots=True)
class CallResult:
    """What the model reads of a call; with a code when the tool did not do it."""

    text: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Calls tools for all subtasks of a worker."""

    threads: Threads
    timeout_s: float
    most_bytes: int
    _writers: Threads = field(default_factory=lambda: Threads(_WRITERS))
    """For turning large values into JSON, beside threads that may all hang."""
    _running: set[asyncio.Task[CallResult]] = field(default_factory=set)

    async def call(
        self, tool: AnyTool, arguments: str, context: ToolContext, *, within_s: float | None = None
    ) -> CallResult:
        """The answer of a tool, or why there is none."""
        patience_s = self.timeout_s if tool.timeout_ms is None else tool.timeout_ms / 1000
        if within_s is not None:
            patience_s = min(patience_s, within_s)
        doing = asyncio.create_task(self._contained(tool, arguments, context))
        self._running.add(doing)
        doing.add_done_callback(self._running.discard)
        try:
            await asyncio.wait((doing,), timeout=patience_s)
        finally:
            doing.cancel()  # one that does not heed it is left behind, until `close`
        if not doing.done():
            said = f"no answer within {patience_s:g} s, so the call was given up"
            return CallResult(said, ToolTimeoutError.code)
        if doing.cancelled():
            return CallResult("the tool cancelled itself", ToolProblemError.code)
        return doing.result()

    async def close(self) -> None:
        """End the calls that are left behind, as far as they let themselves be ended."""
        left = list(self._running)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_CLOSE_S)

    async def _contained(self, tool: AnyTool, arguments: str, context: ToolContext) -> CallResult:
        try:
            given = await tool.call(arguments, context, self.threads)
            if isinstance(given, CallResult):
                return CallResult(text_of(given.text, self.most_bytes), given.error)
            if isinstance(given, str):
                return CallResult(text_of(given, self.most_bytes))
            bounds = {"value": given, "most_bytes": self.most_bytes}
            return CallResult(await self._writers.run(text_of, bounds))
        except AtlasError as error:
            return CallResult(error.message[:_LONGEST_PROBLEM], error.code)
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - see above
            kind = type(error).__name__
            cause = {"exc_info": True} if captures_content() else {"frames": _frames(error)}
            log.info("tool_raised", tool=tool.spec.name, error=kind, **cause)
            said = f"{kind}: {error}"[:_LONGEST_PROBLEM]
            return CallResult(said, ToolProblemError.code)


def _frames(error: BaseException) -> list[str]:
    """Where it was raised, without a word of what was said."""
    places = [
        f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_name}"
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    return places[-_MOST_FRAMES:]
