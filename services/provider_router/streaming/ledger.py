"""What a stream used and cost, over all its attempts: counted as it goes, never silently zero."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from atlas.contracts.events import AttemptOutcome, AttemptReport
from atlas.contracts.inference import Budget, Cost, ModelRequest, Usage, UsageSource
from atlas.contracts.streams import (
    AttemptFailed,
    ReasoningDelta,
    StreamAdopted,
    StreamEvent,
    StreamStarted,
    TextDelta,
    ToolCallDelta,
)
from provider_router.providers.base import Reasoning, Text, ToolCall
from provider_router.routing.estimates import estimated_tokens, input_tokens
from provider_router.routing.prices import Pricing
from provider_router.streaming.encoding import Content


@dataclass(slots=True)
class AttemptUsage:
    """One attempt: what its provider reported, else what was counted."""

    pricing: Pricing
    input_tokens: int
    """Estimated; counts until the provider reports its own figure."""
    output_characters: int = 0
    reasoning_characters: int = 0
    """Of these, what was thought and not said."""
    has_response: bool = False
    """Whether the provider took the request; a refused one costs nothing."""
    reported: Usage | None = None
    is_finished: bool = False
    """Whether the provider ended its answer; what it reports before that may be its beginning."""
    provider: str = ""
    """Its name in the catalogue."""
    is_hedge: bool = False
    outcome: AttemptOutcome | None = None
    """None while it runs."""
    error: str | None = None
    """The code of its error."""

    def count(self, contents: Iterable[Content]) -> None:
        """Count content as it streams."""
        self.has_response = True
        for one in contents:
            self.output_characters += len(one.arguments if isinstance(one, ToolCall) else one.text)
            if isinstance(one, Reasoning):
                self.reasoning_characters += len(one.text)

    def end(self, outcome: AttemptOutcome, error: str | None = None) -> None:
        """Say how it ended; what was said first stands."""
        if self.outcome is None:
            self.outcome, self.error = outcome, error

    def usage(self) -> Usage:
        """The attempt's tokens so far."""
        if not self.has_response:
            return Usage()
        if self.is_finished and self.reported is not None:
            return self.reported
        reported = self.reported or Usage(input_tokens=self.input_tokens)
        output = estimated_tokens(self.output_characters)
        reasoning = estimated_tokens(self.reasoning_characters)
        return reported.model_copy(
            update={
                "output_tokens": max(reported.output_tokens, output),
                "reasoning_tokens": max(reported.reasoning_tokens, reasoning),
                "source": UsageSource.ESTIMATED,
            }
        )

    def committed(self) -> Usage:
        """The same, and the input of an attempt that is on its way to its provider."""
        if self.has_response or self.outcome is not None:
            return self.usage()
        return Usage(input_tokens=self.input_tokens, source=UsageSource.ESTIMATED)

    def cost(self) -> Cost:
        """What it cost so far."""
        if not self.has_response:
            return Cost()
        return self.pricing.cost(self.usage())

    def report(self, otherwise: AttemptOutcome) -> AttemptReport:
        """What is told of it; `otherwise` is the outcome of one that ran when the stream ended."""
        return AttemptReport(
            provider=self.provider,
            model=f"{self.provider}/{self.pricing.model}",
            outcome=self.outcome or otherwise,
            error=self.error,
            hedged=self.is_hedge,
            usage=self.usage(),
            cost=self.cost(),
        )


@dataclass(slots=True)
class Ledger:
    """All attempts of a stream, those of dead routers included."""

    earlier: list[AttemptUsage] = field(default_factory=list)
    """Of routers that are dead, or gave the stream away."""
    attempts: list[AttemptUsage] = field(default_factory=list)

    @property
    def all(self) -> list[AttemptUsage]:
        """Every attempt, in their order."""
        return [*self.earlier, *self.attempts]

    def usage(self) -> Usage:
        """The sum of tokens."""
        return sum((one.usage() for one in self.all), start=Usage())

    def cost(self) -> Cost:
        """The sum of money."""
        return sum((one.cost() for one in self.all), start=Cost())

    def spent_limits(self, budget: Budget) -> list[str]:
        """Which limits of a budget are used up, but for time: a timer watches that.

        The input of an attempt counts from the moment on at which it is made.
        """
        spent: list[str] = []
        if budget.max_tokens is not None:
            usage = sum((one.committed() for one in self.all), start=Usage())
            if usage.input_tokens + usage.output_tokens >= budget.max_tokens:
                spent.append("max_tokens")
        if budget.max_usd is not None:
            costs = (one.pricing.cost(one.committed()).total_usd for one in self.all)
            if sum(costs) >= budget.max_usd:
                spent.append("max_usd")
        return spent


def ledger_of_history(
    events: Iterable[StreamEvent],
    request: ModelRequest,
    pricing: Callable[[str, str], Pricing],
) -> Ledger:
    """The ledger of a stream whose router died: its attempts, estimated from what they streamed.

    Args:
        events: The stored events, in stored order.
        request: What was asked.
        pricing: How the tokens of a provider's model are paid.
    """
    return ledger_of_events(events, input_tokens(request), pricing)


def ledger_of_events(
    events: Iterable[StreamEvent], sent_tokens: int, pricing: Callable[[str, str], Pricing]
) -> Ledger:
    """The same, of a request of which only the size of its input is known."""
    attempts: dict[int, AttemptUsage] = {}
    current: AttemptUsage | None = None
    events = list(events)
    begun = _begun_characters(events)
    for event in events:
        match event:
            case StreamStarted():
                if current is not None and event.attempt not in attempts:
                    current.end(AttemptOutcome.FAILED)  # it had no content, so nobody was told
                current = AttemptUsage(
                    pricing(event.provider, event.model.partition("/")[2] or event.model),
                    sent_tokens + estimated_tokens(begun[event.attempt]),
                    has_response=True,
                    provider=event.provider,
                )
                attempts[event.attempt] = current
            case StreamAdopted() if current is not None:
                current.end(AttemptOutcome.ABANDONED)
            case AttemptFailed() if current is not None:
                current.end(AttemptOutcome.FAILED, event.error.code)
            case TextDelta() if current is not None:
                current.count([Text(event.text)])
            case ReasoningDelta() if current is not None:
                current.count([Reasoning(event.text)])
            case ToolCallDelta() if current is not None:
                current.count([Text(event.arguments)])
            case _:
                pass
    for attempt in attempts.values():
        attempt.end(AttemptOutcome.ABANDONED)
    return Ledger(list(attempts.values()))


def _begun_characters(events: Iterable[StreamEvent]) -> dict[int, int]:
    """How much text each attempt went on from, and so had to send besides."""
    found: dict[int, int] = {}
    characters = 0
    for event in events:
        match event:
            case TextDelta():
                characters += len(event.text)
            case AttemptFailed() | StreamAdopted() if event.next != "continue":
                characters = 0
            case StreamStarted():
                found[event.attempt] = characters
            case _:
                pass
    return found


@dataclass(slots=True)
class TextDigest:
    """Length and SHA-256 of the final text, kept as it grows."""

    length: int = 0
    _hash: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def add(self, text: str) -> int:
        """More text; gives its size in bytes."""
        data = text.encode("utf-8", "surrogatepass")
        self.length += len(text)
        self._hash.update(data)
        return len(data)

    def restart(self) -> None:
        """Drop all of it."""
        self.length, self._hash = 0, hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Hexadecimal."""
        return self._hash.hexdigest()
