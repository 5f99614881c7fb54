"""The adaptive strategy: the best bet on success, speed and cost, learnt as it goes. Pure.

Discounted Thompson sampling. For every member it draws a success rate and a time to the first
token from what the figures make likely, and puts first who would serve best if those were true:

    utility = useful x success x timeliness - cost_weight x cost

*useful* is the share of answers that nobody complained of (`answers`: for who asks, lately).
*timeliness* is near 1 while the first token comes within the target and falls off beyond it;
*cost* is the expected price over that of the dearest member. So whoever is good enough competes by
price. A group sets how much price weighs: at 0 it counts for nothing, at 0.4, the default, nobody
is so cheap that a failing or a slow one pays, and from 50 on little else counts.

The less is known about a member, the wider its draws: a new one and one not tried for a while (the
figures forget) get a request now and then, more often when they are cheap, because they may turn
out the best. That is the exploring; there is no other, and it dies down where nothing can be won.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from provider_router.routing.figures import PRIOR_SUCCESS, Figures
from provider_router.routing.members import Demand, Member, Placed, in_dollars

DEFAULT_COST_WEIGHT = 0.4
_PRIOR_WEIGHT = 2.0
_SPREAD = 0.4
"""Of the logarithm of one time to the first token; that of an average of n is less by √n."""
_STEEPNESS = 3.0
_MOSTLY = 0.995
"""From here on it is not worth a word."""


@dataclass(frozen=True, slots=True)
class Adaptive:
    """Orders members by the utility of one draw each."""

    cost_weight: float = DEFAULT_COST_WEIGHT

    def order(
        self, members: Sequence[Member], demand: Demand, rng: random.Random, now_ms: int
    ) -> list[Placed]:
        """The members, the best bet first."""
        costs = [member.expected_usd(demand) for member in members]
        dearest = max((usd for usd in costs if usd is not None), default=0.0)
        drawn = []
        for at, (member, usd) in enumerate(zip(members, costs, strict=True)):
            figures = member.figures.at(now_ms)
            cost = 1.0 if usd is None else (usd / dearest if dearest else 0.0)
            service = member.useful * _drawn_service(figures, demand, rng, now_ms)
            utility = service - self.cost_weight * cost
            drawn.append((-utility, at, _in_words(member, figures, usd, now_ms)))
        return [Placed(members[at].name, reason) for _, at, reason in sorted(drawn)]


def _drawn_service(figures: Figures, demand: Demand, rng: random.Random, now_ms: int) -> float:
    """Success times timeliness, each drawn from what is likely."""
    good, seen = figures.success.total, figures.success.weight
    success = rng.betavariate(
        good + _PRIOR_WEIGHT * PRIOR_SUCCESS,
        max(0.0, seen - good) + _PRIOR_WEIGHT * (1 - PRIOR_SUCCESS),
    )
    spread = _SPREAD / math.sqrt(1 + figures.first_token_ms.weight)
    wait_ms = figures.expected_first_token_ms(now_ms) * math.exp(rng.gauss(0, spread))
    return success * timeliness(wait_ms, demand.first_token_target_ms)


def timeliness(wait_ms: float, target_ms: float) -> float:
    """1 for at once, a half at the target, and little far beyond it."""
    return 1 / (1 + math.pow(wait_ms / target_ms, _STEEPNESS))


def _in_words(member: Member, figures: Figures, usd: float | None, now_ms: int) -> str:
    useful = f"{100 * member.useful:.0f} % of use, " if member.useful < _MOSTLY else ""
    if figures.is_unknown:
        return f"never tried lately; {useful}{in_dollars(usd)}"
    return (
        f"{100 * figures.success_rate:.0f} % success, {useful}"
        f"{figures.expected_first_token_ms(now_ms):.0f} ms to the first token, {in_dollars(usd)}"
    )
