"""Mutated pictures, bodies and requests: only errors on purpose, only documented statuses, in bounded time and memory."""

import asyncio
import base64
import http.client
import json
import random
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.conftest import Server, encode
from tidesight.detection.detector import Detector
from tidesight.detection.image import ImageLimits, decode_image
from tidesight.detection.image_header import read_header
from tidesight.errors import TidesightError
from tidesight.results.spool import SpoolStatus
from tidesight.serving.admission import Admission
from tidesight.serving.app import create_app
from tidesight.serving.bodies import parse_body
from tidesight.serving.instance import Instance, Ready, ServingLimits, StoredAt
from tidesight.serving.openapi import document
from tidesight.serving.workers import WorkerPool
from tidesight.telemetry import Telemetry

pytestmark = pytest.mark.slow

PICTURES, BODIES, REQUESTS, CONNECTIONS = 60_000, 30_000, 2_500, 400  # how many inputs of each kind
LIMITS = ImageLimits(max_bytes=1 << 20, max_pixels=1_000_000)
INPUT_LIMIT_S = 1.0
MEMORY_LIMIT_BYTES = 300_000_000
DOCUMENTED = {int(status) for status in document()["paths"]["/v1/detect"]["post"]["responses"]}
ODD_NUMBERS = [0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]

_NOISE = cv2.resize(np.random.default_rng(7).integers(0, 256, (4, 4, 3), dtype=np.uint8), (16, 12))
_DEEP = (_NOISE.astype(np.uint16) * 257).astype(np.uint16)
IMAGES = [
    encode(_NOISE, ".jpg"),  # type: ignore[arg-type]  # uint8, whatever OpenCV's stub says
    encode(_NOISE, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 1),  # type: ignore[arg-type]
    encode(cv2.cvtColor(_NOISE, cv2.COLOR_BGR2GRAY), ".jpg"),  # type: ignore[arg-type]
    encode(_NOISE, ".png"),  # type: ignore[arg-type]
    encode(cv2.cvtColor(_NOISE, cv2.COLOR_BGR2BGRA), ".png"),  # type: ignore[arg-type]
    encode(_DEEP, ".png"),  # type: ignore[arg-type]
    encode(_NOISE, ".webp", cv2.IMWRITE_WEBP_QUALITY, 80),  # type: ignore[arg-type]
    encode(_NOISE, ".webp", cv2.IMWRITE_WEBP_QUALITY, 101),  # type: ignore[arg-type]
    encode(cv2.cvtColor(_NOISE, cv2.COLOR_BGR2BGRA), ".webp", cv2.IMWRITE_WEBP_QUALITY, 80),  # type: ignore[arg-type]
]
_OPTIONS = {"confidence": 0.3, "iou": 0.5, "max_detections": 10, "classes": ["cat", 1], "annotate": True, "id": "a-1"}
JSON_BODIES = [
    json.dumps({"image": base64.b64encode(IMAGES[0]).decode(), **_OPTIONS}).encode(),
    json.dumps({"image": "data:image/png;base64," + base64.b64encode(IMAGES[3]).decode(), "store": False}).encode(),
    b'{"image": "aGk", "captured_at": "2026-03-09T07:05:04Z", "classes": null}',
]
FORM = "multipart/form-data; boundary=edge"
FORM_BODIES = [
    b'--edge\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    + IMAGES[0] + b'\r\n--edge\r\nContent-Disposition: form-data; name="confidence"\r\n\r\n0.5\r\n--edge--\r\n',
    b'--edge\r\nContent-Disposition: form-data; name="classes"\r\n\r\ncat, 1\r\n'
    b'--edge\r\nContent-Disposition: form-data; name="image"\r\n\r\n' + IMAGES[6] + b"\r\n--edge--\r\n",
]  # fmt: skip
QUERIES = [
    {},
    {"confidence": "0.3"},
    {"iou": "nan"},
    {"classes": "cat,1"},
    {"annotate": "true"},
    {"store": "true"},
    {"x": "y"},
]


@dataclass(frozen=True)
class Mutation:
    """One change to some bytes; positions are taken modulo the length, so that each fits every seed."""

    kind: str
    at: int
    value: int

    def apply(self, data: bytes, others: list[bytes]) -> bytes:
        """The changed bytes; `others` are what a splice may continue with."""
        at = self.at % (len(data) + 1)
        other = others[self.value % len(others)]
        few = 1 + self.value % 64
        number = ODD_NUMBERS[self.value % len(ODD_NUMBERS)].to_bytes(4, "big" if self.value & 16 else "little")
        # What takes the place of so many bytes.
        instead, replaced = {
            "flip": (bytes(byte ^ (1 << self.value % 8) for byte in data[at : at + 1]), 1),
            "set": (bytes([self.value]), 1),
            "cut": (b"", len(data)),
            "drop": (b"", few),
            "repeat": (data[at : at + few] * 4, few),
            "splice": (other[at % len(other) :], len(data)),
            "number": (number, 4),
            "short": (number[2:] if self.value & 16 else number[:2], 2),
        }[self.kind]
        return data[:at] + instead + data[at + replaced :]


