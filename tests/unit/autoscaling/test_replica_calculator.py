"""One metric to one replica count, against the published cases of Kubernetes."""

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.autoscaling.vectors import NOW_S, Case, at, cases, container, kinds_in, pod
from tidesight.autoscaling.observation import Container, Instance, Observation
from tidesight.autoscaling.pod_resources import (
    Failure,
    MetricUnavailable,
    ResourceTarget,
    container_usage_milli,
    pod_requests,
)
from tidesight.autoscaling.replica_calculator import (
    MAX_INT32,
    MAX_INT64,
    Proposal,
    ReplicaCalculator,
    Sample,
    Tolerance,
    saturated_sum,
)

FILE = "hpa_replica_calculator.json"
KINDS = {
    "resource", "pods", "object", "object_per_pod", "external", "external_per_pod", "group_pods", "calculate_requests",
}  # fmt: skip


def calculator(case: Case) -> ReplicaCalculator:
    tolerance = case.get("tolerance", {"scaleDown": 0.1, "scaleUp": 0.1})
    return ReplicaCalculator(
        Tolerance(down=tolerance["scaleDown"], up=tolerance["scaleUp"]),
        case.get("cpuInitializationPeriodSeconds", 120),
        case.get("initialReadinessDelaySeconds", 10),
    )


def seen(case: Case) -> Observation:
    pods = tuple(pod(one, case.get("resource", "cpu")) for one in case["pods"])
    return Observation(NOW_S, case["currentReplicas"], pods, existing=case["currentReplicas"])


def samples(case: Case) -> dict[str, Sample]:
    found = {}
    for metric in case["podMetrics"] or ():
        if "valueMilli" in metric:
            milli: int | None = metric["valueMilli"]
        elif "containers" in metric:
            parts = [container(part, "main", case["resource"]) for part in metric["containers"]]
            milli = container_usage_milli(parts, case["resource"], case.get("container"))
        else:
            milli = 0  # a case about groups, not values
        if milli is not None:
            found[metric["pod"]] = Sample(milli, NOW_S - metric["ageSeconds"], metric["windowSeconds"])
    return found


def outcome(case: Case) -> dict[str, Any]:
    rule, fleet = calculator(case), seen(case)
    kind = case["kind"]
    try:
        if kind == "resource":
            target = ResourceTarget(case["resource"], case["container"], case["targetUtilization"])
            found = rule.by_utilization(fleet, samples(case), target)
            return {
                "replicas": found.replicas,
                "utilization": found.percent,
                "rawAverageMilli": found.usage_milli,
            }
        if kind == "pods":
            found = rule.by_average(fleet, samples(case), case["targetMilli"])
        else:
            usage = saturated_sum(case["valuesMilli"]) if "valuesMilli" in case else case["valueMilli"]
            if kind.endswith("_per_pod"):
                found = rule.by_average_value(fleet, usage, case["targetAveragePerPodMilli"])
            else:
                found = rule.by_value(fleet, usage, case["targetMilli"])
    except MetricUnavailable as error:
        return {"error": error.failure.value}
    return {"replicas": found.replicas, "usageMilli": found.usage_milli}


def test_every_kind_of_case_is_tested() -> None:
    assert kinds_in(FILE) <= KINDS


@cases(FILE, "resource", "pods", "object", "object_per_pod", "external", "external_per_pod")
def test_published_counts(case: Case) -> None:
    found = outcome(case)
    assert {key: found.get(key) for key in case["expected"]} == case["expected"]


@cases(FILE, "group_pods")
def test_published_groups(case: Case) -> None:
    groups = calculator(case).group(map(pod, case["pods"]), samples(case), case["resource"], NOW_S)
    assert {
        "readyPodCount": groups.ready,
        "unready": sorted(groups.unready),
        "missing": sorted(groups.missing),
        "ignored": sorted(groups.ignored),
    } == {key: sorted(value) if isinstance(value, list) else value for key, value in case["expected"].items()}


