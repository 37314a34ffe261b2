"""App Engine's models: what their documentation says, and what is assumed."""

from dataclasses import replace
from typing import Any

import pytest

from tidesight.autoscaling.app_engine import Flexible, FlexibleSettings, Standard, StandardSettings
from tidesight.autoscaling.observation import Instance, Observation
from tidesight.autoscaling.policy import Autoscaler, Reason
from tidesight.autoscaling.registry import app_engine_flexible, app_engine_standard
from tidesight.errors import ConfigError


def fleet(
    ready: int, cpu: float | None = 0.0, inside: float | None = 0.1, at_s: float = 0.0, **more: Any
) -> Observation:
    """Instances, each with a part of its CPU in use and requests inside; nothing waits unless `more` says so."""
    instances = tuple(
        Instance(
            str(index),
            started_s=more.get("started_s", -1000.0),
            usage_milli={} if cpu is None else {"cpu": round(cpu * 1000)},
            request_milli={"cpu": 1000},
            concurrency=inside,
        )
        for index in range(ready)
    )
    more.pop("started_s", None)
    return Observation(at_s, more.pop("replicas", ready), instances, **{"queued": 0.0, **more})


def standard(seen: Observation, **settings: Any) -> Any:
    return Autoscaler(app_engine_standard(StandardSettings(**{"idle_timeout_s": 0, **settings}))).decide(seen)


def test_the_defaults() -> None:
    settings = StandardSettings()
    assert (settings.target_cpu_utilization, settings.target_throughput_utilization) == (0.6, 0.6)
    assert (settings.max_concurrent_requests, settings.min_instances, settings.max_instances) == (10, 0, 20)
    assert (settings.min_pending_latency_s, settings.max_pending_latency_s) == (0.5, 10)
    flexible = FlexibleSettings()
    assert (flexible.min_num_instances, flexible.max_num_instances) == (2, 20)
    assert (flexible.cool_down_period_s, flexible.target_utilization) == (120, 0.5)


@pytest.mark.parametrize(("cpu", "replicas"), [(0.6, 2), (0.61, 3), (0.9, 3), (0.3, 1)])
def test_cpu_is_kept_at_its_target(cpu: float, replicas: int) -> None:
    decision = standard(fleet(2, cpu))
    assert (decision.replicas, decision.reason) == (replicas, Reason.TARGET_CPU_UTILIZATION)


@pytest.mark.parametrize(("queued", "replicas"), [(0.0, 0), (1.0, 1)])
def test_without_requests_what_idle_processes_take_needs_no_instance(queued: float, replicas: int) -> None:
    assert standard(fleet(2, 0.01, inside=0.0, queued=queued)).replicas == replicas


@pytest.mark.parametrize(("inside", "replicas"), [(6.0, 2), (6.1, 3), (9.0, 3), (3.0, 1)])
def test_throughput_is_kept_at_its_target(inside: float, replicas: int) -> None:
    decision = standard(fleet(2, 0.0, inside))
    assert (decision.replicas, decision.reason) == (replicas, Reason.TARGET_THROUGHPUT_UTILIZATION)


def test_the_greater_need_counts() -> None:
    assert standard(fleet(2, 0.9, 12)).replicas == 4
    assert standard(fleet(2, 1.0, 3)).replicas == 4


@pytest.mark.parametrize(
    ("wait_s", "starting", "replicas"),
    [(0.4, 0, 2), (0.5, 0, 3), (0.5, 1, 3), (9.9, 1, 3), (10, 0, 3), (10, 1, 3), (10, 2, 4)],
)
def test_a_wait_adds_an_instance_when_it_is_long_enough(wait_s: float, starting: int, replicas: int) -> None:
    seen = fleet(2, 0.6, replicas=2 + starting, queued=4, queue_wait_s=wait_s)
    assert standard(seen).replicas == replicas


def test_a_long_wait_adds_more_than_what_starts_when_that_could_not_take_the_queue() -> None:
    def queue(queued: int) -> Observation:
        return fleet(2, 0.6, replicas=3, queued=queued, queue_wait_s=10)

    assert standard(queue(6)).replicas == 3
    assert standard(queue(7)).replicas == 4


def test_the_first_request_starts_the_first_instance_at_once() -> None:
    assert standard(fleet(0, queued=1)).replicas == 1
    assert standard(fleet(0)).replicas == 0


def test_idle_instances_are_kept_within_their_limits() -> None:
    assert standard(fleet(1, 0.3), min_idle_instances=2).replicas == 3
    assert standard(fleet(8, 0.0, 1), max_idle_instances=3).replicas == 5  # 8 inside need 2
    assert standard(fleet(8, 0.0, 1), max_idle_instances=3).reason == Reason.IDLE_INSTANCES
    assert standard(fleet(8, 0.0, 1), max_idle_instances=9).replicas == 8


