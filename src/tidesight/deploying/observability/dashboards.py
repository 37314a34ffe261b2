"""Three dashboards, built with Grafana's own SDK: the fleet, one instance, an experiment."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tidesight import telemetry as metrics
from tidesight.deploying.observability.queries import FRONT_JOB, JOB, Queries, rate, select
from tidesight.errors import MissingExtra

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard

DATA_SOURCE = "tidesight-prometheus"
_WIDTH = 24
_RATE = "$__rate_interval"


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        title: What it shows.
        queries: PromQL with the name of its series; `{{label}}` is replaced.
        unit: Of the values, as Grafana names it.
        about: What to make of it.
        kind: "graph" or "figure".
        width: Of 24.
        limit: A line that is not to be crossed, or None.
    """

    title: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    about: str = ""
    kind: str = "graph"
    width: int = 8
    limit: float | None = None


@dataclass(frozen=True)
class Board:
    """One dashboard: rows of panels under a title."""

    uid: str
    title: str
    about: str
    rows: Sequence[tuple[str, Sequence[Panel]]]
    by_instance: bool = False


def boards(ask: Queries) -> tuple[Board, ...]:
    """All dashboards."""
    return _fleet(ask), _instance(replace(ask, instance="$instance")), _experiment(ask)


def _fleet(ask: Queries) -> Board:
    goal = f"{ask.deploy.objective_percent:g} % within {ask.objective_s * 1000:g} ms"
    budget = Panel(
        "Objective: part missed", [(ask.misses("5m"), "5 minutes"), (ask.misses("1h"), "1 hour")], "percentunit",
        f"{goal}. Above the line the budget shrinks faster than it may.", limit=ask.budget, width=12,
    )  # fmt: skip
    now = (
        Panel("Ready instances", [(ask.ready(), "ready")], kind="figure", width=4),
        Panel("Requests/s", [(rate(ask.of(metrics.REQUESTS), _RATE), "asked")], "reqps", kind="figure", width=4),
        Panel("Within the objective", [(f"1 - ({ask.misses('5m')})", "good")], "percentunit", goal, "figure", 4),
        Panel("p99", [(ask.latency(0.99, _RATE), "p99")], "s", kind="figure", width=4),
        Panel(
            "Refused/s",
            [(f"{rate(ask.of(metrics.REFUSED), _RATE)} or vector(0)", "refused")],
            "reqps",
            kind="figure",
            width=4,
        ),
        Panel("Memory", [(ask.memory(), "resident")], "bytes", kind="figure", width=4),
    )
    served = (
        Panel("Requests by status", [(ask.by_class(_RATE), "{{class}}")], "reqps",
              "2xx answered, 4xx refused or wrong, 5xx failed."),
        Panel("Latency of answers", [(ask.latency(part, _RATE), f"p{part * 100:g}") for part in (0.5, 0.95, 0.99)], "s",
              limit=ask.objective_s),
        Panel("Refused by reason", [(rate(ask.of(metrics.REFUSED), _RATE, by="reason"), "{{reason}}")], "reqps",
              "deadline: would be late. queue_full, memory: too much at once. expired: it became late in the queue."),
    )  # fmt: skip
    size = (
        Panel("Instances", [(ask.ready(), "ready"), (ask.present(), "present")], limit=float(ask.deploy.max_instances)),
        Panel("In flight and waiting", [(f"sum({ask.of(metrics.IN_FLIGHT)})", "in flight"),
                                        (f"sum({ask.of(metrics.QUEUE_LENGTH)})", "waiting")]),
        Panel("Predicted wait, worst instance", [(f"max({ask.of(metrics.PREDICTED_WAIT)})", "wait")], "s",
              "What the next request would wait; above its deadline it is refused.", limit=ask.deploy.deadline_s),
        Panel("CPU", [(ask.cpu(_RATE), "in use"), (f"sum({ask.of(metrics.WORKERS)})", "workers")], "short", "CPUs."),
        Panel("Memory", [(ask.memory("instance"), "{{instance}}")], "bytes"),
        Panel("Workers lost", [(f"sum(increase({ask.of(metrics.WORKER_RESTARTS)}[5m])) or vector(0)", "in 5 minutes")]),
    )  # fmt: skip
    return Board(
        "tidesight-fleet", "Tidesight: fleet", "Is it well, and if not, what is short?",
        (("Now", now), ("Objective", (budget, _front())), ("Service", served), ("Size", size),
         ("Results", _results(ask))),
    )  # fmt: skip


def _front() -> Panel:
    def sum_of(name: str) -> str:
        return f"sum({select(name, job=FRONT_JOB)})"

    return Panel(
        "Front: hosts and requests in them",
        [
            (sum_of("envoy_cluster_membership_healthy"), "healthy"),
            (sum_of("envoy_cluster_membership_total"), "known"),
            (sum_of("envoy_cluster_upstream_rq_active"), "in flight"),
        ],
        about="As Envoy sees it. Healthy below known: instances that start, drain, or are left out for failing.",
        width=12,
    )


def _results(ask: Queries) -> tuple[Panel, ...]:
    return (
        Panel("Results stored", [(rate(ask.of(metrics.STORED), _RATE, by="outcome"), "{{outcome}}")], "ops"),
        Panel("Uploads from the spool", [(rate(ask.of(metrics.UPLOADS), _RATE, by="outcome"), "{{outcome}}")], "ops"),
        Panel("Oldest result that waits", [(f"max({ask.of(metrics.SPOOL_OLDEST)})", "age")], "s", limit=300),
    )


