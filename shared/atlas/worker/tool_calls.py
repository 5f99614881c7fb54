"""The calls that a model makes in one round: granted, carried out, recorded, and kept."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from opentelemetry.trace import SpanKind

from atlas import telemetry
from atlas.contracts.base import JsonObject
from atlas.contracts.errors import NotFoundError, StoreRefusedError
from atlas.contracts.inference import ToolCall, ToolCallPart, ToolResultPart
from atlas.contracts.work import Subtask
from atlas.telemetry import captures_content, meters, names
from atlas.worker.calling import Caller, CallResult
from atlas.worker.function_tools import FunctionTool
from atlas.worker.journal import Entry, Journal
from atlas.worker.progress import LatestProgress
from atlas.worker.reporting import Voice
from atlas.worker.results import beginning
from atlas.worker.streaming import ModelStreams
from atlas.worker.tools import AnyTool, ToolArgumentsError, ToolContext, ToolNotGrantedError
from atlas.worker_settings import AgentLimits

_MOST_SHOWN_BYTES = 400_000
"""Of all results of a loop: a request to a model is one message, and NATS takes a megabyte."""
_LEAST_SHOWN_BYTES = 1_000
_LONGEST_NAME = 64
"""Of a tool, as far as it is told: a model may make up any."""
_ASIDE_BYTES = 200
"""For what stands beside a piece of a long result."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose calls they are."""

    tenant: str
    subtask: Subtask
    voice: Voice
    streams: ModelStreams


