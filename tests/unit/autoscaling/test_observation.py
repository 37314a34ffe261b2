"""What counts of what was seen."""

import pytest

from tidesight.autoscaling.observation import Container, Instance, Observation, Phase


@pytest.mark.parametrize(
    ("phase", "ready", "deleting", "serves"),
    [
        ("Running", True, False, True),
        ("Running", True, True, False),
        ("Running", False, False, False),
        ("Running", None, False, False),
        ("Pending", True, False, False),
        ("Failed", True, False, False),
    ],
)
def test_what_serves(phase: Phase, ready: bool | None, deleting: bool, serves: bool) -> None:
    assert Instance("a", phase=phase, ready=ready, deleting=deleting).serves is serves


def test_what_exists() -> None:
    fleet = (Instance("a"), Instance("b", ready=False), Instance("c", deleting=True), Instance("d", phase="Failed"))
    assert Observation(0, 5, fleet).existing_replicas == 2
    assert Observation(0, 5, fleet, existing=3).existing_replicas == 3
    assert Observation(0, 5).existing_replicas == 5
    assert Observation(0, 5).serving is None
    assert Observation(0, 5, ()).serving == ()


def test_cpu_is_a_part_of_what_was_promised() -> None:
    assert Instance("a", usage_milli={"cpu": 500}, request_milli={"cpu": 2000}).cpu_ratio == 0.25
    assert Instance("a", usage_milli={"cpu": 500}).cpu_ratio is None
    assert Instance("a", request_milli={"cpu": 500}).cpu_ratio is None
    setup = Container("setup", {"cpu": 1000}, {"cpu": 1000}, "init")
    parts = (setup, Container("a", {"cpu": 300}, {"cpu": 500}), Container("b", {"cpu": 200}, {"cpu": 500}, "sidecar"))
    assert Instance("a", containers=parts).cpu_ratio == 0.5
    assert Instance("a", containers=(*parts, Container("c"))).cpu_ratio is None


def test_metrics_by_name() -> None:
    one = Instance("a", concurrency=0.0015, metrics_milli={"depth": 7})
    assert (one.metric_milli("concurrency"), one.metric_milli("depth")) == (2, 7)
    assert (one.metric_milli("requests_per_s"), one.metric_milli("other")) == (None, None)
    seen = Observation(0, 1, queued=2.5, externals_milli={"jobs": (1, 2)})
    assert (seen.external_milli("queued"), seen.external_milli("jobs")) == ((2500,), (1, 2))
    assert (seen.external_milli("buffered"), seen.external_milli("other")) == ((), ())
    assert Observation(0, 1, queued=2.5, externals_milli={"queued": (9,)}).external_milli("queued") == (9,)
