"""What a scaling rule is: a frozen value that turns an observation and a memory into a decision and a memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

from tidesight.autoscaling.observation import Observation
from tidesight.errors import ConfigError

Memory = TypeVar("Memory")
Value = float | int | str | bool | None


class Reason(StrEnum):
    """Why a decision is as it is, in the words of the HPA, of Knative and of App Engine's settings."""

    DESIRED_WITHIN_RANGE = "DesiredWithinRange"
    TOO_FEW_REPLICAS = "TooFewReplicas"
    TOO_MANY_REPLICAS = "TooManyReplicas"
    SCALE_UP_LIMIT = "ScaleUpLimit"
    SCALE_DOWN_LIMIT = "ScaleDownLimit"
    SCALE_UP_STABILIZED = "ScaleUpStabilized"
    SCALE_DOWN_STABILIZED = "ScaleDownStabilized"
    SCALING_DISABLED = "ScalingDisabled"
    FAILED_GET_RESOURCE_METRIC = "FailedGetResourceMetric"
    FAILED_GET_CONTAINER_RESOURCE_METRIC = "FailedGetContainerResourceMetric"
    FAILED_GET_PODS_METRIC = "FailedGetPodsMetric"
    FAILED_GET_OBJECT_METRIC = "FailedGetObjectMetric"
    FAILED_GET_EXTERNAL_METRIC = "FailedGetExternalMetric"
    STABLE_MODE = "StableMode"
    PANIC_MODE = "PanicMode"
    ACTIVATION_SCALE = "ActivationScale"
    SCALE_DOWN_DELAY = "ScaleDownDelay"
    NO_DATA = "NoData"
    PODS_NOT_COUNTED = "PodsNotCounted"
    ACTIVATING = "Activating"
    ACTIVATION_TIMED_OUT = "ActivationTimedOut"
    STILL_ACTIVE = "StillActive"
    SCALE_TO_ZERO_GRACE_PERIOD = "ScaleToZeroGracePeriod"
    SCALE_TO_ZERO_DISABLED = "ScaleToZeroDisabled"
    NO_TRAFFIC = "NoTraffic"
    TARGET_CPU_UTILIZATION = "TargetCpuUtilization"
    TARGET_THROUGHPUT_UTILIZATION = "TargetThroughputUtilization"
    PENDING_LATENCY = "PendingLatency"
    IDLE_INSTANCES = "IdleInstances"
    COOL_DOWN_PERIOD = "CoolDownPeriod"


@dataclass(frozen=True, slots=True)
class Clamp:
    """One step from what a rule proposed to what is done: its reason and the count before and after."""

    reason: Reason
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Decision:
    """How many instances there should be, and why.

    Attributes:
        replicas: The count to set when `valid`; otherwise the count that is wanted already.
        reason: The last clamp's, or the rule's own when nothing clamped it.
        valid: False when nothing could be decided: the count must be left alone.
        proposal: What the rule asked for before any clamp; None when it could not tell.
        clamps: What changed the proposal, in order.
        inputs: The figures the rule used, by name.
        burst_capacity: Requests that could arrive at once beyond the burst planned for; None where that is no matter.
    """

    replicas: int
    reason: Reason
    valid: bool = True
    proposal: int | None = None
    clamps: tuple[Clamp, ...] = ()
    inputs: Mapping[str, Value] = field(default_factory=dict)
    burst_capacity: int | None = None

    @property
    def activator(self) -> bool | None:
        """Whether the activator belongs into the path of requests; None for rules that know no activator."""
        return None if self.burst_capacity is None else self.replicas == 0 or self.burst_capacity < 0

    def clamped(self, replicas: int, reason: Reason) -> "Decision":
        """The same with another count, for a reason; unchanged when the count is what it was."""
        if replicas == self.replicas:
            return self
        step = Clamp(reason, self.replicas, replicas)
        return replace(self, replicas=replicas, reason=reason, clamps=(*self.clamps, step))


def proposed(replicas: int, reason: Reason, **inputs: Value) -> Decision:
    """A decision that nothing has clamped yet."""
    return Decision(replicas, reason, proposal=replicas, inputs=inputs)


def undecided(seen: Observation, reason: Reason, **inputs: Value) -> Decision:
    """No decision: the count stays what it is."""
    return Decision(seen.replicas, reason, valid=False, inputs=inputs)


class Policy(Protocol[Memory]):
    """A rule and its settings. The same observations in the same order always give the same decisions."""

    def initial(self, first: Observation) -> Memory:
        """What a controller knows that starts at `first`, before it decides on it."""
        ...

    def decide(self, seen: Observation, memory: Memory) -> tuple[Decision, Memory]:
        """The decision on `seen`, and what to remember for the next."""
        ...


def check_range(name: str, value: float, least: float, most: float) -> None:
    """Refuse a setting outside its documented range.

    Raises:
        ConfigError: with the range.
    """
    if not least <= value <= most:
        raise ConfigError(f"{name}: expected {least:g} to {most:g}, got {value}", field=name)


@dataclass(frozen=True)
class Bounds:
    """The least and the most instances there may be; `most` None is no limit.

    Raises:
        ConfigError: for a negative bound or an empty range.
    """

    least: int = 1
    most: int | None = 10

    def __post_init__(self) -> None:
        if self.least < 0:
            raise ConfigError(f"the least number of instances: expected at least 0, got {self.least}", field="least")
        if self.most is not None and self.most < max(1, self.least):
            expected = f"expected at least {max(1, self.least)}, got {self.most}"
            raise ConfigError(f"the most instances: {expected}", field="most")

    def capped(self, count: int) -> int:
        """No more than the most."""
        return count if self.most is None else min(count, self.most)

    def clamp(self, decision: Decision) -> Decision:
        """The decision, within the bounds."""
        if decision.replicas < self.least:
            return decision.clamped(self.least, Reason.TOO_FEW_REPLICAS)
        if self.most is not None and decision.replicas > self.most:
            return decision.clamped(self.most, Reason.TOO_MANY_REPLICAS)
        return decision


@dataclass(frozen=True)
class Bounded(Generic[Memory]):
    """A policy whose counts are kept within bounds."""

    policy: Policy[Memory]
    bounds: Bounds

    def initial(self, first: Observation) -> Memory:
        """The memory of the policy inside."""
        return self.policy.initial(first)

    def decide(self, seen: Observation, memory: Memory) -> tuple[Decision, Memory]:
        """The inner decision, clamped when it is one."""
        decision, memory = self.policy.decide(seen, memory)
        return (self.bounds.clamp(decision) if decision.valid else decision), memory


class Autoscaler:
    """A policy with its present memory: the only object of this package that changes."""

    def __init__(self, policy: Policy[Any], memory: Any = None) -> None:
        self.policy = policy
        self.memory = memory

    def propose(self, seen: Observation) -> tuple[Decision, Any]:
        """The decision on `seen` and the memory after it; nothing changes until `remember`."""
        memory = self.policy.initial(seen) if self.memory is None else self.memory
        return self.policy.decide(seen, memory)

    def remember(self, memory: Any) -> None:
        """Keep a memory that `propose` gave."""
        self.memory = memory

    def decide(self, seen: Observation) -> Decision:
        """`propose` and `remember` in one."""
        decision, memory = self.propose(seen)
        self.remember(memory)
        return decision
