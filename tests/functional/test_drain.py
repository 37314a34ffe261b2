"""The end of an instance: nothing that was accepted is lost, and what has to be abandoned is counted."""

import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import Server, is_ready, start_server
from tests.functional.test_lifecycle import (
    FAKE,
    JPEG,
    LIMIT_S,
    POST,
    REQUEST,
    answer,
    get,
    metrics,
    requests_in_flight,
)
from tidesight.serving.lifecycle import _close_in_time

REQUESTS_A_CONNECTION = 20
STORED = REQUEST.replace(b"/v1/detect", b"/v1/detect?store=true")


class Bucket(ThreadingHTTPServer):
    """An S3 service that takes every object, as soon as it is `open`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Put)
        self.open = threading.Event()
        self.open.set()
        self.delay_s = 0.0
        self.asked = 0
        self.kept: set[str] = set()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that left is nothing to print."""

    def results(self) -> set[str]:
        """Names of the objects, without the one that a start writes to see whether it can."""
        return {name for name in self.kept if "probe" not in name}


class Put(BaseHTTPRequestHandler):
    server: Bucket
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked += 1
        self.server.open.wait(LIMIT_S)
        time.sleep(self.server.delay_s)
        self.server.kept.add(self.path)
        self.send_response(200)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    made = Bucket()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{made.server_port}")
    for name, value in {
        "ALLOW_HTTP": "true",
        "ACCESS_KEY_ID": "x",
        "SECRET_ACCESS_KEY": "x",
        "REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    thread = threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield made
    made.open.set()
    made.shutdown()
    made.server_close()


def storing_server(folder: Path, *arguments: str, model: str = "fake") -> Server:
    return start_server(folder, *FAKE, model, "--store", "s3://bucket", "--deadline-s", "60", *arguments)


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def abandoned(server: Server) -> list[int]:
    """The counts that its log has of what it abandoned."""
    return [int(count) for count in re.findall(r"abandoned (\d+) requests", server.log.read_text())]


class Balancer:
    """What a load balancer does: new requests to whoever is ready, another try only where none could connect."""

    def __init__(self, *servers: Server) -> None:
        self.servers = list(servers)
        self.refused = 0
        self.stopping = threading.Event()
        self.outcomes: Counter[str] = Counter()
        self.served_by: Counter[str] = Counter()
        self._ready = {server.url: True for server in servers}
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._probe, *[self._send] * 4)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join(3 * LIMIT_S)
            assert not thread.is_alive()

    def add(self, server: Server) -> None:
        self._ready[server.url] = True
        self.servers.append(server)

    def _probe(self) -> None:
        while not self.stopping.wait(0.05):
            for server in list(self.servers):
                try:
                    self._ready[server.url] = get(server, "/readyz")[0] == 200
                except (OSError, AssertionError):  # it has ended
                    self._ready[server.url] = False

    def _send(self) -> None:
        turn = 0
        while not self.stopping.is_set():
            turn += 1
            ready = [server for server in self.servers if self._ready[server.url]]
            server = ready[turn % len(ready)]
            try:
                connection = socket.create_connection(server.address, timeout=LIMIT_S)
            except ConnectionRefusedError:
                self.refused += 1
                continue
            try:
                for _ in range(REQUESTS_A_CONNECTION):
                    connection.sendall(REQUEST)
                    status, head, _ = answer(connection)
                    self.outcomes[str(status)] += 1
                    self.served_by[server.url] += 1
                    if b"connection: close" in head or not self._ready[server.url] or self.stopping.is_set():
                        break
            except (OSError, AssertionError) as error:
                self.outcomes[repr(error)] += 1
            finally:
                connection.close()


def test_a_rolling_restart_under_load_loses_nothing(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(4)]
    for folder in folders:
        folder.mkdir()

    def start(folder: Path) -> Server:
        return start_server(folder, *FAKE, "fake-10ms", "--workers", "1", "--lame-duck-s", "3", "--deadline-s", "60")

    first, second = (start(folder) for folder in folders[:2])
    balancer = Balancer(first, second)
    balancer.start()
    wait_until(lambda: min(balancer.served_by[first.url], balancer.served_by[second.url]) > 10)
    for old, folder in ((first, folders[2]), (second, folders[3])):
        new = start(folder)
        balancer.add(new)
        wait_until(lambda new=new: balancer.served_by[new.url] > 10)  # type: ignore[misc]
        assert old.stop() == 0
        assert abandoned(old) == []
    for server in balancer.servers[2:]:
        so_far = balancer.served_by[server.url]
        wait_until(lambda server=server, so_far=so_far: balancer.served_by[server.url] > so_far)  # type: ignore[misc]
    balancer.stop()
    assert balancer.outcomes.keys() == {"200"}
    assert balancer.refused == 0  # a lame-duck time that is longer than a probe takes spares even that
    assert min(balancer.served_by.values()) > 10
    assert len(balancer.served_by) == 4
    assert [server.stop() for server in balancer.servers[2:]] == [0, 0]


def test_answers_of_a_lame_duck_close_their_connections(tmp_path: Path) -> None:
    server = start_server(tmp_path, *FAKE, "fake", "--lame-duck-s", "2")
    with requests_in_flight(server, 1) as (kept,):
        status, head, _ = answer(kept)
        assert (status, b"connection: close" in head) == (200, False)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not is_ready(server.url))
        kept.sendall(REQUEST)
        status, head, _ = answer(kept)
        assert (status, b"connection: close" in head) == (200, True)
        assert kept.recv(1) == b""
        time.sleep(1.1)  # the headers are made anew every second
        with requests_in_flight(server, 1) as (late,):
            assert b"connection: close" in answer(late)[1]
    assert server.process.wait(LIMIT_S) == 0


