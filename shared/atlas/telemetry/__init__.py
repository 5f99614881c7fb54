"""Traces and metrics, by OpenTelemetry's API; `exporting` sets up what leaves the process."""

from atlas.telemetry.exporting import Exporting, Scrape, configure
from atlas.telemetry.settings import captures_content
from atlas.telemetry.spans import (
    Attribute,
    inject,
    mark_failed,
    processing,
    remote_parent,
    sending,
    span,
)

__all__ = [
    "Attribute",
    "Exporting",
    "Scrape",
    "captures_content",
    "configure",
    "inject",
    "mark_failed",
    "processing",
    "remote_parent",
    "sending",
    "span",
]
