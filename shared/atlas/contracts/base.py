"""The base of every contract: frozen, snake_case JSON, and who may send unknown fields.

What users send is strict (`UserInput`): an unknown field is refused, because it is most often a
misspelt one. What services send (`Contract`) is read leniently: events grow, and a rolling upgrade
mixes versions (contract A2).
"""

import time
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

ATLAS_VERSION = 1
"""The version of this contract, sent in the `Atlas-Version` header."""

EpochMs = Annotated[int, Field(ge=0, description="Milliseconds since 1970-01-01T00:00:00Z.")]
DurationMs = Annotated[int, Field(ge=0, description="A duration in milliseconds.")]
PositiveMs = Annotated[int, Field(gt=0, description="A duration in milliseconds, above zero.")]
Count = Annotated[int, Field(ge=0)]
Usd = Annotated[float, Field(ge=0, description="US dollars.")]

type JsonObject = dict[str, object]


class Contract(BaseModel):
    """A frozen value on the wire. Unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")

    def to_json(self) -> bytes:
        """The value as UTF-8 JSON; fields that are None are left out."""
        return self.model_dump_json(exclude_none=True).encode()


class UserInput(Contract):
    """A frozen value that users send. Unknown fields are refused, and what JSON has no number for.

    Many encoders write `NaN` and `Infinity` all the same, and no limit holds against them.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


def now_ms() -> int:
    """The wall clock in epoch milliseconds: the one clock of everything on the wire."""
    return time.time_ns() // 1_000_000
