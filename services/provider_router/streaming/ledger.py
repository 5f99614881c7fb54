"""What a stream used and cost, over all its attempts: counted as it goes, never silently zero."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from atlas.contracts.inference import Budget, Cost, ModelRequest, Usage, UsageSource
from atlas.contracts.streams import (
    ReasoningDelta,
    StreamEvent,
    StreamStarted,
    TextDelta,
    ToolCallDelta,
)
from provider_router.providers.base import Text, ToolCall
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
    has_response: bool = False
    """Whether the provider took the request; a refused one costs nothing."""
    reported: Usage | None = None
    is_finished: bool = False
    """Whether the provider ended its answer; what it reports before that may be its beginning."""
    provider: str = ""
    """Its name in the catalogue."""

    def count(self, contents: Iterable[Content]) -> None:
        """Count content as it streams."""
        self.has_response = True
        for one in contents:
            self.output_characters += len(one.arguments if isinstance(one, ToolCall) else one.text)

    def usage(self) -> Usage:
        """The attempt's tokens so far."""
        if not self.has_response:
            return Usage()
        counted = estimated_tokens(self.output_characters)
        if self.reported is None:
            return Usage(
                input_tokens=self.input_tokens,
                output_tokens=counted,
                source=UsageSource.ESTIMATED,
            )
        if self.is_finished:
            return self.reported
        return self.reported.model_copy(
            update={
                "output_tokens": max(self.reported.output_tokens, counted),
                "source": UsageSource.ESTIMATED,
            }
        )

    def cost(self) -> Cost:
        """What it cost so far."""
        if not self.has_response:
            return Cost()
        return self.pricing.cost(self.usage())


@dataclass(slots=True)
class Ledger:
    """All attempts of a stream, those of dead routers included."""

    earlier_usage: Usage = field(default_factory=Usage)
    earlier_cost: Cost = field(default_factory=Cost)
    attempts: list[AttemptUsage] = field(default_factory=list)

    def usage(self) -> Usage:
        """The sum of tokens."""
        return sum((one.usage() for one in self.attempts), start=self.earlier_usage)

    def cost(self) -> Cost:
        """The sum of money."""
        return sum((one.cost() for one in self.attempts), start=self.earlier_cost)

    def spent_limits(self, budget: Budget) -> list[str]:
        """Which limits of a budget are used up, but for time: a timer watches that."""
        usage = self.usage()
        spent: list[str] = []
        tokens = usage.input_tokens + usage.output_tokens
        if budget.max_tokens is not None and tokens >= budget.max_tokens:
            spent.append("max_tokens")
        if budget.max_usd is not None and self.cost().total_usd >= budget.max_usd:
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
    for event in events:
        match event:
            case StreamStarted():
                current = AttemptUsage(
                    pricing(event.provider, event.model.partition("/")[2] or event.model),
                    sent_tokens,
                    has_response=True,
                )
                attempts[event.attempt] = current
            case TextDelta() | ReasoningDelta() if current is not None:
                current.count([Text(event.text)])
            case ToolCallDelta() if current is not None:
                current.count([Text(event.arguments)])
            case _:
                pass
    ended = list(attempts.values())
    return Ledger(
        sum((one.usage() for one in ended), start=Usage()),
        sum((one.cost() for one in ended), start=Cost()),
    )


@dataclass(slots=True)
class TextDigest:
    """Length and SHA-256 of the final text, kept as it grows."""

    length: int = 0
    _hash: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def add(self, text: str) -> None:
        """More text."""
        self.length += len(text)
        self._hash.update(text.encode("utf-8", "surrogatepass"))

    def restart(self) -> None:
        """Drop all of it."""
        self.length, self._hash = 0, hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Hexadecimal."""
        return self._hash.hexdigest()
