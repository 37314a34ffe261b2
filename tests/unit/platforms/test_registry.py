"""Setting the numbers of a platform: texts, files, and what is wrong with them."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tidesight.errors import ConfigError
from tidesight.platforms.platform import Platform
from tidesight.platforms.registry import PLATFORMS, parse_assignments, platform, read_overrides


def value(found: Platform, key: str) -> object:
    return {one.key: one.value for one in found.numbers}[key]


def test_numbers_are_set_and_marked() -> None:
    found = platform("cloud-run", {"max_instances": 3, "price.requests_m": Decimal("0.5"), "vcpu": 2})
    assert found.scaling.bounds.most == 3
    assert found.prices["requests_m"] == Decimal("0.5")
    assert found.instance.vcpu == 2.0
    changed = {one.key: one.default for one in found.numbers if one.overridden}
    assert changed == {"max_instances": 20, "vcpu": 1.0, "price.requests_m": Decimal("0.40")}


def test_texts_are_json_where_they_can_be() -> None:
    found = parse_assignments(["max_instances=3", "billing=instance", "free_tier=true", "price.x = 0.1"])
    assert found == {"max_instances": 3, "billing": "instance", "free_tier": True, "price.x": Decimal("0.1")}


@pytest.mark.parametrize("assignments", [["max_instances"], ["=3"], ["vcpu=1", "vcpu=2"]])
def test_texts_that_set_nothing_or_the_same_twice_are_refused(assignments: list[str]) -> None:
    with pytest.raises(ConfigError, match="--set"):
        parse_assignments(assignments)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("cloud-run", {"max_instance": 3}, "did you mean max_instances"),
        ("cloud-run", {"price.request_m": 3}, r"did you mean price\.requests_m"),
        ("cloud-run", {"zzz": 3}, "unknown key 'zzz'; there are: billing, "),
        ("cloudrun", {}, "did you mean cloud-run"),
        ("nimbus", {}, "there are: gke, cloud-run"),
        ("tidesight.platforms.gke:nothing", {}, "expected module:function"),
        ("tidesight.platforms.billing:span", {}, "expected module:function"),
        ("gke", {"max_instances": 2.5}, "expected a whole number, got 2.5"),
        ("gke", {"max_instances": True}, "expected a whole number, got True"),
        ("gke", {"max_instances": "many"}, "expected a whole number, got 'many'"),
        ("gke", {"tick_s": "soon"}, "expected a number, got 'soon'"),
        ("gke", {"tick_s": True}, "expected a number"),
        ("gke", {"tick_s": float("nan")}, "expected 1 to 300, got nan"),
        ("gke", {"node_idle_s": float("inf")}, "expected at least 0, got inf"),
        ("gke", {"mode": 1}, "expected a name, got 1"),
        ("gke", {"mode": "spot"}, "expected one of autopilot, standard"),
        ("gke", {"free_tier": 1}, "expected true or false"),
        ("gke", {"price.cluster_h": -1}, r"price\.cluster_h: expected at least 0, got -1"),
        ("gke", {"price.cluster_h": float("nan")}, "expected at least 0, got NaN"),
        ("gke", {"price.cluster_h": [1]}, "expected a number"),
    ],
)
def test_what_is_wrong_is_said(name: str, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        platform(name, overrides)


def test_a_file_sets_numbers_by_platform(tmp_path: Path) -> None:
    file = tmp_path / "tidesight.toml"
    file.write_text(
        "[serve]\nport = 1\n[platform.gke]\nmax_instances = 3\nvcpu = 0.5\nmemory_gib = 1\n"
        "[platform.gke.price]\ncluster_h = 0.2\n[platform.cloud-run]\nvcpu = 2\n"
    )
    found = platform("gke", read_overrides(file, "gke"))
    assert (found.scaling.bounds.most, found.instance.vcpu) == (3, 0.5)
    assert found.prices["cluster_h"] == Decimal("0.2")
    assert read_overrides(file, "cloud-run") == {"vcpu": 2}
    assert read_overrides(file, "app-engine-standard") == {}


def test_a_price_in_a_file_is_exact(tmp_path: Path) -> None:
    file = tmp_path / "tidesight.toml"
    file.write_text('[platform.gke]\n"price.cluster_h" = 0.12345678901234567890123')
    assert platform("gke", read_overrides(file, "gke")).prices["cluster_h"] == Decimal("0.12345678901234567890123")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[platform.gkee]\nvcpu = 1", "did you mean gke"),
        ("platform = 3", "expected tables"),
        ("[platform]\ngke = 3", "expected tables"),
        ("[platform.gke", "cannot read"),
        ("\x00", "cannot read"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "tidesight.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as refused:
        read_overrides(file, "gke")
    assert "tidesight.toml" in refused.value.detail
    with pytest.raises(ConfigError, match="cannot read"):
        read_overrides(tmp_path / "missing.toml", "gke")


def test_a_platform_from_outside_has_a_table_of_its_own(tmp_path: Path) -> None:
    outside = PLATFORMS["gke"]
    assert platform(outside, {"max_instances": 3}).scaling.bounds.most == 3
    file = tmp_path / "t.toml"
    file.write_text(f'[platform."{outside}"]\nmax_instances = 4')
    assert read_overrides(file, outside) == {"max_instances": 4}
