"""What events tell of a stream that ended: figures and reasons, no content."""

from atlas.contracts.base import JsonObject
from atlas.contracts.errors import BudgetExceededError
from atlas.contracts.events import AttemptOutcome
from atlas.contracts.inference import Budget, FinishReason
from atlas.contracts.streams import StreamCancelled, StreamCompleted, StreamEvent
from provider_router.streaming.ledger import Ledger


def ending(event: StreamEvent, ledger: Ledger) -> JsonObject:
    """What the `Event` of a stream's end tells, with what each attempt used."""
    shown = event.model_dump(
        mode="json",
        exclude_none=True,
        include={"finish_reason", "usage", "cost", "metrics", "error"},
    )
    reports = [one.report(_otherwise(event)) for one in ledger.all]
    attempts = [one.model_dump(mode="json", exclude_none=True) for one in reports]
    return {**shown, "attempts": attempts}


def spent_budget(budget: Budget, ledger: Ledger) -> JsonObject:
    """The limits of a request's own budget that are used up; time, where it is none other."""
    return {
        "scope": "request",
        "limits": list[object](ledger.spent_limits(budget) or ["max_ms"]),
        "budget": budget.model_dump(mode="json", exclude_none=True),
    }


def too_little(budget: Budget, input_tokens: int, usd: float) -> BudgetExceededError:
    """The error of a request whose own budget does not reach for its input."""
    allowed = [
        text
        for text in (
            budget.max_tokens is not None and f"max_tokens {budget.max_tokens}",
            budget.max_usd is not None and f"max_usd {budget.max_usd:g}",
        )
        if text
    ]
    return BudgetExceededError(
        f"the input alone comes to about {input_tokens} tokens, {usd:.6f} USD, and the request's "
        f"budget is {', '.join(allowed)}; give it a larger one, or send less"
    )


def _otherwise(event: StreamEvent) -> AttemptOutcome:
    """How an attempt ended that ran when its stream did."""
    if isinstance(event, StreamCancelled):
        return AttemptOutcome.CANCELLED
    if isinstance(event, StreamCompleted) and event.finish_reason is FinishReason.BUDGET:
        return AttemptOutcome.BUDGET
    return AttemptOutcome.FAILED
