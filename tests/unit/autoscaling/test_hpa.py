"""Several metrics, where their figures come from, and what a missing one does."""

from typing import Any

import pytest

from tidesight.autoscaling.behavior import DEFAULT_SCALE_DOWN, DEFAULT_SCALE_UP, Behavior
from tidesight.autoscaling.hpa import HpaMetrics, HpaSettings, Metric, MetricType
from tidesight.autoscaling.observation import Container, Instance, Observation
from tidesight.autoscaling.policy import Decision, Reason
from tidesight.autoscaling.replica_calculator import Tolerance

CPU = Metric("Resource", "cpu", 50, "Utilization")
INSIDE = Metric("Pods", "concurrency", 4, "AverageValue")
QUEUE = Metric("External", "queued", 5, "AverageValue")


def decide(seen: Observation, *metrics: Metric, **settings: Any) -> Decision:
    spec = HpaSettings(0 if settings.pop("zero", False) else 1, 100, metrics, **settings)
    return HpaMetrics(metrics, spec.calculator).decide(seen, None)[0]


def fleet(count: int, **more: Any) -> Observation:
    """Instances at 50 % of their CPU with 4 requests inside."""
    one: dict[str, Any] = {"usage_milli": {"cpu": 500}, "request_milli": {"cpu": 1000}, "concurrency": 4.0}
    one |= more.pop("instance", {})
    instances = tuple(Instance(str(index), started_s=0, ready_changed_s=0, **one) for index in range(count))
    return Observation(1e6, more.pop("replicas", count), instances, **more)


def test_the_largest_proposal_counts() -> None:
    busy = fleet(4, instance={"concurrency": 8.0})
    assert decide(busy, CPU).replicas == 4
    assert decide(busy, CPU, INSIDE).replicas == 8
    assert decide(busy, INSIDE, CPU).replicas == 8


def test_inputs_say_what_each_metric_wanted() -> None:
    seen = fleet(4, instance={"concurrency": 8.0})
    decision = decide(seen, CPU, INSIDE, QUEUE)
    assert decision.inputs == {
        "cpu": "50% of 50% -> 4",
        "concurrency": "8 of 4 -> 8",
        "queued": "no_metrics_returned",
    }
    assert (decision.reason, decision.proposal) == (Reason.DESIRED_WITHIN_RANGE, 8)


def test_a_failed_metric_is_left_out_of_a_scale_up_but_prevents_a_scale_down() -> None:
    assert decide(fleet(4, instance={"usage_milli": {"cpu": 900}}), CPU, QUEUE).replicas == 8
    same = decide(fleet(4), CPU, QUEUE)
    assert (same.valid, same.replicas) == (True, 4)
    down = decide(fleet(4, instance={"usage_milli": {"cpu": 100}}), CPU, QUEUE)
    assert (down.valid, down.replicas, down.reason) == (False, 4, Reason.FAILED_GET_EXTERNAL_METRIC)


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        (Metric("Resource", "memory", 50, "Utilization"), Reason.FAILED_GET_RESOURCE_METRIC),
        (
            Metric("ContainerResource", "cpu", 50, "Utilization", "a"),
            Reason.FAILED_GET_CONTAINER_RESOURCE_METRIC,
        ),
        (Metric("Pods", "depth", 50, "AverageValue"), Reason.FAILED_GET_PODS_METRIC),
        (Metric("Object", "hits", 50, "Value"), Reason.FAILED_GET_OBJECT_METRIC),
        (Metric("External", "hits", 50, "Value"), Reason.FAILED_GET_EXTERNAL_METRIC),
    ],
)
def test_without_a_figure_there_is_no_decision(metric: Metric, reason: Reason) -> None:
    decision = decide(fleet(4), metric)
    assert (decision.valid, decision.replicas, decision.reason) == (False, 4, reason)


def test_the_first_failure_is_the_reason() -> None:
    hits = Metric("Object", "hits", 50, "Value")
    assert decide(Observation(0, 4), hits, CPU, zero=True).reason == Reason.FAILED_GET_OBJECT_METRIC
    assert decide(Observation(0, 4), CPU, hits).reason == Reason.FAILED_GET_RESOURCE_METRIC


def test_a_target_is_rounded_to_thousandths() -> None:
    assert Metric("Pods", "depth", 1.001, "AverageValue").target_milli == 1001


