"""An instance's life: start, readiness, overload, drain, and the ways it can end."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest

from tests.conftest import Server, encode, exchange, is_ready, start_server, write_model

JPEG = encode(np.full((64, 64, 3), 100, np.uint8), ".jpg")
POST = b"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n" % len(JPEG)
REQUEST = POST + b"\r\n" + JPEG
FAKE = ("--engine", "fake", "--model")
LIMIT_S = 20


@contextmanager
def requests_in_flight(server: Server, count: int, request: bytes = REQUEST) -> Iterator[list[socket.socket]]:
    """Connections, each with a request sent and not yet answered."""
    connections = [socket.create_connection(server.address, timeout=LIMIT_S) for _ in range(count)]
    try:
        for connection in connections:
            connection.sendall(request)
        yield connections
    finally:
        for connection in connections:
            connection.close()


def answer(connection: socket.socket) -> tuple[int, bytes, bytes]:
    """Status, head and body of one answer."""
    with connection.makefile("rb") as stream:
        head = b"".join(iter(stream.readline, b"\r\n"))
        assert head, "closed without an answer"
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        return int(head[9:12]), head.lower(), stream.read(int(length.split()[1]))


def get(server: Server, path: str) -> tuple[int, bytes, bytes]:
    """Status, head and body, on a connection of its own and without a client library's set-up time."""
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with requests_in_flight(server, 1, request) as (connection,):
        return answer(connection)


def metrics(server: Server) -> dict[str, float]:
    """Samples by name and labels, as they are written."""
    lines = get(server, "/metrics")[2].decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def wait_until_admitted(server: Server, count: int) -> None:
    """Wait until that many requests are inside or answered already."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        now = metrics(server)
        if now["tidesight_requests_in_flight"] + now.get('tidesight_requests_total{status="200"}', 0) >= count:
            return
        assert time.monotonic() < deadline
        time.sleep(0.01)


def run_to_the_end(folder: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and all output of a start that is to fail."""
    command = [sys.executable, "-m", "tidesight", "serve", "--port", "0", *arguments]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    return ended.returncode, ended.stdout + ended.stderr


def assert_one_line(output: str, *words: str) -> None:
    told = [line for line in output.splitlines() if line.startswith("tidesight: ")]
    assert len(told) == 1, output
    assert all(word in told[0] for word in words), told
    assert "Traceback" not in output
    assert "ERROR" not in output


def test_nothing_but_503_before_the_model_is_warm(tmp_path: Path) -> None:
    pipe = tmp_path / "labels.txt"
    os.mkfifo(pipe)  # the start waits for the labels until somebody writes them
    names = ["cat", "dog"]
    server = start_server(tmp_path, *FAKE, "fake", "--labels", str(pipe), wait_ready=False)
    for _ in range(3):
        with requests_in_flight(server, 2, REQUEST) as connections:
            for connection in connections:
                status, head, body = answer(connection)
                assert status == 503
                assert b"retry-after: 1\r\n" in head
                assert json.loads(body)["title"] == "Unavailable"
        status, head, _ = get(server, "/readyz")
        assert (status, b"retry-after: 1\r\n" in head) == (503, True)
        assert get(server, "/healthz")[0] == 200
        assert metrics(server)["tidesight_ready"] == 0
    pipe.write_text("\n".join(names))
    while not is_ready(server.url):
        time.sleep(0.01)
    assert metrics(server)["tidesight_ready"] == 1
    assert httpx.get(f"{server.url}/readyz").json()["model"]["classes"] == names
    assert server.stop() == 0


def test_a_stop_while_the_model_loads_ends_well(tmp_path: Path) -> None:
    pipe = tmp_path / "labels.txt"
    os.mkfifo(pipe)
    server = start_server(tmp_path, *FAKE, "fake", "--labels", str(pipe), wait_ready=False)
    assert server.stop() == 0
    server = start_server(tmp_path, wait_ready=False)  # inside the inference library this time
    time.sleep(0.1)
    assert server.stop() == 0


