"""The last step down: Knative takes the last instances away only behind an activator, after a grace period.

The rule is that of knative/serving `pkg/reconciler/autoscaling/kpa/scaler.go` (`handleScaleToZero`). The activator's
place in the path of requests, which Knative probes, is in the observation here.
"""

from dataclasses import dataclass, replace
from typing import Generic, Literal

from tidesight.autoscaling.observation import Observation
from tidesight.autoscaling.policy import Decision, Memory, Policy, Reason
from tidesight.errors import ConfigError

State = Literal["activating", "active", "inactive"]


@dataclass(frozen=True, slots=True)
class Activity(Generic[Memory]):
    """Whether instances serve traffic, since when, and the memory of the policy inside."""

    inner: Memory
    state: State
    since_s: float


@dataclass(frozen=True)
class ScaleToZero(Generic[Memory]):
    """Allows zero only after a while without traffic.

    Attributes:
        policy: What decides on the count.
        enabled: Whether zero is allowed at all; otherwise it becomes 1.
        stable_window_s: How long instances must have been active before they may become inactive.
        grace_s: How long requests must have gone through the activator before the last instance ends.
        retention_s: How long the last instance stays at least.
        activation_limit_s: An activation that takes longer has failed (the progress deadline and 30 s).
    """

    policy: Policy[Memory]
    enabled: bool = True
    stable_window_s: float = 60.0
    grace_s: float = 30.0
    retention_s: float = 0.0
    activation_limit_s: float = 630.0

    def __post_init__(self) -> None:
        for name in ("stable_window_s", "grace_s", "retention_s", "activation_limit_s"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name}: expected at least 0, got {getattr(self, name)}", field=name)

    def initial(self, first: Observation) -> Activity[Memory]:
        """Active when an instance is ready, inactive when none is wanted, else activating."""
        state: State = "active" if first.serving else "activating" if first.replicas else "inactive"
        return Activity(self.policy.initial(first), state, first.now_s)

    def decide(self, seen: Observation, memory: Activity[Memory]) -> tuple[Decision, Activity[Memory]]:
        """The inner decision; a zero is put off as long as it must be."""
        decision, inner = self.policy.decide(seen, memory.inner)
        activity = replace(memory, inner=inner)
        if not decision.valid:
            return decision, activity
        if decision.replicas > 0:
            return decision, _entered(activity, "active" if seen.serving else "activating", seen.now_s)
        if not self.enabled:
            return decision.clamped(1, Reason.SCALE_TO_ZERO_DISABLED), activity
        return self._to_zero(seen, decision, activity)

    def _to_zero(
        self, seen: Observation, decision: Decision, activity: Activity[Memory]
    ) -> tuple[Decision, Activity[Memory]]:
        if activity.state == "activating" and seen.serving:
            activity = _entered(activity, "active", seen.now_s)
        lasted_s = seen.now_s - activity.since_s
        if activity.state == "activating":
            if lasted_s >= self.activation_limit_s:
                return replace(decision, reason=Reason.ACTIVATION_TIMED_OUT), _entered(activity, "inactive", seen.now_s)
            return decision.clamped(seen.replicas, Reason.ACTIVATING), activity
        if activity.state == "active":
            if lasted_s < self.stable_window_s:
                return decision.clamped(1, Reason.STILL_ACTIVE), activity
            activity = _entered(activity, "inactive", seen.now_s)
            return decision.clamped(seen.replicas, Reason.SCALE_TO_ZERO_GRACE_PERIOD), activity
        if self._behind_the_activator(seen, lasted_s):
            return replace(decision, reason=Reason.NO_TRAFFIC), activity
        return decision.clamped(seen.replicas, Reason.SCALE_TO_ZERO_GRACE_PERIOD), activity

    def _behind_the_activator(self, seen: Observation, inactive_s: float) -> bool:
        """Whether the last instance can go: no request would miss it."""
        if seen.replicas == 0:
            return True
        if seen.activator_since_s is None:
            return False
        if inactive_s >= max(self.grace_s, self.retention_s):
            return True
        return inactive_s >= self.retention_s and seen.now_s - seen.activator_since_s >= self.grace_s


def _entered(activity: Activity[Memory], state: State, now_s: float) -> Activity[Memory]:
    return activity if activity.state == state else replace(activity, state=state, since_s=now_s)
