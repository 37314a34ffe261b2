"""Stabilisation, rates and bounds, against the published cases of Kubernetes; and whole reconciles."""

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.autoscaling.vectors import NOW_S, Case, cases, kinds_in, pod
from tidesight.autoscaling.behavior import (
    DEFAULT_SCALE_DOWN,
    DEFAULT_SCALE_UP,
    Behavior,
    Changes,
    Recommendation,
    Rules,
    ScaleEvent,
    ScalingPolicy,
    change_within,
    limit_factor,
    limit_rate,
    scale_down_limit,
    scale_up_limit,
    stabilize,
    stabilize_down,
    store_event,
)
from tidesight.autoscaling.hpa import HpaSettings, Metric
from tidesight.autoscaling.limits import RateLimited, RecentChanges, Recommendations, Stabilized
from tidesight.autoscaling.observation import Instance, Observation
from tidesight.autoscaling.policy import Autoscaler, Bounds, Decision, Reason, proposed
from tidesight.autoscaling.registry import hpa
from tidesight.errors import ConfigError

FILE = "hpa_behavior.json"
KINDS = {
    "reconcile", "convert_with_behavior_rate", "store_scale_event", "stabilize_with_behaviors", "convert_with_rules",
    "stabilize", "scale_up_limit", "scale_down_limit",
}  # fmt: skip


def rules(case: Case | None, default: Rules) -> Rules:
    if case is None:
        return default
    policies = tuple(ScalingPolicy(one["type"], one["value"], one["periodSeconds"]) for one in case["policies"])
    return Rules(policies, case.get("selectPolicy") or "Max", case.get("stabilizationWindowSeconds"))


def events(case: list[Case]) -> tuple[ScaleEvent, ...]:
    return tuple(
        ScaleEvent(one["replicaChange"], NOW_S - one["ageSeconds"], one.get("outdated", False)) for one in case
    )


def log(case: list[Case]) -> tuple[Recommendation, ...]:
    return tuple(Recommendation(one["replicas"], NOW_S - one["ageSeconds"]) for one in case)


def changes(case: Case) -> Changes:
    return Changes(case["currentReplicas"], NOW_S, events(case["scaleUpEvents"]), events(case["scaleDownEvents"]))


def test_every_kind_of_case_is_tested() -> None:
    assert kinds_in(FILE) <= KINDS


@cases(FILE, "scale_up_limit")
def test_published_scale_up_limits(case: Case) -> None:
    assert scale_up_limit(changes(case), rules(case["rules"], DEFAULT_SCALE_UP)) == case["expected"]["limit"]


@cases(FILE, "scale_down_limit")
def test_published_scale_down_limits(case: Case) -> None:
    assert scale_down_limit(changes(case), rules(case["rules"], DEFAULT_SCALE_DOWN)) == case["expected"]["limit"]


@cases(FILE, "convert_with_behavior_rate")
def test_published_rates(case: Case) -> None:
    behavior = Behavior(
        rules(case["scaleUpRules"], DEFAULT_SCALE_UP), rules(case["scaleDownRules"], DEFAULT_SCALE_DOWN)
    )
    bounds = Bounds(case["minReplicas"], case["maxReplicas"])
    found = limit_rate(case["desiredReplicas"], changes(case), bounds, behavior)
    assert found == (case["expected"]["replicas"], case["expected"]["condition"])


@cases(FILE, "convert_with_rules")
def test_published_factors(case: Case) -> None:
    bounds = Bounds(case["minReplicas"], case["maxReplicas"])
    factor, minimum = case["scaleUpLimitFactor"], case["scaleUpLimitMinimum"]
    found = limit_factor(case["desiredReplicas"], case["currentReplicas"], bounds, factor, minimum)
    assert found == (case["expected"]["replicas"], case["expected"]["condition"])


