"""What pods use of a resource and what they were promised, as the HPA adds it up over containers.

The rule is that of kubernetes/kubernetes `pkg/controller/podautoscaler/metrics/client.go` (`getPodMetrics`,
`getContainerMetrics`) and `replica_calculator.go` (`calculateRequests`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from tidesight.autoscaling.observation import Container, Instance


class Failure(StrEnum):
    """Why a metric gives no replica count."""

    NO_METRICS_RETURNED = "no_metrics_returned"
    NO_METRICS_FOR_READY_PODS = "no_metrics_for_ready_pods"
    NO_METRICS_FOR_KNOWN_PODS = "no_metrics_for_known_pods"
    NO_PODS = "no_pods"
    MISSING_REQUEST = "missing_request"
    CONTAINER_NOT_FOUND = "container_not_found"


class MetricUnavailable(Exception):
    """A metric gives no replica count."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.value)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class ResourceTarget:
    """What a resource metric aims at: percent of the requests, of one container where it is named."""

    resource: str
    container: str | None
    amount: int


def container_usage_milli(containers: Iterable[Container], resource: str, container: str | None) -> int | None:
    """Use of a resource by all containers or the named one; None when any that counts has no figure."""
    chosen = [part for part in containers if part.role != "init" and container in (None, part.name)]
    figures = [part.usage_milli.get(resource) for part in chosen]
    if not figures or any(figure is None for figure in figures):
        return None
    return sum(figure for figure in figures if figure is not None)


def pod_requests(pods: Iterable[Instance], target: ResourceTarget, pod_level: bool) -> dict[str, int]:
    """The request of each pod in thousandths (`calculateRequests`).

    A pod's own request replaces the sum over containers where `pod_level` is set and no container is named; containers
    that keep running beside the main ones ("sidecar") count, those that ended before ("init") do not.

    Raises:
        MetricUnavailable: a request is missing (that is not 0), or the container is.
    """
    return {pod.name: _request(pod, target, pod_level) for pod in pods}


def _request(pod: Instance, target: ResourceTarget, pod_level: bool) -> int:
    resource, container = target.resource, target.container
    if container is None and (pod_level or not pod.containers) and resource in pod.request_milli:
        return pod.request_milli[resource]
    chosen = [part for part in pod.containers if part.role != "init" and container in (None, part.name)]
    if container is not None and not chosen:
        raise MetricUnavailable(Failure.CONTAINER_NOT_FOUND)
    if not pod.containers or any(resource not in part.request_milli for part in chosen):
        raise MetricUnavailable(Failure.MISSING_REQUEST)
    return sum(part.request_milli[resource] for part in chosen)
