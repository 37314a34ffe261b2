"""Parts of the detect route: which reply is preferred, how long there is, what the query says; and a slow store."""

import asyncio
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from time import perf_counter

import httpx
import numpy as np
import pytest
from starlette.datastructures import Headers
from starlette.requests import Request

from tests.conftest import encode
from tidesight.detection.detector import Detector
from tidesight.errors import InvalidOption
from tidesight.results.spool import SpoolStatus
from tidesight.results.store import ResultUrls
from tidesight.serving.admission import Admission
from tidesight.serving.app import create_app
from tidesight.serving.detect_route import _query
from tidesight.serving.instance import Instance, Ready, ServingLimits
from tidesight.serving.request_head import deadline_s, prefers_picture
from tidesight.serving.workers import WorkerPool
from tidesight.telemetry import Telemetry

PICTURE = encode(np.full((8, 8, 3), 9, np.uint8), ".png")


@pytest.mark.parametrize(
    ("accept", "picture"),
    [
        ("", False), ("*/*", False), ("application/json", False), ("text/html", False), ("image/png", False),
        ("image/jpeg", True), ("IMAGE/JPEG", True), ("image/*", True), ("image/jpeg, */*;q=0.1", True),
        ("image/jpeg, application/json", False), ("application/json;q=0.9, image/jpeg", True),
        ("image/jpeg;q=0.5, application/json;q=0.8", False), ("image/jpeg;q=0", False), ("image/jpeg; q=0.001", True),
        ("image/jpeg;q=nan", False), ("image/jpeg;q=9, application/json", False), ("image/jpeg;q=1.5, application/json", False),
        ("image/jpeg;q=-1", False), ("image/jpeg;q=", False), ("image/jpeg;level=1;q=0.4", True), (",,;;=,", False),
        ("application/*;q=0.2, image/*;q=0.3", True), ("text/html,image/webp,image/jpeg", True),
    ],
)  # fmt: skip
def test_accept_header_ranks_the_picture_against_json(accept: str, picture: bool) -> None:
    assert prefers_picture(accept) is picture


@pytest.mark.parametrize(
    ("headers", "expected_s"),
    [
        ({}, 10.0),
        ({"X-Request-Timeout-Ms": "1500"}, 1.5),
        ({"X-Envoy-Expected-Rq-Timeout-Ms": "250"}, 0.25),
        ({"X-Envoy-Expected-Rq-Timeout-Ms": "250", "X-Request-Timeout-Ms": "1500"}, 0.25),
        ({"X-Request-Timeout-Ms": "999999999"}, 999999.999),
    ],
)
def test_the_deadline_is_the_header_s_or_the_default(headers: dict[str, str], expected_s: float) -> None:
    assert deadline_s(Headers(headers), 10.0) == pytest.approx(expected_s - min(0.015, expected_s / 10))


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "", " ", "1e3", "0x10", "²", "9999999999", "nan", "1\n"])
def test_a_deadline_that_is_no_number_of_milliseconds_is_named(value: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        deadline_s(Headers({"X-Request-Timeout-Ms": value}), 10.0)
    assert refused.value.field == "x-request-timeout-ms"


def query(text: bytes) -> Request:
    return Request({"type": "http", "query_string": text, "headers": []})


def test_an_option_given_twice_is_refused() -> None:
    assert _query(query(b"iou=0.5&classes=cat%2Cdog")) == {"iou": "0.5", "classes": "cat,dog"}
    with pytest.raises(InvalidOption) as refused:
        _query(query(b"classes=cat&iou=0.5&classes=dog"))
    assert refused.value.field == "classes"


class _SlowStore:
    """Takes a result after so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.given_up = False

    async def put(self, request_id: str, at: datetime, jpeg: bytes, detections: bytes) -> ResultUrls:
        try:
            await asyncio.sleep(self._seconds)
        except asyncio.CancelledError:
            self.given_up = True
            raise
        return ResultUrls("file:///a.jpg", "file:///a.json")

    def status(self) -> SpoolStatus:
        return SpoolStatus()


@pytest.fixture
def workers() -> Iterator[WorkerPool]:
    pool = WorkerPool([Detector.open(Path("fake"), engine="fake")])
    pool.start()
    yield pool
    pool.stop()


def store(workers: WorkerPool, results: _SlowStore, timeout_ms: int) -> tuple[httpx.Response, str]:
    """The answer to a request whose result is to be stored, and the metrics after it."""
    instance = Instance(ServingLimits(), results, Telemetry())
    model = Detector.open(Path("fake"), engine="fake").model
    instance.became_ready(Ready(model, "fake", workers, Admission(1, 10, 0.001)))

    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(instance))
        headers = {"Content-Type": "image/png", "X-Request-Timeout-Ms": str(timeout_ms)}
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.post("/v1/detect?store=true", content=PICTURE, headers=headers)

    return asyncio.run(main()), instance.telemetry.exposition().decode()


def test_a_store_that_takes_longer_than_the_deadline_is_a_503(workers: WorkerPool) -> None:
    results = _SlowStore(60)
    response, metrics = store(workers, results, timeout_ms=1000)
    assert (response.status_code, response.json()["title"]) == (503, "Result not stored")
    assert response.headers["retry-after"] == "1"
    assert results.given_up
    assert 'tidesight_results_stored_total{outcome="failed"} 1.0' in metrics


def test_a_store_that_is_in_time_is_waited_for(workers: WorkerPool) -> None:
    response, metrics = store(workers, _SlowStore(0.1), timeout_ms=60_000)
    assert response.status_code == 200
    assert response.json()["result"]["image_url"] == "file:///a.jpg"
    assert 'tidesight_results_stored_total{outcome="stored"} 1.0' in metrics


def test_a_result_gets_a_moment_to_be_stored_even_when_its_work_took_all_the_time() -> None:
    slow = WorkerPool([Detector.open(Path("fake-150ms"), engine="fake")])
    slow.start()
    response, _ = store(slow, _SlowStore(0.01), timeout_ms=100)
    slow.stop()
    assert response.status_code == 200


def test_a_request_that_no_worker_comes_to_is_answered_when_its_time_is_over() -> None:
    stuck = WorkerPool([Detector.open(Path("fake"), engine="fake")])  # never started
    started = perf_counter()
    response, metrics = store(stuck, _SlowStore(0), timeout_ms=200)
    assert 0.1 < perf_counter() - started < 5
    assert (response.status_code, response.json()["title"]) == (429, "Overloaded")
    assert 'tidesight_refused_total{reason="expired"} 1.0' in metrics
    assert "tidesight_requests_in_flight 0.0" in metrics
    assert stuck.oldest_queued_age_s(perf_counter()) == 0
    stuck.start()
    stuck.stop()  # what is still queued does no harm