@cases(FILE, "stabilize")
def test_published_down_stabilisation(case: Case) -> None:
    window_s = case["downscaleStabilizationWindowSeconds"]
    replicas, after = stabilize_down(log(case["recommendations"]), NOW_S, case["desiredReplicas"], window_s)
    assert {"replicas": replicas, "logLength": len(after)} == case["expected"]


@cases(FILE, "stabilize_with_behaviors")
def test_published_stabilisation(case: Case) -> None:
    up_s, down_s = case["scaleUpStabilizationWindowSeconds"], case["scaleDownStabilizationWindowSeconds"]
    seen = Observation(NOW_S, case["currentReplicas"])
    replicas, after = stabilize(log(case["recommendations"]), seen, case["desiredReplicas"], up_s, down_s)
    found = {"replicas": replicas, "recommendationsAfter": [one.replicas for one in after]}
    assert {key: found[key] for key in case["expected"]} == case["expected"]


@cases(FILE, "store_scale_event")
def test_published_events(case: Case) -> None:
    before = events(case["events"])
    stored = None if case["rules"] is None else rules(case["rules"], DEFAULT_SCALE_UP)
    change = abs(case["newReplicas"] - case["prevReplicas"])
    after = store_event(before, change, stored, NOW_S)
    assert change_within(before, case["changeWindowSeconds"], NOW_S) == case["expected"]["replicasChangeInWindowBefore"]
    found = [{"replicaChange": one.change, "outdated": one.outdated} for one in after]
    assert found == case["expected"]["eventsAfter"]


def metric(case: Case) -> Metric:
    if not case.keys() & {"targetUtilization", "targetAverageValueMilli", "targetValueMilli"}:
        assert case["fails"], "a metric without a target"
        return Metric("External", "fails", 1, "Value")
    name: str = case["metric"] if "metric" in case else case["resource"]
    if "targetUtilization" in case:
        return Metric("Resource", name, case["targetUtilization"], "Utilization")
    if "targetAverageValueMilli" in case:
        return Metric(case["type"], name, case["targetAverageValueMilli"] / 1000, "AverageValue")
    return Metric(case["type"], name, case["targetValueMilli"] / 1000, "Value")


def reconciled(case: Case) -> Decision:
    """What one reconcile decides; usage is given to pods by position, as in the published test suite."""
    levels = case["levelsMilli"]
    metrics = tuple(metric(one) for one in case["metrics"])
    working = [one for one, raw in zip(metrics, case["metrics"], strict=True) if not raw.get("fails")]
    pods = []
    for index, one in enumerate(case["pods"]):
        of_type = {"Resource": {}, "Pods": {}} if index >= len(levels) else {
            kind: {known.name: levels[index] for known in working if known.type == kind} for kind in ("Resource", "Pods")
        }  # fmt: skip
        request = {} if one.get("cpuRequestMilli") is None else {"cpu": one["cpuRequestMilli"]}
        more: dict[str, Any] = {"usage_milli": of_type["Resource"], "metrics_milli": of_type["Pods"]}
        pods.append(pod(one, request_milli=request, sample_window_s=60, **more))
    seen = Observation(
        NOW_S,
        case["currentReplicas"],
        tuple(pods),
        existing=case["currentReplicas"],
        objects_milli={one.name: levels[0] for one in working if one.type == "Object" and levels},
        externals_milli={one.name: tuple(levels) for one in working if one.type == "External"},
    )
    settings = HpaSettings(
        case["minReplicas"],
        case["maxReplicas"],
        metrics,
        tolerance=case["tolerance"],
        downscale_stabilization_s=case["downscaleStabilizationWindowSeconds"],
        cpu_initialization_period_s=120,
        initial_readiness_delay_s=10,
        scale_up_limit_factor=case["scaleUpLimitFactor"],
        scale_up_limit_minimum=case["scaleUpLimitMinimum"],
    )
    policy = hpa(settings)
    memory = policy.initial(seen)
    if case["recommendations"] is not None:
        memory = Recommendations(memory.inner, log(case["recommendations"]))
    return policy.decide(seen, memory)[0]


