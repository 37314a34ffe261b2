"""Refusals from the head: written before the event loop does anything else, and only where the route has no say."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from tidesight.detection.detector import Detector
from tidesight.serving.admission import Admission
from tidesight.serving.api_keys import ApiKeys
from tidesight.serving.app import create_app
from tidesight.serving.http_protocol import HttpProtocol
from tidesight.serving.instance import Instance, Ready, ServingLimits
from tidesight.serving.workers import WorkerPool
from tidesight.telemetry import Telemetry

KEY = "0123456789abcdef"
Header = tuple[bytes, bytes]


class _Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading
    abort = close


def overloaded(*, keys: str = "", ready: bool = True, limits: ServingLimits | None = None) -> Instance:
    """An instance whose one worker has an hour of work before it."""
    detector = Detector.open(Path("fake"), engine="fake")
    instance = Instance(limits or ServingLimits(), None, Telemetry(), ApiKeys(keys))  # type: ignore[arg-type]  # stores nothing
    if ready:
        admission = Admission(1, 10, service_s=3600)
        admission.in_flight = 1
        instance.became_ready(Ready(detector.model, "fake", WorkerPool([detector]), admission))
    return instance


def request(*headers: Header, start: bytes = b"POST /v1/detect HTTP/1.1", kind: bytes = b"image/jpeg") -> bytes:
    lines = [(b"Host", b"x"), (b"Content-Type", kind), (b"Content-Length", b"4"), *headers]
    return start + b"\r\n" + b"".join(b"%b: %b\r\n" % line for line in lines) + b"\r\nbody"


def written_at_once(instance: Instance, *pieces: bytes, taken: bool = True) -> bytes:
    """What the protocol writes while it is handed bytes, before the loop runs anything; are the answers `taken`?"""

    async def main() -> bytes:
        config = uvicorn.Config(create_app(instance), http=HttpProtocol, ws="none", lifespan="off", log_config=None)
        config.load()
        state, wire = ServerState(), _Wire()
        state.default_headers = [(b"date", b"today")]
        protocol = HttpProtocol(config, state, {})
        protocol.connection_made(wire)
        if not taken:
            protocol.pause_writing()
        for piece in pieces:
            protocol.data_received(piece)
        written = wire.written
        for task in state.tasks:
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)
        protocol.connection_lost(None)
        return written

    return asyncio.run(main())


def test_an_overloaded_instance_refuses_without_the_framework() -> None:
    instance = overloaded()
    written = written_at_once(instance, request((b"X-Request-Id", b"mine")), request()[:-4])  # one without its body
    assert written.count(b"HTTP/1.1 429 Too Many Requests\r\n") == 2
    first = written[: written.index(b"HTTP/1.1 429", 10)]
    head, _, body = first.partition(b"\r\n\r\n")
    headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    assert headers.pop(b"content-length") == b"%d" % len(body)
    assert headers == {
        b"date": b"today", b"content-type": b"application/problem+json", b"x-content-type-options": b"nosniff",
        b"retry-after": b"7191", b"x-request-id": b"mine", b"x-tidesight-instance": instance.name.encode(),
    }  # fmt: skip
    assert json.loads(body)["id"] == "mine"
    text = instance.telemetry.exposition().decode()
    assert 'tidesight_requests_total{status="429"} 2.0' in text
    assert 'tidesight_refused_total{reason="deadline"} 2.0' in text


@pytest.mark.parametrize(
    "sent",
    [
        request(start=b"GET /v1/detect HTTP/1.1"),
        request(start=b"POST /v1/detector HTTP/1.1"),
        request(start=b"POST /v1/detect HTTP/1.0"),
        request((b"Connection", b"close")),
        request(kind=b"text/plain"),
        request((b"Content-Encoding", b"gzip")),
        request((b"X-Request-Timeout-Ms", b"soon")),
        request((b"X-Request-Timeout-Ms", b"8000000")),  # more than two hours: it is in time
    ],
)
def test_the_route_answers_what_is_not_simply_too_much(sent: bytes) -> None:
    assert written_at_once(overloaded(), sent) == b""


def test_the_first_of_two_headers_of_a_name_counts_as_in_the_route() -> None:
    long, short = (b"X-Request-Timeout-Ms", b"8000000"), (b"X-Request-Timeout-Ms", b"1")
    assert written_at_once(overloaded(), request(long, short)) == b""
    assert written_at_once(overloaded(), request(short, long)).startswith(b"HTTP/1.1 429")


def test_who_has_no_key_is_not_told_about_the_load() -> None:
    instance = overloaded(keys=KEY)
    assert written_at_once(instance, request()) == b""
    assert written_at_once(instance, request((b"X-API-Key", b"wrong" * 5))) == b""
    assert written_at_once(instance, request((b"X-API-Key", KEY.encode()))).startswith(b"HTTP/1.1 429")


@pytest.mark.parametrize("state", [lambda: overloaded(ready=False), lambda: draining(overloaded())])
def test_starting_and_draining_are_the_route_s_to_explain(state: Callable[[], Instance]) -> None:
    assert written_at_once(state(), request()) == b""


def draining(instance: Instance) -> Instance:
    instance.drain()
    return instance


def test_behind_a_request_that_is_being_answered_it_waits_its_turn() -> None:
    assert written_at_once(overloaded(), b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + request()) == b""


def test_of_very_many_in_one_packet_a_few_are_refused_before_the_loop_does_anything_else() -> None:
    few = written_at_once(overloaded(), request() * 2000).count(b"HTTP/1.1 ")
    assert 1 <= few <= 8
    assert written_at_once(overloaded(), *[request()] * 20).count(b"HTTP/1.1 429") == 20  # packets by themselves


def test_who_does_not_take_its_answers_is_refused_by_the_route_which_waits() -> None:
    assert written_at_once(overloaded(), request(), taken=False) == b""


PROBE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


def one_too_many() -> Instance:
    """Its every connection is beyond the limit."""
    return overloaded(limits=ServingLimits(max_connections=0))


def test_a_connection_too_many_is_answered_once_whatever_it_sends() -> None:
    instance = one_too_many()
    written = written_at_once(instance, request() * 10 + PROBE + b"no HTTP")
    assert written.startswith(b"HTTP/1.1 503")
    assert written.count(b"HTTP/1.1 ") == 1
    text = instance.telemetry.exposition().decode()
    assert 'tidesight_requests_total{status="503"} 1.0' in text
    assert 'tidesight_refused_total{reason="connections"} 1.0' in text


def test_on_a_connection_too_many_nothing_is_written_in_place_of_the_answer_to_a_probe() -> None:
    instance = one_too_many()
    assert written_at_once(instance, PROBE + request()) == b""
    assert "tidesight_refused_total{" not in instance.telemetry.exposition().decode()
