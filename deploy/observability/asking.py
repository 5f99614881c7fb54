"""How Prometheus calls what Atlas tells, and the questions that dashboards and alerts put to it.

Names come from `atlas.telemetry.names`, so what is renamed there is renamed here.
"""

from typing import Literal

from atlas.telemetry.names import Metric

type Part = Literal["", "bucket", "count", "sum"]

INSTANCE = "instance"
"""The process that told it: a label that Prometheus adds."""

_UNITS = {"s": "_seconds", "By": "_bytes", "USD": "_USD"}
"""How OpenTelemetry's exporter ends a name; what counts things, or is of no unit, gets nothing."""
_WINDOW = "$__rate_interval"


def label(attribute: str) -> str:
    """An attribute as Prometheus' label."""
    return attribute.replace(".", "_")


def labels(*attributes: str) -> str:
    """Some of them, as in `by (…)`."""
    return ", ".join(label(one) for one in attributes)


def told(metric: Metric, *conditions: str, part: Part = "") -> str:
    """The series of a metric that fulfil these conditions: `told(STREAMS_ENDED, has(…))`."""
    name = label(metric.name) + _UNITS.get(metric.unit, "")
    if metric.kind in {"counter", "total"}:
        name += "_total"
    elif part:
        name += f"_{part}"
    return name + (f"{{{','.join(conditions)}}}" if conditions else "")


def told_by_process(figure: str) -> str:
    """What Prometheus' own library tells of the processes that the dashboard is about."""
    return f"process_{figure}{{{chosen(INSTANCE, 'instance')}}}"


def has(attribute: str, value: str) -> str:
    """The condition that a label has this value."""
    return f'{label(attribute)}="{value}"'


def lacks(attribute: str, value: str) -> str:
    """The condition that a label does not have this value."""
    return f'{label(attribute)}!="{value}"'


def chosen(attribute: str, variable: str) -> str:
    """The condition that a label is what the dashboard's variable says."""
    return f'{label(attribute)}=~"${variable}"'


def rate(series: str, *by: str, window: str = _WINDOW) -> str:
    """How often a second, over all processes, or for each of these attributes."""
    return f"{_sum(*by)} (rate({series}[{window}]))"


def rise(series: str, *by: str, window: str) -> str:
    """By how much it rose in a time."""
    return f"{_sum(*by)} (increase({series}[{window}]))"


def total(series: str, *by: str) -> str:
    """Added up over all processes, each of which tells of itself."""
    return f"{_sum(*by)} ({series})"


def same(series: str, *by: str) -> str:
    """What all processes tell of the same thing: the highest."""
    return f"max by ({labels(*by)}) ({series})" if by else f"max ({series})"


def quantile(share: float, buckets: str, *by: str, window: str = _WINDOW) -> str:
    """What that share of a histogram's values stays under."""
    return f"histogram_quantile({share}, {rate(buckets, 'le', *by, window=window)})"


def share(part: str, whole: str) -> str:
    """How much of the whole it is; no number where there was nothing."""
    return f"{part} / {whole}"


def _sum(*by: str) -> str:
    return f"sum by ({labels(*by)})" if by else "sum"
