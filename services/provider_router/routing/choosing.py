"""In which order the able models are tried, by a strategy and by what is known of them now."""

import copy
import random
from collections import Counter
from dataclasses import dataclass, replace

from atlas.contracts.base import now_ms
from atlas.contracts.catalogue import Explanation, Ranked, Unfit
from provider_router.routing.answers import ANYBODY, Asker
from provider_router.routing.board import Board
from provider_router.routing.catalogue import Choice, Model
from provider_router.routing.members import Demand, Member
from provider_router.routing.prices import Pricing
from provider_router.routing.rate import Tokens
from provider_router.routing.strategies import Ordering, strategy_of


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model of a provider that may answer, and why it stands where it does."""

    provider: str
    model: str
    reason: str
    pricing: Pricing

    @property
    def full_name(self) -> str:
        """`provider/name`."""
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The candidates of a request, the best first; never none."""

    candidates: list[Candidate]
    expected: Tokens
    hedge_after_ms: int | None = None


class Chooser:
    """Puts able models in order. Keeps whose turn it is, group by group."""

    def __init__(self, board: Board, rng: random.Random | None = None) -> None:
        self._board = board
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._orderings: dict[tuple[str | None, str], Ordering] = {}

    def plan(self, choice: Choice, asker: Asker = ANYBODY) -> Plan:
        """The candidates for one request; it takes its turn."""
        return Plan(
            self._ordered(choice, asker, self._ordering(choice)),
            _expected(choice),
            choice.hedge_after_ms,
        )

    def explain(self, choice: Choice, asker: Asker = ANYBODY) -> Explanation:
        """Who would be asked, and why; takes no turn."""
        candidates = self._ordered(choice, asker, copy.deepcopy(self._ordering(choice)))
        models = {model.full_name: model for model in choice.able}
        demand, now = _demand(choice), now_ms()
        return Explanation(
            group=choice.group,
            strategy=choice.strategy,
            task_type=choice.needs.task_type,
            task_type_reason=choice.needs.task_type_reason,
            needs=dict(choice.needs.hard),
            context_tokens=choice.needs.context_tokens,
            candidates=[
                Ranked(
                    model=one.full_name,
                    reason=one.reason,
                    expected_usd=self._member(models[one.full_name], asker).expected_usd(demand),
                    circuit=self._board.of(one.provider).circuit.state(now),
                )
                for one in candidates
            ],
            unfit=[Unfit(model=model.full_name, lacks=lacks) for model, lacks in choice.unfit],
        )

    def _ordered(self, choice: Choice, asker: Asker, ordering: Ordering | None) -> list[Candidate]:
        """The available ones by the strategy; then those that must wait, the soonest first."""
        if ordering is None:
            return [_candidate(model, "named") for model in choice.able]
        expected = _expected(choice)
        models = {model.full_name: model for model in choice.able}
        why_not = {
            name: why
            for name, model in models.items()
            if (why := self._why_not(model, expected)) is not None
        }
        members = [
            self._member(model, asker) for name, model in models.items() if name not in why_not
        ]
        placed = ordering.order(members, _demand(choice), self._rng, now_ms())
        order = [_candidate(models[one.name], one.reason) for one in placed]
        if choice.group is None:
            order = _spread(order)
        order += [
            _candidate(models[name], why_not[name])
            for name in sorted(
                why_not,
                key=lambda name: self._board.of(models[name].provider).available_at_ms(expected),
            )
        ]
        if choice.first is None or choice.first in why_not:
            return order
        default = _candidate(models[choice.first], "default")
        return [default, *(one for one in order if one.full_name != choice.first)]

    def _why_not(self, model: Model, expected: Tokens) -> str | None:
        account = self._board.of(model.provider)
        if (why := account.why_not(expected)) is not None:
            return why
        figures = account.figures(model.name).at(now_ms())
        if figures.is_full:
            return f"{figures.in_flight} attempts run, and it refused more lately"
        return None

    def _ordering(self, choice: Choice) -> Ordering | None:
        if choice.strategy is None:
            return None
        key = choice.group, choice.strategy
        if key not in self._orderings:
            self._orderings[key] = strategy_of(choice.strategy, cost_weight=choice.cost_weight)
        return self._orderings[key]

    def _member(self, model: Model, asker: Asker) -> Member:
        price = model.pricing.usd_per_mtok()
        member = Member(
            model.full_name,
            input_usd_per_mtok=price[0] if price else None,
            output_usd_per_mtok=price[1] if price else None,
            capabilities=model.known.capabilities,
            figures=self._board.of(model.provider).figures(model.name),
            useful=self._board.answers.share(asker, model.full_name, now_ms()),
        )
        return member if model.weight is None else replace(member, weight=model.weight)


def _spread(order: list[Candidate]) -> list[Candidate]:
    """The best of every provider before the second best of any: what fails is mostly all of one."""
    seen: Counter[str] = Counter()
    rounds = []
    for place, one in enumerate(order):
        rounds.append((seen[one.provider], place, one))
        seen[one.provider] += 1
    return [one for _, _, one in sorted(rounds, key=lambda entry: entry[:2])]


def _candidate(model: Model, reason: str) -> Candidate:
    return Candidate(model.provider, model.name, reason, model.pricing)


def _expected(choice: Choice) -> Tokens:
    return Tokens(choice.needs.input_tokens, choice.needs.output_tokens)


def _demand(choice: Choice) -> Demand:
    return Demand(choice.needs.input_tokens, choice.needs.output_tokens, choice.needs.wished)
