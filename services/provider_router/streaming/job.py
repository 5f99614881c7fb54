"""A request on its way through a session."""

from collections.abc import Mapping
from dataclasses import dataclass

from atlas.contracts.inference import ModelRequest
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
    ran_ms: int = 0
    """How long earlier routers had it, pauses left out."""
