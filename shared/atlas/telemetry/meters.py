"""The metrics of the table, by OpenTelemetry's API: a no-op where nobody exports them.

What happens is counted where it happens. What is, such as the depth of a queue, is looked at every
few seconds and kept until an exporter asks: exporters have threads of their own, and must not wait
for NATS.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Observation

from atlas.telemetry import names
from atlas.telemetry.names import Metric
from atlas.telemetry.spans import Attribute

type Labels = Mapping[str, Attribute]
type Reading = tuple[float, Labels]
"""A value, and what it is of."""

_METER = metrics.get_meter("atlas")


@dataclass(slots=True)
class _Looked:
    """What was seen last of a gauge or a total."""

    readings: Sequence[Reading] = ()

    def observe(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(value, dict(labels)) for value, labels in self.readings]


def _histogram(one: Metric) -> Histogram:
    return _METER.create_histogram(
        one.name, one.unit, one.says, explicit_bucket_boundaries_advisory=list(one.buckets)
    )


def _looked(one: Metric) -> _Looked:
    looked = _Looked()
    make: Callable[..., object] = (
        _METER.create_observable_counter if one.kind == "total" else _METER.create_observable_gauge
    )
    make(one.name, [looked.observe], one.unit, one.says)
    return looked


_COUNTERS: dict[str, Counter] = {
    one.name: _METER.create_counter(one.name, one.unit, one.says)
    for one in names.METRICS
    if one.kind == "counter"
}
_HISTOGRAMS = {one.name: _histogram(one) for one in names.METRICS if one.kind == "histogram"}
_LOOKED = {one.name: _looked(one) for one in names.METRICS if one.kind in {"gauge", "total"}}


def count(metric: Metric, labels: Labels, by: float = 1) -> None:
    """Something happened."""
    _COUNTERS[metric.name].add(by, dict(labels))


def record(metric: Metric, value: float, labels: Labels) -> None:
    """Something of that size, or that took so long, happened."""
    _HISTOGRAMS[metric.name].record(value, dict(labels))


def tell(metric: Metric, readings: Sequence[Reading]) -> None:
    """How it is now; what was told before is forgotten."""
    _LOOKED[metric.name].readings = readings


@dataclass(slots=True)
class Admitted:
    """The first so many names that came; those after them are `_OTHER`.

    For names that users may make up, where nothing else bounds them.
    """

    most: int = 100
    _names: set[str] = field(default_factory=set)

    def label(self, name: str) -> str:
        """The name, or what stands for it."""
        if name in self._names:
            return name
        if len(self._names) >= self.most:
            return names.OTHER
        self._names.add(name)
        return name
