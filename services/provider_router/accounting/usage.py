"""Counters of what each tenant used of each model in a day, for those who want to know.

They limit nothing, so they are added to in batches, off every path: a router that is killed takes
what it gathered since the last batch with it, and nothing is counted twice. Under a provider's name
any model may be asked for, so without a bound callers would decide how many counters there are: of
each tenant and day a router names the first models, and counts all others of a provider as one.
"""

import asyncio
from collections import Counter

import structlog

from atlas import subjects
from atlas.contracts.base import now_ms
from atlas.contracts.catalogue import ModelUsage
from atlas.contracts.errors import AtlasError
from atlas.contracts.ids import new_id
from atlas.contracts.inference import Cost, Usage
from provider_router.accounting.budgets import MICRO, Scope, microusd, period
from provider_router.accounting.counters import Addition, Counters

_EVERY_S = 1.0
_PATIENCE_S = 2.0
_AT_ONCE = 64
_MOST_NAMED = 64
"""Models of a tenant in a day; each has up to seven counters, and 1,024 are read at once."""
_MOST_TENANTS = 1_000
"""Whose models are remembered; of the one not heard of for longest they are named anew."""
_OTHERS = "(others)"

log = structlog.get_logger("atlas.usage")


class UsageCounters:
    """What this router's streams used, on its way to the counters that all routers share."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._named: dict[tuple[str, str], set[str]] = {}
        self._gathered: Counter[str] = Counter()
        self._under_way: list[Addition] = []

    def add(self, tenant: str, model: str, usage: Usage, cost: Cost) -> None:
        """A stream, or an embedding, used a model (`provider/name`). Costs a few additions."""
        day, _ = period(Scope.DAY, now_ms())
        model = self._counted_as(tenant, day, model)
        for unit, amount in (
            ("requests", 1),
            ("input_tokens", usage.input_tokens),
            ("output_tokens", usage.output_tokens),
            ("cached_input_tokens", usage.cached_input_tokens),
            ("reasoning_tokens", usage.reasoning_tokens),
            ("microusd", microusd(cost.total_usd)),
            ("unpriced", 0 if cost.complete else 1),
        ):
            if amount:
                self._gathered[subjects.usage(tenant, day, model, unit)] += amount

    def _counted_as(self, tenant: str, day: str, model: str) -> str:
        named = self._named.pop((tenant, day), None) or set()
        self._named[tenant, day] = named
        if len(self._named) > _MOST_TENANTS:
            del self._named[next(iter(self._named))]
        if model not in named and len(named) >= _MOST_NAMED:
            return f"{model.partition('/')[0]}/{_OTHERS}"
        named.add(model)
        return model

    async def spent(self, tenant: str, day: str | None = None) -> list[ModelUsage]:
        """What a tenant used of each model on a day, by default today, in UTC; most cost first.

        Raises:
            AtlasError: NATS did not answer.
        """
        day = day or period(Scope.DAY, now_ms())[0]
        found: dict[str, dict[str, int]] = {}
        for subject, value in (await self._counters.values(subjects.usage_of(tenant, day))).items():
            model, unit = subjects.model_of_usage(subject)
            found.setdefault(model, {})[unit] = value
        used = [_usage(model, units) for model, units in found.items()]
        return sorted(used, key=lambda one: (-one.cost.total_usd, one.model))

    async def run(self) -> None:
        """Send what was gathered again and again, until cancelled."""
        while True:
            await asyncio.sleep(_EVERY_S)
            try:
                await self.flush()
            except AtlasError as error:
                log.debug("usage_sent_later", error=error.message)

    async def flush(self) -> None:
        """Send what was gathered.

        Raises:
            AtlasError: NATS did not answer; what it did not take is kept and sent again.
        """
        while self._under_way or self._gathered:
            if not self._under_way:
                batch, self._gathered = self._gathered, Counter()
                self._under_way = [
                    Addition(subject, amount, f"usage:{new_id()}")
                    for subject, amount in batch.items()
                ]
            some = self._under_way[:_AT_ONCE]
            answers = await asyncio.gather(
                *(self._counters.add(one, _PATIENCE_S) for one in some), return_exceptions=True
            )
            left = [
                one
                for one, answer in zip(some, answers, strict=True)
                if isinstance(answer, BaseException)
            ]
            self._under_way[:_AT_ONCE] = left
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer


def _usage(model: str, units: dict[str, int]) -> ModelUsage:
    cost = Cost(total_usd=units.pop("microusd", 0) / MICRO, complete=not units.pop("unpriced", 0))
    return ModelUsage.model_validate({"model": model, **units, "cost": cost})
