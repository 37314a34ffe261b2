"""What the HPA does to a proposal: hold it against recent ones, limit its rate, keep it within bounds.

The rule is that of kubernetes/kubernetes `pkg/controller/podautoscaler/horizontal.go`; defaults of
`pkg/apis/autoscaling/v2/defaults.go`. Stabilisation comes first, rates second.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from tidesight.autoscaling.observation import Observation
from tidesight.autoscaling.policy import Bounds, Reason
from tidesight.errors import ConfigError

Item = TypeVar("Item")


@dataclass(frozen=True)
class ScalingPolicy:
    """By how much the count may change within a period: `value` pods, or percent of the count at its start."""

    type: Literal["Pods", "Percent"]
    value: int
    period_s: float

    def __post_init__(self) -> None:
        if self.value <= 0 or not 0 < self.period_s <= 1800:
            expected = "a positive value and a period of at most 1800 s"
            raise ConfigError(f"scaling policy: expected {expected}, got {self.value} in {self.period_s} s")


@dataclass(frozen=True)
class Rules:
    """Scaling in one direction.

    Attributes:
        policies: Each allows a change; `select_policy` says which counts.
        select_policy: "Max" (the largest change), "Min" or "Disabled".
        stabilization_window_s: Recommendations so old still count against a change; None is the controller's default.
        tolerance: Of the usage ratio in this direction; None is the controller's.
    """

    policies: tuple[ScalingPolicy, ...]
    select_policy: Literal["Max", "Min", "Disabled"] = "Max"
    stabilization_window_s: float | None = None
    tolerance: float | None = None

    def __post_init__(self) -> None:
        if not self.policies:
            raise ConfigError("scaling rules need at least one policy", field="policies")
        if self.stabilization_window_s is not None and not 0 <= self.stabilization_window_s <= 3600:
            expected = f"expected 0 to 3600, got {self.stabilization_window_s}"
            raise ConfigError(f"stabilization_window_s: {expected}", field="stabilization_window_s")
        if self.tolerance is not None and not self.tolerance >= 0:
            raise ConfigError(f"tolerance: expected at least 0, got {self.tolerance}", field="tolerance")

    @property
    def longest_period_s(self) -> float:
        """The longest period of the policies."""
        return max(policy.period_s for policy in self.policies)


DEFAULT_SCALE_UP = Rules((ScalingPolicy("Pods", 4, 15), ScalingPolicy("Percent", 100, 15)), stabilization_window_s=0)
DEFAULT_SCALE_DOWN = Rules((ScalingPolicy("Percent", 100, 15),))


@dataclass(frozen=True)
class Behavior:
    """The rules of both directions."""

    scale_up: Rules = DEFAULT_SCALE_UP
    scale_down: Rules = DEFAULT_SCALE_DOWN


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A count that was proposed at some time."""

    replicas: int
    at_s: float


@dataclass(frozen=True, slots=True)
class ScaleEvent:
    """A change of the count in one direction; `outdated` when no period reaches back to it any more."""

    change: int
    at_s: float
    outdated: bool = False


Log = tuple[Recommendation, ...]
Events = tuple[ScaleEvent, ...]


def stabilize(log: Log, seen: Observation, desired: int, up_s: float, down_s: float) -> tuple[int, Log]:
    """Between the lowest recommendation of the up window and the highest of the down window.

    Returns:
        The present count clamped between the two, and the log with `desired` in it.
    """
    now_s, low, high = seen.now_s, desired, desired
    oldest = None
    for index, past in enumerate(log):
        if past.at_s > now_s - up_s:
            low = min(low, past.replicas)
        if past.at_s > now_s - down_s:
            high = max(high, past.replicas)
        if past.at_s < now_s - up_s and past.at_s < now_s - down_s:
            oldest = index
    return min(max(seen.replicas, low), high), _put(log, oldest, Recommendation(desired, now_s))


def stabilize_down(log: Log, now_s: float, desired: int, window_s: float) -> tuple[int, Log]:
    """The highest recommendation of the window, as without a behavior; and the log with `desired` in it."""
    oldest = None
    for index, past in enumerate(log):
        if past.at_s < now_s - window_s:
            oldest = index
    recent = [past.replicas for past in log if past.at_s >= now_s - window_s]
    return max([desired, *recent]), _put(log, oldest, Recommendation(desired, now_s))


