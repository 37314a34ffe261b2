"""Whatever goes wrong, a caller learns nothing of the machine: no path, host, library, class or stack."""

import asyncio
import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any, NoReturn

import cv2
import httpx
import numpy as np
import pytest

from tests.conftest import Server, all_errors, encode, exchange, start_server
from tidesight import errors
from tidesight.results.writer import ResultWriter
from tidesight.serving import app, detect_route
from tidesight.serving.instance import Instance, ServingLimits
from tidesight.serving.schemas import REQUEST_ID
from tidesight.telemetry import Telemetry

JPEG = encode(np.full((64, 64, 3), 100, np.uint8), ".jpg")
PNG = encode(np.full((64, 64, 3), 100, np.uint8), ".png")
SECRET = "/srv/models/secret.onnx on db-7.internal: botocore.exceptions.ClientError at 0x7f00deadbeef"
INTERNAL = re.compile(
    r"/(?:home|usr|tmp|var|srv|opt|root|proc|etc|lib)\b|0x[0-9a-f]{6}|[a-z]Error\b|Exception|<class|object at|\.py\b"
    r"|Traceback|site-packages|(?i:tidesight\.|msgspec|starlette|uvicorn|httptools|opencv|cv2|numpy|onnx|python)"
)
FAULTS: list[BaseException] = [
    *(kind(SECRET, extra="s3") if kind is errors.MissingExtra else kind(SECRET) for kind in sorted(all_errors(), key=str)),
    *(kind(SECRET) for kind in (ValueError, OSError, KeyError, RuntimeError, MemoryError, AssertionError, cv2.error)),
]  # fmt: skip


def told(error: BaseException) -> bool:
    """Whether an error is one whose words are written for callers; the fault's are not, so it cannot be judged by them."""
    return isinstance(error, errors.TidesightError) and error.caller_detail is None


