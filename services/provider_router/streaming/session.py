"""One stream from its claim to its terminal event: attempts, fallback, and exactly one end."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from atlas.contracts.base import JsonObject
from atlas.contracts.errors import AtlasError, ErrorInfo, ProviderError, ProviderStreamError
from atlas.contracts.inference import Budget, FinishReason, Usage
from atlas.contracts.streams import (
    NextStep,
    StreamEvent,
    StreamState,
)
from atlas.service import Events
from provider_router.providers.base import Adapter, Text
from provider_router.routing.board import Board
from provider_router.routing.choosing import Candidate
from provider_router.routing.estimates import estimated_tokens
from provider_router.routing.retry import NextAttempt
from provider_router.streaming import making, telling
from provider_router.streaming.attempt import Attempt, Caller
from provider_router.streaming.continuing import Continuing
from provider_router.streaming.easing import Easing
from provider_router.streaming.encoding import Content, payload
from provider_router.streaming.fallback import Fallback
from provider_router.streaming.gate import Gate, Interrupt
from provider_router.streaming.job import Job
from provider_router.streaming.ledger import AttemptUsage
from provider_router.streaming.making import MakeEvent
from provider_router.streaming.progress import Progress
from provider_router.streaming.purse import Purse
from provider_router.streaming.race import Race
from provider_router.streaming.spending import Spending
from provider_router.streaming.write_errors import HistoryLostError
from provider_router.streaming.writer import StreamWriter

log = structlog.get_logger("atlas.session")


@dataclass(frozen=True, slots=True)
class Providers:
    """What a session calls: the adapters, what is known of them, and how often to try."""

    adapters: Mapping[str, Adapter]
    timeouts_s: Mapping[str, float]
    board: Board
    max_attempts: int
    easing: Easing


class Session:
    """Streams one job on an owned writer, through the gate, to its terminal event."""

    def __init__(  # noqa: PLR0917 - what it is composed of
        self,
        job: Job,
        writer: StreamWriter,
        gate: Gate,
        providers: Providers,
        events: Events,
        spending: Spending,
    ) -> None:
        self._job = job
        self._writer = writer
        self._gate = gate
        self._providers = providers
        self._events = events
        self._purse = Purse(job.request.budget, spending)
        self._ledger = spending.ledger
        self.progress = Progress(attempt=writer.attempt)
        """What the stream has so far; spans and metrics tell it at the end."""
        if job.said is not None:
            self.progress.digest.add(job.said.text)
            self.progress.has_content = True
        self._continuing = Continuing(job.request, providers.adapters, job.said)
        self._pauses = 0
        self._race: Race | None = None
        self._telling: asyncio.Task[None] | None = None
        self._pace = job.request.buffer.max_tokens_per_second
        self._fallback = Fallback(job.request, job.plan.candidates, providers.max_attempts)
        writer.buffer(job.request.buffer)
        self._caller = Caller(
            job,
            providers.adapters,
            providers.timeouts_s,
            providers.board,
            gate,
            self,
            providers.easing,
            joins=job.request.buffer.coalesce == "adaptive",
        )

    async def run(self) -> StreamEvent | None:
        """Carry the stream to its end; gives the terminal event.

        None means that the stream goes on elsewhere: it was handed over, or it belongs to another
        router by now. Nothing more may be said about it, not even an ack.
        """
        # Runs the attempts until they end or an interrupt comes, whichever is first.
        if self._gate.interrupt.done():  # it came while the stream was queued: nobody is asked
            return await self._interrupted(self._gate.interrupt.result())
        attempts = asyncio.create_task(self._attempts())
        budget = self._job.request.budget
        watch = None
        if budget is not None and budget.max_ms is not None:
            watch = asyncio.create_task(self._watch_time(budget.max_ms))
        waited: set[asyncio.Future[Any]] = {attempts, self._gate.interrupt}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if watch is not None:
                watch.cancel()
            async with self._writer.at_rest():  # never cut an event that is being written
                attempts.cancel()
                if self._telling is not None:
                    self._telling.cancel()
                if self._race is not None:
                    self._race.cancel()
            await asyncio.wait({attempts, watch} if watch is not None else {attempts})
        if self._gate.interrupt.done() and (attempts.cancelled() or attempts.exception()):
            if self._writer.terminal is not None:  # it came just after the end
                return self._writer.terminal
            return await self._interrupted(self._gate.interrupt.result())
        return attempts.result()

    async def _watch_time(self, max_ms: int) -> None:
        """Stop the stream when `budget.max_ms` is used up. While paused, time stands still."""
        gate, own_ms = self._gate, max_ms - self._job.ran_ms
        while (left_ms := own_ms - self.progress.running_ms(gate.paused_ms)) > 0:
            await asyncio.sleep(left_ms / 1000)
            await gate.passage()
        gate.stop(Interrupt("budget"))

    async def _interrupted(self, interrupt: Interrupt) -> StreamEvent | None:
        match interrupt.kind:
            case "cancelled":
                return await self._cancelled(interrupt)
            case "budget":
                self.progress.finish = FinishReason.BUDGET
                return await self._out_of_budget()
            case "lost" | "hand_over":
                return None

    async def _out_of_budget(self) -> StreamEvent:
        """End as far as the budget reached, and tell which of its limits it was."""
        exceeded = self._purse.exceeded or telling.spent_budget(
            self._job.request.budget or Budget(), self._ledger
        )
        end = await self._completed()
        await self._tell(
            "budget.exceeded",
            {
                **exceeded,
                "usage": self._ledger.usage().model_dump(mode="json"),
                "cost": self._ledger.cost().model_dump(mode="json"),
            },
        )
        return end

    async def _attempts(self) -> StreamEvent:
        candidates = self._job.plan.candidates
        candidate, wait_ms = candidates[0], 0
        tries = 0
        while True:
            if wait_ms:
                await asyncio.sleep(wait_ms / 1000)
            tries += 1
            self._race = None
            attempt = await self._affordable(candidate, is_last=tries >= len(candidates))
            if attempt is None:
                return await self._cannot_send(candidate, is_first=not self._ledger.all)
            try:
                self.progress.finish = (await self._raced(attempt)).finish
                return await self._completed()
            except (ProviderError, HistoryLostError) as error:
                info = error.to_info()
                follows = await self._failed(info, self._loser() or attempt, tries)
                if follows is None:
                    return await self._gave_up(info)
                candidate, wait_ms = follows.candidate, follows.wait_ms

    async def _raced(self, attempt: Attempt) -> Attempt:
        """Run an attempt, and a second one beside it when its first token is late.

        The attempt is told while its provider is called already; content waits for the writer's
        lock, which the telling has by then.
        """
        after_ms = self._job.request.fallback.hedge_after_ms or self._job.plan.hedge_after_ms
        race = self._race = Race(self._caller.run)
        race.start(attempt)
        self.progress.told = attempt.number
        told = self._telling = asyncio.create_task(self._tell_started(attempt))
        race.needs(told)
        try:
            return await race.finish(
                after_ms / 1000 if after_ms else None, lambda: self._hedge(attempt.candidate)
            )
        finally:
            await told

    def _loser(self) -> Attempt | None:
        """Whose error ended the race, if there was one."""
        return None if self._race is None else self._race.failed

    async def _hedge(self, late: Candidate) -> Attempt | None:
        """The attempt that races a late one: at the next candidate that is free."""
        if not self._gate.is_flowing:
            return None
        candidates = self._job.plan.candidates
        place = candidates.index(late)
        for other in [*candidates[place + 1 :], *candidates[:place]]:
            if self._providers.board.of(other.provider).why_not(self._job.plan.expected):
                continue
            if self._continuing.suits(other):
                return await self._hedge_at(other)
        return None

    async def _hedge_at(self, candidate: Candidate) -> Attempt | None:
        log.info("hedging", stream=self._job.address.stream_id, candidate=candidate.full_name)
        try:
            return await self._affordable(candidate, is_last=False, is_hedge=True)
        except AtlasError as error:  # its budgets cannot be asked; the late one goes on
            log.info("not_hedged", stream=self._job.address.stream_id, error=error.message)
            return None
        finally:
            self._purse.exceeded = None  # not for the late one

    async def _affordable(
        self, candidate: Candidate, *, is_last: bool, is_hedge: bool = False
    ) -> Attempt | None:
        """A new attempt; None when there is not enough budget for its input."""
        continuation = self._continuing.continuation()
        usage = AttemptUsage(
            candidate.pricing,
            self._job.plan.expected.input_tokens + (continuation.tokens if continuation else 0),
            provider=candidate.provider,
            is_hedge=is_hedge,
        )
        if not await self._purse.affords(usage):
            return None
        self.progress.attempt += 1
        return Attempt(
            self.progress.attempt,
            candidate,
            usage,
            is_patient=is_last,
            continuation=continuation,
        )

    async def _cannot_send(self, candidate: Candidate, *, is_first: bool) -> StreamEvent:
        """No budget for the input of an attempt: the end, and an error where nothing was sent."""
        budget, exceeded = self._job.request.budget, self._purse.exceeded
        if not is_first or budget is None or exceeded is None or exceeded["scope"] != "request":
            self.progress.finish = FinishReason.BUDGET
            return await self._out_of_budget()
        tokens = self._job.plan.expected.input_tokens
        usd = candidate.pricing.cost(Usage(input_tokens=tokens)).total_usd
        end = await self._gave_up(telling.too_little(budget, tokens, usd).to_info())
        await self._tell("budget.exceeded", exceeded)
        return end

    async def _tell_started(self, attempt: Attempt) -> None:
        self.progress.current = attempt.usage
        self._writer.attempt = self.progress.told = attempt.number
        await self._writer.fenced(
            making.started(attempt.candidate, attempt.number),
            keeps_text=attempt.continuation is not None,
        )
        if attempt.number == 1:
            await asyncio.sleep(0)  # content that waits goes first
            await self._tell("stream.started", {"model": attempt.candidate.full_name})

    async def commit(self, attempt: Attempt) -> None:
        """See `attempt.Sink`."""
        if self._race is not None and await self._race.win(attempt):
            if self.progress.told != attempt.number:
                await self._tell_started(attempt)
            elif self._writer.attempt != attempt.number:
                await asyncio.sleep(0)  # the telling is next, and takes the writer's lock
            self._gate.stream_state = StreamState.ACTIVE
            self.progress.gaps.interrupted()

    async def write(self, contents: list[Content], chunks: int) -> None:
        """See `attempt.Sink`. The per-chunk path."""
        progress = self.progress
        if self._pauses != self._gate.pauses:
            self._pauses = self._gate.pauses
            progress.gaps.interrupted()
        progress.gaps.chunk_came()
        progress.chunks += chunks
        await self._writer.content(contents)
        if self._continuing.is_asked:
            self._continuing.add(contents)
        for one in contents:
            if isinstance(one, Text):
                progress.bytes += progress.digest.add(one.text)
            else:
                progress.bytes += len(payload(one).encode("utf-8", "surrogatepass"))
        if not progress.has_content or progress.first_token_s is None:
            progress.content_came()
        if self._purse.is_limited and not await self._purse.goes_on():
            self._gate.stop(Interrupt("budget"))
        if self._pace is not None:
            await _hold_back(contents, self._pace)

    async def _failed(self, error: ErrorInfo, failed: Attempt, tries: int) -> NextAttempt | None:
        """Tell a failed attempt and decide what follows."""
        follows = self._fallback.after(error, failed, tries)
        if self.progress.has_content or error.code == HistoryLostError.code:
            step: NextStep | None = None
            if follows is not None:
                step = self._continuing.decide(error, failed, follows.candidate)
            await self._tell_failed(error, failed.candidate, step)
        if follows is not None:
            await self._tell(
                "provider.fallback",
                {
                    "from": failed.candidate.full_name,
                    "to": follows.candidate.full_name,
                    "error": error.model_dump(mode="json", exclude_none=True),
                },
            )
        return follows

    async def _tell_failed(
        self, error: ErrorInfo, candidate: Candidate, step: NextStep | None
    ) -> None:
        attempt = self.progress.told
        await self._writer.event(making.attempt_failed(candidate, attempt, error, step))
        if step == "restart":
            self.progress.digest.restart()
            self.progress.has_content = False

    async def _gave_up(self, error: ErrorInfo) -> StreamEvent:
        end = making.failed(error, self._ledger.usage(), self._ledger.cost())
        return await self._end(end, StreamState.ERROR)

    async def _cancelled(self, interrupt: Interrupt) -> StreamEvent:
        end = making.cancelled(interrupt.control, self._ledger.usage(), self._ledger.cost())
        return await self._end(end, StreamState.CANCELLED)

    async def _completed(self) -> StreamEvent:
        finish, digest = self.progress.finish, self.progress.digest
        if finish is None:  # an adapter ends without `Finished` only by raising
            raise ProviderStreamError("the answer ended without a finish reason")
        end = making.completed(
            finish,
            self._ledger.usage(),
            self._ledger.cost(),
            self.progress.metrics(self._gate.paused_ms),
            (digest.length, digest.sha256),
        )
        return await self._end(end, StreamState.COMPLETED, keeps_text=True)

    async def _end(
        self, make: MakeEvent, state: StreamState, *, keeps_text: bool = False
    ) -> StreamEvent:
        event = await self._writer.fenced(make, keeps_text=keeps_text)
        self._gate.stream_state = state
        await self._tell(event.type, telling.ending(event, self._ledger))
        return event

    async def _tell(self, type_: str, data: JsonObject) -> None:
        stream_id = self._job.address.stream_id
        await self._events.emit(
            type_, {"stream_id": stream_id, **data}, tenant=self._job.address.tenant
        )


async def _hold_back(contents: list[Content], tokens_per_second: float) -> None:
    """Keep to the pace that was asked for; not reading holds the provider."""
    characters = sum(len(one.text) for one in contents if isinstance(one, Text))
    await asyncio.sleep(estimated_tokens(characters) / tokens_per_second)
