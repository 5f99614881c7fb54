"""A collector: takes spans and metrics by OTLP over HTTP and gRPC, and decodes the protobuf."""

import asyncio
import gzip
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

PATIENCE_S = 30.0

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
    links: tuple[str, ...] = ()
    """The ids of the spans that it links."""


@dataclass(frozen=True, slots=True)
class Point:
    """A value of a metric, of one set of attributes; of a histogram its sum and count."""

    service: str
    instance: str
    attributes: dict[str, Value]
    value: float
    count: int | None = None
    bounds: tuple[float, ...] = ()


@dataclass(slots=True)
class Collector:
    """What was exported so far."""

    endpoint: str = ""
    grpc_endpoint: str = ""
    spans: list[ReceivedSpan] = field(default_factory=list)
    points: dict[str, dict[tuple[object, ...], Point]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    """By the name of the metric, the newest of each set of attributes."""
    units: dict[str, str] = field(default_factory=dict)
    resources: list[dict[str, Value]] = field(default_factory=list)
    exports: list[bytes] = field(default_factory=list)
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    def take_spans(self, request: Any) -> None:
        """Handle an export of spans."""
        self.exports.append(request.SerializeToString())
        for one in request.resource_spans:
            self.resources.append(_attributes(one.resource.attributes))
        self.spans.extend(_spans_in(request))
        self._came.set()

    def take_metrics(self, request: Any) -> None:
        """Handle an export of metrics."""
        self.exports.append(request.SerializeToString())
        for resource in request.resource_metrics:
            who = _attributes(resource.resource.attributes)
            self.resources.append(who)
            for metric in (one for scope in resource.scope_metrics for one in scope.metrics):
                self.units[metric.name] = metric.unit
                for point in _points_in(metric, who):
                    key = (point.instance, *sorted(point.attributes.items()))
                    self.points[metric.name][key] = point
        self._came.set()

    async def until(self, is_it: "Callable[[Collector], bool]") -> None:
        """Wait until what came is what one waits for."""
        async with asyncio.timeout(PATIENCE_S):
            while not is_it(self):
                self._came.clear()
                await self._came.wait()

    def traces(self) -> dict[str, list[ReceivedSpan]]:
        """The spans by trace id."""
        found: dict[str, list[ReceivedSpan]] = defaultdict(list)
        for span in self.spans:
            found[span.trace_id].append(span)
        return found

    def named(self, name: str) -> list[ReceivedSpan]:
        """The spans of a name."""
        return [span for span in self.spans if span.name == name]

    def told(self, metric: str, **attributes: Value) -> list[Point]:
        """The points of a metric that have these attributes, `.` written as `__`."""
        wanted = {name.replace("__", "."): value for name, value in attributes.items()}
        return [
            point
            for point in self.points[metric].values()
            if wanted.items() <= point.attributes.items()
        ]


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """Receivers for both protocols, each on a port of its own."""
    collector = Collector()
    async with _http(collector), _grpc(collector):
        yield collector


@asynccontextmanager
async def _http(collector: Collector) -> AsyncIterator[None]:
    def taking(request: Any, take: Callable[[Any], None], response: Any) -> Any:
        async def handle(http: web.Request) -> web.Response:
            data = await http.read()
            if data[:2] == b"\x1f\x8b":
                data = gzip.decompress(data)
            take(request.FromString(data))
            return web.Response(
                body=response().SerializeToString(), content_type="application/x-protobuf"
            )

        return handle

    app = web.Application(client_max_size=64 * 2**20)
    traces, metrics = trace_service_pb2, metrics_service_pb2
    app.router.add_post(
        "/v1/traces",
        taking(
            traces.ExportTraceServiceRequest,
            collector.take_spans,
            traces.ExportTraceServiceResponse,
        ),
    )
    app.router.add_post(
        "/v1/metrics",
        taking(
            metrics.ExportMetricsServiceRequest,
            collector.take_metrics,
            metrics.ExportMetricsServiceResponse,
        ),
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        collector.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _grpc(collector: Collector) -> AsyncIterator[None]:
    class Traces(trace_service_pb2_grpc.TraceServiceServicer):
        async def Export(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 - gRPC's
            collector.take_spans(request)
            return trace_service_pb2.ExportTraceServiceResponse()

    class Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
        async def Export(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 - gRPC's
            collector.take_metrics(request)
            return metrics_service_pb2.ExportMetricsServiceResponse()

    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Traces(), server)  # type: ignore[no-untyped-call]
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(Metrics(), server)  # type: ignore[no-untyped-call]
    collector.grpc_endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield
    finally:
        await server.stop(grace=None)


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
                    links=tuple(link.span_id.hex() for link in span.links),
                )


def _points_in(metric: Any, who: dict[str, Value]) -> Iterable[Point]:
    data = getattr(metric, metric.WhichOneof("data"))
    for point in data.data_points:
        is_histogram = metric.WhichOneof("data") == "histogram"
        yield Point(
            service=str(who["service.name"]),
            instance=str(who["service.instance.id"]),
            attributes=_attributes(point.attributes),
            value=point.sum if is_histogram else getattr(point, point.WhichOneof("value")),
            count=point.count if is_histogram else None,
            bounds=tuple(point.explicit_bounds) if is_histogram else (),
        )


def _attributes(pairs: Iterable[Any]) -> dict[str, Value]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Value:
    if value.WhichOneof("value") == "array_value":
        return [_value(one) for one in value.array_value.values]
    plain: Value = getattr(value, value.WhichOneof("value"))
    return plain
