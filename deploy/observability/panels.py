"""The kinds of panels that the dashboards are made of, by Grafana's own types."""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableHide,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

METRICS = DataSourceRef(type_val="prometheus", uid="prometheus")
"""The data source that is provisioned under this id."""
TAG = "atlas"
GREEN, YELLOW, RED = "green", "#EAB839", "red"
_WIDTH, _HEIGHT, _STAT_HEIGHT = 24, 8, 4
_OPACITY_LINES, _OPACITY_STACKED = 8, 40


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on something deserves a look, and from where on it is bad."""

    look: float
    bad: float | None = None
    is_bad_below: bool = False
    """The lower the worse: `look` and `bad` are then least values that are good."""

    def steps(self) -> list[Threshold]:
        """As Grafana has them: each colour from its value on."""
        if self.is_bad_below:
            steps = [Threshold(color=RED), Threshold(value=self.look, color=GREEN)]
            if self.bad is not None:
                steps.insert(1, Threshold(value=self.bad, color=YELLOW))
            return steps
        steps = [Threshold(color=GREEN), Threshold(value=self.look, color=YELLOW)]
        return steps if self.bad is None else [*steps, Threshold(value=self.bad, color=RED)]


@dataclass(frozen=True, slots=True)
class Query:
    """A question, and how the answers are called: `{{label}}` stands for a label's value."""

    ask: str
    legend: str = "__auto"


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture of a dashboard."""

    title: str
    queries: Sequence[Query]
    says: str
    unit: str = "short"
    limits: Limits | None = None
    width: int = 8
    is_number: bool = False
    """A number with a line under it, instead of a chart."""
    stacked: bool = False
    most: float | None = None
    """The end of the axis."""

    def build(self) -> stat.Panel | timeseries.Panel:
        """As Grafana has it."""
        built = self._number() if self.is_number else self._chart()
        thresholds = dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE)
        built.title(self.title).description(self.says).datasource(METRICS).unit(self.unit)
        built.thresholds(thresholds.steps(self.limits.steps() if self.limits else _NO_LIMITS))
        built.span(self.width).min(0)
        if self.most is not None:
            built.max(self.most)
        for place, query in enumerate(self.queries):
            asked = prometheus.Dataquery().expr(query.ask).legend_format(query.legend).range()
            built.with_target(asked.ref_id(chr(ord("A") + place)).datasource(METRICS))
        return built

    def _number(self) -> stat.Panel:
        shown = common.ReduceDataOptions().calcs(["lastNotNull"])
        panel = stat.Panel().reduce_options(shown).height(_STAT_HEIGHT).no_value("none")
        colour = BigValueColorMode.VALUE if self.limits else BigValueColorMode.NONE
        return panel.color_mode(colour).graph_mode(BigValueGraphMode.AREA)

    def _chart(self) -> timeseries.Panel:
        legend = common.VizLegendOptions().show_legend(True).calcs(["lastNotNull", "max"])
        legend.display_mode(LegendDisplayMode.TABLE).placement(LegendPlacement.BOTTOM)
        opacity = _OPACITY_STACKED if self.stacked else _OPACITY_LINES
        panel = timeseries.Panel().height(_HEIGHT).legend(legend).fill_opacity(opacity)
        panel.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        panel.show_points(VisibilityMode.NEVER)
        if self.stacked:
            panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
        if self.limits:
            style = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
            panel.thresholds_style(style)
        return panel


_NO_LIMITS = [Threshold(color=GREEN)]


@dataclass(frozen=True, slots=True)
class Variable:
    """What a reader chooses at the top of a dashboard: values of a label."""

    name: str
    label: str
    source: str
    """The metric whose label it is."""

    def build(self) -> dashboard.QueryVariable:
        """As Grafana has it: all, unless somebody chooses."""
        built = dashboard.QueryVariable(self.name).label(self.name).datasource(METRICS)
        built.query(f"label_values({self.source}, {self.label})").multi(True)
        built.include_all(True).all_value(".*").refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        everything = VariableOption(selected=True, text=["All"], value=["$__all"])
        return (
            built.sort(VariableSort.ALPHABETICAL_ASC)
            .current(everything)
            .hide(VariableHide.DONT_HIDE)
        )


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard: rows of panels under their headings."""

    uid: str
    title: str
    says: str
    variables: Sequence[Variable]
    rows: Sequence[tuple[str, Sequence[Panel]]]

    def build(self) -> dashboard.Dashboard:
        """As Grafana has it; each row of panels fills the width."""
        built = dashboard.Dashboard(self.title).uid(self.uid).description(self.says).tags([TAG])
        built.time("now-1h", "now").refresh("10s").timezone("browser").readonly()
        built.tooltip(DashboardCursorSync.CROSSHAIR)
        others = dashboard.DashboardLink("Atlas").type(DashboardLinkType.DASHBOARDS).tags([TAG])
        built.link(others.as_dropdown(False).include_vars(True).keep_time(True))
        traces = (
            dashboard.DashboardLink("Traces").type(DashboardLinkType.LINK).icon("external link")
        )
        built.link(traces.url("/explore?left=%7B%22datasource%22:%22tempo%22%7D").keep_time(True))
        for variable in self.variables:
            built.with_variable(variable.build())
        for heading, panels in self.rows:
            built.with_row(dashboard.Row(heading))
            for panel in panels:
                built.with_panel(panel.build())
        return built

    def questions(self) -> list[str]:
        """Every question that it puts to Prometheus, those for its variables included."""
        asked = [query.ask for _, panels in self.rows for one in panels for query in one.queries]
        return asked + [f"count by ({one.label}) ({one.source})" for one in self.variables]
