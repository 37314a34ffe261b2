"""The Knative Pod Autoscaler: averages over a stable and a panic window, and how far to trust each.

The rule is that of knative/serving `pkg/autoscaler/scaling/autoscaler.go` (`Scale`).
Two things are ours: a sample stands for all the time since the one before it (so that the period of the controller does
not matter), and in a tick without a fresh sample nothing is decided.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from tidesight.autoscaling.observation import Instance, Observation
from tidesight.autoscaling.policy import Decision, Reason, proposed, undecided
from tidesight.autoscaling.window import Algorithm, AverageWindow, MaxWindow
from tidesight.errors import ConfigError

ScalingMetric = Literal["concurrency", "rps"]
TARGET_MIN = 0.01
BUCKET_S = 1.0


@dataclass(frozen=True, slots=True)
class Load:
    """What one tick decides on: ready instances, and the averages of the stable and the panic window."""

    now_s: float
    ready: int
    stable: float
    panic: float
    reachable: bool = True


@dataclass(frozen=True, slots=True)
class KpaMemory:
    """What the autoscaler remembers.

    Attributes:
        panic_s: When panic began or was last extended; None outside panic.
        max_panic_pods: The count below which panic does not go.
        delay: What was wanted within the scale-down delay.
        stable: Load over the stable window.
        panic: Load over the panic window.
        sampled: The bucket of the last sample.
    """

    panic_s: float | None
    max_panic_pods: int
    delay: MaxWindow
    stable: AverageWindow
    panic: AverageWindow
    sampled: int | None = None


@dataclass(frozen=True)
class Kpa:
    """A decider's spec.

    Attributes:
        metric: "concurrency" (requests inside instances) or "rps" (requests answered per second).
        target: What to aim at per instance, already a fraction of `total` (see `revision`).
        total: What an instance can take.
        target_burst_capacity: Requests that may come at once without the activator; 0: activator only from zero, -1:
            always.
        panic_threshold: Panic begins when this many times the ready instances are wanted.
        max_scale_up_rate: A tick may multiply the ready instances by at most this ...
        max_scale_down_rate: ... or divide them by this.
        stable_window_s: 6 to 3600.
        panic_window_percentage: Of the stable window, 1 to 100.
        scale_down_delay_s: A lower count waits so long.
        activation_scale: The least count while there is load at all, when more than 1.
        algorithm: "linear" or "exponential".
        tick_s: How often the controller decides.

    Raises:
        ConfigError: a value outside its range.
    """

    metric: ScalingMetric = "concurrency"
    target: float = 70.0
    total: float = 100.0
    target_burst_capacity: float = 211.0
    panic_threshold: float = 2.0
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    stable_window_s: float = 60.0
    panic_window_percentage: float = 10.0
    scale_down_delay_s: float = 0.0
    activation_scale: int = 1
    algorithm: Algorithm = "linear"
    tick_s: float = 2.0

    def __post_init__(self) -> None:
        least = {
            "target": TARGET_MIN, "total": 0, "target_burst_capacity": -1, "panic_threshold": 1,
            "max_scale_up_rate": 1.01, "max_scale_down_rate": 1.01, "stable_window_s": 0, "panic_window_percentage": 1,
            "scale_down_delay_s": 0, "activation_scale": 0, "tick_s": 0.001,
        }  # fmt: skip
        for name, minimum in least.items():
            if not minimum <= getattr(self, name) < math.inf:
                expected = f"expected a finite number of at least {minimum}, got {getattr(self, name)}"
                raise ConfigError(f"{name}: {expected}", field=name)

    @property
    def panic_window_s(self) -> float:
        """Whole seconds, at least 1."""
        return max(BUCKET_S, math.floor(self.stable_window_s * self.panic_window_percentage / 100 + 0.5))

    def initial(self, first: Observation) -> KpaMemory:
        """With more than one instance ready, in panic: a restart must not scale down for want of history."""
        ready = len(first.serving or ())
        return KpaMemory(
            panic_s=first.now_s if ready > 1 else None,
            max_panic_pods=ready,
            delay=MaxWindow(self.scale_down_delay_s, self.tick_s),
            stable=AverageWindow(self.stable_window_s, BUCKET_S, self.algorithm),
            panic=AverageWindow(self.panic_window_s, BUCKET_S, self.algorithm),
        )

    def decide(self, seen: Observation, memory: KpaMemory) -> tuple[Decision, KpaMemory]:
        """The count for the averages after this observation."""
        serving = seen.serving
        if serving is None:
            return undecided(seen, Reason.PODS_NOT_COUNTED), memory
        load = self._load(seen, serving)
        if load is None:
            return undecided(seen, Reason.NO_DATA, ready=len(serving)), memory
        memory = _sampled(memory, seen, load)
        stable, panic = memory.stable.average(seen.now_s), memory.panic.average(seen.now_s)
        return self.scale(Load(seen.now_s, len(serving), stable, panic, seen.reachable), memory)

    def scale(self, load: Load, memory: KpaMemory) -> tuple[Decision, KpaMemory]:
        """One tick of Knative's autoscaler."""
        pods = max(1, load.ready)
        want_stable, want_panic = math.ceil(load.stable / self.target), math.ceil(load.panic / self.target)
        panic_s, max_panic_pods = self._panic(want_panic / pods >= self.panic_threshold, load.now_s, memory)
        inputs = {
            "ready": load.ready, "stable": load.stable, "panic": load.panic, "target": self.target,
            "want_stable": want_stable, "want_panic": want_panic,
        }  # fmt: skip
        want = want_stable if panic_s is None else max(want_stable, want_panic)
        decision = proposed(want, Reason.STABLE_MODE if panic_s is None else Reason.PANIC_MODE, **inputs)
        decision = self._paced(decision, load)
        if self.activation_scale > 1 and want > 0 and decision.replicas < self.activation_scale:
            decision = decision.clamped(self.activation_scale, Reason.ACTIVATION_SCALE)
        if panic_s is not None:
            max_panic_pods = max(max_panic_pods, decision.replicas)
            decision = decision.clamped(max_panic_pods, Reason.PANIC_MODE)
        delay = memory.delay
        if self.scale_down_delay_s > 0 and load.reachable:
            delay = delay.record(load.now_s, decision.replicas)
            decision = decision.clamped(delay.current, Reason.SCALE_DOWN_DELAY)
        decision = replace(decision, burst_capacity=self.excess_burst_capacity(load))
        return decision, replace(memory, panic_s=panic_s, max_panic_pods=max_panic_pods, delay=delay)

    def excess_burst_capacity(self, load: Load) -> int:
        """Room beyond the load and the burst planned for; negative keeps the activator in the path of requests."""
        if self.target_burst_capacity == 0:
            return 0
        if self.target_burst_capacity < 0:
            return -1
        return math.floor(load.ready * self.total - self.target_burst_capacity - load.panic)

    def _panic(self, over: bool, now_s: float, memory: KpaMemory) -> tuple[float | None, int]:
        """When panic began or was extended, and its floor, after this tick."""
        if over:
            return now_s, memory.max_panic_pods
        if memory.panic_s is not None and memory.panic_s + self.stable_window_s < now_s:
            return None, 0
        return memory.panic_s, memory.max_panic_pods

    def _paced(self, decision: Decision, load: Load) -> Decision:
        """Rounded so that one instance more or less is always possible."""
        pods = max(1, load.ready)
        least = math.floor(pods / self.max_scale_down_rate) if load.reachable else 0
        most = math.ceil(self.max_scale_up_rate * pods)
        if decision.replicas > most:
            return decision.clamped(most, Reason.SCALE_UP_LIMIT)
        return decision.clamped(max(least, decision.replicas), Reason.SCALE_DOWN_LIMIT)

    def _load(self, seen: Observation, serving: tuple[Instance, ...]) -> float | None:
        """The metric over the whole fleet now; instances that gave no figure count as the mean of those that did."""
        waiting = seen.queued if seen.buffered is None else seen.buffered  # what an activator holds is queued, too
        if not serving:
            return waiting
        figures = [one.concurrency if self.metric == "concurrency" else one.requests_per_s for one in serving]
        known = [figure for figure in figures if figure is not None]
        if not known:
            return None
        inside = math.fsum(known) / len(known) * len(serving)
        return inside + (waiting or 0.0) if self.metric == "concurrency" else inside


def _sampled(memory: KpaMemory, seen: Observation, load: float) -> KpaMemory:
    """With `load` in every bucket since the last sample, as far back as the stable window reaches.

    A figure of the moment is no evidence for the time before, in which nobody asked for a decision; and it counts
    beside a mean of the same bucket, which did not know of it.
    """
    index, stable, panic = memory.stable.bucket(seen.now_s), memory.stable, memory.panic
    start = index if memory.sampled is None else max(memory.sampled + 1, index - stable.size + 1)
    if seen.at_once:
        start = min(start, index)
    for bucket in range(start, index + 1):
        value = 0.0 if seen.at_once and bucket < index else load
        stable, panic = stable.record(bucket * BUCKET_S, value), panic.record(bucket * BUCKET_S, value)
    return replace(memory, stable=stable, panic=panic, sampled=index)
