"""Panels and variables in the form of Grafana's SDK; imported only where the SDK is installed."""

from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models.common import (
    GraphTresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import DataSourceRef, Threshold, ThresholdsMode, VariableRefresh

from tidesight import telemetry as metrics
from tidesight.deploying.observability.dashboards import Panel
from tidesight.deploying.observability.queries import JOB, select

_HEIGHT = {"graph": 8, "figure": 4}
_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")


def variables(by_instance: bool) -> list[Any]:
    """The data source, and on request the instances."""
    source = dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    if not by_instance:
        return [source]
    instances = (
        dashboard.QueryVariable("instance")
        .label("Instance")
        .datasource(_SOURCE)
        .query(f"label_values({select(metrics.READY, job=JOB)}, instance)")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".+")
    )
    return [source, instances]


def panel(one: Panel) -> Any:
    """A panel."""
    if one.kind == "figure":
        built: Any = stat.Panel()
    else:
        built = (
            timeseries.Panel()
            .fill_opacity(10)
            .min(0)
            .legend(common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM))
            .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        )
    built = built.title(one.title).unit(one.unit).datasource(_SOURCE).height(_HEIGHT[one.kind]).span(one.width)
    if one.about:
        built = built.description(one.about)
    if one.limit is not None:
        steps = [Threshold(color="green", value=None), Threshold(color="red", value=one.limit)]
        built = built.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        if one.kind == "graph":
            built = built.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.DASHED))
    for index, (expression, legend) in enumerate(one.queries):
        query = prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(chr(ord("A") + index))
        built = built.with_target(query.datasource(_SOURCE).range())
    return built
