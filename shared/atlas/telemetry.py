"""OpenTelemetry set-up, trace context in headers, and the one table of names.

Nothing is exported unless `OTEL_EXPORTER_OTLP_ENDPOINT` (or its traces variant) is set; without it
the API's no-op tracer still passes a caller's `traceparent` on. Names follow the GenAI and
messaging semantic conventions of OpenTelemetry, which still move: they are spelt here only.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from opentelemetry import context, propagate, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from atlas.settings import tracing_endpoint

SYSTEM: Final = "messaging.system"
DESTINATION: Final = "messaging.destination.template"
OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
AGENT_NAME: Final = "gen_ai.agent.name"
ERROR_TYPE: Final = "error.type"
STREAM_ID: Final = "atlas.stream.id"
TASK_ID: Final = "atlas.task.id"
SUBTASK_ID: Final = "atlas.subtask.id"
ATTEMPT: Final = "atlas.attempt"
TENANT: Final = "atlas.tenant"

type Attribute = str | int | float | bool | list[str]

_TRACER = trace.get_tracer("atlas")


def configure(service: str, instance: str) -> TracerProvider | None:
    """Export spans by OTLP over HTTP where an endpoint is set; the caller shuts it down."""
    if tracing_endpoint() is None:
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - 60 ms, and only where used
        OTLPSpanExporter,
    )

    resource = Resource.create({"service.name": service, "service.instance.id": instance})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider


@contextmanager
def span(
    name: str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    headers: Mapping[str, str] | None = None,
    attributes: Mapping[str, Attribute] | None = None,
) -> Iterator[Span]:
    """A span that is current while the block runs; `headers` name its remote parent.

    An error that leaves the block marks the span with the error's class, never with its text:
    that may hold content.
    """
    parent = propagate.extract(headers) if headers else None
    with _TRACER.start_as_current_span(
        name,
        context=parent,
        kind=kind,
        attributes=dict(attributes or {}),
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except BaseException as error:
            current.set_attribute(ERROR_TYPE, type(error).__name__)
            current.set_status(Status(StatusCode.ERROR))
            raise


def inject(headers: dict[str, str]) -> None:
    """Write the current trace context into message headers."""
    propagate.inject(headers)


@contextmanager
def remote_parent(headers: Mapping[str, str] | None) -> Iterator[None]:
    """Make the trace context in `headers` current, without a span of its own."""
    token = context.attach(propagate.extract(headers or {}))
    try:
        yield
    finally:
        context.detach(token)
