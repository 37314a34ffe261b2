"""The Kubernetes Horizontal Pod Autoscaler v2: several metrics, of which the largest proposal counts.

The rule is that of kubernetes/kubernetes `pkg/controller/podautoscaler/horizontal.go` (`computeReplicasForMetrics`);
`behavior` holds what happens to the proposal afterwards.
"""

from dataclasses import dataclass
from typing import Literal

from tidesight.autoscaling.behavior import Behavior
from tidesight.autoscaling.observation import Observation
from tidesight.autoscaling.pod_resources import Failure, MetricUnavailable, ResourceTarget, container_usage_milli
from tidesight.autoscaling.policy import Bounds, Decision, Reason, proposed, undecided
from tidesight.autoscaling.replica_calculator import Proposal, ReplicaCalculator, Sample, Tolerance, saturated_sum
from tidesight.errors import ConfigError

MetricType = Literal["Resource", "ContainerResource", "Pods", "Object", "External"]
TargetType = Literal["Utilization", "AverageValue", "Value"]

_TARGETS: dict[MetricType, tuple[TargetType, ...]] = {
    "Resource": ("Utilization", "AverageValue"),
    "ContainerResource": ("Utilization", "AverageValue"),
    "Pods": ("AverageValue",),
    "Object": ("Value", "AverageValue"),
    "External": ("Value", "AverageValue"),
}
_FAILED: dict[MetricType, Reason] = {
    "Resource": Reason.FAILED_GET_RESOURCE_METRIC,
    "ContainerResource": Reason.FAILED_GET_CONTAINER_RESOURCE_METRIC,
    "Pods": Reason.FAILED_GET_PODS_METRIC,
    "Object": Reason.FAILED_GET_OBJECT_METRIC,
    "External": Reason.FAILED_GET_EXTERNAL_METRIC,
}


@dataclass(frozen=True)
class Metric:
    """One metric of an autoscaler.

    Attributes:
        type: Where it comes from: "Resource" and "ContainerResource" (cpu, memory), "Pods" (a mean over instances, such
            as `concurrency`), "Object" (of another object), "External" (such as `queued`).
        name: Of the resource or the metric.
        target: Percent of the requests for "Utilization", else in the metric's own unit.
        target_type: "Utilization", "AverageValue" (per instance) or "Value" (of the whole).
        container: The container of a "ContainerResource".

    Raises:
        ConfigError: a target that is not positive, or a target type that does not go with the type.
    """

    type: MetricType
    name: str
    target: float
    target_type: TargetType
    container: str | None = None

    def __post_init__(self) -> None:
        if not 0.001 <= self.target < float("inf"):
            raise ConfigError(f"{self.name}: expected a target of at least 0.001, got {self.target}", field="target")
        if self.target_type not in _TARGETS[self.type]:
            known = " or ".join(_TARGETS[self.type])
            raise ConfigError(
                f"{self.name}: a {self.type} metric takes {known}, not {self.target_type}", field="target"
            )
        if (self.type == "ContainerResource") != (self.container is not None):
            raise ConfigError(f"{self.name}: only a ContainerResource metric names a container", field="container")
        if self.target_type == "Utilization" and self.target != int(self.target):
            raise ConfigError(f"{self.name}: a utilisation is a whole percentage, not {self.target}", field="target")

    @property
    def target_milli(self) -> int:
        """The target in thousandths."""
        return round(self.target * 1000)


