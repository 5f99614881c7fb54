"""OpenTelemetry's own variables decide what is exported, where to, and by which protocol."""

import importlib
import subprocess
import sys

import pytest

from atlas import telemetry
from atlas.contracts.errors import ConfigurationError
from atlas.telemetry.settings import Export, TelemetrySettings, captures_content, load

URL = "http://collector:4318"
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": URL}
HTTP, GRPC = Export(URL, "http/protobuf"), Export(URL, "grpc")


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({}, TelemetrySettings()),
        (ENDPOINT, TelemetrySettings(HTTP, HTTP)),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": URL}, TelemetrySettings(HTTP, None)),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": URL}, TelemetrySettings(None, HTTP)),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, TelemetrySettings(GRPC, GRPC)),
        (
            {
                **ENDPOINT,
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf",
            },
            TelemetrySettings(GRPC, HTTP),
        ),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, TelemetrySettings(None, HTTP)),
        (
            {**ENDPOINT, "OTEL_METRICS_EXPORTER": "none"},
            TelemetrySettings(HTTP, None, may_be_scraped=False),
        ),
        ({**ENDPOINT, "OTEL_METRICS_EXPORTER": "prometheus"}, TelemetrySettings(HTTP, None)),
        ({**ENDPOINT, "OTEL_METRICS_EXPORTER": "otlp,prometheus"}, TelemetrySettings(HTTP, HTTP)),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, TelemetrySettings(may_be_scraped=False)),
    ],
)
def test_the_variables_say_what_is_exported(said: dict[str, str], wanted: TelemetrySettings):
    assert load(said) == wanted


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            {**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            "OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' is none of http/protobuf, grpc",
        ),
        (
            {"OTEL_METRICS_EXPORTER": "promtheus"},
            (
                "OTEL_METRICS_EXPORTER: 'promtheus' is none of otlp, prometheus, none; "
                "did you mean 'prometheus'?"
            ),
        ),
        (
            {"OTEL_TRACES_EXPORTER": "none,otlp"},
            "OTEL_TRACES_EXPORTER: none and otlp? Choose",
        ),
        (
            {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "yes"},
            (
                "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT: 'yes' is none of true, false, "
                "span_only, span_and_event, event_only, no_content"
            ),
        ),
    ],
)
def test_what_a_variable_cannot_mean_is_told_with_what_it_can(said: dict[str, str], told: str):
    with pytest.raises(ConfigurationError) as refused:
        load(said)
    assert refused.value.message == told


@pytest.mark.parametrize(
    ("value", "is_wanted"),
    [("", False), ("false", False), ("NO_CONTENT", False), ("true", True), ("SPAN_ONLY", True)],
)
def test_what_was_said_stands_in_spans_only_where_it_is_asked_for(value: str, is_wanted: bool):
    said = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": value}
    assert captures_content(said) is is_wanted


def test_a_grpc_exporter_that_is_not_installed_is_told_with_what_to_install(monkeypatch):
    def without_grpc(name: str) -> object:
        if ".grpc." in name:
            raise ModuleNotFoundError(name)
        return imported(name)

    imported = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", without_grpc)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", URL)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(ConfigurationError, match=r"install atlas-llm\[grpc\], or set the variable"):
        telemetry.configure("provider_router", "one", has_metrics=True)


def test_the_sdk_is_not_even_loaded_where_nothing_is_exported():
    code = (
        "import sys; from atlas import telemetry, process; "
        "assert telemetry.configure('a', 'b', has_metrics=True) is None; "
        "print([one for one in sys.modules if one.startswith(('opentelemetry.sdk', 'prometheus'))])"
    )
    asked = [sys.executable, "-c", code]
    told = subprocess.run(asked, capture_output=True, text=True, check=True, env={}, timeout=60)
    assert told.stdout == "[]\n"
