"""Large values, which messages name by reference, read and stored in parts."""

from typing import Annotated

from pydantic import Field

from atlas.contracts.base import Contract, Count, UserInput
from atlas.contracts.ids import Id

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
    """A part of a large value: of an output, which is JSON in UTF-8, or of what was put there."""

    object: str
    offset: Count
    data: str = Field(description="The bytes from `offset` on, as base64.")
    size_bytes: Count = Field(description="Of the whole value.")
    sha256: str | None = Field(
        default=None,
        description="Of the whole value, in hexadecimal; another one than before: begin anew.",
    )
    next_offset: Count | None = Field(default=None, description="Where the next part begins.")


class ObjectPut(UserInput):
    """A part of a value that a tenant stores, such as a picture."""

    object_id: Id = Field(description="Made by the client; the same one in every part.")
    offset: Count = Field(default=0, description="Where the part begins: a multiple of 524288.")
    data: str = Field(
        min_length=1,
        max_length=4 * -(-PART_BYTES // 3),
        description="The bytes from `offset` on, as base64: 524288 of them, in the last part less.",
    )
    sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        description="Of the whole value, in hexadecimal; stands in its last part, and ends it.",
    )
    media_type: str | None = Field(
        default=None,
        max_length=255,
        pattern=r"^[^\s/]+/[^\s]+$",
        description="Such as `image/png`; in the last part.",
    )


class ObjectTaken(Contract):
    """A part was taken; with the last one the value is there."""

    object: str = Field(description="What the value is called, in `object` of a part of a message.")
    size_bytes: Count = Field(description="As far as this part reaches.")
    next_offset: Count | None = Field(
        default=None, description="Where the next part begins; none after the last."
    )
