"""What callers send wrong, through a real server: the right 4xx with a reason and the field, and life goes on."""

import base64
import dataclasses
import io
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from PIL import Image

from tests.conftest import Server, encode, exchange

LIMIT_S = 20
MAX_BODY_BYTES = 24 * 1024 * 1024


def noise(width_px: int, height_px: int) -> Image.Image:
    small = np.random.default_rng(7).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(cv2.resize(small, (width_px, height_px), interpolation=cv2.INTER_CUBIC))


def saved(picture: Image.Image, format_name: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, format_name, **options)
    return file.getvalue()


PICTURE = noise(96, 64)
JPEG, PNG, WEBP = saved(PICTURE, "JPEG"), saved(PICTURE, "PNG"), saved(PICTURE, "WEBP")
FRAMES = {"save_all": True, "append_images": [noise(96, 65).crop((0, 0, 96, 64)), PICTURE.rotate(180)], "duration": 50}


def jpeg_of_size(width_px: int, height_px: int) -> bytes:
    at = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:at] + struct.pack(">HH", height_px, width_px) + JPEG[at + 4 :]


def png_of_size(width_px: int, height_px: int) -> bytes:
    header = b"IHDR" + struct.pack(">II", width_px, height_px) + PNG[24:29]
    return PNG[:12] + header + struct.pack(">I", zlib.crc32(header)) + PNG[33:]


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


@dataclass(frozen=True)
class Bad:
    """A request and how it is to be refused."""

    name: str
    status: int
    field: str | None
    body: bytes
    kind: str = "image/jpeg"
    query: dict[str, str] = dataclasses.field(default_factory=dict)
    headers: dict[str, str] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def bad_json(name: str, status: int, field: str | None, **members: object) -> Bad:
    return Bad(name, status, field, json.dumps({"image": base64_of(JPEG), **members}).encode(), "application/json")


def bad_form(
    name: str, status: int, field: str | None, body: bytes, kind: str = "multipart/form-data; boundary=b"
) -> Bad:
    return Bad(name, status, field, body, kind)


def part(name: str, value: bytes) -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name.encode(), value)


