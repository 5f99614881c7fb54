"""What services tell about themselves and their work (contract A5), and dead letters."""

from enum import StrEnum

from pydantic import Field

from atlas.contracts.base import Contract, EpochMs, JsonObject
from atlas.contracts.errors import ErrorInfo
from atlas.contracts.ids import Id, new_id
from atlas.contracts.inference import Cost, Level, Usage


class Event(Contract):
    """Something happened. `type` is also the end of the subject it is published on."""

    event_id: Id = Field(default_factory=new_id)
    type: str = Field(pattern=r"^[a-z_]+(\.[a-z_]+)+$", description="Such as `provider.health`.")
    source: str = Field(description="The service, such as `provider_router`.")
    at_ms: EpochMs
    data: JsonObject = Field(default_factory=dict)


class Offer(Contract):
    """What a worker says of a capability that it has: how good it is at it, and what it does."""

    level: Level = Field(
        default=Level.MODERATE, description="Where several workers have it, the best is offered."
    )
    description: str | None = Field(
        default=None,
        max_length=200,
        pattern=r"^[^\x00-\x1f\x7f-\x9f]*[^\x00-\x20\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$",
        description="A line for whoever plans with it, a model too.",
    )


class AttemptOutcome(StrEnum):
    """How an attempt ended: `lost` a race, `budget` was spent, `abandoned` by its router."""

    COMPLETED = "completed"
    FAILED = "failed"
    LOST = "lost"
    CANCELLED = "cancelled"
    BUDGET = "budget"
    ABANDONED = "abandoned"


class AttemptReport(Contract):
    """What one attempt of a stream used and cost: an element of `attempts` in its last event.

    An attempt that its provider refused used nothing. One that was cut off, lost a race or died
    with its router used what was counted, so its usage is `estimated`.
    """

    provider: str
    model: str = Field(description="`provider/name`.")
    outcome: AttemptOutcome
    error: str | None = Field(default=None, description="The code of its error, if it failed.")
    hedged: bool = Field(default=False, description="It raced an attempt that was late.")
    usage: Usage
    cost: Cost


class DeadLetter(Contract):
    """Something a durable door could not take, kept with the reason."""

    kind: str = Field(
        description="What it was meant to be: `request`, `submit`, `work` or `report`."
    )
    id: str = Field(description="The id that stands in its subject.")
    subject: str
    at_ms: EpochMs
    error: ErrorInfo
    payload_base64: str = Field(description="The payload as it came.")
    truncated: bool = Field(default=False, description="Whether the payload was cut to fit.")
