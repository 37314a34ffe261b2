"""One metric to one replica count: the arithmetic of the Kubernetes HPA, in thousandths as there.

The rule is that of kubernetes/kubernetes `pkg/controller/podautoscaler/replica_calculator.go` with
`metrics/client.go` and `metrics/utilization.go`; names follow those files.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tidesight.autoscaling.observation import Instance, Observation
from tidesight.autoscaling.pod_resources import Failure, MetricUnavailable, ResourceTarget, pod_requests

MAX_INT32 = 2**31 - 1
MAX_INT64 = 2**63 - 1


@dataclass(frozen=True)
class Tolerance:
    """The band of usage ratios in which nothing changes: [1 - down, 1 + up], both ends included."""

    down: float = 0.1
    up: float = 0.1

    def holds(self, ratio: float) -> bool:
        """Whether a usage ratio is inside the band (NaN is not)."""
        return 1.0 - self.down <= ratio <= 1.0 + self.up


class Sample(NamedTuple):
    """A metric of one pod: thousandths, when it was taken, the time it is a mean over."""

    milli: int
    at_s: float
    window_s: float


@dataclass(frozen=True, slots=True)
class Groups:
    """Pods by what their metric is worth: how many count as ready, and the names of the others."""

    ready: int
    unready: frozenset[str]
    missing: frozenset[str]
    ignored: frozenset[str]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A replica count, the usage it came from in thousandths, and in percent of the requests where that is known."""

    replicas: int
    usage_milli: int
    percent: int | None = None


@dataclass(frozen=True, slots=True)
class _Scope:
    """What a count is made of: the present count, the groups, the usage ratio, the most a missing pod may use."""

    current: int
    groups: Groups
    ratio: float
    at_most: Mapping[str, int]


_RatioOf = Callable[[Mapping[str, int]], float]


