"""How a request's stream flows: its events, its pace, its pauses, and what a failure does to it."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from atlas.contracts.base import PositiveMs, UserInput

type Coalescing = Literal["adaptive", "off", "time", "size", "delimiter"]
type Delimiter = Annotated[str, Field(min_length=1, max_length=64)]

LEAST_UNSTORED_BYTES = 4 * 2**10
MOST_UNSTORED_BYTES = 16 * 2**20

_PARAMETERS: dict[str, tuple[Coalescing, ...]] = {
    "coalesce_ms": ("time", "size", "delimiter"),
    "coalesce_chars": ("size", "time", "delimiter"),
    "coalesce_delimiters": ("delimiter",),
}
"""Which mode reads which parameter; the first of them needs it."""


class FallbackPolicy(UserInput):
    """What happens when a provider fails after content was streamed.

    `restart` drops the text of the failed attempt and begins anew, `continue` keeps it where
    provider and content allow, and restarts where they do not, `fail` ends the stream. A failure
    before any content always falls back, unless `fail`.
    """

    on_failure: Literal["restart", "continue", "fail"] = "restart"
    hedge_after_ms: PositiveMs | None = Field(
        default=None,
        description="When no content came by then, a second attempt races the first one at the "
        "next candidate; the loser is cancelled, and its cost counts.",
    )


class BufferOptions(UserInput):
    """How a stream is cut into events, how fast it flows, and how long it may stand still.

    Joining never changes the order of content and never loses any: what is held leaves before
    content of another kind, and before every other event (a pause, a failed attempt, the end).
    """

    coalesce: Coalescing = Field(
        default="adaptive",
        description="`adaptive` joins what was read at once and adds no delay; `off` gives one "
        "event per provider chunk; `time`, `size` and `delimiter` hold content and join it, as "
        "`coalesce_ms`, `coalesce_chars` and `coalesce_delimiters` say.",
    )
    coalesce_ms: int | None = Field(
        default=None,
        ge=1,
        le=60_000,
        description="The longest that content is held. `time` needs it; a bound for `size` and "
        "`delimiter`.",
    )
    coalesce_chars: int | None = Field(
        default=None,
        ge=1,
        le=65_536,
        description="An event leaves when it has at least so many characters; a provider's chunk "
        "is not cut for it. `size` needs it; a bound for `time` and `delimiter`, 65536 where it "
        "is not given.",
    )
    coalesce_delimiters: list[Delimiter] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        description="An event ends right after the first of them that is complete, such as "
        r'`["\n"]` for lines or `[". ", "? ", "! ", "\n"]` for sentences. `delimiter` needs it.',
    )
    max_tokens_per_second: float | None = Field(
        default=None, gt=0, description="Hold the provider to this pace; tokens are estimated."
    )
    max_unstored_bytes: int = Field(
        default=2**20,
        ge=LEAST_UNSTORED_BYTES,
        le=MOST_UNSTORED_BYTES,
        description="When events of so many bytes are published and not known to be stored, the "
        "provider is not read until they are. What one read brings may exceed it; nothing is "
        "dropped.",
    )

    max_paused_ms: PositiveMs | None = Field(
        default=None,
        description="The longest that one pause may last, also over the death of a router; after "
        "it `on_max_paused` happens, by `atlas`.",
    )
    on_max_paused: Literal["cancel", "resume"] | None = Field(
        default=None,
        description="What happens to a stream that was paused for `max_paused_ms`; `cancel` "
        "where nothing is said.",
    )

    @model_validator(mode="after")
    def _parameters_fit_the_mode(self) -> Self:
        for name, modes in _PARAMETERS.items():
            is_given = getattr(self, name) is not None
            if self.coalesce == modes[0] and not is_given:
                raise ValueError(f"coalesce `{self.coalesce}` needs {name}")
            if is_given and self.coalesce not in modes:
                readers = " or ".join(f"`{mode}`" for mode in modes)
                raise ValueError(
                    f"{name} means nothing with coalesce `{self.coalesce}`; remove it, or set "
                    f"coalesce to {readers}"
                )
        return self

    @model_validator(mode="after")
    def _an_end_of_pauses_has_its_time(self) -> Self:
        if self.on_max_paused is not None and self.max_paused_ms is None:
            raise ValueError("on_max_paused means nothing without max_paused_ms; give both")
        return self
