"""Prometheus: what is scraped, what is worked out of it beforehand, and what somebody is woken for."""

from collections.abc import Sequence
from dataclasses import dataclass

from tidesight import telemetry as metrics
from tidesight.deploying.manifests import Object
from tidesight.deploying.observability.queries import FRONT_JOB, JOB, SERVER_ERRORS, Queries, rate, select

RULES_FILE = "rules.yaml"


@dataclass(frozen=True)
class Burn:
    """How fast a budget may go, over a short and a long window, before whom it concerns is told.

    Source of the factors and windows: Google, The Site Reliability Workbook, chapter 5, "Alerting on SLOs".
    """

    name: str
    short: str
    long: str
    factor: float
    wait: str
    severity: str


_BURNS = (Burn("Fast", "5m", "1h", 14.4, "2m", "page"), Burn("Slow", "30m", "6h", 6.0, "15m", "ticket"))
_GUIDE = "docs/guides/dashboards.md"


def configuration(
    instances: Sequence[Object], front: Sequence[Object], interval: str = "15s", key_file: str = ""
) -> Object:
    """A `prometheus.yaml`.

    Args:
        instances: Where instances are found: parts of a scrape configuration such as `{"file_sd_configs": [...]}`.
        front: Where Envoy's administration is found; none leaves its job out.
        interval: Between scrapes.
        key_file: File with the API key that /metrics wants, where instances have keys.
    """
    ours: Object = {"job_name": JOB}
    if key_file:
        ours["authorization"] = {"type": "Bearer", "credentials_file": key_file}
    jobs = [ours | _merged(instances)]
    if front:
        # Envoy has a thousand statistics; these are asked for.
        keep = "envoy_cluster_(upstream_(rq|cx)_.*|membership_.*)|envoy_http_downstream_rq_.*"
        kept = {"source_labels": ["__name__"], "regex": keep, "action": "keep"}
        jobs.append(
            {"job_name": FRONT_JOB, "metrics_path": "/stats/prometheus", "metric_relabel_configs": [kept]}
            | _merged(front)
        )
    scraping = {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval}
    return {"global": scraping, "rule_files": [RULES_FILE], "scrape_configs": jobs}


def _merged(parts: Sequence[Object]) -> Object:
    merged: Object = {}
    for part in parts:
        for key, value in part.items():
            merged.setdefault(key, []).extend(value)
    return merged


def rules(ask: Queries) -> Object:
    """Recording and alert rules."""
    return {
        "groups": [
            {"name": "tidesight-recorded", "rules": _recorded(ask)},
            {"name": "tidesight-objective", "rules": [_burn(ask, burn) for burn in _BURNS]},
            {"name": "tidesight-service", "rules": _alerts(ask)},
        ]
    }


def _recorded(ask: Queries) -> list[Object]:
    windows = sorted(
        {window for burn in _BURNS for window in (burn.short, burn.long)},
        key=lambda one: (one[-1] == "h", int(one[:-1])),
    )
    misses = [_record(f"tidesight:objective_misses:ratio_rate{window}", ask.misses(window)) for window in windows]
    refused = rate(ask.of(metrics.REFUSED), "5m")
    asked = f"{rate(ask.of(metrics.REQUESTS), '5m')} > 0"
    return [
        *misses,
        _record("tidesight:instances:ready", ask.ready()),
        _record("tidesight:instances:present", ask.present()),
        _record("tidesight:refused:ratio_rate5m", f"({refused} or vector(0)) / ({asked})"),
        _record("tidesight:cpu:rate1m", ask.cpu("1m")),
    ]


def _record(name: str, expression: str) -> Object:
    return {"record": name, "expr": expression}


