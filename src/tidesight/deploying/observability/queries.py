"""PromQL from the catalogue of metrics: a name that changes there changes here, or fails the tests."""

from bisect import bisect_right
from dataclasses import dataclass

from prometheus_client.utils import floatToGoString

from tidesight import telemetry as metrics
from tidesight.deploying.settings import DeploySettings
from tidesight.telemetry import Metric

JOB = "tidesight"
FRONT_JOB = "tidesight-front"
SERVER_ERRORS = "5.."
OURS = "200|429|5.."
"""Statuses that are the service's doing; of 400 to 422 and 499 the caller is to blame."""

_REGULAR = ("|", "$", "..", ".+", ".*")
_CPU = "process_cpu_seconds_total"
_MEMORY = "process_resident_memory_bytes"


def select(metric: Metric | str, suffix: str = "", **labels: str) -> str:
    """A selector; a label's value is a regular expression where it looks like one, else equal."""
    name = metric if isinstance(metric, str) else metric.name
    texts = [f'{key}{"=~" if any(one in value for one in _REGULAR) else "="}"{value}"' for key, value in labels.items()]
    return f"{name}{suffix}{{{','.join(texts)}}}" if texts else name + suffix


def rate(selector: str, window: str, by: str = "") -> str:
    """The sum of a rate."""
    return f"sum{f' by ({by})' if by else ''} (rate({selector}[{window}]))"


@dataclass(frozen=True)
class Queries:
    """What dashboards, rules and alerts ask.

    Attributes:
        deploy: The objective, and the bounds.
        instance: Which instances: a regular expression, such as a variable of Grafana; empty is all.
    """

    deploy: DeploySettings
    instance: str = ""

    @property
    def objective_s(self) -> float:
        """The objective, rounded down to a bucket of the histogram: only those can be counted."""
        buckets = metrics.REQUEST_SECONDS.buckets
        return buckets[max(0, bisect_right(buckets, self.deploy.objective_ms / 1000 + 1e-9) - 1)]

    @property
    def budget(self) -> float:
        """The part of requests that may miss the objective."""
        return round(1 - self.deploy.objective_percent / 100, 6)

    def of(self, metric: Metric | str, suffix: str = "", **labels: str) -> str:
        """A selector of our instances."""
        where = {"instance": self.instance} if self.instance else {}
        return select(metric, suffix, job=JOB, **where, **labels)

    def good(self, window: str) -> str:
        """Requests per second answered within the objective."""
        return rate(self.of(metrics.REQUEST_SECONDS, "_bucket", le=_bound(self.objective_s)), window)

    def misses(self, window: str) -> str:
        """The part of requests that missed the objective: late, refused or failed; none asked, none missed."""
        asked = rate(self.of(metrics.REQUESTS, status=OURS), window)
        return f"1 - {self.good(window)} / ({asked} > 0)"

    def by_class(self, window: str) -> str:
        """Requests per second by the first figure of their status."""
        labelled = f'label_replace(rate({self.of(metrics.REQUESTS)}[{window}]), "class", "${{1}}xx", "status", "(.)..")'
        return f"sum by (class) ({labelled})"

    def latency(self, quantile: float, window: str) -> str:
        """Seconds within which that part of the good answers came."""
        buckets = rate(self.of(metrics.REQUEST_SECONDS, "_bucket"), window, by="le")
        return f"histogram_quantile({quantile:g}, {buckets})"

    def stage(self, quantile: float, window: str) -> str:
        """The same for each stage of a request."""
        buckets = rate(self.of(metrics.STAGE_SECONDS, "_bucket"), window, by="le, stage")
        return f"histogram_quantile({quantile:g}, {buckets})"

    def ready(self) -> str:
        """Instances that take requests; 0 when there are none."""
        return f"sum({self.of(metrics.READY)}) or vector(0)"

    def present(self) -> str:
        """Instances that answer, ready or not; 0 when there are none."""
        return f"count({self.of(metrics.READY)}) or vector(0)"

    def cpu(self, window: str, by: str = "") -> str:
        """CPUs in use."""
        return rate(self.of(_CPU), window, by)

    def memory(self, by: str = "") -> str:
        """Bytes of memory in use."""
        return f"sum{f' by ({by})' if by else ''} ({self.of(_MEMORY)})"


def _bound(bucket: float) -> str:
    """A bucket's bound as the exposition writes it."""
    return str(floatToGoString(bucket))  # type: ignore[no-untyped-call]