@dataclass(frozen=True)
class HpaSettings:
    """An autoscaler's spec and the controller's flags, with the defaults of Kubernetes.

    Attributes:
        min_replicas: The least; 0 needs an Object or External metric.
        max_replicas: The most.
        metrics: What to scale by.
        behavior: Rates and stabilisation by direction; None is the older path: no faster than doubling, no sooner down
            than the highest proposal of `downscale_stabilization_s`.
        tolerance: Of the usage ratio, in both directions, unless the behavior says otherwise.
        downscale_stabilization_s: For the scale-down, unless the behavior says otherwise.
        cpu_initialization_period_s: While a pod is younger its CPU counts only when fresh and ready.
        initial_readiness_delay_s: A pod that became unready this soon after its start was never ready.
        scale_up_limit_factor: The older path's limit, in multiples of the present count ...
        scale_up_limit_minimum: ... and the least this limit can be.
        sync_period_s: How often the controller decides.

    Raises:
        ConfigError: no metric, or bounds that cannot be.
    """

    min_replicas: int = 1
    max_replicas: int = 10
    metrics: tuple[Metric, ...] = (Metric("Resource", "cpu", 80, "Utilization"),)
    behavior: Behavior | None = None
    tolerance: float = 0.1
    downscale_stabilization_s: float = 300.0
    cpu_initialization_period_s: float = 300.0
    initial_readiness_delay_s: float = 30.0
    scale_up_limit_factor: float = 2.0
    scale_up_limit_minimum: float = 4.0
    sync_period_s: float = 15.0

    def __post_init__(self) -> None:
        if not self.metrics:
            raise ConfigError("an HPA needs at least one metric", field="metrics")
        if self.min_replicas == 0 and not any(metric.type in ("Object", "External") for metric in self.metrics):
            expected = "an Object or External metric: nothing else is known at zero replicas"
            raise ConfigError(f"min_replicas 0 needs {expected}", field="min_replicas")
        Bounds(self.min_replicas, self.max_replicas)
        if not 0 <= self.tolerance < 1:
            raise ConfigError(f"tolerance: expected 0 to 1, got {self.tolerance}", field="tolerance")

    @property
    def bounds(self) -> Bounds:
        """The least and the most replicas."""
        return Bounds(self.min_replicas, self.max_replicas)

    @property
    def calculator(self) -> ReplicaCalculator:
        """The arithmetic, with the tolerances of this autoscaler."""
        up, down = (self.behavior.scale_up, self.behavior.scale_down) if self.behavior else (None, None)
        tolerance = Tolerance(
            down=self.tolerance if down is None or down.tolerance is None else down.tolerance,
            up=self.tolerance if up is None or up.tolerance is None else up.tolerance,
        )
        return ReplicaCalculator(tolerance, self.cpu_initialization_period_s, self.initial_readiness_delay_s)


@dataclass(frozen=True)
class HpaMetrics:
    """The largest of the proposals of all metrics.

    A metric that fails is left out of a scale-up; with one failed there is no scale-down, with all failed no decision.
    """

    metrics: tuple[Metric, ...]
    calculator: ReplicaCalculator

    def initial(self, first: Observation) -> None:
        """Nothing: this part remembers nothing."""

    def decide(self, seen: Observation, memory: None) -> tuple[Decision, None]:
        """The proposal of the metrics."""
        inputs: dict[str, str] = {}
        counts: list[int] = []
        failed: list[Metric] = []
        for metric in self.metrics:
            label = "/".join(part for part in (metric.container, metric.name) if part)
            try:
                proposal = self._proposal(seen, metric)
            except MetricUnavailable as error:
                failed.append(metric)
                inputs[label] = error.failure.value
            else:
                counts.append(proposal.replicas)
                inputs[label] = f"{_usage(proposal)} of {_target(metric)} -> {proposal.replicas}"
        if not counts or (failed and max(counts) < seen.replicas):
            return undecided(seen, _FAILED[failed[0].type], **inputs), None
        return proposed(max(counts), Reason.DESIRED_WITHIN_RANGE, **inputs), None

    def _proposal(self, seen: Observation, metric: Metric) -> Proposal:
        if metric.type in ("Object", "External"):
            usage = _total_milli(seen, metric)
            rule = self.calculator.by_value if metric.target_type == "Value" else self.calculator.by_average_value
            return rule(seen, usage, metric.target_milli)
        if metric.type == "Pods":
            return self.calculator.by_average(seen, _samples(seen, metric), metric.target_milli)
        samples = _samples(seen, metric)
        if metric.target_type == "Utilization":
            target = ResourceTarget(metric.name, metric.container, int(metric.target))
            return self.calculator.by_utilization(seen, samples, target)
        return self.calculator.by_average(seen, samples, metric.target_milli, metric.name)


def _samples(seen: Observation, metric: Metric) -> dict[str, Sample]:
    """The samples of a metric by instance, without those that have none."""
    name, now_s, found = metric.name, seen.now_s, {}
    for instance in seen.instances or ():
        if metric.type == "Pods":
            milli = instance.metric_milli(name)
        elif instance.containers:
            milli = container_usage_milli(instance.containers, name, metric.container)
        else:
            milli = None if metric.container else instance.usage_milli.get(name)
        if milli is not None:
            at_s = now_s if instance.sampled_s is None else instance.sampled_s
            found[instance.name] = Sample(milli, at_s, instance.sample_window_s)
    return found


def _total_milli(seen: Observation, metric: Metric) -> int:
    if metric.type == "Object":
        if metric.name not in seen.objects_milli:
            raise MetricUnavailable(Failure.NO_METRICS_RETURNED)
        return seen.objects_milli[metric.name]
    values = seen.external_milli(metric.name)
    if not values:
        raise MetricUnavailable(Failure.NO_METRICS_RETURNED)
    return saturated_sum(values)


def _usage(proposal: Proposal) -> str:
    return f"{proposal.usage_milli / 1000:g}" if proposal.percent is None else f"{proposal.percent}%"


def _target(metric: Metric) -> str:
    return f"{metric.target:g}" + ("%" if metric.target_type == "Utilization" else "")
