"""Knative's autoscaler, against its published cases; and the steps around it."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from tests.unit.autoscaling.vectors import Case, cases, kinds_in
from tidesight.autoscaling.kpa import Kpa, KpaMemory, Load
from tidesight.autoscaling.observation import Instance, Observation
from tidesight.autoscaling.policy import Autoscaler, Decision, Reason, proposed, undecided
from tidesight.autoscaling.registry import kpa
from tidesight.autoscaling.revision import KpaSettings, TargetDefaults, resolve_target
from tidesight.autoscaling.scale_to_zero import ScaleToZero
from tidesight.errors import ConfigError

FILE = "kpa.json"
KINDS = {"scale", "start", "resolve_target", "aggregate", "max_window", "smoothing_coefficient"}
SPEC = {
    "scalingMetric": "metric",
    "targetValue": "target",
    "totalValue": "total",
    "targetBurstCapacity": "target_burst_capacity",
    "panicThreshold": "panic_threshold",
    "maxScaleUpRate": "max_scale_up_rate",
    "maxScaleDownRate": "max_scale_down_rate",
    "stableWindowSeconds": "stable_window_s",
    "scaleDownDelaySeconds": "scale_down_delay_s",
    "tickSeconds": "tick_s",
    "activationScale": "activation_scale",
}


def spec(case: Case) -> dict[str, Any]:
    return {SPEC[key]: value for key, value in case.items() if key != "reachable"}


def fleet(ready: int, at_s: float = 0.0, **more: Any) -> Observation:
    return Observation(at_s, ready, tuple(Instance(str(index)) for index in range(ready)), **more)


def started(policy: Kpa, case: Case) -> KpaMemory:
    memory = policy.initial(fleet(case["readyPods"]))
    if case.get("panicStartedSecondsAgo") is not None:
        memory = replace(memory, panic_s=-case["panicStartedSecondsAgo"])
    return memory if case.get("maxPanicPods") is None else replace(memory, max_panic_pods=case["maxPanicPods"])


def test_every_kind_of_case_is_tested() -> None:
    assert kinds_in(FILE) <= KINDS


@cases(FILE, "scale")
def test_published_scales(case: Case) -> None:
    policy, reachable = Kpa(**spec(case["spec"])), case["spec"]["reachable"]
    memory = started(policy, case["initial"])
    for step in case["steps"]:
        update = step.get("specUpdate", {})
        policy, reachable = replace(policy, **spec(update)), update.get("reachable", reachable)
        expected = step["expected"]
        if not expected["valid"]:
            seen = Observation(step["t"], 1) if step.get("error") == "pods" else fleet(step["readyPods"], step["t"])
            assert not policy.decide(seen, memory)[0].valid
            continue
        load = Load(step["t"], step["readyPods"], step["stable"], step["panic"], reachable)
        decision, memory = policy.scale(load, memory)
        assert (decision.valid, decision.replicas) == (True, expected["desired"]), step
        assert decision.burst_capacity == pytest.approx(expected["ebc"], abs=case["ebcTolerance"])
        if "panicking" in expected:
            assert (memory.panic_s is not None) == expected["panicking"]
        if "panicTime" in expected:
            assert memory.panic_s == expected["panicTime"]


@cases(FILE, "start")
def test_published_starts(case: Case) -> None:
    memory = Kpa().initial(fleet(case["readyPods"]))
    assert {"panicking": memory.panic_s is not None, "maxPanicPods": memory.max_panic_pods} == case["expected"]


@cases(FILE, "resolve_target")
def test_published_targets(case: Case) -> None:
    config = case["config"]
    defaults = TargetDefaults(
        config["containerConcurrencyTargetFraction"],
        config["containerConcurrencyTargetDefault"],
        config["rpsTargetDefault"],
        config["rpsTargetUtilization"],
    )
    target, total = resolve_target(
        case["metric"],
        case["containerConcurrency"],
        case["targetAnnotation"],
        case["targetUtilizationPercentAnnotation"],
        defaults,
    )
    assert target == pytest.approx(case["expected"]["target"])
    assert total == pytest.approx(case["expected"]["total"])


# What the published cases leave open.


def busy(ready: int, concurrency: float | None, at_s: float, **more: Any) -> Observation:
    instances = tuple(Instance(str(index), concurrency=concurrency) for index in range(ready))
    return Observation(at_s, more.pop("replicas", ready), instances, **more)


def test_a_period_of_two_seconds_gives_the_averages_of_one() -> None:
    policy = Kpa(target=10, stable_window_s=10)
    fine = coarse = policy.initial(fleet(1))
    for second in range(1, 41):
        load = float((second + 1) // 2)  # the same for two seconds
        fine = policy.decide(busy(1, load, second), fine)[1]
        if second % 2 == 0:
            coarse = policy.decide(busy(1, load, second), coarse)[1]
    assert coarse.stable.average(40) == fine.stable.average(40) == 18
    assert coarse.panic.average(40) == fine.panic.average(40)


def test_instances_without_a_figure_count_as_the_mean_of_the_others() -> None:
    seen = Observation(0, 3, (Instance("a", concurrency=4), Instance("b", concurrency=8), Instance("c")))
    decision, memory = Kpa(target=6).decide(seen, Kpa().initial(fleet(0)))
    assert decision.inputs["stable"] == 18
    assert memory.stable.average(0) == 18


def test_only_instances_that_serve_are_counted() -> None:
    ending = Instance("b", concurrency=50, deleting=True)
    starting = Instance("c", ready=False, concurrency=0)
    seen = Observation(0, 3, (Instance("a", concurrency=4), ending, starting))
    decision, _ = Kpa(target=1).decide(seen, Kpa().initial(fleet(0)))
    assert (decision.inputs["ready"], decision.inputs["stable"]) == (1, 4)


def test_requests_that_wait_are_load() -> None:
    for waiting, stable in (({"queued": 3, "buffered": 2}, 6), ({"queued": 3}, 7), ({"buffered": 2}, 6)):
        seen = busy(1, 4, 0, **waiting)
        assert Kpa().decide(seen, Kpa().initial(fleet(0)))[0].inputs["stable"] == stable
    none = Observation(0, 0, (), buffered=1)
    decision, _ = Kpa().decide(none, Kpa().initial(none))
    assert (decision.valid, decision.replicas, decision.activator) == (True, 1, True)


def test_a_request_that_finds_nothing_is_seen_in_a_second_that_was_sampled_before() -> None:
    policy = Kpa()
    seen = Observation(100.0, 0, (), buffered=0)
    _, memory = policy.decide(seen, policy.initial(seen))
    decision, memory = policy.decide(Observation(100.3, 0, (), buffered=1, at_once=True), memory)
    assert decision.replicas == 1


def test_a_burst_of_this_moment_is_not_taken_to_have_lasted() -> None:
    policy = Kpa(target=10)
    first = Observation(100.0, 0, (), buffered=0)
    _, memory = policy.decide(first, policy.initial(first))
    decision, memory = policy.decide(Observation(105.0, 0, (), buffered=60, at_once=True), memory)
    assert memory.panic.average(105.0) == 10
    _, lasting = policy.decide(Observation(105.0, 0, (), buffered=60), policy.decide(first, policy.initial(first))[1])
    assert lasting.panic.average(105.0) > 40
    assert decision.replicas >= 1


def test_by_requests_per_second() -> None:
    policy = Kpa(metric="rps", target=10)
    instances = tuple(Instance(str(index), requests_per_s=25, concurrency=1) for index in range(2))
    decision, _ = policy.decide(Observation(0, 2, instances, queued=9), policy.initial(fleet(1)))
    assert (decision.replicas, decision.inputs["stable"]) == (5, 50)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (Observation(70, 3), Reason.PODS_NOT_COUNTED),
        (Observation(70, 3, ()), Reason.NO_DATA),
        (busy(3, None, 70), Reason.NO_DATA),
    ],
)
def test_without_evidence_nothing_is_decided_and_nothing_forgotten(seen: Observation, reason: Reason) -> None:
    policy = Kpa()
    memory = policy.decide(busy(3, 5, 60), policy.initial(fleet(1)))[1]
    decision, after = policy.decide(seen, memory)
    assert (decision.valid, decision.replicas, decision.reason) == (False, 3, reason)
    assert after == memory


def test_a_gap_in_the_evidence_is_not_taken_for_silence() -> None:
    policy = Kpa(target=1)
    memory = policy.decide(busy(4, 1, 0), policy.initial(fleet(1)))[1]
    for second in range(2, 40, 2):
        memory = policy.decide(Observation(second, 4), memory)[1]
    assert policy.decide(busy(4, 1, 40), memory)[0].replicas == 4


def test_panic_begins_at_the_threshold_and_ends_after_the_stable_window() -> None:
    policy = Kpa(target=10)
    memory = policy.initial(fleet(1))
    decision, memory = policy.scale(Load(0, 2, 15, 30), memory)
    assert (decision.reason, decision.replicas) == (Reason.STABLE_MODE, 2)  # 3 of 2 ready: 1.5
    decision, memory = policy.scale(Load(2, 2, 15, 30.1), memory)
    assert (decision.reason, decision.replicas) == (Reason.PANIC_MODE, 4)  # 4 of 2 ready: 2
    decision, memory = policy.scale(Load(62, 4, 12, 12), memory)
    assert (decision.replicas, decision.reason) == (4, Reason.PANIC_MODE)  # not below the maximum; the edge is in
    decision, memory = policy.scale(Load(62.1, 4, 12, 12), memory)
    assert (decision.replicas, decision.reason) == (2, Reason.STABLE_MODE)
    assert memory.max_panic_pods == 0


def test_zero_instances_count_as_one_in_the_threshold() -> None:
    policy = Kpa(target=10)
    assert policy.scale(Load(0, 0, 10, 10), policy.initial(fleet(0)))[0].reason == Reason.STABLE_MODE
    assert policy.scale(Load(0, 0, 10, 11), policy.initial(fleet(0)))[0].reason == Reason.PANIC_MODE


def test_panic_is_extended_while_it_is_over_the_threshold() -> None:
    policy = Kpa(target=10)
    memory = policy.scale(Load(0, 1, 50, 50), policy.initial(fleet(1)))[1]
    memory = policy.scale(Load(30, 2, 50, 50), memory)[1]
    assert memory.panic_s == 30


def test_rates_allow_one_instance_more_or_less() -> None:
    slow = Kpa(target=1, max_scale_up_rate=1.1, max_scale_down_rate=1.1)
    decision, _ = slow.scale(Load(0, 2, 3, 3), slow.initial(fleet(1)))
    assert decision.replicas == 3
    decision, _ = slow.scale(Load(0, 2, 0, 0), slow.initial(fleet(1)))
    assert (decision.replicas, decision.reason) == (1, Reason.SCALE_DOWN_LIMIT)


def test_what_cannot_be_reached_may_go_at_once() -> None:
    policy = Kpa(target=1, scale_down_delay_s=60)
    memory = policy.scale(Load(0, 8, 8, 8), policy.initial(fleet(1)))[1]
    assert policy.scale(Load(2, 8, 0, 0), memory)[0].replicas == 8
    assert policy.scale(Load(2, 8, 0, 0, reachable=False), memory)[0].replicas == 0


def test_a_scale_down_waits_for_its_delay() -> None:
    policy = Kpa(target=1, scale_down_delay_s=10, max_scale_down_rate=100)
    memory = policy.scale(Load(0, 8, 8, 8), policy.initial(fleet(1)))[1]
    decision, memory = policy.scale(Load(8, 8, 2, 2), memory)
    assert (decision.replicas, decision.reason, decision.proposal) == (8, Reason.SCALE_DOWN_DELAY, 2)
    assert policy.scale(Load(10, 8, 2, 2), memory)[0].replicas == 2


def test_the_activation_scale_is_a_floor_under_load_only() -> None:
    policy = Kpa(target=10, activation_scale=5)
    assert policy.scale(Load(0, 0, 1, 1), policy.initial(fleet(0)))[0].replicas == 5
    assert policy.scale(Load(0, 1, 0, 0), policy.initial(fleet(0)))[0].replicas == 0


@pytest.mark.parametrize(
    ("burst", "capacity", "activator"), [(0, 0, False), (-1, -1, True), (5, 0, False), (6, -1, True)]
)
def test_the_activator_stays_while_a_burst_would_not_fit(burst: int, capacity: int, activator: bool) -> None:
    policy = Kpa(target=10, total=10, target_burst_capacity=burst)
    decision, _ = policy.scale(Load(0, 2, 15, 15), policy.initial(fleet(1)))
    assert (decision.burst_capacity, decision.activator) == (capacity, activator)


@pytest.mark.parametrize(
    ("stable_s", "percentage", "panic_s"), [(60, 10, 6), (6, 10, 1), (25, 10, 3), (24, 10, 2), (6, 1, 1)]
)
def test_the_panic_window_is_whole_seconds(stable_s: float, percentage: float, panic_s: float) -> None:
    assert Kpa(stable_window_s=stable_s, panic_window_percentage=percentage).panic_window_s == panic_s


def test_the_defaults_are_knatives() -> None:
    rule = KpaSettings().rule
    assert (rule.target, rule.total, rule.stable_window_s, rule.panic_window_s) == (70, 100, 60, 6)
    assert (rule.panic_threshold, rule.max_scale_up_rate, rule.max_scale_down_rate) == (2, 1000, 2)
    assert (rule.target_burst_capacity, rule.tick_s, rule.activation_scale) == (211, 2, 1)
    assert KpaSettings(metric="rps").rule.target == 140


# The last step to zero.


class Wish:
    """A policy that proposes what its memory says; None decides nothing."""

    def initial(self, first: Observation) -> int | None:
        return 0

    def decide(self, seen: Observation, memory: int | None) -> tuple[Decision, int | None]:
        if memory is None:
            return undecided(seen, Reason.NO_DATA), memory
        return proposed(memory, Reason.STABLE_MODE), memory


def zero(**more: Any) -> ScaleToZero[int | None]:
    return ScaleToZero(Wish(), stable_window_s=60, grace_s=30, **more)


def test_zero_comes_after_the_stable_window_and_the_grace_period() -> None:
    policy = zero()
    memory = policy.initial(fleet(2, 0))
    decision, memory = policy.decide(fleet(2, 59, activator_since_s=0), memory)
    assert (decision.replicas, decision.reason) == (1, Reason.STILL_ACTIVE)
    decision, memory = policy.decide(fleet(1, 60, activator_since_s=59), memory)
    assert (decision.replicas, decision.reason) == (1, Reason.SCALE_TO_ZERO_GRACE_PERIOD)
    decision, memory = policy.decide(fleet(1, 88, activator_since_s=59), memory)
    assert decision.replicas == 1
    decision, _ = policy.decide(fleet(1, 89, activator_since_s=59), memory)
    assert (decision.replicas, decision.reason, decision.valid) == (0, Reason.NO_TRAFFIC, True)


def test_without_the_activator_in_the_path_the_last_instance_stays() -> None:
    policy = zero()
    memory = policy.decide(fleet(1, 60), policy.initial(fleet(1, 0)))[1]
    decision, memory = policy.decide(fleet(1, 1000), memory)
    assert (decision.replicas, decision.reason) == (1, Reason.SCALE_TO_ZERO_GRACE_PERIOD)
    assert policy.decide(fleet(1, 1001, activator_since_s=1000.5), memory)[0].replicas == 0  # inactive for long


def test_the_last_instance_is_retained() -> None:
    policy = zero(retention_s=100)
    memory = policy.decide(fleet(1, 60, activator_since_s=0), policy.initial(fleet(1, 0)))[1]
    assert policy.decide(fleet(1, 159, activator_since_s=0), memory)[0].replicas == 1
    assert policy.decide(fleet(1, 160, activator_since_s=0), memory)[0].replicas == 0


def test_traffic_makes_it_active_again() -> None:
    policy = zero()
    memory = policy.decide(fleet(1, 60, activator_since_s=0), policy.initial(fleet(1, 0)))[1]
    memory = policy.decide(fleet(1, 70), replace(memory, inner=3))[1]
    assert (memory.state, memory.since_s) == ("active", 70)
    assert policy.decide(fleet(1, 129, activator_since_s=0), replace(memory, inner=0))[0].reason == Reason.STILL_ACTIVE


def test_an_activation_is_not_given_up_at_once() -> None:
    policy = zero(activation_limit_s=600)
    starting = Observation(0, 1, (Instance("a", ready=False),))
    memory = policy.initial(starting)
    assert memory.state == "activating"
    decision, memory = policy.decide(replace(starting, now_s=599), memory)
    assert (decision.replicas, decision.reason) == (1, Reason.ACTIVATING)
    decision, memory = policy.decide(replace(starting, now_s=600), memory)
    assert (decision.replicas, decision.reason) == (0, Reason.ACTIVATION_TIMED_OUT)


def test_an_instance_that_became_ready_without_traffic_is_active_first() -> None:
    policy = zero()
    memory = policy.initial(Observation(0, 1, (Instance("a", ready=False),)))
    decision, memory = policy.decide(fleet(1, 100), memory)
    assert (decision.reason, memory.since_s) == (Reason.STILL_ACTIVE, 100)


def test_zero_can_be_forbidden() -> None:
    policy = zero(enabled=False)
    decision, _ = policy.decide(fleet(1, 1e6, activator_since_s=0), policy.initial(fleet(1, 0)))
    assert (decision.replicas, decision.reason) == (1, Reason.SCALE_TO_ZERO_DISABLED)


def test_no_decision_is_no_zero() -> None:
    policy = zero()
    memory = replace(policy.initial(fleet(2, 0)), inner=None)
    decision, after = policy.decide(fleet(2, 1e6, activator_since_s=0), memory)
    assert (decision.valid, decision.replicas, after) == (False, 2, memory)


def test_a_service_goes_to_zero_and_comes_back() -> None:
    scaler = Autoscaler(kpa(KpaSettings(target=1, target_utilization_percentage=100, max_scale=5)))
    replicas, since_s, counts = 1, None, []
    for second in range(0, 260, 2):
        load = 3.0 if second < 40 or second >= 240 else 0.0
        instances = tuple(Instance(str(index), concurrency=load / replicas) for index in range(replicas))
        waiting = load if not replicas else 0.0
        seen = Observation(second, replicas, instances, buffered=waiting, activator_since_s=since_s)
        decision = scaler.decide(seen)
        assert decision.valid
        since_s = since_s if decision.activator and since_s is not None else second if decision.activator else None
        replicas = decision.replicas
        counts.append(replicas)
    assert max(counts[:20]) == 3
    assert counts[119] == 0
    assert counts[-1] == 3
    assert [before for before, after in pairwise(counts) if after == 0 < before] == [1]


@pytest.mark.parametrize(
    "make",
    [
        lambda: KpaSettings(stable_window_s=5),
        lambda: KpaSettings(panic_threshold_percentage=100),
        lambda: KpaSettings(panic_window_percentage=0),
        lambda: KpaSettings(target=0),
        lambda: KpaSettings(min_scale=3, max_scale=2),
        lambda: KpaSettings(container_concurrency=1001),
        lambda: Kpa(target=0),
        lambda: Kpa(max_scale_up_rate=1),
        lambda: Kpa(tick_s=0),
        lambda: zero(retention_s=-1),
    ],
)
def test_settings_that_cannot_be(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()
