"""What a controller saw: the only input of a scaling rule.

Every number is one that a controller can measure, and None where it could not: missing evidence is never 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tidesight.errors import DataError

Phase = Literal["Pending", "Running", "Succeeded", "Failed"]
Role = Literal["main", "sidecar", "init"]
_PER_INSTANCE = ("concurrency", "requests_per_s")
_OF_THE_FLEET = ("queued", "buffered")


@dataclass(frozen=True, slots=True)
class Container:
    """A container of an instance; only needed where there are several.

    Attributes:
        name: Unique in its instance.
        usage_milli: Use by resource, in thousandths: {"cpu": 250} is a quarter of a CPU, {"memory": ...} milli-bytes.
        request_milli: What it was promised, likewise.
        role: "main", "sidecar" (an init container that keeps running) or "init" (ended before the others began).
    """

    name: str
    usage_milli: Mapping[str, int] = field(default_factory=dict)
    request_milli: Mapping[str, int] = field(default_factory=dict)
    role: Role = "main"


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance (a process, a pod) at the time of the observation.

    Attributes:
        name: Unique in the fleet.
        phase: "Pending" until its process runs; "Failed" or "Succeeded" when it has ended.
        ready: Whether it takes requests; None before the first answer.
        started_s: When it started.
        ready_changed_s: When `ready` last changed; None is its start.
        deleting: Whether it was told to end.
        usage_milli: Use by resource in thousandths, such as {"cpu": 850}; of the whole instance.
        request_milli: What it was promised, likewise.
        containers: Where it has several; their use and requests then count instead.
        concurrency: Mean number of requests inside it since the previous observation.
        requests_per_s: Requests it answered per second since then.
        metrics_milli: Any other metric by name, in thousandths.
        sampled_s: When these figures were taken; None is now.
        sample_window_s: The time they are a mean over.

    Raises:
        DataError: a figure that is negative or not finite.
    """

    name: str
    phase: Phase = "Running"
    ready: bool | None = True
    started_s: float | None = None
    ready_changed_s: float | None = None
    deleting: bool = False
    usage_milli: Mapping[str, int] = field(default_factory=dict)
    request_milli: Mapping[str, int] = field(default_factory=dict)
    containers: tuple[Container, ...] = ()
    concurrency: float | None = None
    requests_per_s: float | None = None
    metrics_milli: Mapping[str, int] = field(default_factory=dict)
    sampled_s: float | None = None
    sample_window_s: float = 0.0

    def __post_init__(self) -> None:
        for name in _PER_INSTANCE:
            _check(name, getattr(self, name))

    @property
    def serves(self) -> bool:
        """Whether it runs, takes requests and is not about to end."""
        return self.ready is True and self.phase == "Running" and not self.deleting

    @property
    def cpu_ratio(self) -> float | None:
        """CPU in use as a part of what it was promised (may exceed 1); None where either is unknown."""
        if self.containers:
            parts = [part for part in self.containers if part.role != "init"]
            used = [part.usage_milli.get("cpu") for part in parts]
            promised = sum(part.request_milli.get("cpu", 0) for part in parts)
        else:
            used, promised = [self.usage_milli.get("cpu")], self.request_milli.get("cpu", 0)
        if promised <= 0 or None in used:
            return None
        return sum(use for use in used if use is not None) / promised

    def metric_milli(self, name: str) -> int | None:
        """A metric by name in thousandths: `concurrency`, `requests_per_s` or one of `metrics_milli`."""
        if name in _PER_INSTANCE:
            value: float | None = getattr(self, name)
            return None if value is None else round(value * 1000)
        return self.metrics_milli.get(name)


@dataclass(frozen=True, slots=True)
class Observation:
    """The state of a fleet at one time.

    Attributes:
        now_s: The time, on any clock that does not go back.
        replicas: How many instances are wanted at present (what the last decision set).
        instances: Those that exist; None when they could not be listed.
        existing: How many exist by the platform's own count; None counts `instances`.
        queued: Requests that wait for an instance, those that an activator holds among them.
        queue_wait_s: How long the oldest of them has waited.
        buffered: Requests that an activator holds because no instance can take them.
        activator_since_s: When the activator entered the path of requests; None when it is not in it.
        objects_milli: Metrics of other objects by name, in thousandths.
        externals_milli: Metrics from outside by name: the values of its series, in thousandths.
        reachable: Whether requests can arrive at all.
        at_once: Whether `buffered` is of this moment, in which a request asked for an instance; else it is a mean since
            the previous observation.

    Raises:
        DataError: a figure that is negative or not finite.
    """

    now_s: float
    replicas: int
    instances: tuple[Instance, ...] | None = None
    existing: int | None = None
    queued: float | None = None
    queue_wait_s: float | None = None
    buffered: float | None = None
    activator_since_s: float | None = None
    objects_milli: Mapping[str, int] = field(default_factory=dict)
    externals_milli: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    reachable: bool = True
    at_once: bool = False

    def __post_init__(self) -> None:
        if self.replicas < 0:
            raise DataError(f"replicas: expected at least 0, got {self.replicas}", field="replicas")
        for name in ("now_s", "queued", "queue_wait_s", "buffered"):
            _check(name, getattr(self, name))

    @property
    def existing_replicas(self) -> int:
        """Instances that exist and are not about to end; the wanted count where nothing is known."""
        if self.existing is not None:
            return self.existing
        if self.instances is None:
            return self.replicas
        return sum(not instance.deleting and instance.phase != "Failed" for instance in self.instances)

    @property
    def serving(self) -> tuple[Instance, ...] | None:
        """The instances that take requests; None when instances could not be listed."""
        return None if self.instances is None else tuple(instance for instance in self.instances if instance.serves)

    def external_milli(self, name: str) -> tuple[int, ...]:
        """The values of an external metric, or of `queued` and `buffered`; empty where nothing is known."""
        if name in _OF_THE_FLEET and name not in self.externals_milli:
            value: float | None = getattr(self, name)
            return () if value is None else (round(value * 1000),)
        return self.externals_milli.get(name, ())


def _check(name: str, value: float | None) -> None:
    if value is not None and not 0 <= value < float("inf"):
        raise DataError(f"{name}: expected a finite number of at least 0, got {value}", field=name)
