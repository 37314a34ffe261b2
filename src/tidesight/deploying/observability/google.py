"""Google Cloud Monitoring: a dashboard and alerts in PromQL, and the MQL they take the place of.

Names: Managed Prometheus keeps those of the catalogue; a metric of Google's own, `run.googleapis.com/container/...`,
is `run_googleapis_com:container_...` in PromQL.
"""

from dataclasses import dataclass
from typing import Any

from tidesight import telemetry as metrics
from tidesight.deploying.manifests import Object
from tidesight.deploying.observability.prometheus import rules
from tidesight.deploying.observability.queries import Queries, rate


@dataclass(frozen=True)
class Pair:
    """What one question is in PromQL, and was in MQL.

    Attributes:
        title: The question.
        promql: It, today.
        mql: It, as the reference studies asked it.
    """

    title: str
    promql: str
    mql: str


_CONTAINER = 'monitored_resource="k8s_container",container_name="tidesight"'
_RUN = 'monitored_resource="cloud_run_revision",service_name="{name}"'


def pairs(name: str) -> tuple[Pair, ...]:
    """The reference's questions: CPU, memory and answers by class, on GKE and on Cloud Run."""
    run = _RUN.format(name=name)
    mql_run = (
        f"fetch cloud_run_revision\n| metric 'run.googleapis.com/{{}}'\n| filter resource.service_name == '{name}'"
    )
    mql_pod = (
        "fetch k8s_container\n| metric 'kubernetes.io/container/{}'\n| filter resource.container_name == 'tidesight'"
    )
    mean = "| group_by 1m, [value_mean: mean(value.{0})]\n| every 1m\n| group_by [], [mean(value_mean)]"
    percentile = "| align delta(1m)\n| every 1m\n| group_by [], [percentile(value.{0}, 50)]"
    by_class = "| align rate(1m)\n| every 1m\n| group_by [metric.response_code_class], [sum(value.{0})]"
    return (
        Pair(
            "GKE: CPU, part of the limit",
            f"avg(kubernetes_io:container_cpu_limit_utilization{{{_CONTAINER}}})",
            f"{mql_pod.format('cpu/limit_utilization')}\n{mean.format('limit_utilization')}",
        ),
        Pair(
            "GKE: memory, part of the limit",
            f'avg(kubernetes_io:container_memory_limit_utilization{{{_CONTAINER},memory_type="non-evictable"}})',
            f"{mql_pod.format('memory/limit_utilization')}\n{mean.format('limit_utilization')}",
        ),
        Pair(
            "GKE: answers by class, at the load balancer",
            "sum by (response_code_class) (rate(loadbalancing_googleapis_com:https_request_count"
            '{monitored_resource="https_lb_rule"}[1m]))',
            "fetch https_lb_rule\n| metric 'loadbalancing.googleapis.com/https/request_count'\n"
            + by_class.format("request_count"),
        ),
        Pair(
            "Cloud Run: CPU, median",
            "histogram_quantile(0.5, sum by (le) (rate("
            f"run_googleapis_com:container_cpu_utilizations_bucket{{{run}}}[1m])))",
            f"{mql_run.format('container/cpu/utilizations')}\n{percentile.format('utilizations')}",
        ),
        Pair(
            "Cloud Run: memory, median",
            "histogram_quantile(0.5, sum by (le) (rate("
            f"run_googleapis_com:container_memory_utilizations_bucket{{{run}}}[1m])))",
            f"{mql_run.format('container/memory/utilizations')}\n{percentile.format('utilizations')}",
        ),
        Pair(
            "Cloud Run: answers by class",
            f"sum by (response_code_class) (rate(run_googleapis_com:request_count{{{run}}}[1m]))",
            f"{mql_run.format('request_count')}\n{by_class.format('request_count')}",
        ),
        Pair(
            "Cloud Run: instances",
            f"sum by (state) (run_googleapis_com:container_instance_count{{{run}}})",
            f"{mql_run.format('container/instance_count')}\n| group_by 1m, [value: mean(value.instance_count)]\n"
            "| every 1m\n| group_by [metric.state], [sum(value)]",
        ),
    )


