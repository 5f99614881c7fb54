"""What the requests of one answer come to, where no stream tells it: an embedding's bill."""

from collections.abc import Callable
from dataclasses import dataclass, field

from atlas.contracts.errors import BudgetExceededError
from atlas.contracts.inference import Cost, Usage
from provider_router.accounting.account import UNLIMITED, Account
from provider_router.accounting.budgets import Verdict, amounts

type Count = Callable[[str, Usage, Cost], None]
"""Told a model (`provider/name`) and what one request used of it."""


def _nobody(model: str, usage: Usage, cost: Cost) -> None:
    """Count for nobody."""


@dataclass(slots=True)
class Bill:
    """What was used so far, and whose budgets limit it."""

    account: Account = UNLIMITED
    count: Count = _nobody
    usage: Usage = field(default_factory=Usage)
    cost: Cost = field(default_factory=Cost)

    async def check(self, usage: Usage, cost: Cost) -> None:
        """Before a request that will probably use so much: see that there is budget for it.

        Raises:
            BudgetExceededError: There is not; nothing more is to be sent.
            RequestTimeoutError: NATS is away, so nothing can be reserved.
        """
        probably = amounts(self.usage + usage, self.cost + cost)
        if self.account.used(probably.tokens, probably.microusd) is Verdict.OK:
            return
        if not await self.account.extend():
            raise BudgetExceededError(
                f"the answer needs {probably.tokens} tokens, and a budget ended before it was "
                "whole; send less at once, or wait until the budget resets",
                details=self.account.exceeded,
            )

    def add(self, model: str, usage: Usage, cost: Cost) -> None:
        """A request used so much."""
        self.usage += usage
        self.cost += cost
        self.count(model, usage, cost)

    async def settle(self) -> None:
        """The answer is whole, or there will be none."""
        await self.account.settle(amounts(self.usage, self.cost))
