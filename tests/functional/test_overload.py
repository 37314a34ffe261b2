"""More than an instance can do: what is refused, what is answered, who left, and how much a crowd of connections costs."""

import asyncio
import json
import re
import resource
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from tests.conftest import Server, encode, exchange, start_server

JPEG = encode(np.full((64, 64, 3), 100, np.uint8), ".jpg")
LIMIT_S = 20
SERVICE_S = 1.0  # of the slow server, which has one worker and room for four more requests
RESERVED = 32  # connections for probes


def post(*headers: str, body: bytes = JPEG, length: int | None = None) -> bytes:
    """A request to detect; `length` is what it says of its body."""
    lines = ["POST /v1/detect HTTP/1.1", "Host: x", "Content-Type: image/jpeg", *headers]
    head = "\r\n".join([*lines, f"Content-Length: {len(body) if length is None else length}", "", ""])
    return head.encode() + body


HURRIED = "X-Request-Timeout-Ms: 1"  # which nothing here can be in time for


class Connection:
    """A plain connection, read answer by answer."""

    def __init__(self, server: Server, *sent: bytes) -> None:
        self.socket = socket.create_connection(server.address, timeout=LIMIT_S)
        self._stream = self.socket.makefile("rb")
        for piece in sent:
            self.socket.sendall(piece)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self.socket.close()

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of one answer; status 0 when the server closed instead."""
        lines: list[str] = []
        try:
            while (line := self._stream.readline().decode()) != "\r\n":
                if not line:
                    return 0, {}, b""
                lines.append(line.rstrip())
        except ConnectionResetError:
            return 0, {}, b""
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        return int(lines[0][9:12]), headers, self._stream.read(int(headers["content-length"]))


def get(server: Server, path: str) -> tuple[int, dict[str, str], bytes]:
    with Connection(server, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()) as connection:
        return connection.answer()


def metrics(server: Server) -> dict[str, float]:
    lines = get(server, "/metrics")[2].decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


def answered(status: int) -> str:
    return f'tidesight_requests_total{{status="{status}"}}'


def in_flight(server: Server) -> float:
    return metrics(server)["tidesight_requests_in_flight"]


def wait_for(server: Server, name: str, value: float) -> dict[str, float]:
    deadline = time.monotonic() + LIMIT_S
    while (now := metrics(server)).get(name, 0) != value:
        assert time.monotonic() < deadline, f"{name} is {now.get(name, 0)} and not {value}"
        time.sleep(0.01)
    return now


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker that takes a second, room for four more."""
    folder = tmp_path_factory.mktemp("slow")
    running = start_server(
        folder, "--engine", "fake", "--model", "fake-1000ms", "--workers", "1", "--max-queue", "4", "--body-timeout-s", "1"
    )  # fmt: skip
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Room for ten connections."""
    folder = tmp_path_factory.mktemp("small")
    running = start_server(
        folder, "--engine", "fake", "--model", "fake", "--max-connections", "10", "--body-timeout-s", "60"
    )
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


# Overload


def test_ten_times_the_capacity_gives_answers_in_time_or_429_at_once(tmp_path: Path) -> None:
    server = start_server(tmp_path, "--engine", "fake", "--model", "fake-50ms", "--workers", "2")
    seconds, deadline_s = 4.0, 0.5
    took: dict[int, list[float]] = {}
    health: list[float] = []

    async def ask(request: bytes) -> tuple[int, float]:
        reader, writer = await asyncio.open_connection(*server.address)
        started = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        elapsed = time.perf_counter() - started
        writer.close()
        return int(head[9:12]), elapsed

    async def caller() -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            status, elapsed = await ask(post("X-Request-Timeout-Ms: 500"))
            took.setdefault(status, []).append(elapsed)
            await asyncio.sleep(0.1)

    async def prober() -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            status, elapsed = await ask(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert status == 200
            health.append(elapsed)
            await asyncio.sleep(0.05)

    async def main() -> None:
        await asyncio.gather(prober(), *(caller() for _ in range(40)))

    asyncio.run(main())
    assert took.keys() == {200, 429}
    good = sum(elapsed <= deadline_s for elapsed in took[200])
    capacity = seconds * 2 / 0.05
    assert good > 0.4 * capacity, f"{good} in time of {capacity:.0f} that could be"
    assert good > 0.8 * len(took[200]), f"{len(took[200]) - good} late of {len(took[200])}"
    assert len(took[429]) > len(took[200])
    assert median(took[429]) < 0.1
    assert median(health) < 0.05
    assert server.stop() == 0


# Callers that leave


def test_callers_that_leave_free_their_place_in_the_queue_at_once(slow: Server) -> None:
    before = metrics(slow)
    with ExitStack() as stack:
        stack.enter_context(Connection(slow, post()))
        wait_for(slow, "tidesight_requests_in_flight", 1)
        waiting = [stack.enter_context(Connection(slow, post())) for _ in range(4)]
        wait_for(slow, "tidesight_requests_in_flight", 5)
        with Connection(slow, post()) as one_too_many:
            assert one_too_many.answer()[0] == 429
        for connection in waiting:
            connection.__exit__()
        now = wait_for(slow, answered(499), before.get(answered(499), 0) + 4)
        assert now["tidesight_requests_in_flight"] == 1
        assert now.get(answered(200), 0) == before.get(answered(200), 0), "they left because the worker was through"
    wait_for(slow, "tidesight_requests_in_flight", 0)


def test_a_worker_goes_on_with_a_picture_whose_caller_left_and_nobody_is_told(slow: Server) -> None:
    before = metrics(slow)
    with Connection(slow, post()):
        wait_for(slow, "tidesight_requests_in_flight", 1)
        time.sleep(0.2)  # a worker has it
    time.sleep(0.2)
    assert in_flight(slow) == 1  # so no other is let in on the strength of it
    now = wait_for(slow, "tidesight_requests_in_flight", 0)
    assert now[answered(499)] == before.get(answered(499), 0) + 1
    assert now.get(answered(200), 0) == before.get(answered(200), 0)


def test_leaving_with_requests_one_behind_another_leaves_with_all_of_them(slow: Server) -> None:
    before = metrics(slow).get(answered(499), 0)
    with Connection(slow, post()):
        wait_for(slow, "tidesight_requests_in_flight", 1)
        with Connection(slow, post() + post()):  # the first of them waits in the queue, the second behind it
            wait_for(slow, "tidesight_requests_in_flight", 2)
        now = wait_for(slow, answered(499), before + 1)
        assert now["tidesight_requests_in_flight"] == 1
    wait_for(slow, "tidesight_requests_in_flight", 0)


# Refusals from the head


def test_a_refusal_keeps_the_connection_and_the_request_s_id_and_is_counted(slow: Server) -> None:
    before = metrics(slow)
    with Connection(slow) as connection:
        for number in range(3):
            connection.socket.sendall(post(HURRIED, f"X-Request-Id: mine-{number}"))
            status, headers, body = connection.answer()
            problem = json.loads(body)
            assert (status, problem["status"], problem["title"]) == (429, 429, "Overloaded")
            assert headers["x-request-id"] == problem["id"] == f"mine-{number}"
            assert headers["content-type"] == "application/problem+json"
            assert int(headers["retry-after"]) >= 1
        connection.socket.sendall(post(HURRIED, "X-Request-Id: no id"))
        headers = connection.answer()[1]
        assert re.fullmatch("[0-9a-f]{32}", headers["x-request-id"])
        connection.socket.sendall(post())
        assert connection.answer()[0] == 200
    now = metrics(slow)
    assert now[answered(429)] - before.get(answered(429), 0) == 4
    reason = 'tidesight_refused_total{reason="deadline"}'
    assert now[reason] - before.get(reason, 0) == 4


def test_refused_and_answered_requests_in_one_packet_are_answered_in_order(slow: Server) -> None:
    requests = [post(HURRIED, "X-Request-Id: a"), post("X-Request-Id: b"), post(HURRIED, "X-Request-Id: c"), post("X-Request-Id: d")]  # fmt: skip
    with Connection(slow, b"".join(requests)) as connection:
        answers = [connection.answer() for _ in requests]
    assert [(status, headers["x-request-id"]) for status, headers, _ in answers] == [(429, "a"), (200, "b"), (429, "c"), (200, "d")]  # fmt: skip


def test_a_refused_body_may_still_come_and_is_dropped(slow: Server) -> None:
    head, body = post(HURRIED, body=b"", length=300_000), bytes(300_000)
    with Connection(slow, head) as connection:
        assert connection.answer()[0] == 429
        for at in range(0, len(body), 50_000):
            connection.socket.sendall(body[at : at + 50_000])
        connection.socket.sendall(post())
        assert connection.answer()[0] == 200


def test_a_refused_body_that_does_not_come_ends_the_connection(slow: Server) -> None:
    received = exchange(slow, post(HURRIED, body=b"", length=1000), b"x", limit_s=LIMIT_S)
    assert received.count(b"HTTP/1.1") == 1
    assert received.startswith(b"HTTP/1.1 429")


def test_who_asks_before_sending_is_refused_without_being_asked_to_send(slow: Server) -> None:
    received = exchange(slow, post(HURRIED, "Expect: 100-continue", body=b"", length=1000), limit_s=LIMIT_S)
    assert received.startswith(b"HTTP/1.1 429")
    assert b"100 Continue" not in received


@pytest.mark.parametrize(
    ("header", "status"),
    [("X-Request-Timeout-Ms: soon", 422), ("Content-Encoding: gzip", 415), ("Content-Type: text/plain", 415)],
)
def test_what_is_wrong_with_a_request_is_said_rather_than_that_it_is_too_much(
    slow: Server, header: str, status: int
) -> None:
    name = header.partition(":")[0]
    request = post(HURRIED, "Connection: close")
    request = re.sub(rb"(?m)^%b: .*\r\n" % name.encode(), b"", request)
    request = request.replace(b"Host: x\r\n", b"Host: x\r\n" + header.encode() + b"\r\n")
    for closing in (b"Connection: close", b"Connection: keep-alive"):
        with Connection(slow, request.replace(b"Connection: close", closing)) as connection:
            assert connection.answer()[0] == status


# Connections


@contextmanager
def crowd(server: Server, count: int, *sent: bytes) -> Iterator[list[Connection]]:
    """So many connections, which all send the same, or nothing."""
    with ExitStack() as stack:
        yield [stack.enter_context(Connection(server, *sent)) for _ in range(count)]


def test_beyond_the_limit_of_connections_only_probes_are_answered(small: Server) -> None:
    with crowd(small, 10) as connections:
        for path in ("/healthz", "/readyz", "/metrics"):
            status, headers, _ = get(small, path)
            assert (status, headers["connection"]) == (200, "close")
        for request in (post("X-Request-Id: mine"), b"GET /docs HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine\r\n\r\n"):
            received = exchange(small, request)  # which ends, so the connection was closed
            head, _, body = received.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503")
            assert b"\r\nconnection: close" in head
            assert b"\r\nretry-after: 1" in head
            assert json.loads(body)["id"] == "mine"
        behind_a_probe = exchange(small, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + post())
        assert behind_a_probe.startswith(b"HTTP/1.1 200")
        assert behind_a_probe.count(b"HTTP/1.1 ") == 1
        now = metrics(small)
        assert now['tidesight_refused_total{reason="connections"}'] == now[answered(503)] == 2
        connections[0].socket.sendall(post())
        assert connections[0].answer()[0] == 200  # who was there before is served
    with Connection(small, post()) as connection:
        assert connection.answer()[0] == 200


def test_beyond_the_reserve_a_connection_is_closed_and_silence_does_not_hold_the_reserve(small: Server) -> None:
    with crowd(small, 10), crowd(small, RESERVED), crowd(small, 20) as closed:
        assert [connection.answer()[0] for connection in closed] == [0] * 20
        deadline = time.monotonic() + LIMIT_S
        while get(small, "/healthz")[0] != 200:  # those in the reserve have about a second to say something
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_thousands_of_idle_and_slow_connections_take_little_and_leave_probes_alone(tmp_path: Path) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(2500, soft - 300 if soft != resource.RLIM_INFINITY else 2500) // 2
    server = start_server(tmp_path, "--engine", "fake", "--model", "fake", "--body-timeout-s", "5")
    before = resident_bytes(server)
    with crowd(server, count, post(body=b"\xff", length=1_000_000)) as slow_bodies, crowd(server, count):
        wait_until_healthy(server)
        took = []
        for _ in range(40):
            started = time.perf_counter()
            assert get(server, "/healthz")[0] == 200
            took.append(time.perf_counter() - started)
            time.sleep(0.02)
        grown = resident_bytes(server) - before
        assert median(took) < 0.05
        assert grown < 40_000 * 2 * count + 30e6, f"{grown / 1e6:.0f} MB for {2 * count} connections"
        assert slow_bodies[0].answer()[0] == 408
        assert slow_bodies[-1].answer()[0] in (408, 503, 0)
    with Connection(server, post()) as connection:
        assert connection.answer()[0] == 200
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


def test_a_connection_that_asks_nothing_is_closed_without_a_word_but_kept_between_requests(slow: Server) -> None:
    with Connection(slow, b"\r\n") as connection:
        started = time.monotonic()
        assert connection.answer()[0] == 0
        assert 0.5 < time.monotonic() - started < LIMIT_S / 2
    with Connection(slow) as connection:
        for _ in range(2):
            connection.socket.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.answer()[0] == 200
            time.sleep(1.5)  # longer than the time for a body


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"200"), (post(HURRIED, body=b""), b"429")],
)
def test_of_very_many_requests_in_one_packet_the_first_are_answered(
    slow: Server, request_bytes: bytes, status: bytes
) -> None:
    received = exchange(slow, request_bytes * 2000)
    answers = Counter(re.findall(rb"HTTP/1.1 (\d+)", received))
    assert set(answers) == {status}
    assert 10 < answers[status] < 100


def test_who_does_not_take_its_answers_is_hung_up_on(fake_server: Server) -> None:
    noise = encode(np.random.default_rng(1).integers(0, 256, (1200, 1200, 3), np.uint8), ".jpg")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(LIMIT_S)
        connection.connect(fake_server.address)
        # The answers are as large as the pictures, and together more than sockets hold. Until some are taken, no more
        # pictures are, so this would stand still.
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            connection.sendall(post("Accept: image/jpeg", body=noise) * 20)
    assert len(noise) * 20 > 20e6


def resident_bytes(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")))


def wait_until_healthy(server: Server) -> None:
    deadline = time.monotonic() + LIMIT_S
    while get(server, "/healthz")[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
