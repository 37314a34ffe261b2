"""Policies around policies: what the HPA does to a proposal, one wrapper a step. `registry` says in which order."""

from dataclasses import dataclass
from typing import Generic

from tidesight.autoscaling.behavior import (
    Behavior,
    Changes,
    Events,
    Log,
    Recommendation,
    limit_factor,
    limit_rate,
    stabilize,
    stabilize_down,
    store_event,
)
from tidesight.autoscaling.observation import Observation
from tidesight.autoscaling.policy import Bounds, Decision, Memory, Policy, Reason, proposed, undecided


@dataclass(frozen=True, slots=True)
class Recommendations(Generic[Memory]):
    """The memory of a stabilising policy: that of the policy inside, and what it recommended lately."""

    inner: Memory
    log: Log


@dataclass(frozen=True)
class Stabilized(Generic[Memory]):
    """Follows a change only as far as all recommendations of its window agree on, by direction."""

    policy: Policy[Memory]
    up_s: float
    down_s: float

    def initial(self, first: Observation) -> Recommendations[Memory]:
        """As if the present count had just been recommended."""
        return Recommendations(self.policy.initial(first), (Recommendation(first.replicas, first.now_s),))

    def decide(self, seen: Observation, memory: Recommendations[Memory]) -> tuple[Decision, Recommendations[Memory]]:
        """The inner decision, held against recent ones."""
        decision, inner = self.policy.decide(seen, memory.inner)
        if not decision.valid:
            return decision, Recommendations(inner, memory.log)
        stable, log = stabilize(memory.log, seen, decision.replicas, self.up_s, self.down_s)
        grows = decision.replicas >= seen.replicas
        reason = Reason.SCALE_UP_STABILIZED if grows else Reason.SCALE_DOWN_STABILIZED
        return decision.clamped(stable, reason), Recommendations(inner, log)


@dataclass(frozen=True)
class DownStabilized(Generic[Memory]):
    """Never below the highest recommendation of a window (the HPA without a behavior, Compute Engine)."""

    policy: Policy[Memory]
    window_s: float

    def initial(self, first: Observation) -> Recommendations[Memory]:
        """As if the present count had just been recommended."""
        return Recommendations(self.policy.initial(first), (Recommendation(first.replicas, first.now_s),))

    def decide(self, seen: Observation, memory: Recommendations[Memory]) -> tuple[Decision, Recommendations[Memory]]:
        """The inner decision, held against recent ones."""
        decision, inner = self.policy.decide(seen, memory.inner)
        if not decision.valid:
            return decision, Recommendations(inner, memory.log)
        stable, log = stabilize_down(memory.log, seen.now_s, decision.replicas, self.window_s)
        return decision.clamped(stable, Reason.SCALE_DOWN_STABILIZED), Recommendations(inner, log)


@dataclass(frozen=True, slots=True)
class RecentChanges(Generic[Memory]):
    """The memory of a rate-limited policy: that of the policy inside, and what was added and removed lately."""

    inner: Memory
    added: Events = ()
    removed: Events = ()


@dataclass(frozen=True)
class RateLimited(Generic[Memory]):
    """Changes no faster than a behavior allows, within bounds; a count outside the bounds is corrected at once."""

    policy: Policy[Memory]
    bounds: Bounds
    behavior: Behavior

    def initial(self, first: Observation) -> RecentChanges[Memory]:
        """Nothing was added or removed lately."""
        return RecentChanges(self.policy.initial(first))

    def decide(self, seen: Observation, memory: RecentChanges[Memory]) -> tuple[Decision, RecentChanges[Memory]]:
        """The inner decision, limited; what it changes counts against the periods to come."""
        decision, inner = _correction(self.bounds, seen), memory.inner
        if decision is None:
            decision, inner = self.policy.decide(seen, inner)
            if decision.valid:
                changes = Changes(seen.replicas, seen.now_s, memory.added, memory.removed)
                decision = decision.clamped(*limit_rate(decision.replicas, changes, self.bounds, self.behavior))
        added, removed, now_s = memory.added, memory.removed, seen.now_s
        change = decision.replicas - seen.replicas
        if change > 0:
            added = store_event(added, change, self.behavior.scale_up, now_s)
        elif change < 0:
            removed = store_event(removed, -change, self.behavior.scale_down, now_s)
        return decision, RecentChanges(inner, added, removed)


@dataclass(frozen=True)
class FactorLimited(Generic[Memory]):
    """Grows to no more than a multiple of the present count, within bounds (the HPA without a behavior)."""

    policy: Policy[Memory]
    bounds: Bounds
    factor: float = 2.0
    minimum: float = 4.0

    def initial(self, first: Observation) -> Memory:
        """The memory of the policy inside."""
        return self.policy.initial(first)

    def decide(self, seen: Observation, memory: Memory) -> tuple[Decision, Memory]:
        """The inner decision, limited."""
        decision = _correction(self.bounds, seen)
        if decision is None:
            decision, memory = self.policy.decide(seen, memory)
            if decision.valid:
                limit = limit_factor(decision.replicas, seen.replicas, self.bounds, self.factor, self.minimum)
                decision = decision.clamped(*limit)
        return decision, memory


def _correction(bounds: Bounds, seen: Observation) -> Decision | None:
    """What happens before any metric is looked at: nothing to a fleet at zero by hand, or back within the bounds."""
    if seen.replicas == 0 and bounds.least != 0:
        return undecided(seen, Reason.SCALING_DISABLED)
    present = proposed(seen.replicas, Reason.DESIRED_WITHIN_RANGE)
    corrected = bounds.clamp(present)
    return None if corrected is present else corrected