def dashboard(ask: Queries) -> Object:
    """For: gcloud monitoring dashboards create --config-from-file=FILE."""
    name = ask.deploy.name
    own = [
        ("Requests by status class", ask.by_class("1m")),
        ("Latency, p99", ask.latency(0.99, "1m")),
        ("Objective: part missed", ask.misses("5m")),
        ("Refused by reason", rate(ask.of(metrics.REFUSED), "1m", by="reason")),
        ("Ready instances", ask.ready()),
        ("Predicted wait, worst", f"max({ask.of(metrics.PREDICTED_WAIT)})"),
    ]
    charts = [
        *((one.title, one.promql) for one in pairs(name)),
        *((title, _theirs(ask, query)) for title, query in own),
    ]
    tiles: list[Object] = [
        {"xPos": 24 * (index % 2), "yPos": 16 * (index // 2), "width": 24, "height": 16, "widget": _chart(*chart)}
        for index, chart in enumerate(charts)
    ]
    return {
        "displayName": f"Tidesight: {name}",
        "labels": {"tidesight": ""},
        "mosaicLayout": {"columns": 48, "tiles": tiles},
    }


def _theirs(ask: Queries, query: str) -> str:
    """Managed Prometheus sets `job` to the PodMonitoring's name."""
    return query.replace('job="tidesight"', f'job="{ask.deploy.name}"')


def _chart(title: str, query: str) -> Object:
    data = {"timeSeriesQuery": {"prometheusQuery": query}, "plotType": "LINE", "targetAxis": "Y1"}
    return {"title": title, "xyChart": {"dataSets": [data], "yAxis": {"scale": "LINEAR"}}}


def alert_policies(ask: Queries) -> dict[str, Object]:
    """Every alert of Prometheus as a policy, by name; recorded series are written out, as nothing records them there.

    For: gcloud monitoring policies create --policy-from-file=FILE.
    """
    recorded: dict[str, str] = {}
    policies: dict[str, Object] = {}
    for group in rules(ask)["groups"]:
        for rule in group["rules"]:
            if "record" in rule:
                recorded[rule["record"]] = f"({rule['expr']})"
            elif "envoy_" not in rule["expr"]:  # the load balancer there is Google's
                policies[rule["alert"]] = _policy(rule, _theirs(ask, _written_out(rule["expr"], recorded)))
    return policies


def _written_out(expression: str, recorded: dict[str, str]) -> str:
    for name in sorted(recorded, key=len, reverse=True):
        expression = expression.replace(name, recorded[name])
    return expression


def _policy(rule: dict[str, Any], query: str) -> Object:
    # Google's least is 30 s, and the evaluation interval a multiple of that.
    condition = {
        "query": query,
        "duration": f"{_seconds(rule['for'])}s",
        "evaluationInterval": "30s",
        "alertRule": rule["alert"],
        "labels": rule["labels"],
    }
    told = rule["annotations"]
    content = f"{told['summary']}. See {told['runbook']}."
    return {
        "displayName": rule["alert"],
        "combiner": "OR",
        "conditions": [{"displayName": told["summary"], "conditionPrometheusQueryLanguage": condition}],
        "documentation": {"content": content, "mimeType": "text/markdown"},
        "severity": "CRITICAL" if rule["labels"]["severity"] == "page" else "WARNING",
    }


def _seconds(duration: str) -> int:
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[duration[-1]]


def mql_page(ask: Queries) -> str:
    """A page with both languages side by side."""
    parts = [_MQL]
    for one in pairs(ask.deploy.name):
        parts.append(f"## {one.title}\n\nPromQL:\n\n```promql\n{one.promql}\n```\n\nMQL:\n\n```text\n{one.mql}\n```\n")
    return "\n".join(parts)


_MQL = """\
# The reference's queries: MQL beside PromQL

The reference studies asked Google Cloud Monitoring in MQL (Monitoring Query Language). Google advised
against it from 22 October 2024 on, and **ended its support on 22 July 2025**: the console makes no new charts,
dashboards or alerts with it; existing ones and the API go on working
([Google's page](https://docs.cloud.google.com/monitoring/mql)). Use the PromQL, which `dashboard.json` and `alerts/`
in this folder have. The MQL is here to be recognised, and for what still runs on it.

Neither could be run here: that takes a Google Cloud project. PromQL was parsed by Prometheus; MQL by nobody.
"""
