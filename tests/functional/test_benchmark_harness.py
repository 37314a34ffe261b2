"""The measuring tools measure what they say: the open loop, the fit, and that the reference stacks do the same job."""

import asyncio
import base64
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from benchmarks import emulators, generator, probes, soak, yolov8n
from benchmarks.generator import Load, poisson
from benchmarks.reference_stacks import job
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from tidesight.commands.photographs import photographs
from tidesight.detection.detector import Detector
from tidesight.detection.engines import RunPlan
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
    assert _agree(None) > 5


def test_reference_job_finds_what_tidesight_finds_with_yolov8n(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (assets_folder() / yolov8n.SOURCE).is_file():
        pytest.skip("the assets hold no YOLOv8n")
    file = yolov8n.fp32_file(assets_folder(), tmp_path / "yolov8n.onnx")
    monkeypatch.setenv(job.MODEL, str(file))
    assert _agree(file) > 5


def _agree(model: Path | None) -> int:
    """Compare on all photographs at hand; how many objects there were."""
    # The reference stacks pad every picture to a square, as their networks' own demos do.
    detector, session = Detector.open(model, engine="onnxruntime", plan=RunPlan()), job.open_session()
    found = 0
    for photograph in photographs(assets_folder())[:6]:
        png = cv2.imencode(".png", photograph.pixels)[1].tobytes()
        ours, theirs = detector.detect(png), job.detect(session, base64.b64encode(png).decode())
        assert [one["class_id"] for one in theirs] == ours.class_ids.tolist(), photograph.name
        np.testing.assert_allclose([one["score"] for one in theirs], ours.scores, atol=0.01)
        # YOLOX's demo scales both sides by one ratio, though it truncated them: up to two pixels at the far edge.
        np.testing.assert_allclose(np.reshape([one["box"] for one in theirs], (-1, 4)), ours.boxes, atol=2)
        found += len(theirs)
    return found


def test_a_dynamically_quantised_network_is_put_back_into_fp32(tmp_path: Path) -> None:
    weights = np.random.default_rng(0)
    tensors = {
        "a.weight": weights.normal(size=(8, 3, 3, 3)), "a.bias": weights.normal(size=8), "b.weight": weights.normal(size=(4, 8, 1, 1)),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "a.weight", "a.bias"], ["h"], name="a", pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Conv", ["r", "b.weight"], ["y"], name="b"),
    ]
    sides = [
        helper.make_tensor_value_info(*one)
        for one in (("x", TensorProto.FLOAT, [1, 3, 16, 16]), ("y", TensorProto.FLOAT, None))
    ]
    values = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in tensors.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "g", sides[:1], sides[1:], values), opset_imports=[helper.make_opsetid("", 17)]
    )
    onnx.save(model, tmp_path / "fp32.onnx")
    quantize_dynamic(
        tmp_path / "fp32.onnx", tmp_path / "int8.onnx", weight_type=QuantType.QUInt8, op_types_to_quantize=["Conv"]
    )
    back = yolov8n.in_fp32(onnx.load(tmp_path / "int8.onnx"))
    assert [node.op_type for node in back.graph.node] == ["Conv", "Relu", "Conv"]
    picture = weights.normal(size=(1, 3, 16, 16)).astype(np.float32)
    model.ir_version = back.ir_version = 10  # which every ONNX Runtime reads
    given, found = (
        onnxruntime.InferenceSession(one.SerializeToString()).run(None, {"x": picture})[0] for one in (model, back)
    )
    assert np.abs(found - given).max() < 0.05 * np.abs(given).max()  # eight bits of weight


class _Probed(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503 if self.path == "/readyz" else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_probes_time_each_path_and_count_what_failed() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Probed) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with probes.probing(server.server_address[1]) as answers:
            time.sleep(4 * probes.PERIOD_S)
        server.shutdown()
        thread.join()
    assert answers.keys() == set(probes.PATHS)
    times = {path: len(found["ms"]) for path, found in answers.items()}
    assert all(number >= 1 for number in times.values())
    assert [answers[path]["failed"] for path in probes.PATHS] == [0, times["/readyz"], 0]


def test_probes_of_a_server_that_is_gone_have_failed(serve: Callable[..., _Server]) -> None:
    server = serve(lambda number: None)
    server._server.close()
    with probes.probing(server.port) as answers:
        time.sleep(probes.PERIOD_S)
    assert all(found["failed"] == len(found["ms"]) > 0 for found in answers.values())


def test_emulators_take_objects() -> None:
    with emulators.gcs() as gcs, urlopen(f"{gcs['STORAGE_EMULATOR_HOST']}/storage/v1/b", timeout=10) as reply:
        assert [one["name"] for one in json.load(reply)["items"]] == [emulators.BUCKET]
    with emulators.s3() as s3, urlopen(f"{s3['AWS_ENDPOINT_URL']}/{emulators.BUCKET}", timeout=10) as reply:
        assert f"<Name>{emulators.BUCKET}</Name>".encode() in reply.read()
