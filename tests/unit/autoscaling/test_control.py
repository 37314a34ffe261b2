"""One tick, on a fleet that is a number."""

import pytest

from tidesight.autoscaling.behavior import Behavior, Rules, ScalingPolicy
from tidesight.autoscaling.control import tick
from tidesight.autoscaling.hpa import HpaSettings, Metric
from tidesight.autoscaling.observation import Instance, Observation
from tidesight.autoscaling.policy import Autoscaler, Decision, Reason
from tidesight.autoscaling.registry import hpa


class Fleet:
    """Instances that are there as soon as they are wanted."""

    def __init__(self, replicas: int) -> None:
        self.now_s, self.replicas, self.queued, self.broken = 0.0, replicas, 0.0, False
        self.resized: list[int] = []

    def observe(self) -> Observation:
        instances = tuple(Instance(str(index)) for index in range(self.replicas))
        return Observation(
            self.now_s, self.replicas, None if self.queued < 0 else instances, queued=max(self.queued, 0)
        )

    def resize(self, replicas: int) -> None:
        if self.broken:
            raise OSError("no room")
        self.replicas = replicas
        self.resized.append(replicas)


def scaler() -> Autoscaler:
    one_a_minute = Rules((ScalingPolicy("Pods", 1, 60),), stabilization_window_s=0)
    queue = Metric("External", "queued", 1, "AverageValue")
    cpu = Metric("Resource", "cpu", 50, "Utilization")
    return Autoscaler(hpa(HpaSettings(1, 10, (queue, cpu), Behavior(one_a_minute, one_a_minute))))


def test_a_tick_observes_decides_and_resizes() -> None:
    fleet, autoscaler = Fleet(2), scaler()
    fleet.queued = 9
    assert tick(fleet, autoscaler).replicas == 3
    assert (fleet.replicas, fleet.resized) == (3, [3])


def test_nothing_is_resized_to_what_it_is_or_without_a_decision() -> None:
    fleet, autoscaler = Fleet(3), scaler()
    fleet.queued = 3
    assert tick(fleet, autoscaler).valid
    fleet.queued = 1  # the CPU is not known: no scale-down
    assert not tick(fleet, autoscaler).valid
    assert fleet.resized == []


def test_an_invalid_decision_is_not_applied_whatever_its_count() -> None:
    class Unsure:
        def initial(self, first: Observation) -> None:
            """Nothing."""

        def decide(self, seen: Observation, memory: None) -> tuple[Decision, None]:
            return Decision(9, Reason.NO_DATA, valid=False), None

    fleet = Fleet(3)
    tick(fleet, Autoscaler(Unsure()))
    assert fleet.replicas == 3


def test_a_tick_that_failed_uses_up_no_rate() -> None:
    fleet, autoscaler = Fleet(2), scaler()
    fleet.queued, fleet.broken = 9, True
    with pytest.raises(OSError, match="no room"):
        tick(fleet, autoscaler)
    fleet.broken = False
    fleet.now_s = 15
    assert tick(fleet, autoscaler).replicas == 3
    fleet.now_s = 30
    assert tick(fleet, autoscaler).replicas == 3  # the next only after a minute
    fleet.now_s = 75
    assert tick(fleet, autoscaler).replicas == 4
