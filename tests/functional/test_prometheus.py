"""The metrics page as a real Prometheus reads it."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.conftest import Server, encode, start_server
from tidesight.telemetry import CATALOGUE

PICTURE = encode(np.full((64, 64, 3), 100, np.uint8), ".jpg")
JPEG = {"Content-Type": "image/jpeg"}
LIMIT_S = 30
GOOD, BAD, UNKNOWN = 12, 3, 2
STAGES = {"body", "queue", "parse", "decode", "preprocess", "inference", "postprocess"}

pytestmark = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="needs prometheus and promtool: apt install prometheus",
)


@dataclass
class Prometheus:
    """A running Prometheus."""

    url: str

    def query(self, expression: str) -> dict[str, float]:
        """An instant query: values by labels, those of the target left out."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=LIMIT_S).json()
        assert answer["status"] == "success", answer
        return {_labels(one["metric"]): float(one["value"][1]) for one in answer["data"]["result"]}

    def until(self, expression: str, holds: Callable[[dict[str, float]], bool]) -> dict[str, float]:
        """Repeat a query until its result is right; the result."""
        deadline = time.monotonic() + LIMIT_S
        while not holds(found := self.query(expression)):
            assert time.monotonic() < deadline, f"{expression}: {found}"
            time.sleep(0.2)
        return found


def _labels(metric: dict[str, str]) -> str:
    return ",".join(f"{k}={v}" for k, v in sorted(metric.items()) if k not in ("__name__", "instance", "job"))


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An instance whose every picture takes 20 ms, so that refusals can be brought about."""
    arguments = ("--engine", "fake", "--model", "fake-20ms", "--workers", "1")
    running = start_server(tmp_path_factory.mktemp("instance"), *arguments)
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, instance: Server) -> Iterator[Prometheus]:
    """A Prometheus that scrapes the instance every second."""
    folder = tmp_path_factory.mktemp("prometheus")
    config = folder / "prometheus.yml"
    host, port = instance.address
    job = {"job_name": "tidesight", "static_configs": [{"targets": [f"{host}:{port}"]}]}
    every_second = {"scrape_interval": "1s", "scrape_timeout": "1s"}
    config.write_text(json.dumps({"global": every_second, "scrape_configs": [job]}))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], cwd=folder, stdout=log, stderr=log)
    try:
        _wait_until_ready(f"http://{address}/-/ready", process, folder / "log")
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(LIMIT_S)


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


@pytest.fixture(scope="module")
def traffic(instance: Server, prometheus: Prometheus) -> int:
    """Requests good, bad and wrong, some refused; how many of the refused there were. Scraped once before any."""
    prometheus.until("up", lambda found: found == {"": 1})
    assert prometheus.query("tidesight_requests_total") == {}
    refused = 0
    with httpx.Client(base_url=instance.url, headers=JPEG, timeout=LIMIT_S) as client:
        for _ in range(GOOD):
            assert client.post("/v1/detect", content=PICTURE).status_code == 200
        for _ in range(BAD):
            assert client.post("/v1/detect", content=b"no picture").status_code == 400
        for _ in range(UNKNOWN):
            assert client.post("/v1/detect?no_such_option=1", content=PICTURE).status_code == 422
        while refused < 2:
            response = client.post("/v1/detect", content=PICTURE, headers={"X-Request-Timeout-Ms": "1"})
            assert response.status_code == 429
            refused += 1
    return refused


def test_requests_by_status_are_what_was_sent(prometheus: Prometheus, traffic: int) -> None:
    sent = {"status=200": GOOD, "status=400": BAD, "status=422": UNKNOWN, "status=429": traffic}
    prometheus.until("tidesight_requests_total", lambda found: found == sent)
    by_reason = prometheus.query("sum by (reason) (tidesight_refused_total)")
    assert sum(by_reason.values()) == traffic
    assert set(by_reason) <= {"reason=deadline", "reason=expired"}
    assert prometheus.query("up") == {"": 1}


def test_quantiles_over_the_stages(prometheus: Prometheus, traffic: int) -> None:
    prometheus.until("tidesight_request_duration_seconds_count", lambda found: found == {"": GOOD})
    by_stage = "histogram_quantile(0.5, sum by (le, stage) (tidesight_stage_duration_seconds_bucket))"
    found = prometheus.query(by_stage)
    assert set(found) == {f"stage={stage}" for stage in STAGES}
    assert 0.02 <= found["stage=inference"] < 0.1
    assert 0 < found["stage=queue"] < 0.01
    whole = prometheus.query("histogram_quantile(0.5, tidesight_request_duration_seconds_bucket)")[""]
    assert found["stage=inference"] * 0.5 < whole < 0.2
    # What a dashboard asks, which needs two scrapes of a series that grows.
    url = f"{target(prometheus)}/v1/detect"
    for _ in range(3):
        time.sleep(1)
        assert httpx.post(url, content=PICTURE, headers=JPEG).status_code == 200
    rate = 'sum(rate(tidesight_requests_total{status="200"}[10s]))'
    prometheus.until(rate, lambda found: found.get("", 0) > 0)


def target(prometheus: Prometheus) -> str:
    """The instance, as Prometheus knows it."""
    (known,) = httpx.get(f"{prometheus.url}/api/v1/targets").json()["data"]["activeTargets"]
    assert known["health"] == "up", known["lastError"]
    return str(known["scrapeUrl"].removesuffix("/metrics"))


def test_help_and_types_arrive(prometheus: Prometheus, traffic: int) -> None:
    known: dict[str, list[dict[str, Any]]] = httpx.get(f"{prometheus.url}/api/v1/metadata").json()["data"]
    for metric in CATALOGUE:
        assert [(one["type"], one["help"]) for one in known[metric.name]] == [(metric.kind, metric.help)]


def test_what_runs_can_be_joined_to_what_it_does(prometheus: Prometheus, traffic: int) -> None:
    joined = "tidesight_ready * on (instance) group_left (model, engine) tidesight_model_info"
    assert prometheus.query(joined) == {"engine=fake,model=fake-20ms": 1}
    assert prometheus.query("tidesight_queue_length + tidesight_requests_in_flight") == {"": 0}
    assert prometheus.query("process_resident_memory_bytes > 1e7")
    assert prometheus.query("process_cpu_seconds_total > 0.1")
    assert prometheus.query("tidesight_connections >= 1")  # the one it is asked on
    assert prometheus.query("tidesight_received_bytes_total > 0")


def test_promtool_has_nothing_to_say(instance: Server, traffic: int) -> None:
    page = httpx.get(f"{instance.url}/metrics").content
    checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
    doubtful = b"# TYPE tidesight_requests gauge\ntidesight_requests_total 1\n# TYPE a_ms counter\na_ms 1\n"
    assert subprocess.run(["promtool", "check", "metrics"], input=doubtful, capture_output=True, check=False).returncode


def test_the_page_is_quick_and_short(instance: Server, traffic: int) -> None:
    with httpx.Client(base_url=instance.url) as client:
        took_s, page = [], ""
        for _ in range(20):
            began = time.perf_counter()
            page = client.get("/metrics").text
            took_s.append(time.perf_counter() - began)
    assert min(took_s) < 0.02
    assert len([line for line in page.splitlines() if not line.startswith("#")]) < 400
    assert "_created" not in page
