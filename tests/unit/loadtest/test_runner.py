"""Loads against real sockets: what is sent when, and what every answer and failure counts as."""

import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.known import known_server
from tests.unit.loadtest.servers import OK, Handler, answering, read_request, serving
from tidesight.errors import TidesightError
from tidesight.loadtest.plan import Load, Progress
from tidesight.loadtest.recorder import LoadResult
from tidesight.loadtest.runner import CANNOT_KEEP_UP, run
from tidesight.loadtest.target import Body, parse_url
from tidesight.runs.reader import RunReader
from tidesight.runs.writer import RunWriter
from tidesight.workload.arrivals import Constant, Pattern, Poisson
from tidesight.workload.scenario import Users

BODY = Body(b"x" * 1000, "image/jpeg")


def load(port: int, pattern: Pattern | Users, duration_s: float = 0.5, **changed: Any) -> Load:
    target = parse_url(f"http://127.0.0.1:{port}", "/v1/detect", ["X-Mine: yes"])
    return Load(target, [BODY], pattern, duration_s, **changed)


def sent(handle: Handler, pattern: Pattern | Users = Constant(40), **changed: Any) -> LoadResult:
    with serving(handle) as port:
        return run(load(port, pattern, **changed))


def test_every_request_is_sent_and_counted() -> None:
    result = sent(answering(OK))
    outcome = result.outcome
    assert (outcome.sent, outcome.answered, outcome.good) == (20, 20, 20)
    assert outcome.statuses == {200: 20} and outcome.failures == {} and result.stopped is None
    assert 1 <= result.connections <= 20 and result.lag.count == 20
    assert outcome.seconds == pytest.approx(0.5)


def test_the_request_is_whole() -> None:
    seen = []

    def handle(connection: socket.socket, _: int) -> None:
        if request := read_request(connection):  # else it is the check that something listens
            seen.append(request)
            connection.sendall(OK)

    sent(handle, Constant(2))
    head, _, body = seen[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v1/detect HTTP/1.1" and lines[1].startswith("Host: 127.0.0.1:")
    assert {"X-Mine: yes", "Content-Type: image/jpeg", "Content-Length: 1000"} < set(lines)
    assert body == BODY.data


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK,
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
def test_every_way_to_say_how_long_an_answer_is(answer: bytes) -> None:
    closes = b"close" in answer
    result = sent(answering(answer, close=closes), Constant(20))
    assert result.outcome.answered == 10 and result.outcome.failures == {}
    assert (result.connections == 10) == closes


def test_an_answer_may_end_with_its_connection() -> None:
    assert sent(answering(b"HTTP/1.1 200 OK\r\n\r\nall of it", close=True), Constant(20)).outcome.answered == 10


def cut(connection: socket.socket, _: int) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\nhalf")


def reset(connection: socket.socket, _: int) -> None:
    read_request(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def hang(connection: socket.socket, _: int) -> None:
    read_request(connection)
    time.sleep(1)


@pytest.mark.parametrize(
    ("handle", "word"),
    [
        (cut, "reset"),
        (reset, "reset"),
        (hang, "timeout"),
        (answering(b"220 mail.example ESMTP\r\n"), "protocol"),
        (answering(b"\x16\x03\x01garbage"), "protocol"),
    ],
)
def test_every_failure_is_counted_by_its_class(handle: Handler, word: str) -> None:
    result = sent(handle, Constant(20), timeout_s=0.3 if word == "timeout" else 5.0)
    assert result.outcome.failures == {word: 10}
    assert result.outcome.sent == 10 and result.outcome.answered == 0


def test_refusals_are_answers_with_a_status() -> None:
    result = sent(answering(b"HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\n\r\n"), Constant(20))
    assert result.outcome.statuses == {429: 10} and result.outcome.refused == 10 and result.outcome.failures == {}


def test_a_server_that_goes_away_is_refused_from_then_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            listener.accept()[0].close()  # the check before the load
            connection, _ = listener.accept()
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            with connection:
                read_request(connection)
                connection.sendall(OK)

        thread = threading.Thread(target=serve)
        thread.start()
        result = run(load(port, Constant(20)))
        thread.join()
    assert result.outcome.answered == 1 and set(result.outcome.failures) <= {"refused", "reset"}
    assert result.outcome.failures["refused"] >= 8


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:1", "nothing listens there; start the server"),
        ("http://no-such-host.invalid:80", "no such host name"),
    ],
)
def test_a_target_that_cannot_be_reached_is_an_error_at_once(url: str, said: str) -> None:
    with pytest.raises(TidesightError, match=said):
        run(Load(parse_url(url, "/"), [BODY], Constant(1), 5))


def recorded_and_true(folder: Path) -> tuple[LoadResult, Any, Any]:
    """Latencies as recorded, and as the server knows them, each in order; the server stalls for two seconds.

    Connections are enough for the server as it is, and too few for the stall: requests then wait for one.
    """
    log = folder / "log"
    bodies = [Body(b"%08d" % number + b"x" * 10_000, "image/jpeg") for number in range(800)]
    arguments = ("--delay-ms", "400", "--stall-at", "2", "--stall-s", "2", "--log", str(log))
    with known_server(*arguments) as port, RunWriter.create(folder / "run", {}) as writer:
        target = parse_url(f"http://127.0.0.1:{port}", "/")
        result = run(Load(target, bodies, Poisson(100), 6, 10, seed=5, connections=80), writer)
    requests = RunReader(folder / "run").requests()
    assert 500 < result.outcome.answered == len(requests) == result.outcome.sent <= len(bodies)
    epoch_s = writer.started_epoch_s - (time.time() - time.monotonic())
    replied = dict(line.split(",") for line in log.read_text().splitlines())
    due_s = np.sort(requests.intended_s) + epoch_s
    true_s = np.sort([float(replied[f"{number:08d}"]) - due for number, due in enumerate(due_s.tolist())])
    return result, np.sort(requests.latency_s), true_s


