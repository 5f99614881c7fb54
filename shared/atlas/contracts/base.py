"""The base of every contract: frozen, snake_case JSON, and who may send unknown fields.

What users send is strict (`UserInput`): an unknown field is refused, because it is most often a
misspelt one. What services send (`Contract`) is read leniently: events grow, and a rolling upgrade
mixes versions (contract A2).
"""

import time
from typing import Annotated, ClassVar, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    field_validator,
    model_serializer,
    model_validator,
)

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

    @classmethod
    def from_json(cls, data: str | bytes) -> Self:
        """Read what a service sent, or what was accepted before: lenient at any depth.

        A task's log holds requests and plans that users sent, of a newer version too; `door.read`
        was as strict with them as it must be.

        Raises:
            pydantic.ValidationError: It is none.
        """
        return cls.model_validate_json(data, extra="ignore")


class UserInput(Contract):
    """A frozen value that users send. Unknown fields are refused, and what JSON has no number for.

    Many encoders write `NaN` and `Infinity` all the same, and no limit holds against them.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Unknown(Contract):
    """Of a union that grows: a member that this version does not know, and passes on as it came.

    Whoever follows a stream or a task beside newer services must know its place all the same.
    """

    known: ClassVar[frozenset[str]]
    """The types of the members that this version knows."""

    type: str
    _told: JsonObject = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _keep(cls, told: object, read: ModelWrapValidatorHandler[Self]) -> Self:
        made = read(told)
        if isinstance(told, dict):
            made._told = told  # noqa: SLF001 - its own
        return made

    @field_validator("type")
    @classmethod
    def _is_unknown(cls, type_: str) -> str:
        if type_ in cls.known:
            raise ValueError(f"a {type_} is not like this")
        return type_

    @model_serializer
    def _as_it_came(self) -> JsonObject:
        return self._told


def types_of(union: object) -> frozenset[str]:
    """The types that tell the members of a union apart, given as `Annotated[A | B, …]`."""
    members: tuple[type[Contract], ...] = get_args(get_args(union)[0])
    return frozenset(member.model_fields["type"].default for member in members)


def now_ms() -> int:
    """The wall clock in epoch milliseconds: the one clock of everything on the wire."""
    return time.time_ns() // 1_000_000
