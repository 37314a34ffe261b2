"""Queues, delays, instance classes and Cloud Run's two targets."""

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidesight.autoscaling.observation import Instance, Observation
from tidesight.autoscaling.policy import Autoscaler, Decision, Reason
from tidesight.errors import ConfigError
from tidesight.platforms.platform import Delay, StartUp
from tidesight.platforms.registry import platform


@pytest.mark.parametrize(("start_up_s", "limit_s"), [(0, 10), (1, 10), (2.8, 10), (4, 14), (20, 70)])
def test_cloud_run_holds_requests_for_three_and_a_half_start_ups_and_at_least_ten_seconds(
    start_up_s: float, limit_s: float
) -> None:
    queueing = platform("cloud-run").queueing
    assert queueing.limit_s(start_up_s) == pytest.approx(limit_s)
    assert (queueing.where, queueing.status, queueing.retry_after_s) == ("activator", 429, None)
    assert platform("cloud-run", {"retry_after_s": 2}).queueing.retry_after_s == 2


def test_app_engine_holds_requests_for_ten_seconds_whatever_a_start_takes() -> None:
    assert platform("app-engine-standard").queueing.limit_s(60) == 10
    assert platform("app-engine-standard").queueing.status == 500


def test_gke_and_flexible_hold_nothing() -> None:
    for name in ("gke", "app-engine-flexible"):
        assert platform(name).queueing.limit_s(60) == 0
        assert platform(name).queueing.status == 503


@given(st.floats(0.1, 100), st.floats(1.01, 10), st.floats(0, 1), st.floats(0, 1))
def test_a_delay_is_typical_in_the_middle_and_slow_one_time_in_twenty(
    typical_s: float, factor: float, one: float, other: float
) -> None:
    delay = Delay(typical_s, typical_s * factor)
    assert delay.quantile_s(0.5) == pytest.approx(typical_s)
    assert delay.quantile_s(0.95) == pytest.approx(typical_s * factor)
    assert 0 < delay.quantile_s(min(one, other)) <= delay.quantile_s(max(one, other)) < float("inf")


def test_a_delay_without_spread_is_a_constant() -> None:
    assert {Delay(3, 3).quantile_s(part) for part in (0, 0.2, 1)} == {3}
    assert Delay(0, 5).quantile_s(0.9) == 0


def test_instances_beyond_the_warm_machines_wait_for_one() -> None:
    start_up = StartUp(Delay(3, 3), Delay(120, 120), warm=2)
    assert [start_up.delays_s(present, Random(1).random) for present in range(4)] == [
        (0, 3), (0, 3), (120, 3), (120, 3),
    ]  # fmt: skip
    found = platform("gke", {"warm_nodes": 2, "pods_per_node": 4}).start_up
    assert found.delays_s(7, Random(1).random)[0] == 0
    assert found.delays_s(8, Random(1).random)[0] > 0


@pytest.mark.parametrize(
    ("name", "vcpu", "memory_gib"),
    [("F1", 0.25, 0.375), ("F2", 0.5, 0.75), ("F4", 1, 1.5), ("F4_1G", 1, 3)],
)
def test_app_engine_classes(name: str, vcpu: float, memory_gib: float) -> None:
    found = platform("app-engine-standard", {"instance_class": name}).instance
    assert (found.vcpu, found.memory_gib, found.concurrency) == (vcpu, memory_gib, 10)


@pytest.mark.parametrize(
    ("name", "changes", "remedy"),
    [
        ("gke", {"memory_gib": 0.5}, "set memory_gib to 1 to 6.5"),
        ("gke", {"vcpu": 0.25}, "Autopilot would raise"),
        ("gke", {"pod_start_s": 20}, "raise pod_start_slow_s"),
        ("gke", {"node_start_s": 900}, "raise node_start_slow_s"),
        ("gke", {"min_instances": 0}, "expected at least 1"),
        ("cloud-run", {"vcpu": 0.5}, "set max_concurrency to 1"),
        ("cloud-run", {"vcpu": 3}, "1, 2, 4, 6, 8"),
        ("cloud-run", {"vcpu": 1.5}, "1, 2, 4, 6, 8"),
        ("cloud-run", {"vcpu": 4}, "at least 2 GiB"),
        ("cloud-run", {"vcpu": 8, "memory_gib": 3}, "at least 4 GiB"),
        ("cloud-run", {"target_cpu_percent": 96}, "expected 10 to 95"),
        ("cloud-run", {"placing_s": 9}, "raise placing_slow_s"),
        ("app-engine-standard", {"target_cpu_utilization": 0.4}, "expected 0.5 to 0.95"),
        ("app-engine-standard", {"min_pending_latency_s": 11}, "raise max_pending_latency_s"),
        ("app-engine-standard", {"placing_s": 9}, "raise placing_slow_s"),
        ("app-engine-flexible", {"vcpu": 3}, "1 or an even number"),
        ("app-engine-flexible", {"memory_gib": 9}, "with 1 vCPU set 0.5 to 6.1"),
        ("app-engine-flexible", {"min_instances": 0}, "expected 1 to 1500"),
        ("app-engine-flexible", {"machine_s": 400}, "raise machine_slow_s"),
    ],
)
def test_what_cannot_be_is_refused_with_the_remedy(name: str, changes: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ConfigError, match=remedy):
        platform(name, changes)