def test_instances_that_could_not_be_listed_are_not_none() -> None:
    assert not decide(Observation(0, 4), CPU).valid
    assert not decide(Observation(0, 4), INSIDE).valid


def test_a_container_by_name() -> None:
    containers = (
        Container("detector", {"cpu": 900}, {"cpu": 1000}),
        Container("proxy", {"cpu": 100}, {"cpu": 1000}, "sidecar"),
    )
    seen = fleet(2, instance={"usage_milli": {}, "request_milli": {}, "containers": containers})
    assert decide(seen, Metric("ContainerResource", "cpu", 50, "Utilization", "detector")).replicas == 4
    assert decide(seen, CPU).replicas == 2  # both: 50 %
    assert decide(seen, Metric("ContainerResource", "cpu", 0.3, "AverageValue", "detector")).replicas == 6
    assert not decide(seen, Metric("ContainerResource", "cpu", 50, "Utilization", "other")).valid


def test_a_resource_as_a_mean() -> None:
    assert decide(fleet(4), Metric("Resource", "cpu", 0.25, "AverageValue")).replicas == 8


def test_totals() -> None:
    seen = fleet(4, objects_milli={"hits": 9000}, externals_milli={"jobs": (4000, 5000)}, queued=45)
    assert decide(seen, Metric("Object", "hits", 1, "AverageValue")).replicas == 9
    assert decide(seen, Metric("External", "jobs", 1, "AverageValue")).replicas == 9
    assert decide(seen, Metric("External", "jobs", 6, "Value")).replicas == 6
    assert decide(seen, QUEUE).replicas == 9


def test_any_other_metric_of_an_instance() -> None:
    seen = fleet(3, instance={"metrics_milli": {"depth": 2500}, "requests_per_s": 30.0})
    assert decide(seen, Metric("Pods", "depth", 1.25, "AverageValue")).replicas == 6
    assert decide(seen, Metric("Pods", "requests_per_s", 10, "AverageValue")).replicas == 9


def test_memory_counts_although_the_instance_is_young() -> None:
    young: dict[str, Any] = {"usage_milli": {"cpu": 900, "memory": 900}, "request_milli": {"cpu": 1000, "memory": 1000}}
    seen = Observation(10, 1, (Instance("a", started_s=0, ready=False, **young),))
    assert decide(seen, Metric("Resource", "memory", 45, "Utilization")).replicas == 2
    assert not decide(seen, CPU).valid


def test_tolerances_of_a_behavior_come_before_the_controllers() -> None:
    from dataclasses import replace

    tight = Behavior(replace(DEFAULT_SCALE_UP, tolerance=0.0), DEFAULT_SCALE_DOWN)
    spec = HpaSettings(behavior=tight, tolerance=0.2)
    assert spec.calculator.tolerance == Tolerance(down=0.2, up=0.0)
    assert HpaSettings().calculator.tolerance == Tolerance(down=0.1, up=0.1)


def test_the_defaults_are_those_of_kubernetes() -> None:
    spec = HpaSettings()
    assert (spec.tolerance, spec.downscale_stabilization_s, spec.sync_period_s) == (0.1, 300, 15)
    assert (spec.cpu_initialization_period_s, spec.initial_readiness_delay_s) == (300, 30)
    assert (spec.scale_up_limit_factor, spec.scale_up_limit_minimum) == (2, 4)
    assert spec.metrics == (Metric("Resource", "cpu", 80, "Utilization"),)
    up, down = DEFAULT_SCALE_UP, DEFAULT_SCALE_DOWN
    assert [(one.type, one.value, one.period_s) for one in up.policies] == [("Pods", 4, 15), ("Percent", 100, 15)]
    assert [(one.type, one.value, one.period_s) for one in down.policies] == [("Percent", 100, 15)]
    assert (up.select_policy, up.stabilization_window_s) == ("Max", 0)
    assert (down.select_policy, down.stabilization_window_s) == ("Max", None)


@pytest.mark.parametrize("kind", ["Object", "External"])
def test_from_zero(kind: MetricType) -> None:
    empty = {"objects_milli": {"x": 4500}, "externals_milli": {"x": (4500,)}}
    none = Observation(0, 0, (), **empty)  # type: ignore[arg-type]
    assert decide(none, Metric(kind, "x", 2, "AverageValue"), zero=True).replicas == 3
    assert decide(none, Metric(kind, "x", 2, "Value"), zero=True).replicas == 3