@cases(FILE, "reconcile")
def test_published_reconciles(case: Case) -> None:
    decision, expected = reconciled(case), case["expected"]
    assert decision.replicas == expected["replicas"]
    clamps = {one.reason for one in decision.clamps}
    limited, reason = expected.get("scalingLimited", (None, None))
    if limited:
        assert reason in clamps
    elif limited is False:
        assert not clamps & {Reason.TOO_FEW_REPLICAS, Reason.TOO_MANY_REPLICAS, Reason.SCALE_UP_LIMIT}
    if expected.get("ableToScale", (None, None))[1] == "ScaleDownStabilized":
        assert Reason.SCALE_DOWN_STABILIZED in clamps
    active, reason = expected.get("scalingActive", (True, None))
    if not active:
        assert not decision.valid
        assert decision.reason == reason or reason not in set(Reason)


# What the published cases leave open.


class Wish:
    """A policy that proposes what it was told."""

    def __init__(self, replicas: int) -> None:
        self.replicas = replicas

    def initial(self, first: Observation) -> None:
        """Nothing."""

    def decide(self, seen: Observation, memory: None) -> tuple[Decision, None]:
        return proposed(self.replicas, Reason.DESIRED_WITHIN_RANGE), None


def by_pods(value: int, period_s: float = 60, **more: Any) -> Rules:
    return Rules((ScalingPolicy("Pods", value, period_s),), **more)


def test_what_was_added_counts_until_its_period_is_over() -> None:
    behavior = Behavior(scale_up=by_pods(3))
    policy = RateLimited(Wish(100), Bounds(1, 100), behavior)
    memory: RecentChanges[None] = policy.initial(Observation(0, 10))
    decision, memory = policy.decide(Observation(0, 10), memory)
    assert (decision.replicas, decision.reason) == (13, Reason.SCALE_UP_LIMIT)
    decision, memory = policy.decide(Observation(59.9, 13), memory)
    assert decision.replicas == 13
    decision, memory = policy.decide(Observation(60, 13), memory)
    assert decision.replicas == 16  # the edge is out


def test_what_was_removed_gives_room_to_grow_again() -> None:
    behavior = Behavior(scale_up=by_pods(3), scale_down=by_pods(5))
    policy = RateLimited(Wish(100), Bounds(1, 100), behavior)
    shrunk = RecentChanges(None, removed=(ScaleEvent(5, 0),))
    assert policy.decide(Observation(10, 5), shrunk)[0].replicas == 13


def test_only_a_change_is_an_event() -> None:
    policy = RateLimited(Wish(10), Bounds(1, 100), Behavior())
    memory = policy.decide(Observation(0, 10), policy.initial(Observation(0, 10)))[1]
    assert memory == RecentChanges(None)
    down = replace(policy, policy=Wish(4)).decide(Observation(0, 10), memory)[1]
    assert down.removed == (ScaleEvent(6, 0),)
    assert down.added == ()


@pytest.mark.parametrize("direction", ["up", "down"])
def test_disabled_is_no_change(direction: str) -> None:
    disabled = by_pods(5, select_policy="Disabled")
    behavior = Behavior(scale_up=disabled) if direction == "up" else Behavior(scale_down=disabled)
    wish = Wish(20 if direction == "up" else 1)
    policy = RateLimited(wish, Bounds(1, 100), behavior)
    assert policy.decide(Observation(0, 10), policy.initial(Observation(0, 10)))[0].replicas == 10


def test_what_was_changed_lately_reverses_nothing() -> None:
    behavior = Behavior(by_pods(3), by_pods(3))
    grown = Changes(10, 5, added=(ScaleEvent(10, 0),))
    assert limit_rate(20, grown, Bounds(1, 100), behavior) == (10, Reason.SCALE_UP_LIMIT)
    shrunk = Changes(10, 5, removed=(ScaleEvent(10, 0),))
    assert limit_rate(5, shrunk, Bounds(1, 100), behavior) == (10, Reason.SCALE_DOWN_LIMIT)


