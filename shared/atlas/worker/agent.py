"""The agent loop: a model asks for tools, reads what they answer, and goes on until it has it.

Each round is an ordinary stream of the router. The first has the address of any question, each
further one an address made of that and its number, and what tools answered is kept: an attempt that
is delivered again after a crash finds the rounds and the answers that there are already.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from atlas.contracts.errors import AtlasError, ErrorCategory
from atlas.contracts.ids import derived_id
from atlas.contracts.inference import (
    JsonSchemaFormat,
    Message,
    ModelRequest,
    ModelResponse,
    Part,
    Role,
    TextPart,
    ToolCall,
)
from atlas.objects import Objects
from atlas.worker.calling import Caller
from atlas.worker.grants import Grant
from atlas.worker.journal import Journal
from atlas.worker.output import OutputMismatchError, read_output
from atlas.worker.tool_calls import Origin, ToolCalls, call_part
from atlas.worker.toolbox import Toolbox
from atlas.worker.tools import AnyTool
from atlas.worker_settings import AgentLimits

_ENOUGH = (
    "You have had all the rounds, time or money that there are for this. Call no more tools; give "
    "the best answer that you can with what you have, and say what is missing."
)


class AgentLimitError(AtlasError):
    """A model went on calling tools when it was to answer; another attempt may do better."""

    code = "agent_limit"
    category = ErrorCategory.BUDGET
    retryable = True


@dataclass(frozen=True, slots=True)
class Agents:
    """What the agents of a worker share."""

    toolbox: Toolbox
    caller: Caller
    objects: Objects
    limits: AgentLimits
    shown_bytes: int

    async def run(
        self,
        origin: Origin,
        request: ModelRequest,
        grant: Grant,
        asked: Sequence[str],
        limits: AgentLimits | None,
    ) -> ModelResponse:
        """The answer to a request, with the tools that are asked for and granted.

        Raises:
            AtlasError: Why there is none.
            InterruptedWorkError: NATS failed us.
        """
        tools = await self.toolbox.granted(grant, asked, origin.subtask.capability)
        if not tools:
            return await origin.streams.ask(request)
        bounds = limits or self.limits
        calls = ToolCalls(
            origin,
            {one.spec.name: one for one in tools},
            bounds,
            self.caller,
            Journal(self.objects, origin.tenant),
            self.shown_bytes,
        )
        return await _Loop(origin, request, calls, bounds).run()


class _Loop:
    """One conversation of a model with its tools."""

    def __init__(
        self, origin: Origin, request: ModelRequest, calls: ToolCalls, limits: AgentLimits
    ) -> None:
        self._streams = origin.streams
        self._request = request
        self._calls = calls
        self._limits = limits
        self._messages = list(request.messages)
        self._began_s = self._streams.active_s()
        self._spent_usd = 0.0

    async def run(self) -> ModelResponse:
        """The answer of the round that calls no tool."""
        first_id = self._streams.address(_offering(self._request, self._calls.offered))
        stream_id, last_word = first_id, ""
        for number in itertools.count(1):
            if not last_word and (number >= self._limits.max_rounds or self._is_spent()):
                last_word = _ENOUGH
            answer = await self._streams.ask(self._round(last_word), stream_id=stream_id)
            problem = "" if last_word else self._problem(answer)
            if not answer.tool_calls and not problem:
                return answer
            if number >= self._limits.max_rounds or last_word == _ENOUGH:
                return _at_the_limit(answer, number)
            self._spent_usd += answer.cost.total_usd
            if answer.content or answer.tool_calls:
                self._messages.append(_said(answer))
            if answer.tool_calls:
                results: list[Part] = []
                results += await self._calls.carry_out(stream_id, answer.tool_calls, self._left_s())
                self._messages.append(Message(role=Role.TOOL, content=results))
            last_word = problem
            stream_id = derived_id(first_id, "round", number + 1)
        raise AssertionError("rounds are counted without end")

    def _problem(self, answer: ModelResponse) -> str:
        """What the model is told of an answer that is not in the form that is asked for.

        Some servers hold models to no form while they offer tools, so it is asked for once more.
        """
        wanted = self._request.response_format
        if answer.tool_calls or not isinstance(wanted, JsonSchemaFormat):
            return ""
        try:
            read_output(answer.content, wanted.json_schema)
        except OutputMismatchError as error:
            return f"{error.message}. Answer with the JSON that was asked for, and nothing else."
        return ""

    def _round(self, last_word: str) -> ModelRequest:
        """The request of a round; the last one, in which no tool may be called, has a last word."""
        request = _offering(self._request, self._calls.offered)
        if not last_word:
            return request.model_copy(update={"messages": list(self._messages)})
        said = Message(role=Role.USER, content=last_word)
        # The tools stay: providers refuse a conversation with calls of tools that they don't know.
        return request.model_copy(
            update={"messages": [*self._messages, said], "tool_choice": "none"}
        )

    def _is_spent(self) -> bool:
        left_s, most_usd = self._left_s(), self._limits.max_usd
        return left_s == 0 or (most_usd is not None and self._spent_usd >= most_usd)

    def _left_s(self) -> float | None:
        if self._limits.max_ms is None:
            return None
        return max(0.0, self._limits.max_ms / 1000 - (self._streams.active_s() - self._began_s))


def _offering(request: ModelRequest, tools: Sequence[AnyTool]) -> ModelRequest:
    return request.model_copy(update={"tools": [one.spec for one in tools]})


def _said(answer: ModelResponse) -> Message:
    """The turn of the model, as the next round gets it."""
    text: list[Part] = [TextPart(text=answer.content)] if answer.content else []
    calls = [call_part(one, number) for number, one in enumerate(answer.tool_calls)]
    return Message(role=Role.ASSISTANT, content=[*text, *calls])


def _at_the_limit(answer: ModelResponse, rounds: int) -> ModelResponse:
    """The answer of a model that calls tools although it may not any more.

    Raises:
        AgentLimitError: It says nothing else.
    """
    if answer.content:
        return answer
    raise AgentLimitError(
        f"the model calls {_names(answer.tool_calls)} in round {rounds}, the last one, and gives "
        "no answer; allow more (limits: max_rounds, max_ms, max_usd), or ask for less"
    )


def _names(calls: Sequence[ToolCall]) -> str:
    return ", ".join(sorted({one.name[:64] for one in calls}))
