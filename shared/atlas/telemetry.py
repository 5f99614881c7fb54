"""OpenTelemetry set-up, trace context in headers, and the one table of names.

Nothing is exported unless `OTEL_EXPORTER_OTLP_ENDPOINT` (or its traces variant) is set; without it
the API's no-op tracer still passes a caller's `traceparent` on. Names follow the GenAI and
messaging semantic conventions of OpenTelemetry, which still move: they are spelt here only.
"""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import structlog
from opentelemetry import context, propagate, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from atlas.contracts.errors import AtlasError
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
EXECUTE_TOOL: Final = "execute_tool"
"""The name of that operation."""
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_RESULT: Final = "gen_ai.tool.call.result"
ERROR_TYPE: Final = "error.type"
STREAM_ID: Final = "atlas.stream.id"
TASK_ID: Final = "atlas.task.id"
SUBTASK_ID: Final = "atlas.subtask.id"
ATTEMPT: Final = "atlas.attempt"
TENANT: Final = "atlas.tenant"
METRICS: Final = "atlas.stream.metrics."
"""Before the name of each figure of `StreamMetrics`."""

type Attribute = str | int | float | bool | list[str]

_TRACER = trace.get_tracer("atlas")
_LAST_EXPORT_S = 3.0
"""What an ending process waits for its collector; the exporter's own patience is 10 s and more."""

log = structlog.get_logger("atlas.telemetry")


@dataclass(frozen=True, slots=True)
class Tracing:
    """Tracing that is set up; whoever set it up shuts it down."""

    provider: TracerProvider

    def shutdown(self) -> None:
        """Send the spans that wait; blocks, but not for long where no collector answers."""
        last = threading.Thread(target=self.provider.shutdown, name="last-export", daemon=True)
        last.start()
        last.join(_LAST_EXPORT_S)
        if last.is_alive():
            log.warning("spans_lost", collector=tracing_endpoint(), waited_s=_LAST_EXPORT_S)


def configure(service: str, instance: str) -> Tracing | None:
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
    # The exporter tells every try that failed, and its own end of patience as an error.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.ERROR)
    return Tracing(provider)


@contextmanager
def span(
    name: str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    headers: Mapping[str, str] | None = None,
    attributes: Mapping[str, Attribute] | None = None,
) -> Iterator[Span]:
    """A span that is current while the block runs; `headers` name its remote parent, if any.

    An error that leaves the block marks the span with the error's code or class, never with its
    text: that may hold content.
    """
    parent = None if headers is None else propagate.extract(headers)
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
            mark_failed(error.code if isinstance(error, AtlasError) else type(error).__name__)
            raise


def mark_failed(code: str) -> None:
    """Mark the current span with an error's code, never with its text."""
    current = trace.get_current_span()
    current.set_attribute(ERROR_TYPE, code)
    current.set_status(Status(StatusCode.ERROR))


def inject(headers: dict[str, str]) -> None:
    """Write the current trace context into message headers; mostly there is none."""
    if context.get_current():
        propagate.inject(headers)


@contextmanager
def remote_parent(headers: Mapping[str, str] | None) -> Iterator[None]:
    """Make the trace context in `headers` current, without a span of its own."""
    token = context.attach(propagate.extract(headers or {}))
    try:
        yield
    finally:
        context.detach(token)