@cases(FILE, "calculate_requests")
def test_published_requests(case: Case) -> None:
    level = {one["name"]: one.get("podLevelRequestMilli") for one in case["pods"]}
    pods = [
        pod(
            one,
            case["resource"],
            request_milli={} if level[one["name"]] is None else {case["resource"]: level[one["name"]]},
        )
        for one in case["pods"]
    ]
    target = ResourceTarget(case["resource"], case["container"] or None, 100)
    try:
        found: Any = {"requestsMilli": pod_requests(pods, target, pod_level=case["podLevelResourcesEnabled"])}
    except MetricUnavailable as error:
        found = {"error": error.failure.value}
    assert found == case["expected"]


# What the published cases leave open.


def fleet(*usage_milli: int | None, replicas: int | None = None, request_milli: int = 1000) -> Observation:
    """Ready instances with a CPU request; None has no sample."""
    instances = tuple(
        Instance(
            f"i{index}",
            started_s=0,
            ready_changed_s=1,
            usage_milli={} if usage is None else {"cpu": usage},
            request_milli={"cpu": request_milli},
        )
        for index, usage in enumerate(usage_milli)
    )
    return Observation(1e6, len(instances) if replicas is None else replicas, instances)


def cpu(fleet: Observation, percent: int, rule: ReplicaCalculator = ReplicaCalculator()) -> Proposal:
    samples = {
        one.name: Sample(one.usage_milli["cpu"], fleet.now_s, 0) for one in fleet.instances or () if one.usage_milli
    }
    return rule.by_utilization(fleet, samples, ResourceTarget("cpu", None, percent))


def test_utilisation_is_truncated_before_it_is_compared() -> None:
    # 54.99 % is 54 % and within a tenth of 50; as a fraction, 1.0998, it would be too, but 55.0 % exactly is 1.1
    assert cpu(fleet(550, 550), 50).replicas == 2  # 1.1 is the edge of the band, which belongs to it
    assert cpu(fleet(569, 551), 50).replicas == 3
    assert cpu(fleet(559, 559), 50) == Proposal(2, 559, 55)


def test_the_count_is_rounded_up() -> None:
    assert cpu(fleet(500, 500, 500), 40).replicas == 4  # 3.75


def test_a_missing_pod_is_assumed_at_all_of_its_request_on_the_way_down() -> None:
    assert cpu(fleet(100, 100, None), 80).replicas == 2  # 40 % instead of 10 %: 1.5
    assert cpu(fleet(100, 100, 100), 80).replicas == 1


def test_a_missing_pod_is_assumed_idle_on_the_way_up() -> None:
    assert cpu(fleet(900, 900, None), 50).replicas == 4  # 60 %: 3.6, not 5.4
    assert cpu(fleet(900, 900, 900), 50).replicas == 6


def test_an_assumption_does_not_turn_a_scale_up_into_a_scale_down() -> None:
    assert cpu(fleet(700, None, None), 50).replicas == 3  # 140 % becomes 46 %: keep


def test_exactly_at_the_target_missing_pods_are_left_out() -> None:
    exact = ReplicaCalculator(Tolerance(0, 0))
    assert cpu(fleet(500, None, replicas=2), 50, exact).replicas == 2


def test_surge_pods_do_not_turn_a_scale_down_into_a_scale_up() -> None:
    # five pods during a rollout of three: with the missing one 76 % of 80, which asks for ceil(4.75) = 5
    surging = fleet(700, 700, 700, 700, None, replicas=3)
    assert cpu(surging, 80, ReplicaCalculator(Tolerance(0, 0))).replicas == 3


def with_unready(usage_milli: int) -> Observation:
    base = fleet(usage_milli, usage_milli, usage_milli)
    assert base.instances
    cold = replace(base.instances[2], ready=False, ready_changed_s=0)
    return replace(base, instances=(*base.instances[:2], cold))


def test_unready_pods_count_only_against_a_scale_up() -> None:
    assert cpu(with_unready(900), 50).replicas == 4  # 1800 of 3000: 60 %
    assert cpu(with_unready(830), 50).replicas == 3  # 55 % of 50 is within a tenth
    assert cpu(with_unready(460), 50).replicas == 3  # 46 % of the two that count, likewise; not 30 % of three
    assert cpu(with_unready(100), 50).replicas == 1


