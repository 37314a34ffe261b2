"""The measuring tools measure what they say: the open loop, the fit, and that the reference stacks do the same job."""

import asyncio
import base64
import threading
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest
from benchmarks import generator, soak
from benchmarks.generator import Load, poisson
from benchmarks.reference_stacks import job

from tidesight.commands.photographs import photographs
from tidesight.detection.detector import Detector
from tidesight.settings import assets_folder

_REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 200000\r\n\r\n" + bytes(200_000)


class _Server:
    """Answers as a function of the request's number says: (status, seconds it takes), or None to say nothing."""

    def __init__(self, answer: Callable[[int], tuple[int, float] | None]) -> None:
        self._answer = answer
        self._loop = asyncio.new_event_loop()
        self.connections = self.requests = 0
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                number, self.requests = self.requests, self.requests + 1
                answer = self._answer(number)
                if answer is not None:
                    await asyncio.sleep(answer[1])
                    writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nhi" % answer[0])
                await reader.readexactly(200_000)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., _Server]]:
    servers: list[_Server] = []

    def start(answer: Callable[[int], tuple[int, float] | None]) -> _Server:
        servers.append(_Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def test_open_loop_counts_good_late_and_refused(serve: Callable[..., _Server]) -> None:
    answers = [(200, 0.0), (200, 0.7), (429, 0.0), (503, 0.0)]
    server = serve(lambda number: answers[number % 4])
    found = poisson(Load(server.port, 80, 2.0, seed=1, lead_s=0.2), [_REQUEST])
    results = found["results"]
    assert found["sent"] == sum(results.values()) == pytest.approx(160, abs=40)
    assert results.keys() == {"200", "429", "503"}
    quarter = found["sent"] / 4
    assert found["good_per_s"] * 2 == pytest.approx(quarter, abs=3)
    assert found["late"] == pytest.approx(quarter, abs=3)
    assert found["answered_ms"]["max"] >= 700 > found["refused_ms"]["p50"]
    assert server.connections == found["connections_opened"] < server.requests  # kept and used again


def test_open_loop_does_not_wait_for_answers_and_leaves_after_its_patience(serve: Callable[..., _Server]) -> None:
    server = serve(lambda number: None)
    found = poisson(Load(server.port, 30, 1.0, seed=1, lead_s=0.2), [_REQUEST])
    assert found["results"] == {"timed out": found["sent"]}
    assert found["sent"] > 10
    assert found["good_per_s"] == 0


def test_the_same_seed_gives_the_same_arrivals(serve: Callable[..., _Server]) -> None:
    server = serve(lambda number: (200, 0.0))
    loads = [Load(server.port, 50, 1.0, seed, lead_s=0.2) for seed in (3, 3, 4)]
    sent = [poisson(load, [_REQUEST])["sent"] for load in loads]
    assert sent[0] == sent[1]
    assert sent[0] != sent[2]


def test_percentiles() -> None:
    assert generator._percentiles([i / 1000 for i in range(101)]) == {"p50": 50.0, "p99": 99.0, "max": 100.0}
    assert generator._percentiles([]) == {}


@pytest.mark.parametrize(("megabytes_per_s", "expected"), [(0.0, 0.0), (0.1, 0.0784), (-0.05, -0.0404)])
def test_growth_is_that_of_the_fit_after_the_warm_up(megabytes_per_s: float, expected: float) -> None:
    samples = [(float(s), 100.0 + megabytes_per_s * s - (50 if s < 20 else 0)) for s in range(101)]
    assert soak.growth(samples) == pytest.approx(expected, abs=1e-3)


def test_reference_job_finds_what_tidesight_finds() -> None:
    detector, session = Detector.open(engine="onnxruntime"), job.open_session()
    found = 0
    for photograph in photographs(assets_folder()):
        png = cv2.imencode(".png", photograph.pixels)[1].tobytes()
        ours, theirs = detector.detect(png), job.detect(session, base64.b64encode(png).decode())
        assert [one["class_id"] for one in theirs] == ours.class_ids.tolist(), photograph.name
        np.testing.assert_allclose([one["score"] for one in theirs], ours.scores, atol=0.01)
        # YOLOX's demo scales both sides by one ratio, though it truncated them: up to two pixels at the far edge.
        np.testing.assert_allclose(np.reshape([one["box"] for one in theirs], (-1, 4)), ours.boxes, atol=2)
        found += len(theirs)
    assert found