def test_sigterm_under_load_answers_all_that_was_accepted(tmp_path: Path) -> None:
    server = start_server(tmp_path, *FAKE, "fake-50ms", "--workers", "1", "--lame-duck-s", "0.3")
    with requests_in_flight(server, 20) as connections:
        wait_until_admitted(server, 20)
        server.process.send_signal(signal.SIGTERM)
        status, head, body = get(server, "/readyz")
        assert (status, json.loads(body)["detail"]) == (503, "the instance is draining")
        assert b"retry-after" in head
        assert get(server, "/healthz")[0] == 200
        answers = [answer(connection) for connection in connections]
    assert Counter(status for status, _, _ in answers) == {200: 20}
    assert all(json.loads(body)["detections"] for _, _, body in answers)
    assert server.process.wait(LIMIT_S) == 0
    assert "Traceback" not in server.log.read_text()
    with pytest.raises(ConnectionRefusedError):
        exchange(server, REQUEST)


def test_lame_duck_time_still_accepts_requests_on_new_connections(tmp_path: Path) -> None:
    server = start_server(tmp_path, *FAKE, "fake", "--lame-duck-s", "1.5")
    signalled = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    while is_ready(server.url):
        assert time.monotonic() - signalled < 1
    accepted = 0
    while time.monotonic() - signalled < 1.2:
        with requests_in_flight(server, 1) as (connection,):
            assert answer(connection)[0] == 200
        accepted += 1
    assert accepted > 2
    assert server.process.wait(LIMIT_S) == 0
    assert 1.4 < time.monotonic() - signalled < 10


def test_a_second_signal_leaves_at_once_and_says_how_many_it_abandoned(tmp_path: Path) -> None:
    server = start_server(tmp_path, *FAKE, "fake-400ms", "--workers", "1")
    with requests_in_flight(server, 10) as connections:
        wait_until_admitted(server, 10)
        server.process.send_signal(signal.SIGTERM)
        assert answer(connections[0])[0] == 200
        second = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        statuses = Counter(answer(connection)[0] for connection in connections[1:])
    assert server.process.wait(LIMIT_S) == 1
    assert time.monotonic() - second < 3  # the nine would have taken 3.6 s
    assert statuses[503] >= 7
    assert statuses[200] + statuses[503] == 9
    log = server.log.read_text()
    assert f"abandoned {statuses[503]} requests" in log
    assert "Traceback" not in log


def test_requests_that_outlast_the_grace_time_are_abandoned_with_503(tmp_path: Path) -> None:
    server = start_server(tmp_path, *FAKE, "fake-400ms", "--workers", "1", "--grace-s", "1")
    with requests_in_flight(server, 10) as connections:
        wait_until_admitted(server, 10)
        assert server.stop() == 1
        answers = [answer(connection) for connection in connections]
    statuses = Counter(status for status, _, _ in answers)
    assert statuses.keys() == {200, 503}
    assert all(b"retry-after: 1\r\n" in head for status, head, _ in answers if status == 503)
    log = server.log.read_text()
    assert f"abandoned {statuses[503]} requests" in log
    assert "Traceback" not in log


def test_idle_connections_do_not_delay_the_end(tmp_path: Path) -> None:
    server = start_server(tmp_path, *FAKE, "fake")
    half = b"POST /v1/detect HTTP/1.1\r\nHost: x\r\n"
    with (
        requests_in_flight(server, 3, b""),
        requests_in_flight(server, 3, half),
        requests_in_flight(server, 1) as (used,),
    ):
        assert answer(used)[0] == 200
        started = time.monotonic()
        assert server.stop(signal.SIGINT) == 0
        assert time.monotonic() - started < 5


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x08\x07" + bytes(1000)])
def test_a_bad_model_file_ends_with_1_and_one_line(tmp_path: Path, content: bytes) -> None:
    model = tmp_path / "broken.onnx"
    model.write_bytes(content)
    code, output = run_to_the_end(tmp_path, "--model", str(model))
    assert code == 1
    assert_one_line(output, "broken.onnx")


