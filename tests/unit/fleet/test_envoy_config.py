"""Envoy's configuration as a value: what is a matter of arithmetic and of files; what it does is a functional test."""

import json
from pathlib import Path
from typing import Any

import pytest

from tidesight.errors import ConfigError
from tidesight.fleet.endpoints import Endpoint, write_endpoints
from tidesight.fleet.envoy_admin import FrontStats
from tidesight.fleet.envoy_config import bootstrap
from tidesight.fleet.front import FrontFiles, FrontSettings

ACTIVATOR = Endpoint("127.0.0.1", 9000)


def clusters(activator: Endpoint | None) -> dict[str, dict[str, Any]]:
    made = bootstrap(FrontSettings(), FrontFiles(Path("folder")), activator)
    return {cluster["name"]: cluster for cluster in made["static_resources"]["clusters"]}


def members(found: dict[str, dict[str, Any]]) -> list[str]:
    return list(found["fleet"]["cluster_type"]["typed_config"]["clusters"])


def test_the_activator_comes_after_the_instances() -> None:
    assert members(clusters(ACTIVATOR)) == ["instances", "activator"]


def test_without_an_activator_there_are_only_the_instances() -> None:
    assert members(clusters(None)) == ["instances"]
    assert "activator" not in clusters(None)


def test_it_is_plain_data() -> None:
    made = bootstrap(FrontSettings(), FrontFiles(Path("folder")), ACTIVATOR)
    assert json.loads(json.dumps(made)) == made


def test_the_list_of_instances_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    write_endpoints(path, "instances", [Endpoint("::1", 2), Endpoint("127.0.0.1", 1), Endpoint("::1", 2)], "7")
    first = path.stat().st_ino
    written = json.loads(path.read_text())
    assert written["version_info"] == "7"
    found = [
        (address["address"], address["port_value"])
        for group in written["resources"][0]["endpoints"]
        for one in group["lb_endpoints"]
        for address in [one["endpoint"]["address"]["socket_address"]]
    ]
    assert found == [("127.0.0.1", 1), ("::1", 2)]
    write_endpoints(path, "instances", [], "8")
    assert path.stat().st_ino != first  # moved into place, not written in place
    assert [one.name for one in tmp_path.iterdir()] == ["instances.json"]


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("127.0.0.1:80", Endpoint("127.0.0.1", 80)),
        ("http://127.0.0.1:80/", Endpoint("127.0.0.1", 80)),
        ("[::1]:80", Endpoint("::1", 80)),
    ],
)
def test_an_endpoint_from_text_and_back(text: str, endpoint: Endpoint) -> None:
    assert Endpoint.parse(text) == endpoint
    assert Endpoint.parse(str(endpoint)) == endpoint


def test_an_endpoint_needs_a_port() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        Endpoint.parse("localhost")


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", 65536), ("port", -1), ("timeout_s", 0), ("max_requests", 0), ("threads", 0), ("timeout_s", float("nan"))],
)
def test_settings_outside_their_range(name: str, value: float) -> None:
    with pytest.raises(ConfigError) as refused:
        FrontSettings(**{name: value})  # type: ignore[arg-type]
    assert refused.value.field == name


def stats(*counts: int, epoch: int = 0) -> FrontStats:
    """Cumulative counts up to 10 ms, 20 ms and 50 ms."""
    latency = tuple(zip((0.01, 0.02, 0.05), counts, strict=True))
    return FrontStats(epoch, 0, {}, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, latency)


def test_a_percentile_is_interpolated_in_its_bucket() -> None:
    seen = stats(10, 30, 40)
    assert seen.latency_s(0.25) == pytest.approx(0.01)
    assert seen.latency_s(0.5) == pytest.approx(0.015)
    assert seen.latency_s(1.0) == pytest.approx(0.05)


def test_a_percentile_of_what_came_since() -> None:
    assert stats(10, 30, 40).latency_s(0.5, since=stats(10, 10, 20)) == pytest.approx(0.015)
    assert stats(10, 30, 40).latency_s(0.5, since=stats(10, 30, 40)) is None
    assert stats(0, 0, 0).latency_s(0.5) is None


def test_counts_of_an_earlier_start_are_not_taken_off() -> None:
    assert stats(10, 30, 40, epoch=1).latency_s(0.25, since=stats(9, 29, 39)) == pytest.approx(0.01)
