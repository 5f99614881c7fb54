"""What a provider is to the router: deltas in batches, errors mapped, no NATS.

An adapter turns one `ModelRequest` into one HTTP call and the bytes that come back into batches of
deltas. A batch is what one read from the socket brought: the router may publish it as one event.
Adapters know nothing of streams, epochs, retries or budgets.

Deltas are structs that the garbage collector does not track: there is one for every chunk, and
none can be part of a cycle.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from atlas.contracts.errors import ProviderError
from atlas.contracts.inference import FinishReason, ModelRequest, Usage


class Text(msgspec.Struct, frozen=True, gc=False):
    """More of the answer."""

    text: str


class Reasoning(msgspec.Struct, frozen=True, gc=False):
    """More of the model's reasoning."""

    text: str


class ToolCall(msgspec.Struct, frozen=True, gc=False):
    """More of a tool call; `id` and `name` come once, with the first piece of their `index`.

    Indexes count the calls of an answer: 0, 1, 2 … in order of appearance.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class UsageReport(msgspec.Struct, frozen=True, gc=False):
    """What the provider counted so far; each report replaces the one before."""

    usage: Usage


class Finished(msgspec.Struct, frozen=True, gc=False):
    """The provider's own word that the answer is whole; the last delta but for usage."""

    reason: FinishReason


type Delta = Text | Reasoning | ToolCall | UsageReport | Finished


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One attempt: the request, the provider's own name of the model, and headers to pass on."""

    model: str
    request: ModelRequest
    headers: Mapping[str, str] = field(default_factory=dict)
    """Trace context, added to the provider's HTTP request."""
    is_continued: bool = False
    """Whether the last message is the beginning of the answer, and only its rest is wanted."""


class Accepted:
    """An accepted call: its headers at once, then its batches.

    The headers are an attribute and no event, so that the rate limits they tell reach the router
    before any content and cost nothing per chunk.
    """

    __slots__ = ("_batches", "headers", "held")

    def __init__(
        self,
        batches: AsyncIterator[list[Delta]],
        headers: Mapping[str, str] | None = None,
        held: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._batches = batches
        self.headers: Mapping[str, str] = headers or {}
        """Of the provider's response, names in lower case; empty where there are none."""
        self.held = held
        """Within it nothing is read from the socket, also not ahead."""

    def __aiter__(self) -> AsyncIterator[list[Delta]]:
        return self._batches

    def __anext__(self) -> Awaitable[list[Delta]]:
        return self._batches.__anext__()


@dataclass(frozen=True, slots=True)
class EmbedCall:
    """Texts for one embedding model, no more than its provider takes at once."""

    model: str
    texts: list[str]
    dimensions: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Trace context, added to the provider's HTTP request."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """One vector per text, in their order."""

    vectors: list[list[float]]
    usage: Usage | None
    """None where the provider does not count."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of the provider's response, names in lower case."""


class Adapter(Protocol):
    """One configured account of one provider.

    Raises:
        ProviderError: Every failure, as the most specific class under it, with `provider` set.
    """

    @property
    def name(self) -> str:
        """The provider's name in the catalogue, such as `openai`."""
        ...

    def stream(self, call: ModelCall) -> AbstractAsyncContextManager[Accepted]:
        """Open the call; entering sends it and raises when the provider refuses.

        Iterating yields non-empty batches until `Finished` was seen and the stream ended; a stream
        that ends without it raises `ProviderStreamError`. Not iterating stops reading from the
        socket (the provider is held by TCP backpressure). Leaving the context closes the
        connection at once unless the answer was read to its end.
        """
        ...

    def why_no_prefill(self, model: str, request: ModelRequest) -> str | None:
        """Why this model would not go on from a begun answer to the request; None when it does."""
        ...

    async def embed(self, call: EmbedCall) -> Embedded:
        """Turn texts into vectors, in one request."""
        ...

    async def probe(self) -> bool:
        """Ask what costs nothing: whether the server answers and takes the account's key.

        Returns:
            True when it does; False when it answers, but not to this question, so that it need
            not be asked again.

        Raises:
            ProviderError: No connection, no answer within `probe_timeout_ms`, a refused key, or
                what else the provider told. `was_sent` says that there was a connection.
        """
        ...

    async def warm(self) -> None:
        """Open a connection ahead of the first call, at no cost; never raises for a failure."""
        ...

    async def close(self) -> None:
        """Close the connection pool, also what is in use."""
        ...


class Decoder(Protocol):
    """Pure: bytes of a response body in, deltas out, wherever the bytes were cut.

    Neither method raises: what came before a failure must not be lost with it, so a failure is
    kept in `failure`, to be raised once the deltas returned beside it were passed on.
    """

    @property
    def is_done(self) -> bool:
        """Whether the provider said that the answer is whole; what follows is not read."""
        ...

    @property
    def failure(self) -> ProviderError | None:
        """An error told inside the stream, or what is malformed about it."""
        ...

    def feed(self, data: bytes) -> list[Delta]:
        """Take the next bytes; returns what they completed, often nothing."""
        ...

    def end(self) -> list[Delta]:
        """The body is over; sets `failure` to a ProviderStreamError when the answer is not."""
        ...
