"""What OpenTelemetry's own variables say: where spans and metrics go, and by which protocol.

The SDK reads those that concern it alone (`OTEL_TRACES_SAMPLER`, `OTEL_BSP_*`,
`OTEL_METRIC_EXPORT_INTERVAL`, `OTEL_EXPORTER_OTLP_HEADERS` …). These decide what is set up at all.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from atlas.contracts.errors import ConfigurationError
from atlas.spelling import nearest

type Protocol = Literal["grpc", "http/protobuf"]

_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_CAPTURES: dict[str, bool] = {
    "": False,
    "false": False,
    "no_content": False,
    "event_only": False,
    "true": True,
    "span_only": True,
    "span_and_event": True,
}
"""The conventions' values; Atlas writes content onto spans, and no events."""
_PROTOCOLS: tuple[Protocol, ...] = ("http/protobuf", "grpc")


@dataclass(frozen=True, slots=True)
class Export:
    """Where a signal goes by OTLP."""

    endpoint: str
    protocol: Protocol


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """What is exported."""

    traces: Export | None = None
    metrics: Export | None = None
    may_be_scraped: bool = True
    """Whether `/metrics` may say what there is."""


def load(environment: Mapping[str, str] | None = None) -> TelemetrySettings:
    """Read the variables.

    Raises:
        ConfigurationError: One of them says what Atlas cannot do; tells what to write.
    """
    said = os.environ if environment is None else environment
    captures_content(said)  # refused at start, not in the middle of a stream
    if said.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return TelemetrySettings(may_be_scraped=False)
    metrics = _exporters(said, "METRICS", ("otlp", "prometheus", "none"))
    return TelemetrySettings(
        traces=_export(said, "TRACES", _exporters(said, "TRACES", ("otlp", "none"))),
        metrics=_export(said, "METRICS", metrics),
        may_be_scraped=metrics != {"none"},
    )


def captures_content(environment: Mapping[str, str] | None = None) -> bool:
    """Whether spans are to hold what was said, as the conventions' own variable says.

    Raises:
        ConfigurationError: It says what nobody knows.
    """
    value = (os.environ if environment is None else environment).get(_CAPTURE, "")
    known = _CAPTURES.get(value.strip().lower())
    if known is None:
        raise ConfigurationError(
            f"{_CAPTURE}: {value!r} is none of true, false, span_only, span_and_event, "
            "event_only, no_content"
        )
    return known


def _exporters(said: Mapping[str, str], signal: str, known: tuple[str, ...]) -> set[str]:
    variable = f"OTEL_{signal}_EXPORTER"
    chosen = {one.strip() for one in said.get(variable, "").split(",") if one.strip()}
    for one in sorted(chosen - set(known)):
        near = nearest(one, known)
        raise ConfigurationError(
            f"{variable}: {one!r} is none of {', '.join(known)}"
            + (f"; did you mean {near!r}?" if near else "")
        )
    if "none" in chosen and len(chosen) > 1:
        raise ConfigurationError(f"{variable}: none and {', '.join(chosen - {'none'})}? Choose")
    return chosen


def _export(said: Mapping[str, str], signal: str, exporters: set[str]) -> Export | None:
    own, common = f"OTEL_EXPORTER_OTLP_{signal}", "OTEL_EXPORTER_OTLP"
    endpoint = said.get(f"{own}_ENDPOINT") or said.get(f"{common}_ENDPOINT")
    if not endpoint or (exporters and "otlp" not in exporters):
        return None
    variable = f"{own}_PROTOCOL" if said.get(f"{own}_PROTOCOL") else f"{common}_PROTOCOL"
    value = said.get(variable) or _PROTOCOLS[0]
    for protocol in _PROTOCOLS:
        if value == protocol:
            return Export(endpoint, protocol)
    raise ConfigurationError(f"{variable}: {value!r} is none of {', '.join(_PROTOCOLS)}")
