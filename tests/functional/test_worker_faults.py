"""Worker threads that die, vanish and hang, in a real server: the request gets a 500, everybody else is served."""

import json
import signal
import threading
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from tests.conftest import Server, encode, start_server
from tests.functional.test_lifecycle import FAKE, LIMIT_S, answer, get, metrics, requests_in_flight

GREY, WHITE = (encode(np.full((64, 64, 3), level, np.uint8), ".jpg") for level in (100, 255))
HANG_S = 2.0
HANG = ("--worker-hang-s", str(HANG_S), "--deadline-s", "60")


def request(picture: bytes, *headers: str) -> bytes:
    lines = ["POST /v1/detect HTTP/1.1", "Host: x", "Content-Type: image/jpeg", f"Content-Length: {len(picture)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + picture


def ask(server: Server, picture: bytes) -> int:
    """The status of one request on a connection of its own."""
    with requests_in_flight(server, 1, request(picture)) as (connection,):
        return answer(connection)[0]


def assert_told(status: int, head: bytes, body: bytes, word: str) -> None:
    """An answer that says that the worker was lost, how, and to which request."""
    problem = json.loads(body)
    assert (status, problem["status"], problem["title"]) == (500, 500, "Detection failed")
    assert word in problem["detail"]
    assert b"content-type: application/problem+json\r\n" in head
    assert b"x-request-id: the-fatal-one\r\n" in head


def restarts(server: Server, reason: str) -> float:
    return metrics(server).get(f'tidesight_worker_restarts_total{{reason="{reason}"}}', 0)


@pytest.mark.parametrize("fault", ["exit", "vanish"])
def test_a_worker_that_dies_is_replaced(tmp_path: Path, fault: str) -> None:
    server = start_server(tmp_path, *FAKE, f"fake-{fault}", "--workers", "1")
    for deaths in (1, 2, 3):
        with requests_in_flight(server, 1, request(WHITE, "X-Request-Id: the-fatal-one")) as (fatal,):
            assert_told(*answer(fatal), "died")
        assert ask(server, GREY) == 200
        assert restarts(server, "died") == deaths
    assert get(server, "/healthz")[0] == get(server, "/readyz")[0] == 200
    assert server.stop() == 0
    log = server.log.read_text()
    assert "worker 0 died" in log
    assert "abandoned" not in log


def test_a_detector_that_raises_costs_no_worker(tmp_path: Path) -> None:
    server = start_server(tmp_path, *FAKE, "fake-raise", "--workers", "1")
    assert [ask(server, picture) for picture in (WHITE, GREY)] == [500, 200]
    assert restarts(server, "died") == 0
    assert server.stop() == 0


def test_a_worker_that_hangs_is_replaced_and_what_waited_behind_it_is_served(tmp_path: Path) -> None:
    server = start_server(tmp_path, *FAKE, "fake-hang", "--workers", "1", *HANG)
    began = time.monotonic()
    with requests_in_flight(server, 1, request(WHITE, "X-Request-Id: the-fatal-one")) as (fatal,):
        while not metrics(server)["tidesight_requests_in_flight"]:
            time.sleep(0.01)
        with requests_in_flight(server, 5, request(GREY)) as waiting:
            while not metrics(server)["tidesight_queue_oldest_age_seconds"]:
                time.sleep(0.01)
            assert get(server, "/healthz")[0] == 200
            assert_told(*answer(fatal), "hung")
            assert time.monotonic() - began > HANG_S
            assert [answer(connection)[0] for connection in waiting] == [200] * 5
    assert restarts(server, "hung") == 1
    now = metrics(server)
    assert now["tidesight_queue_oldest_age_seconds"] == now["tidesight_requests_in_flight"] == 0
    assert get(server, "/readyz")[0] == 200
    assert server.stop() == 0  # although the thread hangs still
    assert "abandoned" not in server.log.read_text()


def test_other_workers_serve_while_one_hangs(tmp_path: Path) -> None:
    server = start_server(tmp_path, *FAKE, "fake-hang", "--workers", "2", "--worker-hang-s", "60")
    with requests_in_flight(server, 1, request(WHITE)):
        assert [ask(server, GREY) for _ in range(20)] == [200] * 20
        assert metrics(server)["tidesight_requests_in_flight"] == 1
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL


def test_an_instance_that_cannot_heal_itself_ends_with_1(tmp_path: Path) -> None:
    server = start_server(tmp_path, *FAKE, "fake-hang", "--workers", "1", *HANG, "--grace-s", "600")
    with requests_in_flight(server, 3, request(WHITE)) as fatal:
        while metrics(server)["tidesight_requests_in_flight"] < 3:
            time.sleep(0.01)
        with requests_in_flight(server, 1, request(GREY)) as (waiting,):
            assert [answer(connection)[0] for connection in fatal] == [500] * 3
            status, head, _ = answer(waiting)
    assert (status, b"retry-after: 1\r\n" in head) == (503, True)
    assert server.process.wait(LIMIT_S) == 1
    log = server.log.read_text()
    assert "a new process is needed: 3 threads hang" in log
    assert "abandoned 1 requests" in log


def test_a_hang_during_the_drain_loses_nothing_else(tmp_path: Path) -> None:
    server = start_server(tmp_path, *FAKE, "fake-hang", "--workers", "1", *HANG)
    with requests_in_flight(server, 1, request(WHITE)) as (fatal,):
        while not metrics(server)["tidesight_requests_in_flight"]:
            time.sleep(0.01)
        with requests_in_flight(server, 3, request(GREY)) as waiting:
            while metrics(server)["tidesight_requests_in_flight"] < 4:
                time.sleep(0.01)
            server.process.send_signal(signal.SIGTERM)
            assert answer(fatal)[0] == 500
            assert [answer(connection)[0] for connection in waiting] == [200] * 3
    assert server.process.wait(LIMIT_S) == 0


def test_deaths_under_load_cost_their_own_requests_and_no_other(tmp_path: Path) -> None:
    server = start_server(tmp_path, *FAKE, "fake-5ms-exit", "--workers", "2", "--deadline-s", "60")
    chance = Random(20_261_121)
    outcomes: list[tuple[bytes, int]] = []

    def client(pictures: list[bytes]) -> None:
        outcomes.extend((picture, ask(server, picture)) for picture in pictures)

    clients = [
        threading.Thread(target=client, args=(chance.choices([GREY, WHITE], [9, 1], k=40),), daemon=True)
        for _ in range(4)
    ]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join(60)
    counted = Counter(outcomes)
    assert counted.keys() == {(GREY, 200), (WHITE, 500)}
    assert counted.total() == 160
    assert restarts(server, "died") == counted[WHITE, 500]
    assert metrics(server)["tidesight_requests_in_flight"] == 0
    assert server.stop() == 0


def endless_model(path: Path) -> None:
    """A real ONNX file that never ends on a white picture, inside ONNX Runtime's own loop."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def constant(name: str, value: Any) -> onnx.TensorProto:
        return numpy_helper.from_array(np.asarray(value), name)

    number = helper.make_tensor_value_info("number", TensorProto.INT64, [])
    flags = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("go", "on")]
    sums = [helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in ("sum", "more")]
    body = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["sum", "one"], ["more"])]
    once = helper.make_graph(
        body, "once", [number, flags[0], sums[0]], [flags[1], sums[1]], [constant("one", np.float32(1))]
    )
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Greater", ["mean", "white"], ["is_white"]),
        helper.make_node("Where", ["is_white", "ever", "never"], ["times"]),
        helper.make_node("Loop", ["times", "yes", "zero"], ["total"], body=once),
        helper.make_node("Mul", ["total", "zero"], ["nothing"]),
        helper.make_node("Add", ["boxes", "nothing"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "endless",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 2, 6])],
        [
            constant("white", np.float32(0.999)),
            constant("ever", np.int64(2**62)),
            constant("never", np.int64(0)),
            constant("yes", True),
            constant("zero", np.float32(0)),
            constant("boxes", np.zeros((1, 2, 6), np.float32)),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"tidesight.head": "end_to_end", "tidesight.names": '["cat"]'})
    onnx.save(model, str(path))


def test_a_run_that_never_ends_in_onnx_runtime_blocks_no_other(tmp_path: Path) -> None:
    endless_model(tmp_path / "endless.onnx")
    arguments = ("--engine", "onnxruntime", "--model", "endless.onnx", *HANG)
    server = start_server(tmp_path, *arguments, "--workers", "1")
    with requests_in_flight(server, 1, request(WHITE, "X-Request-Id: the-fatal-one")) as (fatal,):
        assert_told(*answer(fatal), "hung")
    assert [ask(server, GREY) for _ in range(5)] == [200] * 5  # in the same session, in which the first still runs
    assert restarts(server, "hung") == 1
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
def test_a_run_that_never_ends_in_openvino_blocks_the_last_stream_and_ends_the_instance(tmp_path: Path) -> None:
    endless_model(tmp_path / "endless.onnx")
    server = start_server(tmp_path, "--engine", "openvino", "--model", "endless.onnx", "--workers", "1", *HANG)
    with requests_in_flight(server, 1, request(WHITE)) as (fatal,):
        assert answer(fatal)[0] == 500
        with requests_in_flight(server, 1, request(GREY)) as (waiting,):
            assert answer(waiting)[0] == 503
    assert server.process.wait(LIMIT_S) == 1
    assert "a new process is needed: a new worker could not begin" in server.log.read_text()
