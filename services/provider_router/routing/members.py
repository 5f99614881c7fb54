"""The members of a group as a strategy sees them, and what a request demands. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from atlas.contracts.inference import Level, ModelCapability
from provider_router.routing.figures import UNKNOWN, Figures

_MTOK = 1_000_000


@dataclass(frozen=True, slots=True)
class Demand:
    """What a request is expected to take, and what it needs."""

    input_tokens: int = 0
    output_tokens: int = 0
    needs: Mapping[ModelCapability, Level] = field(default_factory=dict)
    first_token_target_ms: int = 2_000
    """A first token that comes sooner is worth hardly more; one that comes much later, little."""


@dataclass(frozen=True, slots=True)
class Member:
    """A model of a provider in a group, with what is known about it now."""

    name: str
    """`provider/model`."""
    weight: float = 1.0
    input_usd_per_mtok: float | None = None
    output_usd_per_mtok: float | None = None
    capabilities: Mapping[ModelCapability, Level] = field(default_factory=dict)
    figures: Figures = UNKNOWN
    useful: float = 1.0
    """The share of its answers that is of use to who asks, as they said."""

    def expected_usd(self, demand: Demand) -> float | None:
        """What the expected tokens cost by the price list, else what requests cost lately."""
        if self.input_usd_per_mtok is None or self.output_usd_per_mtok is None:
            learnt = self.figures.request_usd
            return learnt.total / learnt.weight if learnt.weight else None
        return (
            demand.input_tokens * self.input_usd_per_mtok
            + demand.output_tokens * self.output_usd_per_mtok
        ) / _MTOK


@dataclass(frozen=True, slots=True)
class Placed:
    """A member's place in the order, and why it stands there."""

    name: str
    reason: str


def in_dollars(usd: float | None) -> str:
    """An expected price for a reason: two digits of a small one, cents of a large one."""
    if usd is None:
        return "price unknown"
    return f"${usd:.2f} expected" if usd >= 1 else f"${usd:.2g} expected"
