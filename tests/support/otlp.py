"""A receiver of spans: OTLP over HTTP, decoded from protobuf, as a collector would take them."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

PATH = "/v1/traces"

type Value = str | int | float | bool | list[Value]


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """A span as it came; ids are lower-case hex as in a `traceparent`, no parent is empty."""

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    is_error: bool
    status_text: str
    attributes: dict[str, Value] = field(default_factory=dict)
    events: tuple[str, ...] = ()


@dataclass(slots=True)
class Collector:
    """What was exported so far."""

    endpoint: str = ""
    spans: list[ReceivedSpan] = field(default_factory=list)
    exports: list[bytes] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        """Handle one export."""
        data = await request.read()
        self.exports.append(data)
        self.spans.extend(_spans_in(ExportTraceServiceRequest.FromString(data)))
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(),
            content_type="application/x-protobuf",
        )

    def traces(self) -> dict[str, list[ReceivedSpan]]:
        """The spans by trace id."""
        found: dict[str, list[ReceivedSpan]] = defaultdict(list)
        for span in self.spans:
            found[span.trace_id].append(span)
        return found

    def named(self, name: str) -> list[ReceivedSpan]:
        """The spans of a name."""
        return [span for span in self.spans if span.name == name]


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A receiver on a port of its own."""
    collector = Collector()
    app = web.Application(client_max_size=64 * 2**20)
    app.router.add_post(PATH, collector.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        collector.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield collector
    finally:
        await runner.cleanup()


def _spans_in(request: Any) -> Iterable[ReceivedSpan]:
    for resource in request.resource_spans:
        service = str(_attributes(resource.resource.attributes)["service.name"])
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield ReceivedSpan(
                    service=service,
                    name=span.name,
                    kind=span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    is_error=span.status.code == span.status.STATUS_CODE_ERROR,
                    status_text=span.status.message,
                    attributes=_attributes(span.attributes),
                    events=tuple(event.name for event in span.events),
                )


def _attributes(pairs: Iterable[Any]) -> dict[str, Value]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Value:
    if value.WhichOneof("value") == "array_value":
        return [_value(one) for one in value.array_value.values]
    plain: Value = getattr(value, value.WhichOneof("value"))
    return plain