@dataclass(slots=True)
class ToolCalls:
    """Carries out calls for one agent."""

    origin: Origin
    tools: Mapping[str, AnyTool]
    limits: AgentLimits
    caller: Caller
    journal: Journal
    shown_bytes: int
    """The most that a model reads of one result at a time."""
    _hands: asyncio.Semaphore = field(init=False)
    _wholes: dict[str, str] = field(default_factory=dict)
    """Long results: what the model calls them, and the objects that hold them."""
    _told_bytes: int = 0

    def __post_init__(self) -> None:
        self._hands = asyncio.Semaphore(self.limits.parallel_calls)

    @property
    def offered(self) -> list[AnyTool]:
        """What the model may call now."""
        return [*self.tools.values(), *([self._reader()] if self._wholes else [])]

    async def carry_out(
        self, stream_id: str, calls: Sequence[ToolCall], within_s: float | None
    ) -> list[ToolResultPart]:
        """The answers to the calls of one round, in their order.

        Args:
            stream_id: The stream that made them: it tells them from those of other rounds.
            calls: As the model wrote them.
            within_s: What is left of the time of the whole.

        Raises:
            InterruptedWorkError: NATS failed us; what was answered until then is kept.
        """
        offered = {one.spec.name: one for one in self.offered}
        async with asyncio.TaskGroup() as group:
            doing = [
                group.create_task(
                    self._answered(_Place(stream_id, number), call, offered, within_s)
                )
                for number, call in enumerate(calls)
            ]
        if self.origin.streams.interruption is not None:
            raise self.origin.streams.interruption
        entries = [one.result() for one in doing]
        return [
            ToolResultPart(
                type="tool_result",
                tool_call_id=id_of(call, number),
                content=entry.text,
                is_error=entry.error is not None,
            )
            for number, (call, entry) in enumerate(zip(calls, entries, strict=True))
        ]

    async def _answered(
        self,
        place: "_Place",
        call: ToolCall,
        offered: Mapping[str, AnyTool],
        within_s: float | None,
    ) -> Entry:
        """What the model reads of a call: what was kept of it, or what is called now."""
        try:
            entry = await self.journal.read(place.name)
            if entry is None:
                async with self._hands:
                    await self.origin.streams.may_begin()
                    result = await self._recorded(place, call, offered, within_s)
                entry = await self._entry(place, result)
                await self.journal.keep(place.name, entry)
        except StoreRefusedError as error:
            self.origin.streams.interrupted(error)
            return Entry(text="")
        if entry.whole is not None:
            self._wholes[place.short] = entry.whole
        self._told_bytes += len(entry.text.encode())
        return entry

    async def _recorded(
        self,
        place: "_Place",
        call: ToolCall,
        offered: Mapping[str, AnyTool],
        within_s: float | None,
    ) -> CallResult:
        """Carry out a call, in a span of its own, and tell what came of it."""
        tool, name = offered.get(call.name), call.name[:_LONGEST_NAME]
        began = time.monotonic()
        attributes: dict[str, telemetry.Attribute] = {
            names.OPERATION: "execute_tool",
            names.TOOL_NAME: name,
            names.TOOL_CALL_ID: call.id,
            names.TOOL_TYPE: tool.kind if tool else "function",
        }
        if captures_content():
            attributes[names.TOOL_ARGUMENTS] = call.arguments
        with telemetry.span(
            names.execute_tool(name), kind=SpanKind.INTERNAL, attributes=attributes
        ) as span:
            if place.number >= self.limits.max_calls:
                result = CallResult(
                    f"not called: at most {self.limits.max_calls} calls are carried out in a "
                    "round; call again what you still need",
                    ToolNotGrantedError.code,
                )
            elif tool is None:
                known = ", ".join(sorted(offered)) or "none"
                result = CallResult(
                    f"there is no tool {name!r} for you; these are: {known}",
                    ToolNotGrantedError.code,
                )
            else:
                result = await self._called(place, call, tool, within_s)
            if result.error is not None:
                telemetry.mark_failed(result.error)
            if captures_content():
                span.set_attribute(names.TOOL_RESULT, result.text)
        took_s = time.monotonic() - began
        _measure(name if tool else names.OTHER, result, took_s)
        await self._tell(place, call, result, took_s)
        return result

    async def _called(
        self, place: "_Place", call: ToolCall, tool: AnyTool, within_s: float | None
    ) -> CallResult:
        subtask, voice = self.origin.subtask, self.origin.voice
        progress = LatestProgress(call.name, voice.progress)
        context = ToolContext(
            self.origin.tenant,
            subtask.task_id,
            subtask.subtask_id,
            f"{subtask.idempotency_key}:{place.name}",
            progress.put,
        )
        telling = asyncio.create_task(progress.run())
        try:
            return await self.caller.call(tool, call.arguments, context, within_s=within_s)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    async def _tell(
        self, place: "_Place", call: ToolCall, result: CallResult, took_s: float
    ) -> None:
        """Tell of a call to whoever watches the subtask; never what it was given or answered."""
        what: JsonObject = {
            "tool": call.name[:_LONGEST_NAME],
            "call": place.short,
            "state": _STATES.get(result.error, "failed"),
            "duration_ms": round(took_s * 1000),
            "result_bytes": len(result.text.encode()),
        }
        if result.error is not None:
            what["error"] = result.error
        await self.origin.voice.progress({"tool_call": what})
        await self.origin.voice.event("subtask.tool_called", **what)

    async def _entry(self, place: "_Place", result: CallResult) -> Entry:
        """The result as the model reads it: all of it, or its beginning and how to read on."""
        limit = self._limit_bytes()
        if len(result.text.encode()) <= limit:
            return Entry(text=result.text, error=result.error)
        whole = await self.journal.keep_whole(place.name, result.text)
        shown = beginning(result.text, limit - _ASIDE_BYTES)
        note = (
            f"\n[These are the first {len(shown):,} of {len(result.text):,} characters. For more: "
            f"read_result(result={place.short!r}, start={len(shown)})]"
        )
        return Entry(text=shown + note, error=result.error, whole=whole)

    def _limit_bytes(self) -> int:
        left = _MOST_SHOWN_BYTES - self._told_bytes
        return max(_LEAST_SHOWN_BYTES, min(self.shown_bytes, left))

    def _reader(self) -> AnyTool:
        async def read_result(result: str, start: int = 0) -> str:
            """Read on in a result that was too long to be given at once.

            Args:
                result: Which one, as it was told there.
                start: The first character to read.
            """
            name = self._wholes.get(result)
            if name is None:
                known = ", ".join(sorted(self._wholes))
                raise ToolArgumentsError(f"there is no long result {result!r}; these are: {known}")
            try:
                text = await self.journal.whole(name)
            except NotFoundError as error:
                raise ToolArgumentsError(f"the result {result!r} is gone: it expired") from error
            piece = beginning(text[max(0, start) :], self._limit_bytes() - _ASIDE_BYTES)
            end = max(0, start) + len(piece)
            return f"{piece}\n[Characters {max(0, start):,} to {end:,} of {len(text):,}]"

        return FunctionTool(read_result)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a call stands: which stream made it, and which of its calls it is."""

    stream_id: str
    number: int

    @property
    def name(self) -> str:
        """Tells it from every other call, and is the same whenever it is made again."""
        return f"{self.stream_id}.{self.number}"

    @property
    def short(self) -> str:
        """As a model reads it."""
        return f"{self.stream_id[:6]}.{self.number}"


def _measure(tool: str, result: CallResult, took_s: float) -> None:
    labels: dict[str, telemetry.Attribute] = {
        names.OPERATION: "execute_tool",
        names.TOOL_NAME: tool,
    }
    if result.error is not None:
        labels[names.ERROR_TYPE] = result.error
    meters.record(names.TOOL_DURATION, took_s, labels)


_STATES = {None: "done", ToolNotGrantedError.code: "refused"}


def id_of(call: ToolCall, number: int) -> str:
    """The id of a call; one is made for it where a provider gave none."""
    return call.id or f"call_{number}"


def call_part(call: ToolCall, number: int) -> ToolCallPart:
    """The call as it stands in the conversation.

    Arguments that are no JSON object cannot stand there: providers refuse them, whoever wrote them.
    """
    try:
        is_object = isinstance(json.loads(call.arguments or "{}"), dict)
    except ValueError:
        is_object = False
    return ToolCallPart(
        type="tool_call",
        id=id_of(call, number),
        name=call.name or "unnamed",
        arguments=(call.arguments or "{}") if is_object else "{}",
    )
