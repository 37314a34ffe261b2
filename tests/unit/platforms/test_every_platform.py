"""What holds for every platform, whatever it is; a new one in the table is picked up here."""

import re
import tomllib
from datetime import date
from decimal import Decimal
from importlib.resources import files
from random import Random
from typing import get_args

import pytest

from tidesight.autoscaling.observation import Observation
from tidesight.autoscaling.policy import Autoscaler
from tidesight.errors import ConfigError
from tidesight.platforms.numbers import Certainty, Range
from tidesight.platforms.platform import Platform
from tidesight.platforms.prices import price_list
from tidesight.platforms.registry import PLATFORMS, platform

every_platform = pytest.mark.parametrize("name", PLATFORMS)


@every_platform
def test_every_number_has_a_source_a_day_and_a_certainty(name: str) -> None:
    numbers = platform(name).numbers
    assert len({one.key for one in numbers}) == len(numbers) > 15
    for one in numbers:
        assert one.source.where, one.key
        assert date.fromisoformat(one.source.as_of) >= date(2026, 11, 21), one.key
        assert one.source.certainty in get_args(Certainty), one.key
        assert one.about, one.key
        assert (one.source.certainty == "chosen") == (one.source.where == "Tidesight"), one.key
        if one.key.endswith("_s") and not one.key.startswith("price."):
            assert one.unit == "s", one.key


@every_platform
def test_every_default_is_allowed_and_every_range_refuses(name: str) -> None:
    for one in platform(name).numbers:
        assert not one.overridden
        if isinstance(one.allowed, Range):
            assert one.value in one.allowed
            if one.allowed.least is not None:
                kind = type(one.default)
                below = kind(one.allowed.least - 1) if kind is not float else float(one.allowed.least) - 0.5
                with pytest.raises(ConfigError, match=re.escape(one.key)):
                    platform(name, {one.key: below})
        elif one.allowed is not None:
            assert one.value in one.allowed
            with pytest.raises(ConfigError, match="expected one of"):
                platform(name, {one.key: "nothing-of-the-kind"})


@every_platform
def test_every_number_can_be_set_to_its_own_value(name: str) -> None:
    found = platform(name)
    again = platform(name, {one.key: one.value for one in found.numbers})
    assert again == found


@every_platform
def test_the_policy_is_built_and_keeps_the_bounds(name: str) -> None:
    found = platform(name, {"min_instances": 2, "max_instances": 3})
    assert (found.scaling.bounds.least, found.scaling.bounds.most) == (2, 3)
    for replicas in (1, 2, 3, 9):
        decision = Autoscaler(found.scaling.build()).decide(Observation(0, replicas, (), queued=500, queue_wait_s=60))
        assert not decision.valid or 2 <= decision.replicas <= 3


@every_platform
def test_bounds_that_cross_are_refused_with_the_remedy(name: str) -> None:
    with pytest.raises(ConfigError, match="lower min_instances or raise max_instances"):
        platform(name, {"min_instances": 4, "max_instances": 3})


@every_platform
def test_a_start_up_depends_on_the_draw_alone(name: str) -> None:
    start_up = platform(name).start_up
    first, second = ([start_up.delays_s(present, Random(7).random) for present in range(9)] for _ in range(2))
    assert first == second
    assert all(machine_s >= 0 and instance_s > 0 for machine_s, instance_s in first)


@every_platform
def test_a_request_that_is_held_nowhere_is_not_held(name: str) -> None:
    queueing = platform(name).queueing
    assert queueing.status in (429, 500, 503)
    assert (queueing.where == "activator") == (queueing.limit_s(60) > 0) == (queueing.most > 0)


@every_platform
def test_a_platform_is_a_value(name: str) -> None:
    found = platform(name)
    assert found == platform(name)
    assert found != platform(name, {"max_instances": 3})
    assert hash(found.settings) == hash(platform(name).settings)


def test_the_price_file_is_complete_and_every_table_is_of_a_platform() -> None:
    text = (files("tidesight.platforms") / "prices.toml").read_text()
    tables = tomllib.loads(text)
    assert set(tables) == set(PLATFORMS)
    for table in tables.values():
        for name, entry in table.items():
            assert set(entry) == {"value", "unit", "about", "source", "as_of", "certainty"}, name
            assert entry["value"] > 0


def test_prices_are_exact_decimals() -> None:
    assert price_list("cloud-run")["request_vcpu_s"] == Decimal("0.000024")
    assert price_list("gke")["autopilot_gib_h"] == Decimal("0.0049225")
    assert price_list("app-engine-standard")["f4_1g_h"] == Decimal("0.30")
    assert price_list("nowhere").numbers == ()
    with pytest.raises(KeyError):
        price_list("gke")["nothing"]


def test_what_a_user_asked_for_is_the_default() -> None:
    def values(name: str) -> dict[str, object]:
        return {one.key: one.value for one in platform(name).numbers}

    gke, run, standard = values("gke"), values("cloud-run"), values("app-engine-standard")
    assert (gke["target_cpu_percent"], gke["tick_s"]) == (60, 15.0)
    assert (run["target_cpu_percent"], run["target_concurrency_percent"], run["max_concurrency"]) == (60.0, 60.0, 80)
    assert (run["queue_at_least_s"], run["queue_start_ups"], run["status"]) == (10.0, 3.5, 429)
    assert (run["idle_retention_s"], run["grace_s"], run["min_instances"]) == (900.0, 10.0, 0)
    assert (standard["queue_s"], standard["status"], standard["idle_charged_s"]) == (10.0, 500, 900.0)


def platforms_differ(first: Platform, second: Platform) -> bool:
    return bool(first.scaling.settings != second.scaling.settings)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("gke", "target_cpu_percent", 50),
        ("gke", "stabilization_s", 60),
        ("gke", "tolerance", 0.2),
        ("gke", "tick_s", 30),
        ("gke", "cpu_initialization_s", 10),
        ("gke", "initial_readiness_s", 10),
        ("cloud-run", "max_concurrency", 4),
        ("cloud-run", "target_concurrency_percent", 90),
        ("cloud-run", "target_cpu_percent", 90),
        ("cloud-run", "idle_retention_s", 60),
        ("cloud-run", "stable_window_s", 30),
        ("cloud-run", "panic_window_percentage", 20),
        ("cloud-run", "panic_threshold_percentage", 300),
        ("app-engine-standard", "max_concurrent_requests", 4),
        ("app-engine-standard", "target_cpu_utilization", 0.9),
        ("app-engine-standard", "target_throughput_utilization", 0.9),
        ("app-engine-standard", "min_pending_latency_s", 1),
        ("app-engine-standard", "max_pending_latency_s", 5),
        ("app-engine-standard", "min_idle_instances", 2),
        ("app-engine-standard", "idle_retention_s", 60),
        ("app-engine-flexible", "target_utilization", 0.7),
        ("app-engine-flexible", "cool_down_period_s", 60),
        ("app-engine-flexible", "stabilization_s", 60),
    ],
)
def test_what_is_set_reaches_the_policy(name: str, key: str, value: float) -> None:
    assert platforms_differ(platform(name, {key: value}), platform(name))
