"""What a question in PromQL needs (series, labels, values), and which labels its answer has."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import promql_parser
from prometheus_client.parser import text_string_to_metric_families
from promql_parser import (
    AggregateExpr,
    BinaryExpr,
    Call,
    MatchOp,
    MatrixSelector,
    ParenExpr,
    VectorSelector,
)

OF_PROMETHEUS = frozenset({"instance", "job"})
"""Labels that Prometheus adds to whatever it scrapes."""

type Told = Mapping[str, Mapping[str, set[str]]]
"""The series of a scrape: of each name its labels, and the values of these."""


@dataclass(frozen=True, slots=True)
class Needed:
    """A label that a question takes for granted; its value where the question names one."""

    series: str
    label: str | None = None
    value: str | None = None

    def is_in(self, told: Told) -> bool:
        """Whether a scrape has it."""
        if self.label is None:
            return self.series in told
        values = told.get(self.series, {}).get(self.label)
        if self.label in OF_PROMETHEUS:
            return self.series in told
        return values is not None and (not self.value or self.value in values)


def read(scraped: str) -> dict[str, dict[str, set[str]]]:
    """A scrape."""
    told: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(scraped):
        for sample in family.samples:
            labels = told.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return told


def parse(question: str) -> Any:
    """A question as a tree, with something for each of Grafana's variables."""
    return promql_parser.parse(re.sub(r"\$\w+", ".*", question.replace("$__rate_interval", "1m")))


def needs(question: str) -> set[Needed]:
    """Everything that must exist for the question to have an answer."""
    found: set[Needed] = set()
    for one in _nodes(parse(question)):
        if isinstance(one, VectorSelector):
            assert one.name is not None
            found.add(Needed(one.name))
            for matcher in one.matchers.matchers:
                value = matcher.value if matcher.op == MatchOp.Equal else None
                found.add(Needed(one.name, matcher.name, value))
        elif isinstance(one, AggregateExpr) and one.modifier is not None:
            inside = [each for each in _nodes(one.expr) if isinstance(each, VectorSelector)]
            found |= {
                Needed(each.name or "", label) for each in inside for label in one.modifier.labels
            }
    return found


def _nodes(tree: Any) -> Iterator[Any]:
    seen: list[Any] = []
    promql_parser.walk(tree, seen.append)
    yield from seen


def labels(tree: Any, told: Told) -> set[str]:
    """The labels that an answer has."""
    match tree:
        case AggregateExpr():
            return set(tree.modifier.labels) if tree.modifier else set()
        case BinaryExpr():
            return labels(tree.lhs, told) or labels(tree.rhs, told)
        case Call():
            return set().union(*(labels(one, told) for one in tree.args)) - {"le"}
        case ParenExpr() | MatrixSelector():
            return labels(tree.expr if isinstance(tree, ParenExpr) else tree.vector_selector, told)
        case VectorSelector():
            return set(told.get(tree.name or "", {})) | OF_PROMETHEUS
        case _:
            return set()
