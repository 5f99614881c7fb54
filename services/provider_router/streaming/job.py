"""A request on its way through a session."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from atlas.contracts.inference import ModelRequest
from provider_router.routing.answers import Asker
from provider_router.routing.choosing import Plan
from provider_router.streaming.begun import Said
from provider_router.streaming.store import StreamAddress


@dataclass(frozen=True, slots=True)
class Job:
    """A request as a session gets it."""

    address: StreamAddress
    request: ModelRequest
    plan: Plan
    headers: Mapping[str, str]
    """Of the request's message: its trace context, and the task that it belongs to."""
    said: Said | None = None
    """What an earlier router's attempt said, where the next one goes on from it."""
    before: Mapping[str, str] = field(default_factory=dict)
    """The trace context of the router that died with it, if any."""
    ran_ms: int = 0
    """How long earlier routers had it, pauses left out."""

    @property
    def asker(self) -> Asker:
        """Who asks, and for which kind of answer."""
        return asker_of(self.address.tenant, self.request)


def asker_of(tenant: str, request: ModelRequest) -> Asker:
    """Who asks, and for which kind of answer."""
    return Asker(tenant, wants_json=request.response_format is not None)
