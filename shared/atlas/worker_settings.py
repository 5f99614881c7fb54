"""How workers, their tools and their specialisations are declared. Part of `settings`."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from atlas.contracts.base import PositiveMs
from atlas.contracts.ids import Capability
from atlas.contracts.inference import Requirements
from atlas.provider_settings import Section, http_url

BuiltIn = Literal[
    "planning",
    "research",
    "analysis",
    "draft",
    "code",
    "review",
    "summarize",
    "extract",
    "general",
]
"""The specialisations that every Atlas worker brings."""


def _tool_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value) or value == "read_result":
        raise ValueError(
            f"{value!r} cannot name a tool; give 1 to 64 of the characters A-Z a-z 0-9 _ -"
            + (", and not the name of Atlas's own" if value == "read_result" else "")
        )
    return value


def _server_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]+(_[A-Za-z0-9-]+)*", value) or len(value) > _LONGEST_SERVER:
        raise ValueError(
            f"{value!r} cannot name an MCP server; give 1 to {_LONGEST_SERVER} of the characters "
            "A-Z a-z 0-9 - _, with single _ between others: two of them part it from its tools"
        )
    return value


def _place(value: str) -> str:
    module, _, function = value.partition(":")
    if not (module and function):
        raise ValueError(f"give `module:function`, not {value!r}")
    return value


def _pattern(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]*\*|[A-Za-z0-9_.-]+", value):
        raise ValueError(
            f"{value!r} names no tools; give a name, or the beginning of names with a * after it"
        )
    return value


_LONGEST_SERVER = 24
type ToolName = Annotated[str, AfterValidator(_tool_name)]
type ServerName = Annotated[str, AfterValidator(_server_name)]
type ToolPattern = Annotated[str, AfterValidator(_pattern)]


class AgentLimits(Section):
    """Bounds of one conversation of a model with its tools.

    When one of the first three is reached the model is asked once more, without tools, for its best
    answer. What must not be passed in any case is a subtask's budget and deadline.
    """

    max_rounds: int = Field(default=10, ge=1, le=100, description="Answers of the model.")
    max_ms: PositiveMs | None = Field(default=None, description="After it the last round begins.")
    max_usd: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="After it the last round begins."
    )
    max_calls: int = Field(default=16, ge=1, le=128, description="Carried out of one round.")
    parallel_calls: int = Field(default=4, ge=1, le=64, description="Of them, at a time.")


class McpServerSettings(Section):
    """An MCP server: a program that the worker starts, or one that is reached by HTTP."""

    command: str | None = Field(default=None, min_length=1, description="A program to start.")
    args: list[str] = Field(default_factory=list)
    env: dict[str, SecretStr] = Field(
        default_factory=dict, description="Variables of the program, beside PATH, HOME and such."
    )
    cwd: Path | None = None
    url: Annotated[str, AfterValidator(http_url)] | None = None
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    secrets: dict[str, str] = Field(
        default_factory=dict,
        description="More of `env` or `headers`: name to the variable here that holds the value.",
    )
    allow: list[ToolPattern] = Field(
        default=["*"], description="Its tools to take, by its own names of them."
    )
    deny: list[ToolPattern] = Field(default_factory=list, description="Its tools to leave out.")
    start_timeout_ms: PositiveMs = 30_000
    call_timeout_ms: PositiveMs | None = Field(
        default=None, description="Of a call; else worker.tool_timeout_ms."
    )

    @model_validator(mode="after")
    def _is_started_or_reached(self) -> Self:
        if (self.command is None) == (self.url is None):
            raise ValueError("give `command`, a program to start, or `url`, where a server runs")
        if self.command is None and (self.args or self.env or self.cwd):
            raise ValueError("args, env and cwd are for a `command`; with a url give headers")
        if self.url is None and self.headers:
            raise ValueError("headers are for a `url`; with a command give env")
        return self


class SpecialisationSettings(Section):
    """One capability of the agent worker; what is not said is as in what it extends."""

    extends: BuiltIn | None = Field(
        default=None,
        description="What it is made from; by default the built-in one of its name, or `general`.",
    )
    prompt: str | None = Field(default=None, min_length=1, description="Who the model is.")
    model: str | None = Field(default=None, min_length=1)
    requirements: Requirements | None = Field(
        default=None, description="What its model must be able to do."
    )
    temperature: float | None = Field(default=None, ge=0, le=2)
    tools: list[ToolPattern] = Field(
        default_factory=list, description="What it may use: names, or beginnings with a *."
    )
    deny: list[ToolPattern] = Field(default_factory=list, description="Of these, what it may not.")
    concurrency: int | None = Field(
        default=None, ge=1, description="At a time in one worker; else only worker.concurrency."
    )
    limits: AgentLimits | None = Field(
        default=None, description="What is not said is as in worker.limits."
    )


class WorkerSettings(Section):
    """The agent worker."""

    concurrency: int = Field(default=8, ge=1)
    capabilities: list[str] = Field(
        default_factory=list,
        description="What to take; empty: every specialisation, built in or declared.",
    )
    model: str | None = Field(default=None, description="For subtasks that require nothing.")
    stream_timeout_ms: PositiveMs = Field(
        default=120_000, description="Silence of a stream after which an attempt is given up."
    )
    drain_ms: PositiveMs = 20_000
    specialisations: dict[Capability, SpecialisationSettings] = Field(
        default_factory=dict, description="Capabilities of one's own, and changes to built-in ones."
    )
    tools: dict[ToolName, Annotated[str, AfterValidator(_place)]] = Field(
        default_factory=dict,
        description="Python functions: name to `module:function`; the worker's Python must find "
        "the module.",
    )
    mcp: dict[ServerName, McpServerSettings] = Field(
        default_factory=dict, description="MCP servers; a tool is called `SERVER__TOOL`."
    )
    limits: AgentLimits = AgentLimits()
    tool_timeout_ms: PositiveMs = Field(
        default=60_000, description="Of a call, where nothing else is said of its tool."
    )
    tool_threads: int = Field(
        default=16, ge=1, description="Plain functions that run at a time, those that hang too."
    )
    max_result_bytes: int = Field(
        default=8 * 2**20, ge=1_000, description="What is taken of one call; more is an error."
    )
    shown_result_bytes: int = Field(
        default=16 * 2**10,
        ge=1_000,
        le=200_000,
        description="What a model gets of a result at once; it may read on.",
    )

    def limits_of(self, capability: str) -> AgentLimits:
        """The limits of a specialisation: its own over those of the worker."""
        own = self.specialisations.get(capability)
        if own is None or own.limits is None:
            return self.limits
        return self.limits.model_copy(update=own.limits.model_dump(exclude_unset=True))