def test_automatic_idle_instances_go_after_a_while() -> None:
    scaler = Autoscaler(app_engine_standard(StandardSettings(idle_timeout_s=900)))
    assert scaler.decide(fleet(3, 0.6, at_s=0)).replicas == 3
    assert scaler.decide(fleet(3, 0.0, 0.0, at_s=1)).replicas == 3
    assert scaler.decide(fleet(3, 0.0, 0.0, at_s=899)).replicas == 3
    assert scaler.decide(fleet(3, 0.0, 0.0, at_s=901)).replicas == 0


def test_bounds() -> None:
    assert standard(fleet(2, 1.0), max_instances=3).reason == Reason.TOO_MANY_REPLICAS
    assert standard(fleet(2), min_instances=1).replicas == 1


def test_standard_decides_nothing_without_evidence() -> None:
    blind = fleet(3, None, None, queued=None)
    assert not standard(blind).valid
    assert not standard(Observation(0, 3)).valid
    partly = fleet(3, None, 1.0)  # 3 inside need 1; the CPU is not known
    assert (standard(partly).valid, standard(partly).replicas) == (False, 3)
    known = fleet(3, 0.0, 1.0)
    assert known.instances
    one_unknown = replace(known, instances=(*known.instances[:2], replace(known.instances[2], concurrency=None)))
    assert (standard(known).replicas, standard(one_unknown).valid) == (1, False)
    busy = fleet(3, None, 12.0)
    assert (standard(busy).valid, standard(busy).replicas) == (True, 6)
    assert standard(fleet(3, 1.0, 1.0, queued=None)).replicas == 5


def flexible(seen: Observation, **settings: Any) -> Any:
    return Autoscaler(app_engine_flexible(FlexibleSettings(**settings))).decide(seen)


@pytest.mark.parametrize(("cpu", "replicas"), [(0.5, 4), (0.51, 5), (1.0, 8)])
def test_flexible_keeps_cpu_at_its_target(cpu: float, replicas: int) -> None:
    assert flexible(fleet(4, cpu)).replicas == replicas


def test_flexible_leaves_out_what_cools_down() -> None:
    old = [
        Instance(str(index), started_s=0, usage_milli={"cpu": 900}, request_milli={"cpu": 1000}) for index in range(2)
    ]
    new = Instance("new", started_s=881, usage_milli={"cpu": 1000}, request_milli={"cpu": 1000})
    decision = flexible(Observation(1000, 3, (*old, new)))
    assert (decision.replicas, decision.inputs["warm"]) == (4, 2)
    assert flexible(Observation(1001, 3, (*old, new))).replicas == 6


def test_flexible_does_not_shrink_while_an_instance_cools_down() -> None:
    rule = Flexible(FlexibleSettings())
    old = [
        Instance(str(index), started_s=0, usage_milli={"cpu": 100}, request_milli={"cpu": 1000}) for index in range(3)
    ]
    new = Instance("new", started_s=990)
    decision, _ = rule.decide(Observation(1000, 4, (*old, new)), None)
    assert (decision.replicas, decision.reason) == (4, Reason.COOL_DOWN_PERIOD)
    decision, _ = rule.decide(Observation(1000, 3, tuple(old)), None)
    assert decision.replicas == 1


def test_flexible_holds_the_highest_count_of_ten_minutes() -> None:
    scaler = Autoscaler(app_engine_flexible(FlexibleSettings()))
    assert scaler.decide(fleet(4, 0.5, at_s=0)).replicas == 4
    assert scaler.decide(fleet(4, 0.1, at_s=600)).reason == Reason.SCALE_DOWN_STABILIZED
    assert scaler.decide(fleet(4, 0.1, at_s=601)).replicas == 2  # the least


def test_flexible_decides_nothing_without_evidence() -> None:
    assert not flexible(fleet(3, None)).valid
    assert not flexible(Observation(0, 3)).valid
    assert not flexible(fleet(3, 0.9, started_s=-10.0)).valid


def test_models_say_that_they_are() -> None:
    for rule in (Standard, Flexible):
        assert "A model." in (rule.__doc__ or "")


@pytest.mark.parametrize(
    "make",
    [
        lambda: StandardSettings(target_cpu_utilization=0.4),
        lambda: StandardSettings(max_concurrent_requests=0),
        lambda: StandardSettings(min_pending_latency_s=5, max_pending_latency_s=4),
        lambda: StandardSettings(min_idle_instances=5, max_idle_instances=4),
        lambda: StandardSettings(max_instances=0),
        lambda: FlexibleSettings(cool_down_period_s=59),
        lambda: FlexibleSettings(min_num_instances=0),
        lambda: FlexibleSettings(target_utilization=0),
    ],
)
def test_settings_that_cannot_be(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()
