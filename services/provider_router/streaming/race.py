"""Attempts of one stream that race: the first content wins, the loser is cancelled (hedging)."""

import asyncio
from collections.abc import Awaitable, Callable

from atlas.contracts.errors import ProviderError
from atlas.contracts.events import AttemptOutcome
from provider_router.streaming.attempt import Attempt

type RunAttempt = Callable[[Attempt], Awaitable[None]]


class Race:
    """One attempt, and perhaps a second one that starts when the first is late."""

    def __init__(self, run: RunAttempt) -> None:
        self._run = run
        self._running: dict[asyncio.Task[None], Attempt] = {}
        self._winner: Attempt | None = None
        self.failed: Attempt | None = None
        """The attempt whose error `finish` raised."""

    def start(self, attempt: Attempt) -> None:
        """Let an attempt run."""
        self._running[asyncio.create_task(self._carry(attempt))] = attempt

    def needs(self, other: asyncio.Task[None]) -> None:
        """Stop every attempt should `other` fail; who waits for it is told why."""

        def check(done: asyncio.Task[None]) -> None:
            if not done.cancelled() and done.exception() is not None:
                self.cancel()

        other.add_done_callback(check)

    def _start_unless_won(self, attempt: Attempt) -> None:
        if self._winner is None:
            self.start(attempt)
        else:  # while it was made; nothing was sent
            attempt.usage.end(AttemptOutcome.LOST)

    def cancel(self) -> None:
        """Stop every attempt; call it while nothing is being written."""
        for task in self._running:
            task.cancel()

    async def win(self, attempt: Attempt) -> bool:
        """Claim the stream for an attempt; tells whether it is the first time.

        Returns only to the winner; a loser waits here for its cancellation.
        """
        if self._winner is None:
            self._winner = attempt
            for task, other in self._running.items():
                if other is not attempt:
                    other.usage.end(AttemptOutcome.LOST)
                    task.cancel()
            return True
        if self._winner is not attempt:
            await asyncio.get_running_loop().create_future()
        return False

    async def finish(
        self, hedge_after_s: float | None, hedge: Callable[[], Awaitable[Attempt | None]]
    ) -> Attempt:
        """Wait for the end of the race; gives the attempt whose answer is whole.

        Args:
            hedge_after_s: When a second attempt starts if none has content by then; None: never.
            hedge: Makes that attempt, or says that there is nobody to ask.

        Raises:
            ProviderError: Of the last attempt that failed, or the winner's.
        """
        failure: tuple[Attempt, BaseException] | None = None
        try:
            while self._running:
                done, _ = await asyncio.wait(
                    self._running,
                    timeout=hedge_after_s if self._winner is None else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not done:
                    hedge_after_s = None
                    if self._winner is None and (another := await hedge()) is not None:
                        self._start_unless_won(another)
                for task in done:
                    attempt = self._running.pop(task)
                    if task.cancelled():
                        continue
                    if (error := task.exception()) is None:
                        return attempt
                    if self._winner in {None, attempt} or not isinstance(error, ProviderError):
                        failure = attempt, error
        finally:
            self.cancel()
            if self._running:
                await asyncio.wait(self._running)
        if failure is None:
            raise asyncio.CancelledError  # all were cancelled from outside, and so are we
        self.failed, error = failure
        raise error

    async def _carry(self, attempt: Attempt) -> None:
        await self._run(attempt)
