"""The number of pods, five ways: HPA on CPU, on requests in flight, on the queue; KEDA; a number of our own.

The traps, and what is done about each (docs/guides/scale-on-kubernetes.md):

- Without a `behavior`, 4 pods or 100 % each 15 s and 300 s downwards apply. It is always written out.
- A ratio within 10 % of 1 changes nothing, so one more pod beyond ten is never asked for. Where the metric *is* the
  number of pods, the tolerance is set to 0 (Kubernetes 1.35 and newer).
- A metric that is the number of pods must be an AverageValue of 1; as a Value it is multiplied by the ready pods.
- KEDA reads an empty answer of Prometheus as 0 unless told otherwise, and scales down when Prometheus is lost.
- KEDA's cooldown is about the step to 0 alone; the way down is the HPA's behaviour.
"""

from tidesight.deploying.manifests import Manifest, Object, present, resource
from tidesight.deploying.plan import Plan

_GOOGLE_PROMETHEUS = "https://monitoring.googleapis.com/v1/projects/{project}/location/global/prometheus"


def manifest(plan: Plan, rule: str) -> Manifest:
    """The autoscaler of a rule, whether or not it is the configured one."""
    if rule == "keda":
        return Manifest("overlays/keda/scaled-object.yaml", _KEDA, _keda(plan))
    metric = {"cpu": _cpu, "in-flight": _in_flight, "queue": _queue, "external": _external}[rule](plan)
    spec = {
        "scaleTargetRef": _target(plan),
        "minReplicas": plan.platform.scaling.bounds.least,
        "maxReplicas": plan.platform.scaling.bounds.most,
        "metrics": [metric],
        "behavior": _followed(plan) if rule == "external" else _behavior(plan),
    }
    hpa = resource("HorizontalPodAutoscaler", "autoscaling/v2", plan.deploy.name, spec)
    return Manifest(f"overlays/{rule}/hpa.yaml", _ABOUT[rule], (hpa,))


_ABOUT = {
    "cpu": "CPU, of what pods request. Needs nothing but the metrics server.",
    "in-flight": """\
Requests in a pod, worked on or waiting: grows before CPU shows it, and goes on growing when CPU cannot.
Needs a custom-metrics adapter: prometheus-adapter, or on GKE the Custom Metrics Stackdriver Adapter (0.13.1 or newer);
never both.""",
    "queue": """\
Requests that wait in a pod. Zero until all workers are busy, so it adds pods late and few: for work that may wait.
Needs a custom-metrics adapter, as in-flight does.""",
    "external": """\
A number of pods that something else decided and publishes as the gauge tidesight_desired_replicas.
AverageValue of 1 makes it ceil(value / 1). The metric must end when its publisher does: a gauge that stays freezes
the number. Below Kubernetes 1.35 there is no tolerance of one's own: steps of less than 10 % are lost.""",
}
_KEDA = """\
KEDA on Prometheus. An empty answer is an error and not 0, and while Prometheus is lost the number does not sink.
Not beside a HorizontalPodAutoscaler: KEDA makes one itself."""


def _target(plan: Plan) -> Object:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": plan.deploy.name}


def _behavior(plan: Plan) -> Object:
    """Up at once, at most to the double; down after the stabilisation window."""
    doubled = [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ]
    return {
        "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": doubled},
        "scaleDown": {
            "stabilizationWindowSeconds": round(float(str(plan.number["stabilization_s"]))),
            "selectPolicy": "Max",
            "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
        },
    }


def _followed(plan: Plan) -> Object:
    """Whatever is asked for, at once: whoever decided has damped it already."""
    at_once = [{"type": "Pods", "value": plan.platform.scaling.bounds.most, "periodSeconds": 15}]
    exactly = {"tolerance": "0"} if plan.deploy.kubernetes_at_least(35) else {}
    step = {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": at_once, **exactly}
    return {"scaleUp": step, "scaleDown": dict(step)}


def _cpu(plan: Plan) -> Object:
    percent = plan.number["target_cpu_percent"]
    return {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}},
    }


def _requests(plan: Plan) -> float:
    """The configured target where it is one of requests; else the share that the CPU rule aims at."""
    if plan.deploy.scaling in ("in-flight", "queue", "keda"):
        return plan.deploy.target
    return max(1.0, round(plan.deploy.concurrency * 0.6))


def _pods_metric(plan: Plan, name: str) -> Object:
    known = f"prometheus.googleapis.com|{name}|gauge" if plan.target == "gke" else name
    value = f"{round(_requests(plan) * 1000)}m"
    return {
        "type": "Pods",
        "pods": {"metric": {"name": known}, "target": {"type": "AverageValue", "averageValue": value}},
    }


def _in_flight(plan: Plan) -> Object:
    return _pods_metric(plan, "tidesight_requests_in_flight")


def _queue(plan: Plan) -> Object:
    return _pods_metric(plan, "tidesight_queue_length")


def _external(plan: Plan) -> Object:
    name = "tidesight_desired_replicas"
    known = f"prometheus.googleapis.com|{name}|gauge" if plan.target == "gke" else name
    return {
        "type": "External",
        "external": {"metric": {"name": known}, "target": {"type": "AverageValue", "averageValue": "1"}},
    }


def _keda(plan: Plan) -> tuple[Object, ...]:
    deploy = plan.deploy
    url = _GOOGLE_PROMETHEUS.format(project=deploy.project) if plan.target == "gke" else deploy.prometheus_url
    trigger = present(
        type="prometheus",
        name="in-flight",
        metricType="AverageValue",
        metadata={
            "serverAddress": url,
            "query": f'sum(tidesight_requests_in_flight{{namespace="{deploy.namespace}"}})',
            "threshold": f"{_requests(plan):g}",
            "ignoreNullValues": "false",
        },
        authenticationRef={"name": deploy.name} if plan.target == "gke" else None,
    )
    spec = {
        "scaleTargetRef": _target(plan),
        "pollingInterval": 15,
        "minReplicaCount": plan.platform.scaling.bounds.least,
        "maxReplicaCount": plan.platform.scaling.bounds.most,
        "fallback": {
            "failureThreshold": 3,
            "replicas": plan.platform.scaling.bounds.least,
            "behavior": "currentReplicasIfHigher",
        },
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior(plan)}},
        "triggers": [trigger],
    }
    scaled = resource("ScaledObject", "keda.sh/v1alpha1", deploy.name, spec)
    if plan.target != "gke":
        return (scaled,)
    identity = {"podIdentity": {"provider": "gcp"}}
    return (scaled, resource("TriggerAuthentication", "keda.sh/v1alpha1", deploy.name, identity))