KINDS = ["flip", "set", "cut", "drop", "repeat", "splice", "number", "short"]
BATCH = 20  # inputs made from one number that hypothesis draws: its own draws would take most of the time


def mutate(seeds: list[bytes], chance: random.Random) -> bytes:
    """A seed with one to four changes, in its first bytes as often as anywhere."""
    data = chance.choice(seeds)
    for _ in range(chance.randint(1, 4)):
        at = chance.choice([chance.randint(0, 64), chance.randint(0, 4095)])
        data = Mutation(chance.choice(KINDS), at, chance.randint(0, 255)).apply(data, seeds)
    return data


def mutated(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """One mutated seed."""
    return st.integers(0, 2**64 - 1).map(lambda number: mutate(seeds, random.Random(number)))


def batch(seeds: list[bytes]) -> st.SearchStrategy[list[bytes]]:
    """Many mutated seeds."""

    def make(number: int) -> list[bytes]:
        chance = random.Random(number)
        return [mutate(seeds, chance) for _ in range(BATCH)]

    return st.integers(0, 2**64 - 1).map(make)


def many(count: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """That many examples, the same ones each time."""
    return settings(
        max_examples=count, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


@dataclass
class Watch:
    """Counts outcomes, and bounds the time of each and the memory of all."""

    outcomes: Counter[str] = field(default_factory=Counter)
    peak_before: int = field(default_factory=lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

    def run(self, work: Callable[..., object], *arguments: object) -> None:
        started = time.process_time()
        try:
            work(*arguments)
            self.outcomes["accepted"] += 1
        except TidesightError as error:
            assert 400 <= error.status < 500
            assert 0 < len(error.detail) < 500
            self.outcomes[type(error).__name__] += 1
        except Exception as error:
            raise AssertionError(f"{error!r} on {arguments!r}") from error
        assert time.process_time() - started < INPUT_LIMIT_S, arguments

    def grown_bytes(self) -> int:
        return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self.peak_before)


def look_at(data: bytes) -> None:
    header = read_header(data)
    picture = decode_image(data, LIMITS, enough_px=(64, 64))
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.shape[2] == 3
    assert 0 < picture.pixels.size <= 3 * LIMITS.max_pixels
    assert sorted((picture.width_px, picture.height_px)) == sorted((header.width_px, header.height_px))


def test_mutated_pictures_only_raise_errors_on_purpose() -> None:
    watch = Watch()

    @many(PICTURES // BATCH)
    @given(batch(IMAGES))
    def fuzz(files: list[bytes]) -> None:
        for data in files:
            watch.run(look_at, data)

    fuzz()
    assert watch.outcomes.total() >= PICTURES
    assert watch.outcomes.keys() >= {"accepted", "BadImage", "UnsupportedType", "TooLarge"}
    assert watch.grown_bytes() < MEMORY_LIMIT_BYTES


def test_mutated_bodies_only_raise_errors_on_purpose() -> None:
    watch = Watch()
    json_bodies = batch(JSON_BODIES).map(lambda bodies: [(body, "application/json") for body in bodies])
    forms = batch(FORM_BODIES).map(lambda bodies: [(body, FORM) for body in bodies])
    boundaries = batch([FORM.encode()]).map(lambda kinds: [(FORM_BODIES[0], kind.decode("latin-1")) for kind in kinds])

    @many(BODIES // BATCH)
    @given(st.one_of(json_bodies, forms, boundaries), st.sampled_from(QUERIES))
    def fuzz(bodies: list[tuple[bytes, str]], query: dict[str, str]) -> None:
        for body, kind in bodies:
            watch.run(parse_body, body, kind, query)

    fuzz()
    assert watch.outcomes.total() >= BODIES
    assert PICTURES + BODIES >= 20_000
    assert watch.outcomes.keys() >= {"accepted", "InputError", "InvalidOption", "BadImage"}
    assert watch.grown_bytes() < MEMORY_LIMIT_BYTES


class NoResults:
    """Stores nothing; what it would have stored is counted."""

    def __init__(self) -> None:
        self.puts = 0

    async def put(self, request_id: str, at: datetime, jpeg: bytes, detections: bytes) -> StoredAt:
        self.puts += 1
        return _Stored("file:///kept.jpg", f"file:///{request_id}.json")

    def status(self) -> SpoolStatus:
        return SpoolStatus()


@dataclass(frozen=True)
class _Stored:
    image_url: str | None
    detections_url: str


@pytest.fixture
def instance() -> Iterator[Instance]:
    """An instance with the fake engine, in this process."""
    detector = Detector.open(Path("fake"), engine="fake", limits=LIMITS)
    pool = WorkerPool([detector])
    pool.start()
    made = Instance(ServingLimits(1 << 20, image=LIMITS), NoResults(), Telemetry())
    made.became_ready(Ready(detector.model, "fake", pool, Admission(1, 10, 0.001)))
    yield made
    pool.stop()


def test_mutated_requests_get_documented_statuses(instance: Instance) -> None:
    statuses: Counter[int] = Counter()
    kinds = ["image/jpeg", "image/png", "image/webp", FORM, "application/json", "text/plain", "", "image/jpeg;;;"]
    header_values = st.one_of(
        st.sampled_from(
            ["image/jpeg", "1", "0", "1000", "", "a" * 200, "gzip", "identity", "\xff", "image/jpeg;q=\xb2"]
        ),
        st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=20),
    )
    headers = st.dictionaries(
        st.sampled_from(["Accept", "X-Request-Id", "X-Request-Timeout-Ms", "X-Envoy-Expected-Rq-Timeout-Ms", "Content-Encoding", "Content-Length"]),
        header_values, max_size=2,
    )  # fmt: skip
    option_names = st.sampled_from(
        ["confidence", "iou", "max_detections", "classes", "annotate", "store", "id", "captured_at", "x"]
    )
    odd_texts = st.one_of(
        st.sampled_from(["0.5", "1", "true", "cat", "nan", "null", "[", "-0", "1e400", "\x00", "²"]),
        st.text(max_size=10),
    )

    with asyncio.Runner() as runner:
        transport = httpx.ASGITransport(create_app(instance))

        @many(REQUESTS)
        @given(
            st.one_of(mutated(IMAGES), mutated(JSON_BODIES), mutated(FORM_BODIES)), st.sampled_from(kinds), headers,
            st.dictionaries(option_names, odd_texts, max_size=2),
        )  # fmt: skip
        def fuzz(body: bytes, kind: str, odd_headers: dict[str, str], query: dict[str, str]) -> None:
            async def send() -> httpx.Response:
                async with httpx.AsyncClient(transport=transport, base_url="http://instance") as client:
                    sent = {"Content-Type": kind, **odd_headers}
                    pairs = [(name.encode(), value.encode("latin-1")) for name, value in sent.items()]
                    return await client.post("/v1/detect", content=body, headers=pairs, params=query)

            response = runner.run(send())
            statuses[response.status_code] += 1
            assert response.status_code in DOCUMENTED - {500}
            assert response.headers["x-request-id"]
            assert "Traceback" not in response.text
            if response.status_code != 200:
                assert response.json()["status"] == response.status_code
            assert instance.ready.admission.in_flight == 0

        fuzz()
    assert statuses.total() >= REQUESTS
    assert statuses.keys() >= {200, 400, 415, 422}


def test_mutated_connections_are_answered_or_closed(fake_server: Server) -> None:
    chance = random.Random(20_260_309)
    head = b"POST /v1/detect?iou=0.5 HTTP/1.1\r\nHost: x\r\nAccept: image/jpeg\r\nX-Request-Id: a\r\n"
    seeds = [
        head + b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(IMAGES[0]) + IMAGES[0],
        head + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(JSON_BODIES[2]) + JSON_BODIES[2],
        head + b"Content-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(IMAGES[0]) + IMAGES[0] + b"\r\n0\r\n\r\n",
        b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ]  # fmt: skip
    requests = []
    for _ in range(CONNECTIONS):
        request = chance.choice(seeds)
        for _ in range(chance.randint(1, 4)):
            request = Mutation(chance.choice(KINDS), chance.randint(1, 300), chance.randint(0, 255)).apply(
                request, seeds
            )
        requests.append(request or b"G")  # who says nothing is not answered
    with ThreadPoolExecutor(8) as senders:
        statuses = Counter(senders.map(partial(first_status, fake_server), requests))
    assert statuses.total() == CONNECTIONS
    assert statuses.keys() <= DOCUMENTED - {500} | {404, 405, None}
    assert {200, 400} <= statuses.keys()
    assert statuses[None] < CONNECTIONS / 4  # closed without a word: the request had ended before it began
    log = fake_server.log.read_text()
    assert "Traceback" not in log
    assert first_status(fake_server, seeds[0]) == 200


def first_status(server: Server, request: bytes) -> int | None:
    """Status of the first answer; None when the connection was closed without one. A silent server is a failure."""
    with socket.create_connection(server.address, timeout=10) as connection:
        connection.sendall(request)
        response = http.client.HTTPResponse(connection)
        try:
            response.begin()
            response.read()
        except (http.client.RemoteDisconnected, ConnectionResetError):
            return None
        except TimeoutError:
            raise AssertionError(f"no answer to {request!r}") from None
        finally:
            response.close()
        return response.status
