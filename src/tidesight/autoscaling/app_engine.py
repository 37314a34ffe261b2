"""App Engine's automatic scaling, from the documented fields of app.yaml.

Google publishes the settings and what they mean, not the algorithm: both rules here are **models**, not the original.
Sources: the app.yaml references of the standard and the flexible environment, and the Compute Engine autoscaler's
description of target utilisation, initialisation period and stabilisation. What is assumed beyond them is said in each
class.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from tidesight.autoscaling.observation import Instance, Observation
from tidesight.autoscaling.policy import Bounds, Decision, Reason, check_range, proposed, undecided
from tidesight.autoscaling.window import MaxWindow


@dataclass(frozen=True)
class StandardSettings:
    """`automatic_scaling` of the standard environment.

    Attributes:
        target_cpu_utilization: 0.5 to 0.95.
        target_throughput_utilization: Of `max_concurrent_requests`, 0.5 to 0.95.
        max_concurrent_requests: In one instance.
        min_pending_latency_s: A shorter wait starts no instance.
        max_pending_latency_s: A longer wait starts one at once.
        min_instances: The least.
        max_instances: The most.
        min_idle_instances: Ready beyond what the load needs.
        max_idle_instances: How many stay idle when the load falls; None is automatic: all, for `idle_timeout_s`.
        idle_timeout_s: How long an idle instance is kept; about 15 minutes by observation, not documented.
        period_s: How often the controller decides; not documented.

    Raises:
        ConfigError: a value outside its range.
    """

    target_cpu_utilization: float = 0.6
    target_throughput_utilization: float = 0.6
    max_concurrent_requests: int = 10
    min_pending_latency_s: float = 0.5
    max_pending_latency_s: float = 10.0
    min_instances: int = 0
    max_instances: int = 20
    min_idle_instances: int = 0
    max_idle_instances: int | None = None
    idle_timeout_s: float = 900.0
    period_s: float = 1.0

    def __post_init__(self) -> None:
        for name in ("target_cpu_utilization", "target_throughput_utilization"):
            check_range(name, getattr(self, name), 0.5, 0.95)
        check_range("max_concurrent_requests", self.max_concurrent_requests, 1, 1000)
        check_range("min_pending_latency_s", self.min_pending_latency_s, 0, 15)
        check_range("max_pending_latency_s", self.max_pending_latency_s, self.min_pending_latency_s, 15)
        check_range("min_idle_instances", self.min_idle_instances, 0, 1000)
        if self.max_idle_instances is not None:
            check_range("max_idle_instances", self.max_idle_instances, self.min_idle_instances, 1000)
        check_range("idle_timeout_s", self.idle_timeout_s, 0, 86_400)
        check_range("period_s", self.period_s, 0.1, 60)
        Bounds(self.min_instances, self.max_instances)

    @property
    def bounds(self) -> Bounds:
        """The least and the most instances."""
        return Bounds(self.min_instances, self.max_instances)


@dataclass(frozen=True)
class Standard:
    """The standard environment. A model.

    Documented: an instance is added when CPU use passes its target, when requests in an instance pass
    `max_concurrent_requests` times the throughput target, or when requests wait too long; idle instances are kept
    within their limits. Assumed: the count that would bring CPU and throughput to their targets is asked for at once; a
    wait between the two limits adds one instance only while none is starting, a longer one only while those that are
    starting could not take the queue; without requests nothing is needed, whatever idle processes take; nothing goes
    away while any figure is missing.
    """

    settings: StandardSettings

    def initial(self, first: Observation) -> MaxWindow:
        """As if the present count had just been needed."""
        window = MaxWindow(self.settings.idle_timeout_s, self.settings.period_s)
        return window.record(first.now_s, first.replicas) if self.settings.idle_timeout_s > 0 else window

    def decide(self, seen: Observation, memory: MaxWindow) -> tuple[Decision, MaxWindow]:
        """The count that the load needs, and the idle instances on top."""
        serving = seen.serving
        if serving is None:
            return undecided(seen, Reason.PODS_NOT_COUNTED), memory
        cpu, inside = _total(one.cpu_ratio for one in serving), _total(one.concurrency for one in serving)
        if inside == 0 and not seen.queued:  # without requests, what a process takes by itself needs no instance
            cpu = 0.0
        by_reason = {
            Reason.TARGET_CPU_UTILIZATION: _count(cpu, self.settings.target_cpu_utilization),
            Reason.TARGET_THROUGHPUT_UTILIZATION: _count(inside, self._throughput_target),
            Reason.PENDING_LATENCY: self._for_the_queue(seen),
        }
        known = {reason: count for reason, count in by_reason.items() if count is not None}
        inputs = {"ready": len(serving), "cpu": cpu, "concurrency": inside, "queue_wait_s": seen.queue_wait_s}
        if not known:
            return undecided(seen, Reason.NO_DATA, **inputs), memory
        reason, needed = max(known.items(), key=lambda item: item[1])
        if len(known) < len(by_reason) and needed < seen.replicas:
            return undecided(seen, Reason.NO_DATA, **inputs), memory
        decision = proposed(needed, reason, **inputs)
        return self._with_idle(seen, decision, memory)

    @property
    def _throughput_target(self) -> float:
        return self.settings.max_concurrent_requests * self.settings.target_throughput_utilization

    def _for_the_queue(self, seen: Observation) -> int | None:
        """The count that a queue asks for; None when nothing is known of it."""
        if seen.queued is None and seen.queue_wait_s is None:
            return None
        wait_s = seen.queue_wait_s or 0.0
        if not seen.queued and not wait_s:
            return 0
        if seen.replicas == 0:
            return 1
        if wait_s < self.settings.min_pending_latency_s:
            return 0
        starting = max(0, seen.replicas - len(seen.serving or ()))
        late = wait_s >= self.settings.max_pending_latency_s
        enough = starting * self._throughput_target >= (seen.queued or 1) if late else starting > 0
        return seen.replicas + (0 if enough else 1)

    def _with_idle(self, seen: Observation, decision: Decision, memory: MaxWindow) -> tuple[Decision, MaxWindow]:
        wanted = decision.replicas + self.settings.min_idle_instances
        kept = wanted
        if self.settings.max_idle_instances is not None:
            kept = max(wanted, min(seen.replicas, decision.replicas + self.settings.max_idle_instances))
        elif self.settings.idle_timeout_s > 0:
            memory = memory.record(seen.now_s, wanted)
            kept = max(wanted, min(seen.replicas, memory.current))
        return decision.clamped(kept, Reason.IDLE_INSTANCES), memory


@dataclass(frozen=True)
class FlexibleSettings:
    """`automatic_scaling` of the flexible environment.

    Attributes:
        target_utilization: `cpu_utilization.target_utilization`, more than 0 to 1.
        cool_down_period_s: For which a new instance's figures do not count; at least 60.
        min_num_instances: The least, at least 1.
        max_num_instances: The most.
        stabilization_s: For which the highest count holds; Compute Engine documents 10 minutes.
        period_s: How often the controller decides; not documented.

    Raises:
        ConfigError: a value outside its range.
    """

    target_utilization: float = 0.5
    cool_down_period_s: float = 120.0
    min_num_instances: int = 2
    max_num_instances: int = 20
    stabilization_s: float = 600.0
    period_s: float = 10.0

    def __post_init__(self) -> None:
        check_range("target_utilization", self.target_utilization, 0.01, 1)
        check_range("cool_down_period_s", self.cool_down_period_s, 60, 86_400)
        check_range("min_num_instances", self.min_num_instances, 1, 1500)
        check_range("stabilization_s", self.stabilization_s, 0, 86_400)
        Bounds(self.min_num_instances, self.max_num_instances)

    @property
    def bounds(self) -> Bounds:
        """The least and the most instances."""
        return Bounds(self.min_num_instances, self.max_num_instances)


@dataclass(frozen=True)
class Flexible:
    """The flexible environment: CPU only. A model.

    Documented: the count is such that mean CPU use meets the target; figures of an instance in its cool-down period do
    not count. Assumed: such an instance adds nothing to the sum, so it takes no part in a scale-up, and while there is
    one (or one without a figure) the count does not fall.
    """

    settings: FlexibleSettings

    def initial(self, first: Observation) -> None:
        """Nothing: this part remembers nothing."""

    def decide(self, seen: Observation, memory: None) -> tuple[Decision, None]:
        """The count that brings CPU use to its target."""
        if seen.serving is None:
            return undecided(seen, Reason.PODS_NOT_COUNTED), None
        warm = [one for one in seen.serving if self._is_warm(one, seen.now_s)]
        ratios = [one.cpu_ratio for one in warm]
        known = [ratio for ratio in ratios if ratio is not None]
        inputs = {"ready": len(seen.serving), "warm": len(warm), "cpu": math.fsum(known) if known else None}
        if not known:
            return undecided(seen, Reason.NO_DATA, **inputs), None
        needed = math.ceil(math.fsum(known) / self.settings.target_utilization)
        decision = proposed(needed, Reason.TARGET_CPU_UTILIZATION, **inputs)
        if needed < seen.replicas and len(known) < seen.replicas:
            decision = decision.clamped(seen.replicas, Reason.COOL_DOWN_PERIOD)
        return decision, None

    def _is_warm(self, instance: Instance, now_s: float) -> bool:
        return instance.started_s is None or now_s - instance.started_s >= self.settings.cool_down_period_s


def _total(figures: Iterable[float | None]) -> float | None:
    """The sum of the instances' figures; None when there are none, or any of them gave none."""
    every = list(figures)
    known = [figure for figure in every if figure is not None]
    return math.fsum(known) if known and len(known) == len(every) else None


def _count(total: float | None, target: float) -> int | None:
    return None if total is None else math.ceil(total / target)
