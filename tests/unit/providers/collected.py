"""A stream's deltas put together, and ways to get them: what the tests here compare."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from atlas.contracts.errors import ProviderError
from atlas.contracts.inference import FinishReason, ModelRequest, Usage
from atlas.provider_settings import ProviderSettings
from provider_router.providers.base import (
    Adapter,
    Decoder,
    Delta,
    Finished,
    ModelCall,
    Reasoning,
    Text,
    ToolCall,
    UsageReport,
)
from provider_router.providers.errors import Origin

KEY = "sk-very-secret"
ORIGIN = Origin("acme", "https://api.acme.test/v1")


@dataclass(frozen=True)
class Collected:
    """A whole answer, or as much of one as came, and the class of the error that ended it."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str | None, str | None, str]] = field(default_factory=list)
    usage: Usage | None = None
    finish: FinishReason | None = None
    error: type[ProviderError] | None = None


def collect(deltas: Iterable[Delta], error: ProviderError | None = None) -> Collected:
    """Put deltas together, as a reader of the stream would."""
    text = reasoning = ""
    calls: list[tuple[str | None, str | None, str]] = []
    usage = finish = None
    for delta in deltas:
        match delta:
            case Text():
                text += delta.text
            case Reasoning():
                reasoning += delta.text
            case ToolCall():
                if delta.index == len(calls):
                    calls.append((delta.id, delta.name, ""))
                call_id, name, arguments = calls[delta.index]
                calls[delta.index] = (call_id, name, arguments + delta.arguments)
            case UsageReport():
                usage = delta.usage
            case Finished():
                assert finish is None, "an answer ends once"
                finish = delta.reason
    return Collected(text, reasoning, calls, usage, finish, type(error) if error else None)


def decode(decoder: Decoder, pieces: Iterable[bytes]) -> Collected:
    """What a decoder makes of a body in pieces."""
    deltas: list[Delta] = []
    for piece in pieces:
        deltas += decoder.feed(piece)
    if not decoder.is_done:
        deltas += decoder.end()
    return collect(deltas, decoder.failure)


def call(model: str = "some-model", **fields: object) -> ModelCall:
    """A call with one short message."""
    return ModelCall(model, request(**fields), {"traceparent": "00-aa-bb-01"})


def request(**fields: object) -> ModelRequest:
    """A request with one short message, unless `messages` are given."""
    return ModelRequest.model_validate(
        {"messages": [{"role": "user", "content": "Hello"}], **fields}
    )


async def stream(adapter: Adapter, one: ModelCall) -> Collected:
    """What an adapter brings, and the class of the error that it raised."""
    deltas: list[Delta] = []
    failure: ProviderError | None = None
    try:
        async with adapter.stream(one) as batches:
            async for batch in batches:
                assert batch, "a batch is never empty"
                deltas += batch
    except ProviderError as error:
        failure = error
    assert failure is None or failure.provider == adapter.name
    return collect(deltas, failure)


async def read(adapter: Adapter) -> None:
    """Read an answer to its end, or to the error that it raises."""
    async with adapter.stream(call()) as batches:
        async for _ in batches:
            pass


def settings(kind: str, url: str | None = None, **fields: object) -> ProviderSettings:
    """Settings of a provider at a URL."""
    return ProviderSettings.model_validate({"kind": kind, "base_url": url, **fields})