def test_pods_that_end_do_not_count_although_they_have_samples() -> None:
    base = fleet(500, 500, 4000)
    assert base.instances
    for change in ({"deleting": True}, {"phase": "Failed"}):
        ending = replace(base.instances[2], **change)
        assert cpu(replace(base, replicas=2, instances=(*base.instances[:2], ending)), 50) == Proposal(2, 500, 50)


def test_a_mean_with_a_missing_pod() -> None:
    three = Observation(0, 3, (Instance("a"), Instance("b"), Instance("c")))

    def replicas(milli: int) -> int:
        samples = {"a": Sample(milli, 0, 0), "b": Sample(milli, 0, 0)}
        return ReplicaCalculator().by_average(three, samples, 4000).replicas

    assert replicas(1000) == 2  # the third at the target: 1.5
    assert replicas(7000) == 4  # the third at nothing: 3.5
    assert replicas(4000) == 3


def test_a_pod_that_never_answered_is_unready() -> None:
    one = Instance("a", ready=None, started_s=0, ready_changed_s=100)
    assert ReplicaCalculator().group([one], {"a": Sample(1, 1000, 0)}, "cpu", 1000).unready == {"a"}


def test_large_figures_are_divided_as_floats() -> None:
    none = Observation(0, 0, ())
    assert ReplicaCalculator().by_value(none, 2**60 + 129, 2**60 + 128).replicas == 2  # as Go: not exactly 1


def test_pod_that_was_ready_before_counts_although_it_is_not_now() -> None:
    one = Instance("a", started_s=0, ready_changed_s=900, ready=False)
    groups = ReplicaCalculator().group([one], {"a": Sample(1, 1000, 0)}, "cpu", 1000)
    assert groups.ready == 1
    never = replace(one, ready_changed_s=29)
    assert ReplicaCalculator().group([never], {"a": Sample(1, 1000, 0)}, "cpu", 1000).unready == {"a"}


def test_a_young_pods_sample_must_begin_after_it_became_ready() -> None:
    one = Instance("a", started_s=1000, ready_changed_s=1010)
    for at_s, trusted in ((1024.9, False), (1025.0, True)):
        groups = ReplicaCalculator().group([one], {"a": Sample(1, at_s, 15)}, "cpu", 1100)
        assert groups.ready == trusted
    old = ReplicaCalculator().group([one], {"a": Sample(1, 1000, 15)}, "cpu", 1300)
    assert old.ready == 1  # the period is over, exactly


def test_readiness_does_not_matter_for_other_metrics() -> None:
    one = Instance("a", ready=False, started_s=0, ready_changed_s=0)
    assert ReplicaCalculator().group([one], {"a": Sample(1, 0, 0)}, None, 1).ready == 1


def test_a_request_that_is_missing_is_not_zero() -> None:
    bare = Observation(10, 1, (Instance("a", started_s=0, ready_changed_s=0, usage_milli={"cpu": 100}),))
    with pytest.raises(MetricUnavailable) as caught:
        ReplicaCalculator().by_utilization(bare, {"a": Sample(100, 10, 0)}, ResourceTarget("cpu", None, 50))
    # young and without a fresh sample it would be unready; ready_changed_s = started_s with a window of 0 is fresh
    assert caught.value.failure is Failure.MISSING_REQUEST


def test_a_container_that_does_not_exist() -> None:
    one = Instance("a", containers=(Container("b", request_milli={"cpu": 1}),))
    with pytest.raises(MetricUnavailable) as caught:
        pod_requests([one], ResourceTarget("cpu", "c", 50), pod_level=True)
    assert caught.value.failure is Failure.CONTAINER_NOT_FOUND


def test_a_pods_own_request_replaces_its_containers_unless_one_is_named() -> None:
    one = Instance("a", request_milli={"cpu": 700}, containers=(Container("b", request_milli={"cpu": 500}),))
    whole, named = ResourceTarget("cpu", None, 50), ResourceTarget("cpu", "b", 50)
    assert pod_requests([one], whole, pod_level=True) == {"a": 700}
    assert pod_requests([one], whole, pod_level=False) == {"a": 500}
    assert pod_requests([one], named, pod_level=True) == {"a": 500}
    alone = Instance("a", request_milli={"cpu": 700})
    assert pod_requests([alone], whole, pod_level=False) == {"a": 700}