def test_a_small_pod_is_fine_on_standard_nodes() -> None:
    assert platform("gke", {"vcpu": 0.25, "mode": "standard"}).instance.vcpu == 0.25


# --- Cloud Run's two targets


def fleet(count: int, concurrency: float, cpu_milli: int | None) -> tuple[Instance, ...]:
    usage = {} if cpu_milli is None else {"cpu": cpu_milli}
    return tuple(
        Instance(str(index), concurrency=concurrency, usage_milli=usage, request_milli={"cpu": 1000})
        for index in range(count)
    )


def run(steps: int, count: int, concurrency: float, cpu_milli: int | None, **changes: Any) -> list[Decision]:
    """Decisions on the same load, the count never followed, so that each is that of a steady state."""
    scaling = platform("cloud-run", {"idle_retention_s": 0, **changes}).scaling
    autoscaler = Autoscaler(scaling.build())
    seen = (
        Observation(scaling.tick_s * step, count, fleet(count, concurrency, cpu_milli), queued=0)
        for step in range(steps)
    )
    return [autoscaler.decide(one) for one in seen]


def test_the_larger_of_requests_and_cpu_counts() -> None:
    by_requests = run(20, 1, 24, 100, max_concurrency=20)[-1]  # 24 of 12, CPU 0.1 of 0.6
    assert (by_requests.replicas, by_requests.reason) == (2, Reason.PANIC_MODE)
    by_cpu = run(20, 1, 2, 1500)[-1]  # 2 of 48, CPU 1.5 of 0.6
    assert (by_cpu.replicas, by_cpu.reason) == (3, Reason.TARGET_CPU_UTILIZATION)
    assert by_cpu.inputs["cpu"] == pytest.approx(1.5)
    assert run(20, 1, 2, 1500, target_cpu_percent=95)[-1].replicas == 2


def test_cpu_alone_does_not_keep_an_instance_without_requests() -> None:
    found = run(40, 1, 0, 900)
    assert found[-1].replicas == 0
    assert run(40, 1, 0, 900, min_instances=1)[-1].replicas == 1


def test_without_cpu_figures_requests_decide_alone() -> None:
    assert run(20, 1, 2, None)[-1].replicas == 1


def test_cpu_is_a_mean_over_a_minute() -> None:
    autoscaler = Autoscaler(platform("cloud-run", {"idle_retention_s": 0}).scaling.build())
    found = []
    for step in range(40):
        burst = 3000 if step >= 20 else 300
        found.append(autoscaler.decide(Observation(5.0 * step, 1, fleet(1, 2, burst), queued=0)).replicas)
    assert found[19] == 1
    assert found[20] == 1  # (11 x 0.3 + 3) / 12 is 0.525
    assert found[21] == 2  # (10 x 0.3 + 6) / 12 is 0.75
    assert found[31] == found[-1] == 5


def test_instances_without_a_figure_count_as_the_mean_of_the_others() -> None:
    autoscaler = Autoscaler(platform("cloud-run").scaling.build())
    mixed = (*fleet(1, 2, 1200), Instance("new", concurrency=2))
    assert autoscaler.decide(Observation(0, 2, mixed, queued=0)).inputs["cpu"] == pytest.approx(2.4)


def test_idle_instances_stay_for_fifteen_minutes_then_all_go() -> None:
    scaling = platform("cloud-run", {"max_concurrency": 10}).scaling
    autoscaler, replicas, gone_s = Autoscaler(scaling.build()), 3, None
    for step in range(300):
        now_s = step * scaling.tick_s
        busy = 6.0 if now_s < 100 else 0.0
        replicas = autoscaler.decide(Observation(now_s, replicas, fleet(replicas, busy, 100), queued=0)).replicas
        assert replicas >= 3 or now_s > 900
        if replicas == 0 and gone_s is None:
            gone_s = now_s
    assert gone_s is not None
    assert 1000 <= gone_s <= 1100  # load until 100 s, in the mean for 60 s more, then 900 s


def test_a_waiting_request_starts_an_instance_from_zero_and_the_queue_is_always_there() -> None:
    scaling = platform("cloud-run").scaling
    assert scaling.on_demand
    decision = Autoscaler(scaling.build()).decide(Observation(0, 0, (), queued=1))
    assert decision.replicas == 1
    assert decision.activator
