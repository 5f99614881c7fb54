"""One attempt at a subtask: a handler, from its inputs to the outcome."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from atlas.bus import Bus
from atlas.contracts.base import JsonObject, now_ms
from atlas.contracts.errors import AtlasError, ErrorInfo, RequestTimeoutError
from atlas.contracts.inference import Cost, ModelRequest, ModelResponse, Usage
from atlas.contracts.work import Subtask
from atlas.objects import Objects
from atlas.worker.agent import Agents
from atlas.worker.context import WorkContext
from atlas.worker.faults import check_not_empty, fault_of, tell
from atlas.worker.grants import Grant
from atlas.worker.output import read_output
from atlas.worker.reporting import Voice
from atlas.worker.streaming import InterruptedWorkError, ModelStreams
from atlas.worker.task_log import TaskLog
from atlas.worker.tool_calls import Origin
from atlas.worker_settings import AgentLimits

_LONGEST_MESSAGE = 1_000

type Handler = Callable[[Subtask, WorkContext], Awaitable[object]]
"""Does a subtask: gives text or JSON, or raises why it cannot."""

log = structlog.get_logger("atlas.worker")


class HandlerFailedError(AtlasError):
    """A handler raised what is no error of the contract; another attempt may do better."""

    code = "handler_failed"
    retryable = True


@dataclass(frozen=True, slots=True)
class Handling:
    """How one capability is done."""

    handler: Handler
    grant: Grant
    """The tools that its agents may use."""
    limits: AgentLimits | None = None
    """Of its agents; None: as those of the worker."""
    concurrency: int | None = None
    """At a time; None: as many as there are hands."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: an output, or an error, or neither; and what it used up."""

    output: object = None
    replan: str | None = None
    """Why the rest of the plan must change, where the handler said so."""
    error: ErrorInfo | None = None
    is_given_up: bool = False
    """Nobody waits for it any more."""
    usage: Usage = field(default_factory=Usage)
    cost: Cost = field(default_factory=Cost)


@dataclass(frozen=True, slots=True)
class Attempts:
    """Makes attempts; what all of them share."""

    bus: Bus
    objects: Objects
    handlings: Mapping[str, Handling]
    agents: Agents
    default_model: str | None
    silence_s: float

    def of(self, tenant: str, subtask: Subtask, lane: str, voice: Voice) -> "Attempt":
        """An attempt that has yet to be run."""
        streams = ModelStreams(
            self.bus, tenant, subtask, lane=lane, begin=voice.stream, silence_s=self.silence_s
        )
        return Attempt(self, tenant, subtask, voice, streams)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A handler at work on a subtask."""

    shared: Attempts
    tenant: str
    subtask: Subtask
    voice: Voice
    streams: ModelStreams

    async def run(self) -> Outcome:
        """Do it.

        Raises:
            InterruptedWorkError: NATS failed us; the attempt may go on elsewhere, or later.
            AtlasError: An input could not be read now; the same.
        """
        try:
            complete = await self._complete()
        except AtlasError as error:
            if error.retryable:
                raise
            return Outcome(error=error.to_info())
        output, replan, failure = None, None, None
        try:
            output, replan = await self._handled(complete)
        except AtlasError as error:
            failure = error
        if self.streams.interruption is not None:  # whatever the handler made of it
            raise self.streams.interruption
        await self.streams.give_up(failure.message if failure else "the subtask is done without it")
        error_info = failure.to_info() if failure else None
        return Outcome(output, replan, error_info, usage=self.streams.usage, cost=self.streams.cost)

    async def abandon(self) -> Outcome:
        """Nobody waits for it any more: end what it asked of models; gives what that used."""
        await self.streams.give_up("nobody waits for it any more")
        return Outcome(is_given_up=True, usage=self.streams.usage, cost=self.streams.cost)

    async def heed(self, log: TaskLog) -> bool:
        """Pause and resume with the task; whether its log says that this attempt is pointless.

        Raises:
            AtlasError: NATS is away.
        """
        if log.is_paused:
            await self.streams.pause()
        else:
            await self.streams.resume()
        return log.is_over

    async def _handled(self, subtask: Subtask) -> tuple[object, str | None]:
        """What the handler made, and why the plan must change, if it says so."""
        handling = self.shared.handlings[subtask.capability]
        origin = Origin(self.tenant, subtask, self.voice, self.streams)

        async def run_agent(
            request: ModelRequest, asked: Sequence[str], limits: AgentLimits | None
        ) -> ModelResponse:
            bounds = limits or handling.limits
            return await self.shared.agents.run(origin, request, handling.grant, asked, bounds)

        ctx = WorkContext(
            self.tenant,
            subtask,
            self.streams,
            run_agent=run_agent,
            tell=self.voice.progress,
            default_model=self.shared.default_model,
        )
        try:
            async with asyncio.timeout(_seconds_left(subtask)) as deadline:
                given = await handling.handler(subtask, ctx)
        except AtlasError as error:
            await self._blame(error, None)
            raise
        except InterruptedWorkError:
            raise
        except Exception as error:
            if deadline.expired():
                raise RequestTimeoutError(
                    f"subtask {subtask.subtask_id!r} was not done by its deadline_ms, "
                    f"{subtask.deadline_ms}"
                ) from error
            log.exception("handler_failed", capability=subtask.capability)
            said = f"{type(error).__name__}: {error}"[:_LONGEST_MESSAGE]
            raise HandlerFailedError(
                f"the handler of {subtask.capability!r} failed with {said}; its worker's log has "
                "the cause"
            ) from error
        try:
            check_not_empty(given, self.streams.last)
            return read_output(given, subtask.output_schema), ctx.replan
        except AtlasError as error:
            await self._blame(error, given)
            raise

    async def _blame(self, failure: AtlasError, given: object) -> None:
        """What is the model's fault the routers are to know; where they do not, nothing is lost."""
        fault = fault_of(failure, given, self.streams.last)
        if fault is not None:
            with contextlib.suppress(AtlasError):
                await tell(self.shared.bus, self.tenant, fault, failure)

    async def _complete(self) -> Subtask:
        """The subtask with the inputs that stand in the object store."""
        own = f"{self.tenant}.{self.subtask.task_id}."
        stored = references(self.subtask.inputs, own)
        values = {name: await self.shared.objects.get(object_) for name, object_ in stored.items()}
        return self.subtask.model_copy(update={"inputs": {**self.subtask.inputs, **values}})


def references(inputs: JsonObject, own: str) -> dict[str, str]:
    """The inputs that stand in the object store: name to object.

    Anybody may give a task an input of this shape, and so may a model: only objects of the task
    itself are meant, whose names begin with `own`. Any other value stays what it is.
    """
    return {
        name: ref
        for name, value in inputs.items()
        if isinstance(value, dict) and set(value) == {"output_ref"}
        if isinstance(ref := value["output_ref"], str) and ref.startswith(own)
    }


def _seconds_left(subtask: Subtask) -> float | None:
    if subtask.deadline_ms is None:
        return None
    return max(0.0, (subtask.deadline_ms - now_ms()) / 1000)