def _burn(ask: Queries, burn: Burn) -> Object:
    """The budget goes so fast that it ends early; both windows, so that it fires soon and ends soon."""
    limit = f"{burn.factor:g} * {ask.budget:g}"
    both = " and ".join(
        f"tidesight:objective_misses:ratio_rate{window} > {limit}" for window in (burn.long, burn.short)
    )
    told = f"within {ask.objective_s * 1000:g} ms for {ask.deploy.objective_percent:g} %"
    return _alert(
        f"TidesightObjectiveBurns{burn.name}", both, burn.wait, burn.severity,
        f"The budget of the objective ({told}) goes {burn.factor:g} times as fast as it may",
        "{{ $value | humanizePercentage }} of the requests missed it over " + burn.long
        + ". Refused? More instances. Late? Look at the stages. Failed? Read the log.",
    )  # fmt: skip


def _alerts(ask: Queries) -> list[Object]:
    most, least = ask.deploy.max_instances, ask.deploy.min_instances
    failed = rate(ask.of(metrics.REQUESTS, status=SERVER_ERRORS), "5m")
    asked = f"({rate(ask.of(metrics.REQUESTS), '5m')} > 0)"
    no_requests = f"(sum(increase({ask.of(metrics.REQUESTS)}[30m])) or vector(0)) == 0"
    unanswered = f"sum(increase({select('envoy_cluster_upstream_cx_none_healthy', job=FRONT_JOB)}[2m])) > 0"
    ready_changes = f"sum(changes({ask.of(metrics.READY)}[15m]))"
    # A series that begins at 1 has no increase: it is compared with what there was, which may be nothing.
    lost = ask.of(metrics.WORKER_RESTARTS)
    newly_lost = f"sum({lost}) - (sum({lost} offset 15m) or vector(0)) > 0"
    starts = f"max(changes({ask.of('process_start_time_seconds')}[30m]))"
    return [
        _alert("TidesightRefuses", "tidesight:refused:ratio_rate5m > 0.05", "10m", "ticket",
               "More than 5 % of the requests are refused",
               "{{ $value | humanizePercentage }} are answered 429: the instances are too few or too small."),
        _alert("TidesightFails", f"{failed} / {asked} > 0.01", "5m", "page",
               "More than 1 % of the requests fail",
               "{{ $value | humanizePercentage }} are answered 5xx: the log has the reason of each."),
        _alert("TidesightAtMost", f"tidesight:instances:ready >= {most}", "15m", "ticket",
               f"All {most} instances run", "No more can be added: raise max_instances, or find out who asks so much."),
        _alert("TidesightStuckAtZero", f"tidesight:instances:ready == 0 and on () {unanswered}", "2m", "page",
               "Requests come and no instance starts",
               "The front finds nobody to ask: look at why instances do not start or do not become ready."),
        _alert("TidesightStuckAboveLeast", f"tidesight:instances:present > {least} and on () {no_requests}",
               "30m", "ticket",
               f"More than {least} instances run, and nobody asks",
               "{{ $value }} instances are paid for: look at what holds the autoscaler up."),
        _alert("TidesightFlaps", f"{ready_changes} > 12 or {starts} >= 3", "0m", "ticket",
               "Instances come and go",
               "Either the autoscaler follows every pause (raise its window), or instances end."),
        _alert("TidesightLosesWorkers", newly_lost, "0m", "ticket",
               "Workers died or hung", "A picture that ends a worker comes again: the log names the requests."),
        _alert("TidesightSpoolIsOld", f"max({ask.of(metrics.SPOOL_OLDEST)}) > 300", "5m", "ticket",
               "Results wait for the store for more than 5 minutes",
               "The oldest is {{ $value | humanizeDuration }} old: the store refuses or is down; the log says which."),
    ]  # fmt: skip


def _alert(name: str, expression: str, wait: str, severity: str, summary: str, description: str) -> Object:
    return {
        "alert": name,
        "expr": expression,
        "for": wait,
        "labels": {"severity": severity},
        "annotations": {
            "summary": summary,
            "description": description,
            "runbook": f"{_GUIDE}#{name.lower()}",
        },
    }
