"""What services tell about themselves and their work (contract A5), and dead letters."""

from pydantic import Field

from atlas.contracts.base import Contract, EpochMs, JsonObject
from atlas.contracts.errors import ErrorInfo
from atlas.contracts.ids import Id, new_id


class Event(Contract):
    """Something happened. `type` is also the end of the subject it is published on."""

    event_id: Id = Field(default_factory=new_id)
    type: str = Field(pattern=r"^[a-z_]+(\.[a-z_]+)+$", description="Such as `provider.health`.")
    source: str = Field(description="The service, such as `provider_router`.")
    at_ms: EpochMs
    data: JsonObject = Field(default_factory=dict)


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
