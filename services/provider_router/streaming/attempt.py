"""One attempt at one provider: leave to send it, its bytes as content, its outcome.

Attempts of one stream may race (`race`). Only a committed attempt writes into the stream, and
until then nobody sees that there was a race (contract A3, "Fallback").
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from atlas import telemetry
from atlas.contracts.base import now_ms
from atlas.contracts.errors import (
    AtlasError,
    ErrorInfo,
    ProviderError,
    ProviderTimeoutError,
)
from atlas.contracts.events import AttemptOutcome
from atlas.contracts.inference import FinishReason
from provider_router.providers.base import Adapter, Delta, Finished, ModelCall, UsageReport
from provider_router.routing.board import Board
from provider_router.routing.choosing import Candidate
from provider_router.routing.provider_accounts import Ticket
from provider_router.streaming.begun import Continuation
from provider_router.streaming.easing import Easing
from provider_router.streaming.encoding import Content, coalesce
from provider_router.streaming.gate import Gate
from provider_router.streaming.job import Job
from provider_router.streaming.ledger import AttemptUsage

_QUEUE_S = 30.0
"""The longest wait for a place at a provider that has as many attempts as it may."""


@dataclass(slots=True, eq=False)
class Attempt:
    """One attempt, as far as it came."""

    number: int
    candidate: Candidate
    usage: AttemptUsage
    is_patient: bool
    """Whether it waits for a busy provider; where another candidate is free it does not."""
    continuation: Continuation | None = None
    """What it goes on from; None when it begins the answer."""
    finish: FinishReason | None = None
    error: ErrorInfo | None = None

    def fail(self, error: AtlasError) -> ErrorInfo:
        """It failed; gives how that goes over the wire."""
        self.error = error.to_info()
        self.usage.end(AttemptOutcome.FAILED, self.error.code)
        return self.error


class Sink(Protocol):
    """Where attempts bring their content."""

    async def commit(self, attempt: Attempt) -> None:
        """Make it the stream's own; returns when it may write, which a loser never may."""
        ...

    async def write(self, contents: list[Content], chunks: int) -> None:
        """Write content of the committed attempt, which so many chunks of the provider brought."""
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Sends the attempts of one stream."""

    job: Job
    adapters: Mapping[str, Adapter]
    timeouts_s: Mapping[str, float]
    """How long a whole attempt may take, by provider, without its pauses."""
    board: Board
    gate: Gate
    sink: Sink
    easing: Easing
    joins: bool
    """Whether what one read brought is one event."""

    async def run(self, attempt: Attempt) -> None:
        """Carry one attempt to the end of its answer.

        Raises:
            ProviderError: It failed; the board knows by now.
        """
        await self.gate.passage()
        ticket = await self._admission(attempt)
        try:
            await self._stream(attempt, ticket)
        except ProviderError as error:
            if error.was_sent:
                attempt.usage.has_response = True  # sent is paid, as far as anybody can tell
            ticket.told(error.headers)
            ticket.failed(attempt.fail(error))
            raise
        except BaseException as error:  # it was cancelled, lost a race, or we failed ourselves
            attempt.usage.has_response = True  # as above
            if isinstance(error, AtlasError):
                attempt.fail(error)
            ticket.released()
            raise
        else:
            attempt.usage.end(AttemptOutcome.COMPLETED)
            ticket.succeeded(attempt.usage.usage(), attempt.usage.cost())
            job, model = self.job, attempt.candidate.full_name
            self.board.answers.gave(job.asker, job.address.stream_id, model, now_ms())
        finally:
            ticket.ended(attempt.usage.usage())

    async def _admission(self, attempt: Attempt) -> Ticket:
        """Leave to send it; waits for a busy provider only when there is no other."""
        candidate = attempt.candidate
        try:
            return await self.board.of(candidate.provider).enter(
                candidate.model,
                self.job.plan.expected,
                patience_s=_QUEUE_S if attempt.is_patient else 0.0,
            )
        except ProviderError as error:
            attempt.fail(error)
            raise

    async def _stream(self, attempt: Attempt, ticket: Ticket) -> None:
        """The provider's bytes to the stream's events. The per-chunk path."""
        candidate, gate, sink, easing = attempt.candidate, self.gate, self.sink, self.easing
        headers: dict[str, str] = {}
        telemetry.inject(headers)
        continuation = attempt.continuation
        request = self.job.request if continuation is None else continuation.request
        call = ModelCall(candidate.model, request, headers, continuation is not None)
        has_content = False
        limit_s = self.timeouts_s[candidate.provider]
        try:
            async with (
                asyncio.timeout(limit_s) as deadline,
                self.adapters[candidate.provider].stream(call) as batches,
            ):
                attempt.usage.has_response = True
                ticket.told(batches.headers)
                async for batch in batches:
                    if not gate.is_flowing:
                        with batches.held():
                            await _pause(deadline, gate)
                    contents = _take(batch, attempt)
                    chunks = len(contents)
                    if chunks > 1 and self.joins:
                        contents = coalesce(contents)
                    attempt.usage.count(contents)
                    if continuation is not None:
                        contents = continuation.joined(contents)
                    if contents:
                        if not has_content:
                            has_content = True
                            ticket.content_came()
                            await sink.commit(attempt)
                        await sink.write(contents, chunks)
                        await easing.rest(chunks, batches.held)
                if not has_content:
                    await sink.commit(attempt)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            late = ProviderTimeoutError(
                f"{candidate.provider} was not done within {limit_s:g} s; "
                "attempt_timeout_ms sets the limit",
                provider=candidate.provider,
            )
            late.was_sent = True
            raise late from error


async def _pause(deadline: asyncio.Timeout, gate: Gate) -> None:
    """Wait at the gate; the attempt's time stands still meanwhile."""
    loop = asyncio.get_running_loop()
    left_s = (deadline.when() or loop.time()) - loop.time()
    deadline.reschedule(None)
    await gate.passage()
    deadline.reschedule(loop.time() + left_s)


def _take(batch: list[Delta], attempt: Attempt) -> list[Content]:
    """Note what a batch says of the attempt; gives what of it is content."""
    usage = attempt.usage
    contents: list[Content] = []
    for delta in batch:
        if isinstance(delta, UsageReport):
            usage.reported = delta.usage
        elif isinstance(delta, Finished):
            attempt.finish, usage.is_finished = delta.reason, True
        else:
            contents.append(delta)
    return contents
