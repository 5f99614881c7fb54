"""The streams of one attempt: asked for once, followed to their end, paid from one budget.

The first stream has the id that the subtask brings, each further one an id made of what it asks
for: an attempt that is delivered again finds the streams that run already, and nobody pays twice.
"""

import asyncio
import contextlib
import hashlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from nats.errors import Error as NatsError

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.errors import (
    AtlasError,
    BudgetExceededError,
    FencedError,
    PayloadTooLargeError,
    ProviderContentFilterError,
    ProviderTimeoutError,
    StreamGapError,
    WorkCancelledError,
    error_from,
)
from atlas.contracts.ids import derived_id
from atlas.contracts.inference import (
    Budget,
    Cost,
    FinishReason,
    ModelRequest,
    ModelResponse,
    Usage,
)
from atlas.contracts.streams import (
    ControlAction,
    StreamCancelled,
    StreamCompleted,
    StreamControl,
    StreamFailed,
)
from atlas.contracts.work import Subtask
from atlas.reading import Reading
from atlas.wire import task_headers
from atlas.worker.following import StreamFollower

_BILL_S = 2.0
"""How long the end of a stream that was given up is waited for, to know what it cost."""


class InterruptedWorkError(Exception):
    """NATS failed this worker: the attempt goes on elsewhere, or later, with the same streams."""


class _LostStreamError(StreamGapError):
    """This stream stays broken; the next attempt has one of its own."""

    retryable = True


type Begin = Callable[[str], Awaitable[None]]
"""Tells that an attempt has begun, and the stream that was asked for."""


class ModelStreams:
    """What an attempt asks of models."""

    def __init__(
        self,
        bus: Bus,
        tenant: str,
        subtask: Subtask,
        *,
        lane: str,
        begin: Begin,
        silence_s: float,
    ) -> None:
        self._bus = bus
        self._tenant = tenant
        self._subtask = subtask
        self._lane = lane
        self._begin = begin
        self._silence_s = silence_s
        self._began_at = time.monotonic()
        self._paused_at: float | None = None
        self._paused_s = 0.0
        self._asked = 0
        self._addressed: Counter[str] = Counter()
        self._running: set[str] = set()
        self._may_begin = asyncio.Event()
        self._may_begin.set()
        self.interruption: InterruptedWorkError | None = None
        """NATS failed us once: then nothing that the handler makes of it is the outcome."""
        self.last: ModelResponse | None = None
        """The answer that came last."""
        self.usage = Usage()
        self.cost = Cost()

    def address(self, request: ModelRequest) -> str:
        """The id of the next stream: that of the subtask, or one made of what is asked for."""
        digest = hashlib.sha256(request.to_json()).hexdigest()
        is_first = not self._addressed
        self._addressed[digest] += 1
        first = self._subtask.stream_id
        return first if is_first else derived_id(first, digest, self._addressed[digest])

    async def ask(self, request: ModelRequest, *, stream_id: str | None = None) -> ModelResponse:
        """The answer of a stream; attaches to it when it runs already.

        Args:
            request: What to ask.
            stream_id: Where; by default the `address` of the request.

        Raises:
            AtlasError: How the stream ended, or why there is none.
            InterruptedWorkError: NATS failed us.
        """
        stream_id = stream_id or self.address(request)
        self._asked += 1
        if stream_id != self._subtask.stream_id:
            await self.may_begin()
        budget = narrower(request.budget, self._left())
        request = request.model_copy(update={"budget": budget})
        follower = StreamFollower(self._bus, self._tenant, stream_id)
        try:
            await follower.open()
            self._running.add(stream_id)
            await self._submit(stream_id, request)
            await self._begin(stream_id)
            reading = await follower.to_end(self._silence_s)
        except PayloadTooLargeError:
            self._running.discard(stream_id)
            raise
        except ProviderTimeoutError as error:
            await self._give_up(stream_id, error.message)
            raise
        except StreamGapError as error:
            await self._give_up(stream_id, error.message)
            raise _LostStreamError(error.message) from error
        except (AtlasError, NatsError, TimeoutError) as error:
            raise self.interrupted(error) from error
        finally:
            await follower.close()
        self._settle(stream_id, reading)
        self.last = answer_of(reading, self._subtask, stream_id)
        return self.last

    def interrupted(self, error: Exception) -> InterruptedWorkError:
        """NATS failed us, as the error says: what the handler makes of it counts for nothing."""
        self.interruption = InterruptedWorkError(str(error))
        return self.interruption

    async def may_begin(self) -> None:
        """Wait as long as somebody pauses the task."""
        await self._may_begin.wait()

    async def pause(self) -> None:
        """The task is paused: begin nothing, hold what runs; the controller holds the first."""
        if self._may_begin.is_set():
            self._may_begin.clear()
            self._paused_at = time.monotonic()
            await self._control_further(ControlAction.PAUSE)

    async def resume(self) -> None:
        """The task goes on."""
        if not self._may_begin.is_set():
            self._may_begin.set()
            self._paused_s += self._pause_s()
            self._paused_at = None
            await self._control_further(ControlAction.RESUME)

    def active_s(self) -> float:
        """How long the attempt has been at it; pauses are not counted."""
        return time.monotonic() - self._began_at - self._paused_s - self._pause_s()

    async def give_up(self, reason: str) -> None:
        """Nobody will read what still runs: stop its bill, and see what it came to."""
        for stream_id in sorted(self._running):
            await self._give_up(stream_id, reason)

    def _pause_s(self) -> float:
        """How long the pause has lasted that there is now."""
        return 0.0 if self._paused_at is None else time.monotonic() - self._paused_at

    def _left(self) -> Budget | None:
        """The subtask's part for the next stream: what the streams that ended have left of it."""
        budget = self._subtask.budget
        if budget is None or self._asked == 1:
            return budget
        return budget_left(budget, self.usage, self.cost, int(self.active_s() * 1000))

    async def _submit(self, stream_id: str, request: ModelRequest) -> None:
        """Ask for the stream, unless it was asked for: by us before a restart, or by another."""
        if await self._bus.last(subjects.STREAMS, subjects.stream_owner(self._tenant, stream_id)):
            return
        with contextlib.suppress(FencedError):  # it waits in the queue, or a router has it
            await self._bus.store(
                subjects.stream_request(self._tenant, stream_id, self._lane),
                request.to_json(),
                msg_id=f"{self._tenant}:{stream_id}",
                expected_last=0,
                headers=task_headers(self._subtask.task_id, self._subtask.task_budget),
            )

    async def _control_further(self, action: ControlAction) -> None:
        control = StreamControl(action=action, reason=f"the task is {action}d", by="agent_worker")
        for stream_id in sorted(self._running - {self._subtask.stream_id}):
            await self._bus.send(subjects.stream_control(self._tenant, stream_id), control)

    async def _give_up(self, stream_id: str, reason: str) -> None:
        control = StreamControl(
            action=ControlAction.CANCEL, reason=reason[:1024], by="agent_worker"
        )
        follower = StreamFollower(self._bus, self._tenant, stream_id)
        with contextlib.suppress(TimeoutError, AtlasError, NatsError):
            await self._bus.send(subjects.stream_control(self._tenant, stream_id), control)
            async with asyncio.timeout(_BILL_S):
                await follower.open()
                self._settle(stream_id, await follower.to_end(_BILL_S))
        await follower.close()
        self._running.discard(stream_id)

    def _settle(self, stream_id: str, reading: Reading) -> None:
        self._running.discard(stream_id)
        if reading.terminal is not None:
            self.usage += reading.terminal.usage
            self.cost += reading.terminal.cost