def test_where_a_limit_is_a_bound_the_bound_is_the_reason() -> None:
    behavior = Behavior(by_pods(3), by_pods(3))
    assert limit_rate(20, Changes(10, 0), Bounds(1, 13), behavior) == (13, Reason.TOO_MANY_REPLICAS)
    assert limit_rate(1, Changes(10, 0), Bounds(7, 99), behavior) == (7, Reason.TOO_FEW_REPLICAS)
    assert limit_factor(99, 10, Bounds(1, 20), 2, 4) == (20, Reason.TOO_MANY_REPLICAS)
    assert limit_factor(99, 10, Bounds(1, 21), 2, 4) == (20, Reason.SCALE_UP_LIMIT)


def test_an_outdated_event_stays_outdated_until_its_place_is_taken() -> None:
    events = (ScaleEvent(5, 90, outdated=True), ScaleEvent(7, 95))
    assert store_event(events, 3, by_pods(1, 60), 100) == (ScaleEvent(3, 100), ScaleEvent(7, 95))


def test_percent_is_rounded_away_from_a_standstill() -> None:
    ten_percent = Rules((ScalingPolicy("Percent", 10, 60),))
    assert scale_up_limit(Changes(5, 0), ten_percent) == 6
    assert scale_down_limit(Changes(5, 0), ten_percent) == 4


def test_min_takes_the_smallest_change() -> None:
    both = Rules((ScalingPolicy("Pods", 2, 60), ScalingPolicy("Percent", 100, 60)), "Min")
    assert scale_up_limit(Changes(10, 0), both) == 12
    assert scale_down_limit(Changes(10, 0), both) == 8
    assert scale_up_limit(Changes(10, 0), replace(both, select_policy="Max")) == 20


@pytest.mark.parametrize(("current", "replicas", "reason"), [(12, 10, "TooManyReplicas"), (1, 2, "TooFewReplicas")])
def test_bounds_are_restored_at_once_and_without_metrics(current: int, replicas: int, reason: str) -> None:
    slow = Behavior(by_pods(1), by_pods(1))
    for behavior in (slow, None):
        decision = Autoscaler(hpa(HpaSettings(2, 10, behavior=behavior))).decide(Observation(0, current))
        assert (decision.valid, decision.replicas, decision.reason) == (True, replicas, reason)


@pytest.mark.parametrize("behavior", [None, Behavior()])
def test_a_fleet_at_zero_by_hand_stays_there(behavior: Behavior | None) -> None:
    decision = Autoscaler(hpa(HpaSettings(1, 10, behavior=behavior))).decide(Observation(0, 0, ()))
    assert (decision.valid, decision.replicas, decision.reason) == (False, 0, Reason.SCALING_DISABLED)


@pytest.mark.parametrize("behavior", [None, Behavior()])
def test_from_zero_and_back(behavior: Behavior | None) -> None:
    queue = Metric("External", "queued", 10, "AverageValue")
    scaler = Autoscaler(hpa(HpaSettings(0, 10, (queue,), behavior, downscale_stabilization_s=60)))
    assert scaler.decide(Observation(0, 0, (), queued=0)).replicas == 0
    assert scaler.decide(Observation(15, 0, (), queued=25)).replicas == 3
    three = (Instance("a"), Instance("b"), Instance("c"))
    assert scaler.decide(Observation(30, 3, three, queued=0)).replicas == 3
    assert scaler.decide(Observation(76, 3, three, queued=0)).replicas == 0


def test_stabilisation_up_needs_the_whole_window_to_agree() -> None:
    policy = Stabilized(Wish(8), up_s=60, down_s=0)
    memory: Any = policy.initial(Observation(0, 4))
    decision, memory = policy.decide(Observation(30, 4), memory)
    assert (decision.replicas, decision.reason) == (4, Reason.SCALE_UP_STABILIZED)
    assert policy.decide(Observation(60, 4), memory)[0].replicas == 8  # the edge is out