def test_all_that_was_accepted_is_counted_when_it_is_abandoned(tmp_path: Path, bucket: Bucket) -> None:
    """Four are being stored, two are being uploaded; the test below has those that wait for a worker."""
    server = storing_server(tmp_path, "--body-timeout-s", "60", "--grace-s", "0.5", "--store-drain-s", "0.5")
    bucket.open.clear()
    with (
        requests_in_flight(server, 4, STORED) as storing,
        requests_in_flight(server, 2, POST + b"\r\n" + JPEG[:100]) as uploading,
    ):
        wait_until(lambda: bucket.asked >= 1 + 4)
        ended = time.monotonic()
        assert server.stop() == 1
        assert time.monotonic() - ended < LIMIT_S / 2
        answers = [answer(connection) for connection in (*storing, *uploading)]
    assert [status for status, _, _ in answers] == [503] * 6
    assert abandoned(server) == [6]


def test_the_grace_time_is_kept_when_the_store_hangs(tmp_path: Path, bucket: Bucket) -> None:
    server = storing_server(tmp_path, "--grace-s", "0.5", "--store-drain-s", "0.5")
    bucket.open.clear()
    with requests_in_flight(server, 1, STORED) as (stored,):
        wait_until(lambda: bucket.asked > 1)
        ended = time.monotonic()
        assert server.stop() == 1
        assert time.monotonic() - ended < LIMIT_S / 2
        assert answer(stored)[0] == 503
    assert abandoned(server) == [1]


def test_a_result_that_is_being_stored_when_the_drain_begins_is_stored(tmp_path: Path, bucket: Bucket) -> None:
    server = storing_server(tmp_path)
    bucket.open.clear()
    with requests_in_flight(server, 1, STORED) as (stored,):
        wait_until(lambda: bucket.asked > 1)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not is_ready(server.url))
        bucket.open.set()
        assert answer(stored)[0] == 200
    assert server.process.wait(LIMIT_S) == 0
    assert len(bucket.results()) == 2


def test_results_that_wait_on_the_disk_are_uploaded_before_the_end(tmp_path: Path, bucket: Bucket) -> None:
    server = storing_server(tmp_path, "--store-mode", "async", "--store-drain-s", str(LIMIT_S))
    bucket.delay_s = 0.2
    with requests_in_flight(server, 10, STORED) as connections:
        assert [answer(connection)[0] for connection in connections] == [200] * 10
    assert metrics(server)["tidesight_spool_records"] > 0
    assert server.stop() == 0
    assert len(bucket.results()) == 20


def test_a_store_that_hangs_holds_the_end_up_for_so_long_and_no_longer(tmp_path: Path, bucket: Bucket) -> None:
    server = storing_server(tmp_path, "--store-mode", "async", "--store-drain-s", "0.5")
    bucket.open.clear()
    with requests_in_flight(server, 3, STORED) as connections:
        assert [answer(connection)[0] for connection in connections] == [200] * 3
    ended = time.monotonic()
    assert server.stop() == 0
    assert 0.5 < time.monotonic() - ended < LIMIT_S / 2
    assert "6 objects are left" in server.log.read_text()


def test_a_second_signal_while_results_are_uploaded_leaves_at_once(tmp_path: Path, bucket: Bucket) -> None:
    server = storing_server(tmp_path, "--store-mode", "async", "--store-drain-s", "60")
    bucket.open.clear()
    with requests_in_flight(server, 1, STORED) as (stored,):
        assert answer(stored)[0] == 200
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "Finished server process" in server.log.read_text())
    time.sleep(0.3)
    assert server.stop(limit_s=LIMIT_S / 2) == 1
    assert "a second signal: abandoned 0 requests; 2 objects wait for the store" in server.log.read_text()


def test_a_client_library_that_never_returns_does_not_hold_up_the_end() -> None:
    stuck = threading.Event()
    began = time.monotonic()

    def never_return(_: float) -> None:
        stuck.wait(LIMIT_S)

    _close_in_time(never_return, 0.1)
    assert time.monotonic() - began < LIMIT_S / 2
    stuck.set()


def test_a_second_signal_in_the_lame_duck_time_counts_what_waits(tmp_path: Path, bucket: Bucket) -> None:
    arguments = ("--store-mode", "async", "--store-drain-s", "60", "--workers", "1", "--lame-duck-s", "60")
    server = storing_server(tmp_path, *arguments, model="fake-2000ms")
    bucket.open.clear()
    with requests_in_flight(server, 1, STORED) as (stored,):
        assert answer(stored)[0] == 200
    with requests_in_flight(server, 4) as connections:
        wait_until(lambda: metrics(server)["tidesight_requests_in_flight"] == 4)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: get(server, "/readyz")[0] == 503)
        assert server.stop(limit_s=LIMIT_S / 2) == 1
        assert [answer(connection)[0] for connection in connections] == [503] * 4
    assert abandoned(server) == [4]
    assert "2 objects wait for the store" in server.log.read_text()
    assert "Traceback" not in server.log.read_text()
