"""The table of names: spelt as the conventions have them, and as the documentation shows them."""

import re
from pathlib import Path

import pytest
from opentelemetry.semconv._incubating.attributes import (
    gen_ai_attributes,
    messaging_attributes,
)
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.attributes import error_attributes, server_attributes

from atlas.telemetry import meters, names
from atlas.telemetry.names import Metric

DOCUMENT = Path(__file__).parents[3] / "docs" / "operate.md"
NEWER = {"gen_ai.invoke_agent.duration", "gen_ai.execute_tool.duration"}
"""Of the conventions' own repository; the Python package does not have them yet."""


def _strings(*modules: object) -> set[str]:
    return {one for module in modules for one in vars(module).values() if isinstance(one, str)}


def test_names_of_the_conventions_are_spelt_as_the_conventions_have_them():
    known = _strings(
        gen_ai_attributes, messaging_attributes, error_attributes, server_attributes, gen_ai_metrics
    )
    ours = {one for one in _strings(names) if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", one)}
    ours -= {one for one in ours if one.startswith("atlas.")}
    ours |= {one.name for one in names.METRICS if not one.name.startswith("atlas.")}
    assert ours - {"atlas.telemetry.names"} - NEWER <= known


@pytest.mark.parametrize("metric", names.METRICS, ids=lambda one: one.name)
def test_a_metric_stands_in_the_documentation_as_it_is(metric: Metric):
    assert row(metric) in DOCUMENT.read_text().splitlines()


def test_the_documentation_shows_no_metric_that_is_not():
    shown = re.findall(r"^\| `((?:gen_ai|atlas)\.[a-z_.]+)` \|", DOCUMENT.read_text(), re.MULTILINE)
    assert shown == [one.name for one in names.METRICS]


def row(metric: Metric) -> str:
    """A metric as a row of the documentation's table."""
    labels = ", ".join(f"`{one}`" for one in metric.attributes)
    kind = "counter" if metric.kind == "total" else metric.kind
    return (
        f"| `{metric.name}` | {kind}, {metric.unit} | {metric.told_by} | {metric.says} | {labels} |"
    )


def test_names_that_users_make_up_come_to_an_end():
    admitted = meters.Admitted(most=2)
    labels = [admitted.label(one) for one in ("a", "b", "c", "a", "d")]
    assert labels == ["a", "b", "_OTHER", "a", "_OTHER"]
