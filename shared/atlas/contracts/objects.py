"""Large values, which messages name by reference (`output_ref`), read in parts."""

from typing import Annotated

from pydantic import Field

from atlas.contracts.base import Contract, Count, UserInput

PART_BYTES = 512 * 1024
"""The most that one answer holds; as base64 it fits the megabyte that NATS takes by default."""

type ObjectName = Annotated[
    str,
    Field(min_length=1, max_length=1024, description="As an event names it, by `output_ref`."),
]


class ObjectGet(UserInput):
    """Asks for a part of a large value: its bytes from `offset` on."""

    object: ObjectName
    offset: Count = 0
    limit_bytes: int = Field(default=PART_BYTES, gt=0, le=PART_BYTES)


class ObjectPart(Contract):
    """A part of a large value, which is JSON in UTF-8."""

    object: str
    offset: Count
    data: str = Field(description="The bytes from `offset` on, as base64.")
    size_bytes: Count = Field(description="Of the whole value.")
    sha256: str | None = Field(
        default=None,
        description="Of the whole value, in hexadecimal; another one than before: begin anew.",
    )
    next_offset: Count | None = Field(default=None, description="Where the next part begins.")