@dataclass(frozen=True)
class ReplicaCalculator:
    """The calculator's settings, named as the controller's flags.

    Attributes:
        tolerance: The band in which nothing changes.
        cpu_initialization_period_s: While a pod is younger its CPU counts only when fresh and ready.
        initial_readiness_delay_s: A pod that became unready this soon after its start was never ready.
        pod_level_resources: Whether an instance's own request replaces the sum over its containers.
    """

    tolerance: Tolerance = Tolerance()
    cpu_initialization_period_s: float = 300.0
    initial_readiness_delay_s: float = 30.0
    pod_level_resources: bool = True

    def group(
        self, pods: Iterable[Instance], samples: Mapping[str, Sample], resource: str | None, now_s: float
    ) -> Groups:
        """Sort pods into those that count, and unready, missing and ignored ones (`groupPods`)."""
        ready, unready, missing, ignored = 0, set(), set(), set()
        for pod in pods:
            if pod.deleting or pod.phase == "Failed":
                ignored.add(pod.name)
            elif pod.phase == "Pending":
                unready.add(pod.name)
            elif pod.name not in samples:
                missing.add(pod.name)
            elif resource == "cpu" and not self._trusts(pod, samples[pod.name], now_s):
                unready.add(pod.name)
            else:
                ready += 1
        return Groups(ready, frozenset(unready), frozenset(missing), frozenset(ignored))

    def by_utilization(self, seen: Observation, samples: Mapping[str, Sample], target: ResourceTarget) -> Proposal:
        """From use in percent of requests, over all pods (`GetResourceReplicas`).

        Raises:
            MetricUnavailable: no usable sample, or a request is missing.
        """
        pods = _pods(seen)
        groups = self.group(pods, samples, target.resource, seen.now_s)
        known = _counted(samples, groups)
        requests = pod_requests(pods, target, pod_level=self.pod_level_resources)
        percent, average = _utilization(known, requests)
        fallback = max(100, target.amount)
        scope = _Scope(
            seen.replicas,
            groups,
            percent / target.amount,
            at_most={name: requests[name] * fallback // 100 for name in groups.missing},
        )
        replicas = self._count(known, scope, lambda usage: _utilization(usage, requests)[0] / target.amount)
        return Proposal(replicas, average, percent)

    def by_average(
        self, seen: Observation, samples: Mapping[str, Sample], target_milli: int, resource: str | None = None
    ) -> Proposal:
        """From the mean of a metric over pods (`calcPlainMetricReplicas`).

        Raises:
            MetricUnavailable: no usable sample.
        """
        groups = self.group(_pods(seen), samples, resource, seen.now_s)
        known = _counted(samples, groups)
        average = _quotient(sum(known.values()), len(known))
        at_most = dict.fromkeys(groups.missing, target_milli)
        scope = _Scope(seen.replicas, groups, _ratio(average, target_milli), at_most)
        replicas = self._count(
            known, scope, lambda usage: _ratio(_quotient(sum(usage.values()), len(usage)), target_milli)
        )
        return Proposal(replicas, average)

    def by_value(self, seen: Observation, usage_milli: int, target_milli: int) -> Proposal:
        """From one figure for the whole fleet (`getUsageRatioReplicaCount`); at zero replicas without tolerance.

        Raises:
            MetricUnavailable: there should be pods and none is known.
        """
        ratio = _ratio(usage_milli, target_milli)
        if seen.replicas == 0:
            return Proposal(_replicas(ratio), usage_milli)
        if self.tolerance.holds(ratio):
            return Proposal(seen.replicas, usage_milli)
        ready = sum(pod.phase == "Running" and pod.ready is True for pod in _pods(seen))
        return Proposal(_replicas(ratio * ready), usage_milli)

    def by_average_value(self, seen: Observation, usage_milli: int, target_milli: int) -> Proposal:
        """From one figure shared by the existing pods (`GetExternalPerPodMetricReplicas`)."""
        existing = seen.existing_replicas
        replicas = existing
        if existing == 0 or not self.tolerance.holds(_ratio(usage_milli, float(target_milli) * existing)):
            replicas = _replicas(_ratio(usage_milli, target_milli))
        return Proposal(replicas, _per_pod(usage_milli, existing))

    def _trusts(self, pod: Instance, sample: Sample, now_s: float) -> bool:
        """Whether a CPU sample says what the pod needs, not what its start cost."""
        if pod.ready is None or pod.started_s is None:
            return False
        changed_s = pod.started_s if pod.ready_changed_s is None else pod.ready_changed_s
        if pod.started_s + self.cpu_initialization_period_s > now_s:
            return pod.ready and sample.at_s >= changed_s + sample.window_s
        return pod.ready or pod.started_s + self.initial_readiness_delay_s <= changed_s

    def _count(self, known: dict[str, int], scope: _Scope, ratio_of: _RatioOf) -> int:
        """The count for a usage ratio; pods without a usable sample are assumed to be against the change."""
        ratio, groups = scope.ratio, scope.groups
        scale_up_with_unready = bool(groups.unready) and ratio > 1.0
        if not scale_up_with_unready and not groups.missing:
            return scope.current if self.tolerance.holds(ratio) else _replicas(ratio * groups.ready)
        assumed = dict(known)
        if ratio < 1.0:
            assumed |= scope.at_most
        elif ratio > 1.0:
            assumed |= dict.fromkeys(groups.missing, 0)
        if scale_up_with_unready:
            assumed |= dict.fromkeys(groups.unready, 0)
        new_ratio = ratio_of(assumed)
        if self.tolerance.holds(new_ratio) or (ratio - 1.0) * (new_ratio - 1.0) < 0:
            return scope.current
        replicas = _replicas(new_ratio * len(assumed))
        reverses = replicas > scope.current if new_ratio < 1.0 else replicas < scope.current
        return scope.current if reverses else replicas


def saturated_sum(values_milli: Iterable[int]) -> int:
    """The sum of an external metric's series, at most MAX_INT64."""
    total = 0
    for value in values_milli:
        if value > 0 and total > MAX_INT64 - value:
            return MAX_INT64
        total += value
    return total


def _pods(seen: Observation) -> tuple[Instance, ...]:
    if not seen.instances:
        raise MetricUnavailable(Failure.NO_PODS)
    return seen.instances


def _counted(samples: Mapping[str, Sample], groups: Groups) -> dict[str, int]:
    """The samples without those of unready and ignored pods; samples of pods that are not listed stay, as upstream."""
    if not samples:
        raise MetricUnavailable(Failure.NO_METRICS_RETURNED)
    left_out = groups.unready | groups.ignored
    known = {name: sample.milli for name, sample in samples.items() if name not in left_out}
    if not known:
        raise MetricUnavailable(Failure.NO_METRICS_FOR_READY_PODS)
    return known


def _utilization(usage: Mapping[str, int], requests: Mapping[str, int]) -> tuple[int, int]:
    """Use in whole percent of the requests and mean use, over pods known to both; truncated before any division."""
    used = requested = pods = 0
    for name, milli in usage.items():
        if name in requests:
            used += milli
            requested += requests[name]
            pods += 1
    if requested == 0:
        raise MetricUnavailable(Failure.NO_METRICS_FOR_KNOWN_PODS)
    return _quotient(used * 100, requested), _quotient(used, pods)


def _quotient(dividend: int, divisor: int) -> int:
    """Integer division that truncates towards zero, as Go's."""
    quotient = abs(dividend) // abs(divisor)
    return quotient if (dividend < 0) == (divisor < 0) else -quotient


def _ratio(usage: int, target: float) -> float:
    return float(usage) / float(target)  # as floats from the start: Python would divide large integers more exactly


def _replicas(count: float) -> int:
    return MAX_INT32 if count > MAX_INT32 else math.ceil(count)


def _per_pod(usage_milli: int, existing: int) -> int:
    if usage_milli >= MAX_INT64:
        return MAX_INT64
    return 0 if existing == 0 else math.ceil(float(usage_milli) / existing)
