"""Doing one subtask: from the work to its outcome, by one stream of a model."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from agent_worker.following import StreamFollower
from agent_worker.output import read_output
from agent_worker.specialists import build_request, references, specialist_for
from agent_worker.wishes import Wishes
from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.base import now_ms
from atlas.contracts.errors import (
    AtlasError,
    BudgetExceededError,
    ErrorInfo,
    FencedError,
    PayloadTooLargeError,
    ProviderContentFilterError,
    ProviderTimeoutError,
    RequestTimeoutError,
    StreamGapError,
    WorkCancelledError,
)
from atlas.contracts.inference import Budget, Cost, FinishReason, ModelRequest, Usage
from atlas.contracts.streams import (
    ControlAction,
    StreamCancelled,
    StreamCompleted,
    StreamControl,
    StreamFailed,
)
from atlas.contracts.tasks import Subtask
from atlas.objects import Objects
from atlas.reading import Reading
from atlas.wire import task_headers

_BILL_S = 2.0
"""How long the end of a stream that was given up is waited for, to know what it cost."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: an output, or an error; and what it used up either way."""

    output: object = None
    error: ErrorInfo | None = None
    usage: Usage = field(default_factory=Usage)
    cost: Cost = field(default_factory=Cost)


type Begin = Callable[[], Awaitable[None]]
"""Tells that an attempt has begun: its stream is asked for, and known to whoever looks for it."""


class Executor:
    """Carries out subtasks."""

    def __init__(
        self,
        bus: Bus,
        objects: Objects,
        wishes: Wishes,
        *,
        default_model: str | None,
        silence_ms: int,
    ) -> None:
        self._bus = bus
        self._objects = objects
        self._wishes = wishes
        self._default_model = default_model
        self._silence_s = silence_ms / 1000

    async def attempt(self, tenant: str, subtask: Subtask, lane: str, begin: Begin) -> Outcome:
        """Do a subtask; attaches to its stream when that runs already.

        `begin` is called once the stream is asked for, so that whoever hears of it finds it.

        Raises:
            AtlasError: NATS failed us; the attempt may go on elsewhere, or later.
        """
        try:
            request = await self._request(tenant, subtask)
        except AtlasError as error:
            if error.retryable:
                raise
            return Outcome(error=error.to_info())
        follower = StreamFollower(self._bus, tenant, subtask.stream_id)
        try:
            async with asyncio.timeout(_seconds_left(subtask)):
                await follower.open()
                await self._submit(tenant, subtask, lane, request)
                await begin()
                reading = await follower.to_end(self._silence_s)
        except TimeoutError:
            late = RequestTimeoutError(
                f"subtask {subtask.subtask_id!r} was not done by its deadline_ms, "
                f"{subtask.deadline_ms}"
            )
            return await self._given_up(tenant, subtask, follower, late)
        except PayloadTooLargeError as error:
            return Outcome(error=error.to_info())
        except ProviderTimeoutError as error:
            return await self._given_up(tenant, subtask, follower, error)
        except StreamGapError as error:
            # This stream stays broken; the next attempt has one of its own.
            outcome = await self._given_up(tenant, subtask, follower, error)
            retryable = error.to_info().model_copy(update={"retryable": True})
            return replace(outcome, error=retryable)
        finally:
            await follower.close()
        return outcome_of(reading, subtask)

    async def _request(self, tenant: str, subtask: Subtask) -> ModelRequest:
        stored = references(subtask.inputs)
        values = {name: await self._objects.get(object_) for name, object_ in stored.items()}
        complete = subtask.model_copy(update={"inputs": {**subtask.inputs, **values}})
        specialist = specialist_for(subtask.capability)
        if subtask.requirements is None and self._default_model is None:
            wish = await self._wishes.granted(tenant, specialist.requirements)
            specialist = replace(specialist, requirements=wish)
        return build_request(complete, specialist, default_model=self._default_model)

    async def _submit(
        self, tenant: str, subtask: Subtask, lane: str, request: ModelRequest
    ) -> None:
        """Ask for the stream, unless it was asked for: by us before a restart, or by another."""
        stream_id = subtask.stream_id
        if await self._bus.last(subjects.STREAMS, subjects.stream_owner(tenant, stream_id)):
            return
        door = subjects.stream_request(tenant, stream_id, lane)
        try:
            await self._bus.store(
                door,
                request.to_json(),
                msg_id=f"{tenant}:{stream_id}",
                expected_last=0,
                headers=task_headers(subtask.task_id, subtask.task_budget),
            )
        except FencedError:
            return  # it waits in the queue, or a router has it

    async def _given_up(
        self, tenant: str, subtask: Subtask, follower: StreamFollower, error: AtlasError
    ) -> Outcome:
        """Nobody will read the stream: stop its bill, and see what it came to."""
        control = StreamControl(
            action=ControlAction.CANCEL, reason=error.message[:1024], by="agent_worker"
        )
        subject = subjects.stream_control(tenant, subtask.stream_id)
        await self._bus.send(subject, control)
        with contextlib.suppress(TimeoutError, AtlasError):
            async with asyncio.timeout(_BILL_S):
                end = (await follower.to_end(_BILL_S)).terminal
            if end is not None:
                return Outcome(error=error.to_info(), usage=end.usage, cost=end.cost)
        return Outcome(error=error.to_info())


def outcome_of(reading: Reading, subtask: Subtask) -> Outcome:
    """What a stream that has ended gives its subtask."""
    match reading.terminal:
        case StreamCompleted() as end:
            try:
                output = _output(reading, end, subtask)
            except AtlasError as error:
                return Outcome(error=error.to_info(), usage=end.usage, cost=end.cost)
            return Outcome(output=output, usage=end.usage, cost=end.cost)
        case StreamFailed() as end:
            return Outcome(error=end.error, usage=end.usage, cost=end.cost)
        case StreamCancelled() as end:
            by = f" by {end.by}" if end.by else ""
            why = f": {end.reason}" if end.reason else ""
            stop = WorkCancelledError(f"stream {subtask.stream_id!r} was cancelled{by}{why}")
            return Outcome(error=stop.to_info(), usage=end.usage, cost=end.cost)
        case None:
            raise AtlasError(f"stream {subtask.stream_id!r} has not ended")


def _output(reading: Reading, end: StreamCompleted, subtask: Subtask) -> object:
    if end.finish_reason is FinishReason.CONTENT_FILTER:
        raise ProviderContentFilterError(
            f"the model's provider refused the content of subtask {subtask.subtask_id!r}"
        )
    if end.finish_reason is FinishReason.BUDGET:
        raise BudgetExceededError(
            f"subtask {subtask.subtask_id!r} was ended for its budget: it used "
            f"{end.usage.input_tokens + end.usage.output_tokens} tokens, {end.cost.total_usd:.6f} "
            f"USD, {end.metrics.duration_ms} ms; its part is {_told(subtask.budget)}, of "
            f"{_told(subtask.task_budget)} for the task; give the task more, or less to do"
        )
    return read_output(reading.text, subtask.output_schema)


def _told(budget: Budget | None) -> str:
    limits = budget.model_dump(exclude_none=True) if budget else {}
    return ", ".join(f"{name} {value}" for name, value in limits.items()) or "not limited"


def _seconds_left(subtask: Subtask) -> float | None:
    if subtask.deadline_ms is None:
        return None
    return max(0.0, (subtask.deadline_ms - now_ms()) / 1000)
