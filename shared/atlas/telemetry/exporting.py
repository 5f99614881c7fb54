"""What leaves the process: spans and metrics by OTLP, and metrics for whoever scrapes `/metrics`.

The SDK is loaded only where something is exported; everywhere else OpenTelemetry's API does
nothing, and still passes a caller's `traceparent` on.
"""

import importlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import structlog
from opentelemetry import metrics, trace

from atlas.contracts.errors import ConfigurationError
from atlas.telemetry import names
from atlas.telemetry.settings import Export, load

if TYPE_CHECKING:  # 100 ms, and only where used
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

_LAST_EXPORT_S = 3.0
"""What an ending process waits for its collector; the exporter's own patience is 10 s and more."""
_EXPORTERS = "opentelemetry.exporter.otlp.proto"

type Scrape = Callable[[], tuple[bytes, str]]
"""All metrics in the form of Prometheus, and its content type."""

log = structlog.get_logger("atlas.telemetry")


@dataclass(frozen=True, slots=True)
class Exporting:
    """What is exported; whoever set it up shuts it down."""

    collectors: tuple[str, ...]
    """Where it goes, for logs."""
    tracing: "TracerProvider | None"
    metering: "MeterProvider | None"
    scrape: Scrape | None

    def shutdown(self) -> None:
        """Send what waits; blocks, but not for long where no collector answers."""
        last = threading.Thread(target=self._shutdown, name="last-export", daemon=True)
        last.start()
        last.join(_LAST_EXPORT_S)
        if last.is_alive():
            log.warning("telemetry_lost", collectors=self.collectors, waited_s=_LAST_EXPORT_S)

    def _shutdown(self) -> None:
        if self.tracing is not None:
            self.tracing.shutdown()
        if self.metering is not None:
            self.metering.shutdown()


def configure(
    service: str, instance: str, *, has_metrics: bool = False, is_scraped: bool = False
) -> Exporting | None:
    """Export what OpenTelemetry's variables say; None where nothing is to be exported.

    Args:
        service: What `service.name` says, unless the variables say something else.
        instance: Which of them.
        has_metrics: Whether there are any; a command has only spans.
        is_scraped: Whether somebody may ask for `/metrics`.

    Raises:
        ConfigurationError: The variables ask for what there is not.
    """
    settings = load()
    exports = [one for one in (settings.traces, settings.metrics if has_metrics else None) if one]
    scrapes = has_metrics and is_scraped and settings.may_be_scraped
    if not exports and not scrapes:
        return None
    resource = _resource(service, instance)
    tracing = None if settings.traces is None else _tracing(settings.traces, resource)
    metering, scrape = None, None
    if has_metrics and (settings.metrics is not None or scrapes):
        metering, scrape = _metering(settings.metrics, resource, scrapes=scrapes)
    # The exporter tells every try that failed, and its own end of patience as an error.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.ERROR)
    collectors = {_without_secrets(one.endpoint) for one in exports}
    return Exporting(tuple(sorted(collectors)), tracing, metering, scrape)


def _without_secrets(endpoint: str) -> str:
    """An endpoint as a log may show it."""
    parts = urlsplit(endpoint)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def _resource(service: str, instance: str) -> "Resource":
    """Who exports; what the variables say of it goes before what we say."""
    from opentelemetry.sdk.resources import (  # noqa: PLC0415 - as above
        OTELResourceDetector,
        Resource,
    )

    ours = Resource.create(
        {
            "service.name": service,
            "service.namespace": "atlas",
            "service.instance.id": instance,
            "service.version": version("atlas-llm"),
            names.SERVICE: service,
        }
    )
    return ours.merge(OTELResourceDetector().detect())


def _tracing(export: Export, resource: "Resource") -> "TracerProvider":
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - as above
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - as above

    exporter = _exporter(export, "trace_exporter", "OTLPSpanExporter")
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return provider


def _metering(
    export: Export | None, resource: "Resource", *, scrapes: bool
) -> tuple["MeterProvider", Scrape | None]:
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415 - as above
    from opentelemetry.sdk.metrics.export import (  # noqa: PLC0415 - as above
        MetricReader,
        PeriodicExportingMetricReader,
    )

    readers: list[MetricReader] = []
    scrape = None
    if export is not None:
        exporter = _exporter(export, "metric_exporter", "OTLPMetricExporter")
        readers.append(PeriodicExportingMetricReader(exporter))
    if scrapes:
        reader, scrape = _prometheus()
        readers.append(reader)
    provider = MeterProvider(readers, resource, shutdown_on_exit=False)
    metrics.set_meter_provider(provider)
    return provider, scrape


def _prometheus() -> tuple[Any, Scrape]:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader  # noqa: PLC0415 - as above
    from prometheus_client import (  # noqa: PLC0415 - as above
        CONTENT_TYPE_LATEST,
        CollectorRegistry,
        ProcessCollector,
        generate_latest,
    )

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)  # memory, CPU time and open files, on Linux
    reader = PrometheusMetricReader(registry=registry, scope_info_enabled=False)
    return reader, lambda: (generate_latest(registry), CONTENT_TYPE_LATEST)


def _exporter(export: Export, module: str, name: str) -> Any:
    """An exporter by the chosen protocol; that of gRPC is an extra."""
    package = "grpc" if export.protocol == "grpc" else "http"
    try:
        found = importlib.import_module(f"{_EXPORTERS}.{package}.{module}")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "OTEL_EXPORTER_OTLP_PROTOCOL is grpc, and its exporter is not installed; "
            "install atlas-llm[grpc], or set the variable to http/protobuf"
        ) from error
    return getattr(found, name)()