def change_within(events: Events, period_s: float, now_s: float) -> int:
    """By how much the count changed within a period; an event exactly at its edge is out."""
    return sum(event.change for event in events if event.at_s > now_s - period_s)


def store_event(events: Events, change: int, rules: Rules | None, now_s: float) -> Events:
    """The events with one more, in the place of the last outdated one; without rules nothing is kept."""
    if rules is None:
        return events
    cutoff_s = now_s - rules.longest_period_s
    marked = tuple(replace(event, outdated=event.outdated or event.at_s < cutoff_s) for event in events)
    last = max((index for index, event in enumerate(marked) if event.outdated), default=None)
    return _put(marked, last, ScaleEvent(change, now_s))


@dataclass(frozen=True, slots=True)
class Changes:
    """What was added and removed lately, and the present."""

    current: int
    now_s: float
    added: Events = ()
    removed: Events = ()

    def at_start_of(self, period_s: float) -> int:
        """The count at the start of a period that ends now."""
        added = change_within(self.added, period_s, self.now_s)
        return self.current - added + change_within(self.removed, period_s, self.now_s)


def scale_up_limit(changes: Changes, rules: Rules) -> int:
    """The count that the rules allow at most; may be below the present one."""
    if rules.select_policy == "Disabled":
        return changes.current
    limits = []
    for policy in rules.policies:
        start = changes.at_start_of(policy.period_s)
        grown = start + policy.value if policy.type == "Pods" else math.ceil(start * (1 + policy.value / 100))
        limits.append(grown)
    return min(limits) if rules.select_policy == "Min" else max(limits)


def scale_down_limit(changes: Changes, rules: Rules) -> int:
    """The count that the rules allow at least; may be above the present one."""
    if rules.select_policy == "Disabled":
        return changes.current
    limits = []
    for policy in rules.policies:
        start = changes.at_start_of(policy.period_s)
        shrunk = start - policy.value if policy.type == "Pods" else math.trunc(start * (1 - policy.value / 100))
        limits.append(shrunk)
    return max(limits) if rules.select_policy == "Min" else min(limits)


def limit_rate(desired: int, changes: Changes, bounds: Bounds, behavior: Behavior) -> tuple[int, Reason]:
    """Within the bounds and no faster than the rules allow (`convertDesiredReplicasWithBehaviorRate`)."""
    current = changes.current
    if desired > current:
        limit = max(current, scale_up_limit(changes, behavior.scale_up))
        if bounds.most is None or bounds.most > limit:
            most, reason = limit, Reason.SCALE_UP_LIMIT
        else:
            most, reason = bounds.most, Reason.TOO_MANY_REPLICAS
        if desired > most:
            return most, reason
    elif desired < current:
        limit = min(current, scale_down_limit(changes, behavior.scale_down))
        if bounds.least < limit:
            least, reason = limit, Reason.SCALE_DOWN_LIMIT
        else:
            least, reason = bounds.least, Reason.TOO_FEW_REPLICAS
        if desired < least:
            return least, reason
    return desired, Reason.DESIRED_WITHIN_RANGE


def limit_factor(desired: int, current: int, bounds: Bounds, factor: float, minimum: float) -> tuple[int, Reason]:
    """Within the bounds and no more than `factor` times the present count (`convertDesiredReplicasWithRules`)."""
    most, reason = int(max(factor * current, minimum)), Reason.SCALE_UP_LIMIT
    if bounds.most is not None and bounds.most <= most:
        most, reason = bounds.most, Reason.TOO_MANY_REPLICAS
    if desired < bounds.least:
        return bounds.least, Reason.TOO_FEW_REPLICAS
    return (most, reason) if desired > most else (desired, Reason.DESIRED_WITHIN_RANGE)


def _put(items: tuple[Item, ...], index: int | None, item: Item) -> tuple[Item, ...]:
    """With `item` in the place of the one at `index`, or at the end: so a log stays as long as its window is."""
    return (*items, item) if index is None else (*items[:index], item, *items[index + 1 :])