def test_use_without_a_figure_from_each_container_is_unknown() -> None:
    parts = [Container("a", {"cpu": 5}), Container("b"), Container("setup", role="init")]
    assert container_usage_milli(parts, "cpu", None) is None
    assert container_usage_milli(parts, "cpu", "a") == 5
    assert container_usage_milli(parts[::2], "cpu", None) == 5
    assert container_usage_milli([], "cpu", None) is None


def test_from_zero_a_total_counts_without_tolerance() -> None:
    none = Observation(0, 0, ())
    assert ReplicaCalculator().by_value(none, 1050, 1000).replicas == 2
    assert ReplicaCalculator().by_value(none, 0, 1000).replicas == 0
    assert ReplicaCalculator().by_average_value(none, 1050, 1000) == Proposal(2, 0)
    assert ReplicaCalculator().by_average_value(none, 0, 1000) == Proposal(0, 0)


def test_a_total_needs_pods_to_be_known() -> None:
    with pytest.raises(MetricUnavailable) as caught:
        ReplicaCalculator().by_value(Observation(0, 3), 5000, 1000)
    assert caught.value.failure is Failure.NO_PODS


def test_a_total_counts_only_pods_that_are_ready_and_run() -> None:
    pods = (Instance("a"), Instance("b", phase="Pending"), Instance("c", ready=False), Instance("d", ready=None))
    assert ReplicaCalculator().by_value(Observation(0, 4, pods), 3000, 1000).replicas == 3


def test_a_share_is_of_the_pods_that_exist() -> None:
    two = Observation(0, 5, (Instance("a"), Instance("b"), Instance("c", deleting=True)))
    assert ReplicaCalculator().by_average_value(two, 2000, 1000) == Proposal(2, 1000)
    assert ReplicaCalculator().by_average_value(two, 2201, 1000) == Proposal(3, 1101)


def test_counts_and_sums_saturate() -> None:
    assert saturated_sum([MAX_INT64, 1]) == MAX_INT64
    assert saturated_sum([MAX_INT64, -1]) == MAX_INT64 - 1
    one = Observation(0, 1, (Instance("a"),))
    assert ReplicaCalculator().by_value(one, MAX_INT64, 1).replicas == MAX_INT32


def test_a_mean_is_truncated_towards_zero() -> None:
    two = Observation(0, 2, (Instance("a"), Instance("b")))
    assert ReplicaCalculator().by_average(two, {"a": Sample(-1, 0, 0), "b": Sample(-2, 0, 0)}, 1000).usage_milli == -1


def test_tolerance_by_direction() -> None:
    rule = ReplicaCalculator(Tolerance(down=0.0, up=0.5))
    assert cpu(fleet(750, 750), 50, rule).replicas == 2
    assert cpu(fleet(490, 490, 490, 490), 50, rule).replicas == 4  # 3.92: a change, rounded up to what there is
    assert cpu(fleet(370, 370, 370, 370), 50, rule).replicas == 3


def test_a_sample_of_a_pod_that_is_not_listed_counts_as_upstream() -> None:
    one = fleet(900, None)
    samples = {"i0": Sample(900, one.now_s, 0), "gone": Sample(1, one.now_s, 0)}
    # percent over known pods: 45 %; the number of samples includes the one that is not listed: ceil(1.125 * 3)
    assert ReplicaCalculator().by_utilization(one, samples, ResourceTarget("cpu", None, 40)).replicas == 4


def test_no_sample_is_no_count() -> None:
    with pytest.raises(MetricUnavailable) as caught:
        cpu(fleet(None, None), 50)
    assert caught.value.failure is Failure.NO_METRICS_RETURNED
    pending = Observation(0, 1, (Instance("a", phase="Pending"),))
    with pytest.raises(MetricUnavailable) as caught:
        ReplicaCalculator().by_average(pending, {"a": Sample(1, 0, 0)}, 1)
    assert caught.value.failure is Failure.NO_METRICS_FOR_READY_PODS


def test_ages_are_times() -> None:
    assert at(None) is None
    assert at(5) == NOW_S - 5