def test_stabilisation_down_keeps_the_highest() -> None:
    policy = Stabilized(Wish(2), up_s=0, down_s=60)
    memory: Any = policy.initial(Observation(0, 4))
    decision, memory = policy.decide(Observation(30, 4), memory)
    assert (decision.replicas, decision.reason, decision.proposal) == (4, Reason.SCALE_DOWN_STABILIZED, 2)
    assert policy.decide(Observation(60, 4), memory)[0].replicas == 2


def test_without_a_behavior_the_edge_of_the_window_is_in() -> None:
    old = (Recommendation(9, 0.0),)
    assert stabilize_down(old, 300, 2, 300) == (9, (*old, Recommendation(2, 300)))
    assert stabilize_down(old, 300.1, 2, 300) == (2, (Recommendation(2, 300.1),))


def test_the_unstabilised_count_is_what_is_remembered() -> None:
    policy = Stabilized(Wish(8), up_s=60, down_s=0)
    memory = policy.decide(Observation(30, 4), policy.initial(Observation(0, 4)))[1]
    assert [one.replicas for one in memory.log] == [4, 8]


def test_stabilisation_comes_before_rates() -> None:
    behavior = Behavior(by_pods(1, stabilization_window_s=0), by_pods(1, stabilization_window_s=100))
    queue = Metric("External", "queued", 1, "AverageValue")
    scaler = Autoscaler(hpa(HpaSettings(1, 20, (queue,), behavior)))
    five = tuple(Instance(str(index)) for index in range(5))
    decision = scaler.decide(Observation(0, 5, five, queued=1))
    assert [one.reason for one in decision.clamps] == [
        Reason.SCALE_DOWN_STABILIZED
    ]  # nothing left for the rate to limit
    decision = scaler.decide(Observation(101, 5, five, queued=1))
    assert [one.reason for one in decision.clamps] == [Reason.SCALE_DOWN_LIMIT]
    assert decision.replicas == 4


def test_a_decision_that_is_none_is_neither_stabilised_nor_limited() -> None:
    for behavior in (None, Behavior()):
        scaler = Autoscaler(hpa(HpaSettings(1, 10, behavior=behavior)))
        scaler.decide(Observation(0, 5, tuple(Instance(str(index)) for index in range(5))))
        memory = scaler.memory
        assert not scaler.decide(Observation(1e6, 5)).valid
        assert scaler.memory == memory


def test_the_log_does_not_grow_for_ever() -> None:
    policy = hpa(HpaSettings(1, 10, (Metric("External", "queued", 1, "AverageValue"),), Behavior()))
    scaler = Autoscaler(policy)
    replicas = 1
    for step in range(2000):
        instances = tuple(Instance(str(index)) for index in range(replicas))
        seen = Observation(step * 15.0, replicas, instances, queued=(step * 7) % 11)
        replicas = scaler.decide(seen).replicas
    assert len(scaler.memory.inner.log) <= 23
    assert len(scaler.memory.added) + len(scaler.memory.removed) <= 6


@pytest.mark.parametrize(
    "make",
    [
        lambda: Rules(()),
        lambda: by_pods(0),
        lambda: by_pods(1, 0),
        lambda: by_pods(1, 1801),
        lambda: by_pods(1, stabilization_window_s=3601),
        lambda: by_pods(1, tolerance=-0.1),
        lambda: HpaSettings(0),
        lambda: HpaSettings(3, 2),
        lambda: HpaSettings(metrics=()),
        lambda: HpaSettings(tolerance=1.0),
        lambda: Metric("Pods", "concurrency", 5, "Value"),
        lambda: Metric("Resource", "cpu", 0, "Utilization"),
        lambda: Metric("Resource", "cpu", 50.5, "Utilization"),
        lambda: Metric("Resource", "cpu", 50, "Utilization", container="a"),
        lambda: Metric("ContainerResource", "cpu", 50, "Utilization"),
    ],
)
def test_settings_that_cannot_be(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()
