"""OpenTelemetry spans of a real instance, received by a real OTLP collector; and what one that is down costs: nothing."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.conftest import Server, encode, start_server

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs tidesight[otel]")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
PICTURE = encode(np.full((64, 64, 3), 100, np.uint8), ".jpg")
JPEG = {"Content-Type": "image/jpeg"}
FAKE = ("--engine", "fake", "--model", "fake-20ms", "--traces", "otlp")
LIMIT_S = 20
STAGES = ["body", "queue", "parse", "decode", "preprocess", "inference", "postprocess"]


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP, as an OpenTelemetry Collector does."""

    daemon_threads = True

    def __init__(self, delay_s: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), _Taker)
        self.delay_s = delay_s
        self.spans: list[Span] = []
        self.resources: list[dict[str, str]] = []
        self.asked = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Taker(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.set()
        time.sleep(self.server.delay_s)
        assert (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.server.resources.append(attributes(of_resource.resource))
            for scope in of_resource.scope_spans:
                self.server.spans.extend(scope.spans)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def collecting(delay_s: float = 0.0) -> Iterator[Collector]:
    with Collector(delay_s) as collector:
        threading.Thread(target=collector.serve_forever, args=(0.02,), daemon=True).start()
        yield collector
        collector.shutdown()


def attributes(holder: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in holder.attributes}


def detect(server: Server, headers: dict[str, str] | None = None, body: bytes = PICTURE) -> httpx.Response:
    sent = {**JPEG, **(headers or {})}
    return httpx.post(f"{server.url}/v1/detect", content=body, headers=sent, timeout=LIMIT_S)


def test_a_request_is_a_span_with_its_stages_in_it(tmp_path: Path) -> None:
    with collecting() as collector:
        server = start_server(tmp_path, *FAKE, "--log-format", "json", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
        before_ns = time.time_ns()
        named = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "rojo=1", "X-Request-Id": "cam-7"}
        assert detect(server, named).status_code == 200
        assert detect(server, body=b"no picture").status_code == 400
        after_ns = time.time_ns()
        assert server.stop() == 0  # the spans were still waiting for their batch
    requests = {span.kind: span for span in collector.spans if span.trace_id.hex() == TRACE}
    request = requests[Span.SPAN_KIND_SERVER]
    stages = [span for span in collector.spans if span.parent_span_id == request.span_id]
    assert (request.name, request.parent_span_id.hex(), request.trace_state) == ("POST /v1/detect", SPAN, "rojo=1")
    assert [span.name for span in stages] == STAGES
    assert {span.trace_id.hex() for span in stages} == {TRACE}
    assert before_ns <= request.start_time_unix_nano < request.end_time_unix_nano <= after_ns
    at_ns = request.start_time_unix_nano
    for span in stages:
        assert span.start_time_unix_nano == at_ns
        at_ns = span.end_time_unix_nano
    assert at_ns <= request.end_time_unix_nano
    inference = stages[STAGES.index("inference")]
    assert inference.end_time_unix_nano - inference.start_time_unix_nano >= 20_000_000
    known = attributes(request)
    assert (known["http.request.method"], known["http.response.status_code"]) == ("POST", 200)
    assert known["tidesight.request_id"] == "cam-7"
    assert known["http.request.body.size"] == len(PICTURE)
    assert f'"trace_id":"{TRACE}","span_id":"{request.span_id.hex()}"' in server.log.read_text()

    (bad,) = (span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER and span is not request)
    assert (bad.parent_span_id, attributes(bad)["http.response.status_code"]) == (b"", 400)
    assert bad.trace_id.hex() != TRACE
    assert bad.status.code == Status.STATUS_CODE_UNSET  # a caller's mistake
    assert {one["service.name"] for one in collector.resources} == {"tidesight"}


def test_what_the_caller_does_not_record_is_not_recorded_and_the_service_can_be_named(tmp_path: Path) -> None:
    with collecting() as collector:
        server = start_server(tmp_path, *FAKE, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_SERVICE_NAME="cameras")
        assert detect(server, {"traceparent": f"00-{TRACE}-{SPAN}-00"}).status_code == 200
        assert detect(server, {"traceparent": f"00-{TRACE}-{SPAN}-01"}).status_code == 200
        assert server.stop() == 0
    assert len([span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER]) == 1
    assert len(collector.spans) == 1 + len(STAGES)
    assert {one["service.name"] for one in collector.resources} == {"cameras"}


@pytest.mark.parametrize("state", ["down", "slow"])
def test_a_collector_that_does_not_take_them_costs_spans_and_nothing_else(tmp_path: Path, state: str) -> None:
    with collecting(delay_s=60) as collector:
        url = collector.url if state == "slow" else "http://127.0.0.1:9"
        server = start_server(
            tmp_path, *FAKE, "--workers", "1",
            OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_BSP_MAX_QUEUE_SIZE="64", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="8",
            OTEL_BSP_SCHEDULE_DELAY="50",
        )  # fmt: skip
        took_s = []
        with httpx.Client(timeout=LIMIT_S) as client:
            for _ in range(40):  # 320 spans, for a queue of 64
                began = time.perf_counter()
                assert client.post(f"{server.url}/v1/detect", content=PICTURE, headers=JPEG).status_code == 200
                took_s.append(time.perf_counter() - began)
        assert collector.asked.is_set() == (state == "slow")
        assert sorted(took_s)[len(took_s) // 2] < 0.2
        began = time.perf_counter()
        assert server.stop() == 0
        assert time.perf_counter() - began < 5
    assert "Traceback" not in server.log.read_text()


def test_without_the_extra_the_start_says_what_to_install(tmp_path: Path) -> None:
    blocked = "import sys; sys.modules['opentelemetry.sdk'] = None; from tidesight.cli import main; main()"
    command = [sys.executable, "-c", blocked, "serve", "--port", "0", *FAKE]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    (line,) = (line for line in ended.stderr.splitlines() if line.startswith("tidesight: "))
    assert "pip install 'tidesight[otel]'" in line


def test_without_traces_nothing_of_it_is_imported(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as output:
        command = [sys.executable, "-X", "importtime", "-m", "tidesight", "serve", "--port", "0", *FAKE[:4]]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=output, stderr=output)
    until = time.monotonic() + LIMIT_S
    while "ready:" not in log.read_text() and time.monotonic() < until:
        time.sleep(0.05)
    process.terminate()
    assert process.wait(LIMIT_S) == 0
    imported = log.read_text()
    assert "tidesight.serving.tracing" in imported
    assert "opentelemetry" not in imported


def test_a_stored_result_holds_its_place_in_the_caller_s_trace(tmp_path: Path) -> None:
    server = start_server(tmp_path, *FAKE[:4], "--store", str(tmp_path / "results"))
    url = f"{server.url}/v1/detect?store=true"
    traceparents = []
    for named in ({"traceparent": f"00-{TRACE}-{SPAN}-01"}, {"traceparent": "nonsense"}, {}):
        reply = httpx.post(url, content=PICTURE, headers={**JPEG, **named}, timeout=LIMIT_S).json()
        stored = Path(reply["result"]["detections_url"].removeprefix("file://"))
        traceparents.append(json.loads(stored.read_text()).get("traceparent"))
    assert traceparents == [f"00-{TRACE}-{SPAN}-01", None, None]
    assert server.stop() == 0
