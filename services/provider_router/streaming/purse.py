"""What a stream may still spend: of its request's own budget, and of those that it shares."""

from atlas.contracts.base import JsonObject
from atlas.contracts.inference import Budget
from provider_router.streaming import telling
from provider_router.streaming.ledger import AttemptUsage
from provider_router.streaming.spending import Spending


class Purse:
    """Watches the budgets of one stream, attempt by attempt and chunk by chunk."""

    def __init__(self, budget: Budget | None, spending: Spending) -> None:
        self._budget = budget
        self._spending = spending
        self.is_limited = budget is not None or spending.account.is_limited
        """Whether there is anything to watch."""
        self.exceeded: JsonObject | None = None
        """The budget that did not reach, once one did not."""

    async def goes_on(self) -> bool:
        """Whether there is budget for more."""
        budget = self._budget
        if budget is not None and self._spending.ledger.spent_limits(budget):
            self.exceeded = telling.spent_budget(budget, self._spending.ledger)
        elif await self._spending.goes_on():
            return True
        else:
            self.exceeded = self._spending.exceeded
        return False

    async def affords(self, attempt: AttemptUsage) -> bool:
        """Whether there is budget for the input of an attempt, which counts from then on."""
        attempts = self._spending.ledger.attempts
        attempts.append(attempt)
        is_affordable = False
        try:
            is_affordable = await self.goes_on()
        finally:
            if not is_affordable:
                attempts.pop()
        return is_affordable