def test_a_missing_model_file_ends_with_1_and_one_line(tmp_path: Path) -> None:
    code, output = run_to_the_end(tmp_path, "--model", "nowhere.onnx")
    assert code == 1
    assert_one_line(output, "nowhere.onnx")


def test_a_model_that_is_no_detector_ends_with_1_and_one_line(tmp_path: Path) -> None:
    write_model(tmp_path / "classifier.onnx", np.zeros((1, 1, 3), np.float32))
    code, output = run_to_the_end(tmp_path, "--model", "classifier.onnx")
    assert code == 1
    assert_one_line(output, "classifier.onnx")


def test_a_model_that_fails_in_the_warm_up_ends_with_1_and_one_line(tmp_path: Path) -> None:
    code, output = run_to_the_end(tmp_path, *FAKE, "fake-broken")
    assert code == 1
    assert_one_line(output, "fake-broken", "first picture", "fails on purpose")


def test_an_engine_that_leaves_while_it_loads_ends_with_1_and_one_line(tmp_path: Path) -> None:
    (tmp_path / "leaving.py").write_text("def load(*_):\n    raise SystemExit(0)\n")
    code, output = run_to_the_end(tmp_path, "--engine", "leaving:load")
    assert code == 1
    assert_one_line(output, "SystemExit")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--engine", "steam"), ("steam", "onnxruntime")),
        (("--labels", "nowhere.txt"), ("nowhere.txt",)),
        (("--store", "ftp://host/folder"), ("ftp", "gs://")),
        (("--log-level", "loud"), ("loud", "warning")),
        (("--deadline-s", "nan"), ("deadline_s",)),
        (("--workers", "-1"), ("workers",)),
        (("--host", "999.999.999.999"), ("999.999.999.999",)),
        (("--config", "nowhere.toml"), ("nowhere.toml",)),
    ],
)
def test_bad_settings_end_with_2_and_one_line(
    tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    code, output = run_to_the_end(tmp_path, *arguments)
    assert code == 2
    assert_one_line(output, *words)


def test_a_port_in_use_ends_with_2_and_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, output = run_to_the_end(tmp_path, "--port", port)
    assert code == 2
    assert_one_line(output, port, "in use")


def test_a_full_queue_refuses_with_429_and_takes_again(tmp_path: Path) -> None:
    server = start_server(tmp_path, *FAKE, "fake-200ms", "--workers", "1", "--max-queue", "3")
    with requests_in_flight(server, 4) as accepted:
        wait_until_admitted(server, 4)
        with requests_in_flight(server, 5) as refused:
            for connection in refused:
                status, head, body = answer(connection)
                assert status == 429
                assert b"retry-after: 1\r\n" in head
                assert json.loads(body)["title"] == "Overloaded"
        assert [answer(connection)[0] for connection in accepted] == [200] * 4
    with requests_in_flight(server, 1) as (connection,):
        assert answer(connection)[0] == 200
    assert metrics(server)['tidesight_requests_total{status="429"}'] == 5
    assert metrics(server)['tidesight_refused_total{reason="queue_full"}'] == 5
    assert server.stop() == 0


def test_a_deadline_that_cannot_be_met_is_refused_at_once(tmp_path: Path) -> None:
    server = start_server(tmp_path, *FAKE, "fake-200ms", "--workers", "1")
    hurried = POST + b"X-Request-Timeout-Ms: 500\r\n\r\n" + JPEG
    with requests_in_flight(server, 1, hurried) as (connection,):
        assert answer(connection)[0] == 200
    with requests_in_flight(server, 8) as busy:
        wait_until_admitted(server, 8)
        asked = time.monotonic()
        with requests_in_flight(server, 1, hurried) as (connection,):
            status, head, _ = answer(connection)
        assert (status, time.monotonic() - asked < 0.5) == (429, True)
        seconds = int(head.split(b"retry-after: ")[1].split(b"\r\n")[0])
        assert seconds >= 1
        assert [answer(connection)[0] for connection in busy] == [200] * 8
    for envoy in (b"X-Envoy-Expected-Rq-Timeout-Ms: 50\r\n", b"X-Request-Timeout-Ms: 50\r\n"):
        with requests_in_flight(server, 1, POST + envoy + b"\r\n" + JPEG) as (connection,):
            assert answer(connection)[0] == 429
    assert server.stop() == 0


def test_uploads_hold_no_place_in_the_queue_and_end_with_their_deadline(tmp_path: Path) -> None:
    server = start_server(tmp_path, *FAKE, "fake-50ms", "--workers", "1", "--max-queue", "2", "--deadline-s", "1.5")
    with requests_in_flight(server, 10, POST + b"\r\n") as uploads:  # their bodies never come
        with requests_in_flight(server, 1) as (whole,):
            assert answer(whole)[0] == 200
        assert metrics(server)["tidesight_requests_in_flight"] == 0
        assert [answer(connection)[0] for connection in uploads] == [408] * 10
    assert server.stop() == 0


def test_all_bodies_together_are_bounded(tmp_path: Path) -> None:
    server = start_server(tmp_path, *FAKE, "fake", "--workers", "1", "--max-body-bytes", "300000000")
    head = b"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 290000000\r\n\r\n"
    with requests_in_flight(server, 1, head + bytes(280_000_000)), requests_in_flight(server, 1, head) as (second,):
        second.sendall(bytes(280_000_000))
        assert answer(second)[0] == 429
        assert metrics(server)['tidesight_refused_total{reason="memory"}'] == 1
        with requests_in_flight(server, 1) as (small,):
            assert answer(small)[0] == 200
    assert server.stop() == 0


def read_only_folder(tmp_path: Path) -> Path:
    """A folder that even root may not write to, where there is one."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    folder.chmod(0o555)
    return folder if os.geteuid() else Path("/proc")


def test_a_read_only_working_directory_is_enough_when_nothing_is_stored(tmp_path: Path) -> None:
    server = start_server(tmp_path, *FAKE, "fake", cwd=read_only_folder(tmp_path))
    headers = {"Content-Type": "image/jpeg"}
    assert httpx.post(f"{server.url}/v1/detect", content=JPEG, headers=headers).status_code == 200
    response = httpx.post(f"{server.url}/v1/detect?store=true", content=JPEG, headers=headers)
    assert response.status_code == 503
    assert response.json()["title"] == "Result not stored"
    assert httpx.post(f"{server.url}/v1/detect", content=JPEG, headers=headers).status_code == 200
    assert metrics(server)['tidesight_results_stored_total{outcome="failed"}'] == 1
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


def test_a_file_in_the_way_of_the_default_store_is_a_503_until_it_is_gone(tmp_path: Path) -> None:
    in_the_way = tmp_path / "tidesight-results"
    in_the_way.write_text("a file")
    server = start_server(tmp_path, *FAKE, "fake")
    headers = {"Content-Type": "image/jpeg"}
    with httpx.Client(base_url=server.url, headers=headers) as client:
        refused = client.post("/v1/detect?store=true", content=JPEG)
        assert refused.status_code == 503
        assert str(tmp_path) not in refused.text
        in_the_way.unlink()
        stored = client.post("/v1/detect?store=true", content=JPEG)
        assert stored.status_code == 200
        assert len(list(in_the_way.rglob("*.jpg"))) == 1
    assert server.stop() == 0
    assert "a file is where a folder is needed" in server.log.read_text()


def test_nothing_is_written_unasked(tmp_path: Path) -> None:
    server = start_server(tmp_path, *FAKE, "fake")
    drawn = exchange(server, POST + b"Accept: image/jpeg\r\nConnection: close\r\n\r\n" + JPEG).partition(b"\r\n\r\n")[2]
    picture = cv2.imdecode(np.frombuffer(drawn, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (64, 64, 3)
    assert server.stop() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["server.log"]
