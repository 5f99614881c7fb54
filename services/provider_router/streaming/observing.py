"""What spans and metrics tell of a stream: once when it begins and once when it ends.

Nothing of it is on the path of a chunk: the figures are those that a stream keeps for its end.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from urllib.parse import urlsplit

from opentelemetry.trace import Span, SpanKind

from atlas import telemetry
from atlas.contracts.errors import AtlasError
from atlas.contracts.inference import ModelRequest
from atlas.contracts.streams import StreamCompleted, StreamEvent, StreamFailed
from atlas.telemetry import Attribute, meters, names
from provider_router.routing.choosing import Candidate
from provider_router.routing.prices import Pricing
from provider_router.streaming.job import Job
from provider_router.streaming.ledger import AttemptUsage, Ledger
from provider_router.streaming.progress import Progress

type IsKnown = Callable[[str, str], bool]
"""Whether the configuration knows a provider's model: users make up names, metrics must not."""

_EMBEDDING_MODELS = meters.Admitted()
"""Any name under a provider may be one of its models for embeddings."""
_PORTS = {"http": 80, "https": 443}


def chat(job: Job) -> AbstractContextManager[Span]:
    """The span of a stream under one router; it links that of the router that died before."""
    first, request = job.plan.candidates[0], job.request
    attributes: dict[str, Attribute] = {
        names.OPERATION: "chat",
        names.PROVIDER: first.pricing.kind,
        names.ACCOUNT: first.provider,
        names.REQUEST_MODEL: first.model,
        names.REQUEST_STREAM: True,
        names.STREAM_ID: job.address.stream_id,
        names.TENANT: job.address.tenant,
        **_server(first.pricing),
    }
    asked: dict[str, Attribute | None] = {
        names.REQUEST_MAX_TOKENS: request.max_tokens,
        names.REQUEST_TEMPERATURE: request.temperature,
        names.REQUEST_TOP_P: request.top_p,
        names.REQUEST_STOP: request.stop_sequences or None,
        names.OUTPUT_TYPE: _output_type(request),
    }
    attributes |= {name: value for name, value in asked.items() if value is not None}
    return telemetry.span(
        names.chat(first.model),
        kind=SpanKind.CLIENT,
        headers=job.headers,
        attributes=attributes,
        goes_on_from=job.before,
    )


def _output_type(request: ModelRequest) -> str | None:
    if request.response_format is None:
        return None
    return "text" if request.response_format.type == "text" else "json"


def _server(pricing: Pricing) -> dict[str, Attribute]:
    if pricing.base_url is None:
        return {}
    url = urlsplit(pricing.base_url)
    port = url.port or _PORTS.get(url.scheme)
    if url.hostname is None or port is None:
        return {}
    return {names.SERVER_ADDRESS: url.hostname, names.SERVER_PORT: port}


def annotate(
    span: Span, end: StreamEvent | None, ledger: Ledger, last: AttemptUsage | None
) -> None:
    """Say on a stream's span how it ended, and who answered: mostly the one asked first.

    Without an end it goes on with another router.
    """
    usage = ledger.usage()
    if last is not None:
        span.set_attribute(names.PROVIDER, last.pricing.kind)
        span.set_attribute(names.ACCOUNT, last.provider)
        span.set_attribute(names.RESPONSE_MODEL, last.pricing.model)
    span.set_attribute(names.INPUT_TOKENS, usage.input_tokens)
    span.set_attribute(names.OUTPUT_TOKENS, usage.output_tokens)
    for name, tokens in (
        (names.CACHE_READ_TOKENS, usage.cached_input_tokens),
        (names.CACHE_WRITE_TOKENS, usage.cache_write_tokens),
        (names.REASONING_TOKENS, usage.reasoning_tokens),
    ):
        if tokens:
            span.set_attribute(name, tokens)
    span.set_attribute(names.OUTCOME, "handed_over" if end is None else _outcome(end))
    if isinstance(end, StreamCompleted):
        span.set_attribute(names.FINISH_REASONS, [end.finish_reason.value])
        for name, figure in end.metrics.model_dump(exclude_none=True).items():
            span.set_attribute(names.STREAM_METRICS + name, figure)
        if (first_ms := end.metrics.time_to_first_token_ms) is not None:
            span.set_attribute(names.FIRST_CHUNK_S, first_ms / 1000)
    elif isinstance(end, StreamFailed):
        telemetry.mark_failed(end.error.code)