BAD_PICTURES = [
    Bad("empty", 400, "image", b""),
    Bad("text", 400, "image", b"These are words."),
    Bad("truncated JPEG header", 400, "image", JPEG[:40]),
    Bad("JPEG cut in half", 400, "image", JPEG[: len(JPEG) // 2]),
    Bad("PNG cut in half", 400, "image", PNG[: len(PNG) // 2], "image/png"),
    Bad("WebP cut in half", 400, "image", WEBP[: len(WEBP) // 2], "image/webp"),
    Bad(
        "JPEG without its tables",
        400,
        "image",
        JPEG.replace(b"\xff\xdb", b"\xff\xfe").replace(b"\xff\xc4", b"\xff\xfe"),
    ),
    Bad("PNG with a wrong checksum", 400, "image", PNG[:29] + b"\0\0\0\0" + PNG[33:], "image/png"),
    Bad("JPEG of 0x0", 400, "image", jpeg_of_size(0, 0)),
    Bad("PNG of 0x0", 400, "image", png_of_size(0, 0), "image/png"),
    Bad("JPEG of 30000x30000", 413, "image", jpeg_of_size(30_000, 30_000)),
    Bad("PNG of 30000x30000", 413, "image", png_of_size(30_000, 30_000), "image/png"),
    Bad("PNG of 2147483647x1", 413, "image", png_of_size(2**31 - 1, 1), "image/png"),
    Bad("animated PNG", 415, "image", saved(PICTURE, "PNG", **FRAMES), "image/png"),
    Bad("animated WebP", 415, "image", saved(PICTURE, "WEBP", **FRAMES), "image/webp"),
    Bad("animated GIF said to be JPEG", 415, "image", saved(PICTURE, "GIF", **FRAMES)),
    Bad("BMP", 415, "image", saved(PICTURE, "BMP"), "image/png"),
    Bad("TIFF", 415, "image", saved(PICTURE, "TIFF"), "image/png"),
    Bad("PDF", 415, "image", b"%PDF-1.7\n" * 20),
    Bad("MP4", 415, "image", b"\0\0\0\x20ftypisom" + bytes(100)),
    Bad("GIF type", 415, None, JPEG, "image/gif"),
    Bad("no type", 415, None, JPEG, ""),
    Bad("octet stream", 415, None, JPEG, "application/octet-stream"),
    Bad("compressed body", 415, "Content-Encoding", zlib.compress(JPEG), headers={"Content-Encoding": "gzip"}),
]
BAD_OPTIONS = [
    Bad("confidence NaN", 422, "confidence", JPEG, query={"confidence": "nan"}),
    Bad("iou infinite", 422, "iou", JPEG, query={"iou": "inf"}),
    Bad("confidence over 1", 422, "confidence", JPEG, query={"confidence": "1.0001"}),
    Bad("no number", 422, "max_detections", JPEG, query={"max_detections": "many"}),
    Bad("an endless number", 422, "max_detections", JPEG, query={"max_detections": "9" * 5000}),
    Bad("unknown option", 422, "colour", JPEG, query={"colour": "red"}),
    Bad("unknown class", 422, "classes", JPEG, query={"classes": "cat,kraken"}),
    Bad("class id too large", 422, "classes", JPEG, query={"classes": "2"}),
    Bad("negative class id", 422, "classes", JPEG, query={"classes": "-1"}),
    Bad("a digit that is no digit", 422, "classes", JPEG, query={"classes": "²"}),
    Bad("id with a path", 422, "id", JPEG, query={"id": "../../etc/passwd"}),
    Bad("id with a line feed", 422, "id", JPEG, query={"id": "a\n"}),
    Bad("time without zone", 422, "captured_at", JPEG, query={"captured_at": "2026-03-09T07:05:04"}),
    Bad("options before the picture", 422, "iou", b"no picture", query={"iou": "2"}),
    Bad("deadline of 0", 422, "x-request-timeout-ms", JPEG, headers={"X-Request-Timeout-Ms": "0"}),
    Bad("deadline in words", 422, "x-request-timeout-ms", JPEG, headers={"X-Request-Timeout-Ms": "soon"}),
]
BAD_JSON = [
    bad_json("image of a wrong type", 422, "image", image=5),
    bad_json("image null", 422, "image", image=None),
    bad_json("broken base64", 400, "image", image="!!!!"),
    bad_json("base64 cut", 400, "image", image=base64_of(JPEG)[:-3] + "*"),
    bad_json("empty image", 400, "image", image=""),
    bad_json("base64 of words", 400, "image", image=base64_of(b"words")),
    bad_json("data URI without base64", 400, "image", image="data:image/jpeg,%FF%D8"),
    bad_json("confidence as text", 422, "confidence", confidence="0.5"),
    bad_json("confidence true", 422, "confidence", confidence=True),
    bad_json("confidence null", 422, "confidence", confidence=None),
    bad_json("classes as text", 422, "classes", classes="cat"),
    bad_json("a class of a wrong type", 422, "classes[1]", classes=["cat", 1.5]),
    bad_json("too many classes", 422, "classes", classes=[0] * 1001),
    bad_json("unknown class", 422, "classes", classes=["kraken"]),
    bad_json("unknown member", 422, "model", model="large"),
    bad_json("nested rubbish", 422, "x", x={"a": [[[{}]]]}),
    Bad("NaN in JSON", 400, None, b'{"image": "aGk=", "confidence": NaN}', "application/json"),
    Bad("no JSON", 400, None, b"image=aGk=", "application/json"),
    Bad("empty JSON body", 400, None, b"", "application/json"),
    Bad("a list", 422, None, b"[1, 2]", "application/json"),
    Bad("no image", 422, "image", b"{}", "application/json"),
    Bad("deep nesting", 400, None, b'{"image": ' + b"[" * 1_000_000, "application/json"),
    Bad("byte order mark", 400, None, b'\xef\xbb\xbf{"image": "aGk="}', "application/json"),
    Bad("lone surrogate", 400, None, b'{"image": "aGk=", "id": "\\udc00"}', "application/json"),
    Bad("JSON with a query", 422, "iou", b'{"image": "aGk="}', "application/json", {"iou": "0.5"}),
    Bad("10 MB of blanks", 400, None, b" " * 10_000_000, "application/json"),
]
BAD_FORMS = [
    bad_form("no boundary", 400, None, part("image", JPEG) + b"--b--\r\n", "multipart/form-data"),
    bad_form("other boundary", 400, None, part("image", JPEG) + b"--b--\r\n", "multipart/form-data; boundary=c"),
    bad_form("no end", 400, None, part("image", JPEG)),
    bad_form("no image", 422, "image", part("picture", JPEG) + b"--b--\r\n"),
    bad_form("two images", 422, "image", part("image", JPEG) * 2 + b"--b--\r\n"),
    bad_form("unknown field", 422, "colour", part("image", JPEG) + part("colour", b"red") + b"--b--\r\n"),
    bad_form("a field that is no text", 422, "id", part("image", JPEG) + part("id", b"\xff") + b"--b--\r\n"),
    bad_form("10000 parts", 422, None, b"".join(part(f"p{n}", b"") for n in range(10_000)) + b"--b--\r\n"),
    bad_form("1 MB of header", 400, None, b"--b\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n\r\n--b--\r\n"),
    bad_form("words as image", 400, "image", part("image", b"words") + b"--b--\r\n"),
]
ALL = [*BAD_PICTURES, *BAD_OPTIONS, *BAD_JSON, *BAD_FORMS]


def send(client: httpx.Client, bad: Bad) -> httpx.Response:
    headers = {**({"Content-Type": bad.kind} if bad.kind else {}), **bad.headers}
    return client.post("/v1/detect", content=bad.body, params=bad.query, headers=headers)


@pytest.fixture(scope="module")
def client(fake_server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=fake_server.url, timeout=LIMIT_S) as one:
        yield one


def assert_still_serving(client: httpx.Client) -> None:
    response = client.post("/v1/detect", content=JPEG, headers={"Content-Type": "image/jpeg"})
    assert response.status_code == 200
    assert [found["label"] for found in response.json()["detections"]] == ["cat"]


@pytest.mark.parametrize("bad", ALL, ids=str)
def test_bad_input_is_refused_with_a_reason_and_the_field(client: httpx.Client, bad: Bad) -> None:
    response = send(client, bad)
    assert response.status_code == bad.status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == bad.status
    assert problem.get("field") == bad.field
    assert 10 < len(problem["detail"]) < 500
    assert problem["id"] == response.headers["x-request-id"]
    assert not any(word in response.text for word in ("Traceback", 'File "', ".py", "msgspec", "cv2", "object at"))
    assert_still_serving(client)


@pytest.mark.parametrize(
    "picture",
    [
        saved(noise(1, 1), "PNG"), saved(noise(1, 1), "JPEG"), saved(noise(1, 1), "WEBP"), saved(noise(2000, 1), "PNG"),
        saved(PICTURE.convert("CMYK"), "JPEG"), saved(PICTURE.convert("L"), "JPEG"), saved(PICTURE.convert("1"), "PNG"),
        saved(PICTURE.convert("P"), "PNG"), saved(PICTURE.convert("RGBA"), "WEBP", lossless=True),
        saved(PICTURE.convert("LA"), "PNG"), saved(PICTURE, "JPEG", progressive=True), saved(PICTURE, "PNG", interlace=1),
        encode(np.full((9, 9, 3), 9, np.uint8), ".png"), JPEG + b"trailing rubbish",
        cv2.imencode(".png", np.full((20, 30), 40_000, np.uint16))[1].tobytes(),
    ],
    ids=lambda picture: f"{len(picture)} bytes",
)  # fmt: skip
def test_odd_but_sound_pictures_are_answered(client: httpx.Client, picture: bytes) -> None:
    for accept, kind in (("application/json", "application/json"), ("image/jpeg", "image/jpeg")):
        response = client.post("/v1/detect", content=picture, headers={"Content-Type": "image/png", "Accept": accept})
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == kind


def test_hundreds_of_bad_requests_leave_no_memory_behind(fake_server: Server, client: httpx.Client) -> None:
    for _ in range(2):  # caches, arenas and thread stacks fill once
        for bad in ALL:
            send(client, bad)
    before = resident_bytes(fake_server)
    sent = 0
    while sent < 600:
        for bad in ALL:
            assert send(client, bad).status_code == bad.status
            sent += 1
    grown = resident_bytes(fake_server) - before
    assert grown < 30e6, f"{grown / 1e6:.0f} MB more after {sent} bad requests"
    assert_still_serving(client)


def test_a_body_declared_too_large_is_refused_unread(fake_server: Server) -> None:
    head = b"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n%bContent-Length: %d\r\n\r\n"
    for expect in (b"", b"Expect: 100-continue\r\n"):
        received = exchange(fake_server, head % (expect, MAX_BODY_BYTES + 1), limit_s=5)
        assert status_of(received) == 413
        assert b"100 Continue" not in received
        assert str(MAX_BODY_BYTES).encode() in received
    assert status_of(exchange(fake_server, head % (b"", 10**19))) in (400, 413)
    assert status_of(exchange(fake_server, head % (b"", 10**40))) == 400


def test_a_chunked_body_over_the_limit_is_refused_while_it_comes(fake_server: Server, client: httpx.Client) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 1_000_000 + 2):
            yield bytes(1_000_000)

    before = resident_bytes(fake_server)
    for _ in range(3):
        response = client.post("/v1/detect", content=pieces(), headers={"Content-Type": "image/jpeg"})
        assert response.status_code == 413
        assert response.json()["title"] == "Too large"
    assert resident_bytes(fake_server) - before < 3 * MAX_BODY_BYTES
    assert_still_serving(client)


def test_a_slow_body_gets_408_and_others_are_served_meanwhile(fake_server: Server, client: httpx.Client) -> None:
    head = b"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 100\r\n\r\n"
    answers: list[bytes] = []
    dribblers = [
        threading.Thread(
            target=lambda: answers.append(exchange(fake_server, head, *[b"\xff"] * 20, pause_s=0.1, limit_s=10))
        )
        for _ in range(20)
    ]
    for thread in dribblers:
        thread.start()
    started = time.monotonic()
    served = 0
    while any(thread.is_alive() for thread in dribblers):
        assert_still_serving(client)
        served += 1
    for thread in dribblers:
        thread.join()
    assert [status_of(answer) for answer in answers] == [408] * 20
    assert all(b'"Body too slow"' in answer for answer in answers)
    assert served > 3
    assert time.monotonic() - started < 8  # and they were hung up on, though they went on sending


def test_a_slow_head_gets_408(fake_server: Server) -> None:
    received = exchange(fake_server, b"GET /healthz HTTP/1.1\r\n", *[b"X: y\r\n"] * 20, pause_s=0.1, limit_s=10)
    assert status_of(received) == 408
    assert_problem(received)


def test_a_head_without_end_is_cut_off(fake_server: Server) -> None:
    before = resident_bytes(fake_server)
    many = [b"X-%d: %b\r\n" % (n, b"a" * 10_000) for n in range(5000)]
    for pieces in (many, [b"X: ", *[b"a" * 100_000] * 500], [b"GET /" + b"a" * 1_000_000] * 50):
        received = exchange(fake_server, b"GET /healthz HTTP/1.1\r\nHost: x\r\n", *pieces)
        assert status_of(received) in (431, 400, None)  # None: the reset came before the answer was read
    assert resident_bytes(fake_server) - before < 20e6
    # A sender that pauses reads the answer.
    received = exchange(fake_server, b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 500_000, pause_s=0.3)
    assert status_of(received) == 431
    assert_problem(received)


def test_a_body_in_crumbs_is_taken_while_framing_is_not_its_bulk(fake_server: Server, client: httpx.Client) -> None:
    head = b"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    crumbs = b"".join(b"8\r\n%b\r\n" % JPEG[at : at + 8].ljust(8) for at in range(0, len(JPEG), 8))
    assert status_of(exchange(fake_server, head + crumbs + b"0\r\n\r\n")) == 200
    trailers = b"".join(b"X-%d: %b\r\n" % (n, b"a" * 1000) for n in range(2000))
    assert status_of(exchange(fake_server, head + crumbs + b"0\r\n", trailers, b"\r\n", pause_s=0.1)) in (431, None)
    assert_still_serving(client)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(100),  # the beginning of TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"GET /h\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX Y: z\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n: z\r\n\r\n",
        b"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    ],
)
def test_what_is_not_http_is_a_400_problem(fake_server: Server, client: httpx.Client, request_bytes: bytes) -> None:
    received = exchange(fake_server, request_bytes, limit_s=5)
    assert status_of(received) == 400
    assert_problem(received)
    assert_still_serving(client)


def test_garbage_after_a_request_does_not_take_its_answer(fake_server: Server) -> None:
    head = b"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(JPEG)
    received = exchange(fake_server, head + JPEG + b"GARBAGE\r\n\r\n", limit_s=5)
    assert status_of(received) == 200
    assert received.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "header", ["Host: [::1", "Host: a b", "Cookie: \xff\xfe", "Accept: \xff;q=\xb2", "X-Request-Id: \xe9"]
)
def test_odd_headers_do_no_harm(fake_server: Server, header: str) -> None:
    head = f"POST /v1/detect HTTP/1.1\r\n{header}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(JPEG)}\r\nConnection: close\r\n\r\n"
    assert status_of(exchange(fake_server, head.encode("latin-1") + JPEG)) == 200


@pytest.mark.parametrize("pieces", [1, 5, 40])
@pytest.mark.parametrize("chunked", [False, True])
def test_an_offer_to_upgrade_is_ignored_and_the_body_read(fake_server: Server, pieces: int, chunked: bool) -> None:
    # As `curl --http2` sends it.
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(JPEG)
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(JPEG), JPEG) if chunked else JPEG
    head = b"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n%b%b\r\n\r\n" % (offer, framing)
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    sent = (head + body) * 2 + last
    step = -(-len(sent) // pieces)
    received = exchange(fake_server, *(sent[at : at + step] for at in range(0, len(sent), step)), pause_s=0.005)
    assert received.count(b"HTTP/1.1 200 OK") == 3
    assert received.count(b'"cat"') == 2


def test_a_tunnel_is_not_built(fake_server: Server, client: httpx.Client) -> None:
    received = exchange(fake_server, b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n\r\n", limit_s=5)
    assert status_of(received) in (400, 404, 405)
    assert_still_serving(client)


def test_callers_that_leave_midway_leave_nothing_behind(fake_server: Server, client: httpx.Client) -> None:
    head = b"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(JPEG)
    connections = open_sockets(fake_server)
    for cut in (10, len(head), len(head) + 10, len(head) + len(JPEG)):
        for linger in (True, False):  # an orderly end, and a reset
            for _ in range(10):
                left = socket.create_connection(fake_server.address)
                left.sendall((head + JPEG)[:cut])
                if not linger:
                    left.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                left.close()
    deadline = time.monotonic() + LIMIT_S
    while open_sockets(fake_server) > connections and time.monotonic() < deadline:
        time.sleep(0.05)
    assert open_sockets(fake_server) <= connections
    assert_still_serving(client)
    metrics = client.get("/metrics").text
    assert "tidesight_requests_in_flight 0.0" in metrics
    assert 'tidesight_requests_total{status="499"}' in metrics


def test_nothing_of_this_left_a_stack_trace_in_the_log(fake_server: Server, client: httpx.Client) -> None:
    for bad in ALL:
        send(client, bad)
    log = fake_server.log.read_text()
    assert "Traceback" not in log
    assert "ERROR tidesight" not in log
    assert "Exception" not in log


def status_of(received: bytes) -> int | None:
    return int(received[9:12]) if received else None


def assert_problem(received: bytes) -> None:
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    assert json.loads(body)["status"] == status_of(received)


def resident_bytes(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")))


def open_sockets(server: Server) -> int:
    return sum(
        target.startswith("socket:") for target in map(_target, Path(f"/proc/{server.process.pid}/fd").iterdir())
    )


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except FileNotFoundError:  # closed since it was listed
        return ""