def test_latency_is_recorded_to_one_per_cent_from_when_a_request_was_due(tmp_path: Path) -> None:
    for attempt in range(3):  # another process that takes the CPU can only make it worse
        (tmp_path / str(attempt)).mkdir()
        result, recorded_s, true_s = recorded_and_true(tmp_path / str(attempt))
        assert true_s.max() > 2.3 and 0.39 < np.median(true_s) < 1.2
        errors = []
        for percent in (50, 99, 99.9):
            place = round(percent / 100 * len(true_s)) - 1
            found_s = (recorded_s[place], result.outcome.latencies.percentile_s(percent) or 0.0)
            errors += [abs(one_s / true_s[place] - 1) for one_s in found_s]
        if max(errors) <= 0.01:
            return
    raise AssertionError(f"errors at p50, p99 and p99.9, in the rows and in the histogram: {errors}")


def test_an_open_loop_does_not_wait_for_answers() -> None:
    with known_server("--delay-ms", "400") as port:
        result = run(load(port, Constant(50), 1.0))
    assert result.outcome.sent == 50 and result.connections >= 18


def test_requests_wait_for_a_connection_where_there_are_too_few() -> None:
    with known_server("--delay-ms", "100") as port:
        result = run(load(port, Constant(40), 1.0, connections=1, timeout_s=1.0))
    assert result.connections >= 1 and result.outcome.sent == 40
    assert 8 <= result.outcome.answered <= 22 and result.outcome.failures.keys() == {"timeout"}
    assert result.lag.percentile_s(99) == pytest.approx(1, rel=0.5)
    assert "sent late" in result.invalid[0] and "--connections" in result.invalid[0]


def test_users_wait_for_their_answers() -> None:
    with known_server("--delay-ms", "90") as port:
        result = run(load(port, Users(5, 100, think_s=0.1), 1.5))
    # Each user asks every 0.19 s.
    assert result.outcome.sent == pytest.approx(5 * 1.5 / 0.19, rel=0.15)
    assert result.connections <= 5 and result.outcome.answered == result.outcome.sent


def test_users_come_at_the_spawn_rate(tmp_path: Path) -> None:
    with known_server("--delay-ms", "2000") as port, RunWriter.create(tmp_path, {}) as writer:
        run(load(port, Users(10, spawn_per_s=10), 1.2), writer)
    requests = RunReader(tmp_path).requests()
    times = np.sort(requests.intended_s)
    assert np.diff(times) == pytest.approx(np.full(9, 0.1), abs=1e-5)


def test_users_of_a_server_that_refuses_are_not_a_recursion() -> None:
    result = sent(reset, Users(3), duration_s=0.5)
    assert result.outcome.sent > 50 and result.outcome.failures == {"reset": result.outcome.sent}


def test_an_observer_sees_it_and_can_stop_it(tmp_path: Path) -> None:
    seen: list[Progress] = []

    def observe(now: Progress) -> str | None:
        seen.append(now)
        return "enough" if now.sent >= 20 else None

    with known_server("--delay-ms", "300") as port, RunWriter.create(tmp_path, {}) as writer:
        result = run(load(port, Constant(50), 10), writer, observe)
    assert result.stopped == "enough" and result.outcome.seconds < 2
    assert result.outcome.failures["unfinished"] >= 5 and seen[-1].in_flight >= 5
    requests = RunReader(tmp_path).requests()
    assert len(requests) == result.outcome.sent
    assert np.isnan(requests.end_s[requests.error == "unfinished"]).all()


def test_an_impossible_rate_ends_early_and_says_what_can_be_done() -> None:
    result = sent(answering(OK), Constant(1e6), duration_s=30, timeout_s=0.5)
    assert result.stopped == CANNOT_KEEP_UP and result.outcome.seconds < 5
    assert result.unsent > 100_000
    assert result.invalid[0].startswith(f"{CANNOT_KEEP_UP}: it sent ")


def test_what_is_recorded_is_what_happened(tmp_path: Path) -> None:
    with (
        known_server("--delay-ms", "50") as port,
        RunWriter.create(tmp_path, {"started_epoch_s": time.time() - 100}) as w,
    ):
        run(load(port, Constant(20), 0.5), w)
    requests = RunReader(tmp_path).requests()
    assert len(requests) == 10 and (requests.status == 200).all() and (requests.bytes_out == 1000).all()
    assert (requests.bytes_in == 2).all() and set(requests.instance) == {"known"} and set(requests.error) == {None}
    assert 100 <= requests.intended_s.min() < 105  # counted from the run's start, whoever started it
    assert (requests.start_s >= requests.intended_s).all() and (requests.end_s - requests.start_s >= 0.049).all()