def measure(  # noqa: PLR0917 - what is known of it
    first: Candidate,
    end: StreamEvent,
    ledger: Ledger,
    progress: Progress,
    paused_ms: int,
    is_known: IsKnown,
) -> None:
    """Count a stream that ended here, with what its dead routers used."""
    for attempt in ledger.all:
        if attempt.has_response:
            _measure_attempt(attempt, is_known)
    last = progress.current
    pricing, provider = (first.pricing, first.provider)
    if last is not None:
        pricing, provider = last.pricing, last.provider
    labels = _labels(provider, pricing, is_known)
    if not is_known(first.provider, first.model):
        labels[names.REQUEST_MODEL] = names.OTHER
    else:
        labels[names.REQUEST_MODEL] = first.model
    ended = {**labels, names.OUTCOME: _outcome(end)}
    if isinstance(end, StreamFailed):
        ended[names.ERROR_TYPE] = end.error.code
    meters.record(names.OPERATION_DURATION, progress.elapsed_s, ended)
    if (first_s := progress.first_token_s) is not None:
        meters.record(names.TIME_TO_FIRST_CHUNK, first_s, labels)
        if progress.chunks > 1:
            flowing_s = progress.elapsed_s - first_s - paused_ms / 1000
            per_chunk_s = max(0.0, flowing_s) / (progress.chunks - 1)
            meters.record(names.TIME_PER_OUTPUT_CHUNK, per_chunk_s, labels)


@contextmanager
def embeddings(candidate: Candidate) -> Iterator[Span]:
    """The span of an attempt to turn texts into vectors, and how long it took."""
    labels = _labels_of_embedding(candidate)
    began_s, outcome = time.monotonic(), "failed"
    attributes = {**labels, names.REQUEST_MODEL: candidate.model, **_server(candidate.pricing)}
    name = names.embeddings(candidate.model)
    try:
        with telemetry.span(name, kind=SpanKind.CLIENT, attributes=attributes) as span:
            yield span
        outcome = "completed"
    except AtlasError as error:
        labels[names.ERROR_TYPE] = error.code
        raise
    finally:
        labels[names.OUTCOME] = outcome
        meters.record(names.OPERATION_DURATION, time.monotonic() - began_s, labels)


def measure_embedded(candidate: Candidate, tokens: int) -> None:
    """Count the tokens of one request for embeddings."""
    labels = {**_labels_of_embedding(candidate), names.TOKEN_TYPE: "input"}
    meters.record(names.TOKEN_USAGE, tokens, labels)


def _labels_of_embedding(candidate: Candidate) -> dict[str, Attribute]:
    return {
        names.OPERATION: "embeddings",
        names.PROVIDER: candidate.pricing.kind,
        names.ACCOUNT: candidate.provider,
        names.REQUEST_MODEL: _EMBEDDING_MODELS.label(candidate.model),
    }


def _measure_attempt(attempt: AttemptUsage, is_known: IsKnown) -> None:
    labels = _labels(attempt.provider, attempt.pricing, is_known)
    usage, cost = attempt.usage(), attempt.cost()
    for kind, tokens in (("input", usage.input_tokens), ("output", usage.output_tokens)):
        meters.record(names.TOKEN_USAGE, tokens, {**labels, names.TOKEN_TYPE: kind})
    if cost.complete:
        meters.count(names.COST, labels, cost.total_usd)


def _labels(provider: str, pricing: Pricing, is_known: IsKnown) -> dict[str, Attribute]:
    model = pricing.model if is_known(provider, pricing.model) else names.OTHER
    return {
        names.OPERATION: "chat",
        names.PROVIDER: pricing.kind,
        names.ACCOUNT: provider,
        names.REQUEST_MODEL: model,
        names.RESPONSE_MODEL: model,
    }


def _outcome(end: StreamEvent) -> str:
    return end.type.removeprefix("stream.")