def answer_of(reading: Reading, subtask: Subtask, stream_id: str) -> ModelResponse:
    """The answer of a stream that has ended.

    Raises:
        AtlasError: It ended in another way, or was cut off by a filter or a budget.
    """
    match reading.terminal:
        case StreamCompleted(finish_reason=FinishReason.CONTENT_FILTER):
            raise ProviderContentFilterError(
                f"the model's provider refused the content of subtask {subtask.subtask_id!r}",
                details={"stream_id": stream_id},
            )
        case StreamCompleted(finish_reason=FinishReason.BUDGET) as end:
            raise BudgetExceededError(
                f"subtask {subtask.subtask_id!r} was ended for its budget: it used "
                f"{end.usage.input_tokens + end.usage.output_tokens} tokens, "
                f"{end.cost.total_usd:.6f} USD, {end.metrics.duration_ms} ms; its part is "
                f"{_told(subtask.budget)}, of {_told(subtask.task_budget)} for the task; give the "
                "task more, or less to do"
            )
        case StreamFailed() as end:
            raise error_from(end.error)
        case StreamCancelled() as end:
            by = f" by {end.by}" if end.by else ""
            why = f": {end.reason}" if end.reason else ""
            raise WorkCancelledError(f"stream {stream_id!r} was cancelled{by}{why}")
        case _:
            response = reading.response(stream_id)
            if response is None:
                raise AtlasError(f"stream {stream_id!r} has not ended")
            return response


def budget_left(budget: Budget, usage: Usage, cost: Cost, elapsed_ms: int) -> Budget:
    """What is left of a budget.

    Raises:
        BudgetExceededError: Nothing is.
    """
    used = {
        "max_tokens": usage.input_tokens + usage.output_tokens,
        "max_usd": cost.total_usd,
        "max_ms": elapsed_ms,
    }
    left = {name: limit - used[name] for name, limit in _limits(budget).items()}
    if spent := [name for name, rest in left.items() if rest <= 0]:
        raise BudgetExceededError(
            f"nothing is left of the subtask's {', '.join(spent)} ({_told(budget)}) for another "
            "stream; give the task more, or less to do"
        )
    return Budget.model_validate(left)


def narrower(one: Budget | None, other: Budget | None) -> Budget | None:
    """A budget that keeps within both."""
    if one is None or other is None:
        return one or other
    limits = _limits(one)
    for name, limit in _limits(other).items():
        limits[name] = min(limit, limits.get(name, limit))
    return Budget.model_validate(limits)


def _limits(budget: Budget) -> dict[str, float]:
    return budget.model_dump(exclude_none=True)


def _told(budget: Budget | None) -> str:
    limits = _limits(budget) if budget else {}
    return ", ".join(f"{name} {value}" for name, value in limits.items()) or "not limited"
