"""What a tool is to an agent, and what a tool may know of the call that it answers."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from atlas.contracts.base import JsonObject
from atlas.contracts.errors import AtlasError, ErrorCategory, InvalidRequestError
from atlas.contracts.inference import Tool
from atlas.worker.threads import Threads

_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class ToolProblemError(AtlasError):
    """A tool did not do what it was called for; the model reads why, and may mend it."""

    code = "tool_failed"


class ToolArgumentsError(ToolProblemError):
    """The arguments of a call are not what the tool takes."""

    code = "tool_arguments"
    category = ErrorCategory.VALIDATION


class ToolResultError(ToolProblemError):
    """What a tool gave is nothing that a model could read, or too much."""

    code = "tool_result"
    category = ErrorCategory.VALIDATION


class ToolTimeoutError(ToolProblemError):
    """A tool took longer than it may."""

    code = "tool_timeout"
    category = ErrorCategory.TIMEOUT


class ToolUnavailableError(ToolProblemError):
    """The server of a tool is not there now; later it may be."""

    code = "tool_unavailable"
    category = ErrorCategory.CONNECTION
    retryable = True


class ToolNotGrantedError(InvalidRequestError):
    """A tool was asked for that this capability may not use, or that there is not."""

    code = "tool_not_granted"


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool may know of its call: a parameter of this type gets it."""

    tenant: str
    task_id: str
    subtask_id: str
    idempotency_key: str
    """`task:subtask:attempt:` and what tells the call from others of the attempt. A call that is
    made once more after a crash has the same."""
    tell: Callable[[JsonObject], None]

    def progress(self, **what: object) -> None:
        """Tell how far it is, in JSON values; from a thread too. What comes too fast is left out.

        Raises:
            InvalidRequestError: It is no JSON, or more than 64 KiB.
        """
        self.tell(what)


class AnyTool(Protocol):
    """A tool, wherever it runs."""

    @property
    def spec(self) -> Tool:
        """What models are told of it."""
        ...

    @property
    def kind(self) -> Literal["function", "extension"]:
        """As `gen_ai.tool.type` has it: run here, or by a server that we call."""
        ...

    @property
    def timeout_ms(self) -> int | None:
        """Of one call; None: as the settings say."""
        ...

    async def call(self, arguments: str, context: ToolContext, threads: Threads) -> object:
        """What it answers; raises why it does not."""
        ...


def is_tool_name(text: str) -> bool:
    """Whether models may call a tool so."""
    return _TOOL_NAME.fullmatch(text) is not None