def _instance(ask: Queries) -> Board:
    def each(metric: metrics.Metric) -> list[tuple[str, str]]:
        return [(f"sum by (instance) ({ask.of(metric)})", "{{instance}}")]

    def rates(metric: metrics.Metric) -> list[tuple[str, str]]:
        return [(rate(ask.of(metric), _RATE, by="instance"), "{{instance}}")]

    now = (
        Panel("Ready", each(metrics.READY), kind="figure", width=6),
        Panel("Workers", each(metrics.WORKERS), kind="figure", width=6),
        Panel(
            "Up since",
            [(f"time() - {ask.of('process_start_time_seconds')}", "{{instance}}")],
            "s",
            kind="figure",
            width=6,
        ),
        Panel("Model", [(ask.of(metrics.MODEL_INFO), "{{model}} {{engine}} {{input}}")], kind="figure", width=6),
    )
    service = (
        Panel("Requests by status", [(rate(ask.of(metrics.REQUESTS), _RATE, by="status"), "{{status}}")], "reqps"),
        Panel(
            "Latency of answers", [(ask.latency(part, _RATE), f"p{part * 100:g}") for part in (0.5, 0.95, 0.99)], "s"
        ),
        Panel(
            "Stages, median",
            [(ask.stage(0.5, _RATE), "{{stage}}")],
            "s",
            "Inference is the most of it; if not, look here.",
        ),
        Panel(
            "Stages, p99", [(ask.stage(0.99, _RATE), "{{stage}}")], "s", "`queue` high: too few workers for what comes."
        ),
        Panel("Refused", rates(metrics.REFUSED), "reqps"),
        Panel("Objects found", rates(metrics.DETECTIONS), "ops"),
    )
    inside = (
        Panel("In flight", each(metrics.IN_FLIGHT)),
        Panel("Waiting", each(metrics.QUEUE_LENGTH)),
        Panel("Oldest that waits", each(metrics.QUEUE_OLDEST), "s"),
        Panel("Predicted wait", each(metrics.PREDICTED_WAIT), "s"),
        Panel("Connections", each(metrics.CONNECTIONS)),
        Panel("Bodies held", each(metrics.BODY_BYTES), "bytes"),
    )
    machine = (
        Panel(
            "CPU", [(ask.cpu(_RATE, "instance"), "{{instance}}")], "short", "CPUs; at the number of workers it is full."
        ),
        Panel("Memory", [(ask.memory("instance"), "{{instance}}")], "bytes"),
        Panel("Open files", [(f"sum by (instance) ({ask.of('process_open_fds')})", "{{instance}}")]),
        Panel("Received", rates(metrics.RECEIVED_BYTES), "Bps"),
        Panel("Spool", each(metrics.SPOOL_BYTES), "bytes"),
        Panel("Objects in the spool", each(metrics.SPOOL_RECORDS)),
    )
    rows = (("Now", now), ("Service", service), ("Inside", inside), ("Machine", machine))
    return Board(
        "tidesight-instance", "Tidesight: instance", "What one of them does with its time.", rows, by_instance=True
    )


def _experiment(ask: Queries) -> Board:
    answered, offered = ask.good(_RATE), rate(ask.of(metrics.REQUESTS), _RATE)
    load = (
        Panel(
            "Offered, and answered within the objective", [(offered, "offered"), (answered, "good")], "reqps", width=12
        ),
        Panel("Instances", [(ask.ready(), "ready"), (ask.present(), "present")], width=12),
    )
    effect = (
        Panel("Latency", [(ask.latency(part, _RATE), f"p{part * 100:g}") for part in (0.5, 0.95, 0.99)], "s",
              limit=ask.objective_s),
        Panel("Requests by status", [(ask.by_class(_RATE), "{{class}}")], "reqps"),
        Panel("Good requests per CPU", [(f"{answered} / ({ask.cpu(_RATE)} > 0)", "per CPU-second")], "reqps"),
        Panel("CPU of each", [(ask.cpu(_RATE, "instance"), "{{instance}}")]),
        Panel("Share of requests", [(rate(ask.of(metrics.REQUESTS), _RATE, by="instance"), "{{instance}}")], "reqps"),
        Panel("Queue of each", [(ask.of(metrics.QUEUE_LENGTH), "{{instance}}")]),
    )  # fmt: skip
    held = f"avg_over_time(({ask.ready()})[$__range:]) * $__range_s"
    total = (
        Panel("Requests", [(f"sum(increase({ask.of(metrics.REQUESTS)}[$__range]))", "in the range")], kind="figure"),
        Panel("Instance-seconds, about", [(held, "in the range")], "s",
              "The mean of ready instances times the length: what is paid for, without starts.", "figure"),
        Panel("CPU-seconds", [(f"sum(increase({ask.of('process_cpu_seconds_total')}[$__range]))", "in the range")], "s",
              kind="figure"),
    )  # fmt: skip
    rows = (("Load and size", load), ("Effect", effect), ("In the whole range", total))
    return Board("tidesight-experiment", "Tidesight: experiment", "What came, what it did, what it took.", rows)


def build(board: Board) -> "Dashboard":
    """A dashboard in Grafana's form.

    Raises:
        MissingExtra: the SDK is not installed.
    """
    try:
        from grafana_foundation_sdk.builders import dashboard
    except ImportError:
        raise MissingExtra("grafana-foundation-sdk", "deploy") from None
    from grafana_foundation_sdk.models.dashboard import DashboardCursorSync

    from tidesight.deploying.observability.panels import panel, variables

    built = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.about)
        .tags([JOB])
        .editable()
        .refresh("10s")
        .time("now-30m", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
    )
    for variable in variables(board.by_instance):
        built = built.with_variable(variable)
    for title, panels in board.rows:
        built = built.with_row(dashboard.Row(title))
        for one in panels:
            built = built.with_panel(panel(one))
    return built