@pytest.mark.parametrize("fault", [one for one in FAULTS if not told(one)], ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("path", ["/v1/detect", "/readyz", "/metrics"])
def test_a_fault_inside_is_logged_and_not_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, path: str, fault: BaseException
) -> None:
    async def fail(*_: object) -> NoReturn:
        raise fault

    monkeypatch.setattr(detect_route, "_answer", fail)
    monkeypatch.setattr(app, "readyz", fail)
    monkeypatch.setattr(app, "show_metrics", fail)
    made = app.create_app(Instance(ServingLimits(), ResultWriter(""), Telemetry()))

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(made, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.request("POST" if path == "/v1/detect" else "GET", path, content=JPEG)

    with caplog.at_level(logging.WARNING):
        reply = asyncio.run(ask())
    assert reply.status_code >= 500
    assert reply.json()["title"]
    assert "secret" not in reply.text and "internal:" not in reply.text
    assert not INTERNAL.search(reply.json()["detail"]), reply.text
    if path == "/v1/detect":
        assert "secret.onnx" in caplog.text, "operators need it"


def requests() -> list[tuple[str, bytes, dict[str, str]]]:
    """Queries, bodies and headers that each fail in a place of its own."""
    jpeg, form = {"Content-Type": "image/jpeg"}, {"Content-Type": "multipart/form-data; boundary=B"}
    as_json = {"Content-Type": "application/json"}
    part = b'--B\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n' + JPEG + b"\r\n--B"
    image = '"image": "aGVsbG8="'
    return [
        ("", b"", jpeg), ("", JPEG[:60], jpeg), ("", b"GIF89a" + bytes(50), jpeg), ("", bytes(500), jpeg), ("", PNG[:50], jpeg),
        ("", JPEG[:200] + bytes(900), jpeg), ("", PNG[:33] + b"\xff\xff\xff\xffIDAT" + PNG[41:], jpeg), ("", PNG[:-20], jpeg),
        ("", b"RIFF\x10\0\0\0WEBPVP8 " + bytes(40), jpeg), ("", JPEG, {}), ("", JPEG, {"Content-Type": "text/plain"}),
        ("", JPEG, {**jpeg, "Content-Encoding": "gzip"}), ("", JPEG, {**jpeg, "X-Request-Timeout-Ms": "soon"}),
        ("?confidence=x", JPEG, jpeg), ("?confidence=2", JPEG, jpeg), ("?what=1", JPEG, jpeg), ("?iou=[[[[", JPEG, jpeg),
        ("?confidence=1&confidence=1", JPEG, jpeg), ("?classes=" + "x" * 5000, JPEG, jpeg), ("?captured_at=now", JPEG, jpeg),
        ("?id=a/b", JPEG, jpeg), ("?max_detections=1e400", JPEG, jpeg), ("?classes=999999", JPEG, jpeg), ("?store=maybe", JPEG, jpeg),
        ("", b"{", as_json), ("", b"[]", as_json), ("", b"null", as_json), ("", b'{"image": 5}', as_json), ("", b"\xff", as_json),
        ("", b'{"image": "***"}', as_json), ("", f'{{{image}, "x": 1}}'.encode(), as_json), ("?iou=1", b"{}", as_json),
        ("", f'{{{image}, "confidence": {{}}}}'.encode(), as_json), ("", b"[" * 5000, as_json), ("", b'{"image": "data:x"}', as_json),
        ("", part, form), ("", b"--X", form), ("", JPEG, {"Content-Type": "multipart/form-data"}),
        ("", part + b'\r\nContent-Disposition: form-data; name="iou"\r\n\r\n\xff\r\n--B--\r\n', form), ("", b"--B--", form),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(len(requests())))
def test_a_faulty_request_is_explained_without_internals(fake_server: Server, number: int) -> None:
    query, body, headers = requests()[number]
    reply = httpx.post(f"{fake_server.url}/v1/detect{query}", content=body, headers=headers, timeout=20)
    assert 400 <= reply.status_code < 500, reply.text
    problem = reply.json()
    assert not INTERNAL.search(problem["title"] + problem["detail"]), problem
    assert "server" not in reply.headers


@pytest.mark.parametrize(
    "head", [b"\0\1\2\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST /v1/detect HTTP/1.1\r\nContent-Length: x\r\n\r\n",
             b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"PUT / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"]
)  # fmt: skip
def test_what_is_no_request_or_no_route_is_told_without_internals(fake_server: Server, head: bytes) -> None:
    answer = exchange(fake_server, head).decode("latin-1")
    assert re.match(r"HTTP/1\.1 4\d\d ", answer)
    assert not INTERNAL.search(answer.partition("\r\n\r\n")[2]), answer


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_store_that_fails_is_not_described_to_callers(tmp_path: Path, mode: str) -> None:
    store, spool = tmp_path / "our-bucket", tmp_path / "our-spool"
    flags = ["--engine", "fake", "--model", "fake", "--store", str(store), "--store-mode", mode, "--spool", str(spool)]
    server = start_server(tmp_path, *flags, *(["--spool-max-bytes", "100"] if mode == "async" else []))
    shutil.rmtree(store)
    store.write_text("in the way")
    headers = {"Content-Type": "image/jpeg"}
    reply = httpx.post(f"{server.url}/v1/detect?store=true", content=JPEG, headers=headers, timeout=20)
    assert reply.status_code == 503
    assert int(reply.headers["retry-after"]) >= 1
    assert "our-" not in reply.text and str(tmp_path) not in reply.text
    assert not INTERNAL.search(reply.json()["detail"])
    server.stop()
    where = "the spool is full" if mode == "async" else str(store)
    assert where in server.log.read_text(), "operators need it"


@pytest.mark.parametrize(
    "hostile", ["a\nb", "a\r\nX: y", "\x1b[31m", "a b", "é", "\u202e", "a" * 129, "", "a\n", "../x", "%0a", "{}", "\x00", "a\u2028"]
)  # fmt: skip
def test_an_id_that_could_forge_a_line_of_the_log_is_none(fake_server: Server, hostile: str) -> None:
    assert not REQUEST_ID.fullmatch(hostile)
    body = json.dumps({"image": "aGVsbG8=", "id": hostile})
    reply = httpx.post(f"{fake_server.url}/v1/detect", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == 422
    named: dict[str, Any] = reply.json()
    assert named["field"] == "id"
    assert REQUEST_ID.fullmatch(named["id"])
