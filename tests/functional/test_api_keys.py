"""A real instance with API keys: who is let in, before what, and that no key and no internals come out."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.conftest import Server, encode, exchange, start_server

KEY, OTHER, IN_FILE = "functional-key-012345", "another-key-0123456789", "key-in-the-file-0123456789"
JPEG = encode(np.full((64, 64, 3), 100, np.uint8), ".jpg")
HEADERS = {"Content-Type": "image/jpeg"}
OPEN = ["/", "/docs", "/openapi.json", "/healthz", "/readyz", "/web/style.css", "/web/playground.js"]


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("locked")
    (folder / "keys").write_text(f"# for the tests\n{IN_FILE}\n")
    flags = ["--engine", "fake", "--model", "fake", "--api-key-file", str(folder / "keys"), "--log-level", "debug"]
    running = start_server(folder, *flags, TIDESIGHT_API_KEYS=f"{KEY},{OTHER}")
    yield running
    assert running.stop() == 0
    said = running.log.read_text()
    assert not any(key in said for key in (KEY, OTHER, IN_FILE))
    assert "API keys: 3" in said


def ask(server: Server, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"{server.url}/v1/detect", content=JPEG, headers={**HEADERS, **named})


def refused(server: Server) -> float:
    text = httpx.get(f"{server.url}/metrics", headers={"X-API-Key": KEY}).text
    lines = [line for line in text.splitlines() if line.startswith('tidesight_requests_total{status="401"}')]
    return float(lines[0].split()[-1]) if lines else 0.0


@pytest.mark.parametrize("key", [KEY, OTHER, IN_FILE])
def test_every_key_opens_by_either_header(locked: Server, key: str) -> None:
    assert ask(locked, Authorization=f"Bearer {key}").status_code == 200
    assert ask(locked, X_API_Key=key).status_code == 200


def test_a_wrong_key_and_none_are_answered_alike_and_counted(locked: Server) -> None:
    before = refused(locked)
    replies = [ask(locked), ask(locked, X_API_Key="wrong-key-0123456789"), ask(locked, Authorization=f"Basic {KEY}")]
    for reply in replies:
        assert reply.status_code == 401
        assert reply.headers["www-authenticate"].startswith("Bearer")
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.content == replies[0].content
        assert "Authorization: Bearer KEY" in reply.json()["detail"] and "X-API-Key" in reply.json()["detail"]
    assert refused(locked) == before + 3


def test_only_detection_requests_are_counted_as_such(locked: Server) -> None:
    before = refused(locked)
    for path in ("/v1/", "/v1/other", "/v1/detect/", "/metrics"):
        assert httpx.get(locked.url + path).status_code == 401
    assert refused(locked) == before


@pytest.mark.parametrize(
    ("method", "path", "key", "status"),
    [("POST", "/v1/detect", "", 401), ("GET", "/v1/no", "", 401), ("GET", "/no", KEY, 404), ("GET", "/v1/detect", KEY, 405)],
)  # fmt: skip
def test_every_refusal_has_an_id(locked: Server, method: str, path: str, key: str, status: int) -> None:
    seen = []
    for given in ("mine-1", "not usable", "mine-1"):
        reply = httpx.request(method, locked.url + path, headers={"X-API-Key": key, "X-Request-Id": given})
        assert reply.status_code == status
        seen.append(reply.headers["x-request-id"])
    assert seen[0] == seen[2] == "mine-1"
    assert re.fullmatch("[0-9a-f]{32}", seen[1])


@pytest.mark.parametrize("path", OPEN)
def test_probes_and_pages_need_no_key(locked: Server, path: str) -> None:
    assert httpx.get(locked.url + path).status_code == 200


@pytest.mark.parametrize(
    "path", ["/metrics", "/v1/detect", "/v1/detect/", "/v1/", "/nothing", "/docs/", "//healthz", "/%2e/metrics", "/web"]
)
def test_everything_else_needs_one_whether_it_exists_or_not(locked: Server, path: str) -> None:
    assert httpx.get(locked.url + path).status_code == 401
    assert httpx.get(locked.url + path, headers={"X-API-Key": KEY}).status_code in (200, 404, 405)


def test_no_spelling_of_a_path_leads_around(locked: Server) -> None:
    for path in (
        "/web/../metrics", "/web/..%2fmetrics", "/web/%2e%2e/metrics", "/%6detrics", "/metrics?/web/", "/metrics%00",
        "/metrics;/docs", "/docs/../metrics", "*", "http://127.0.0.1/metrics", "/metrics#/docs", "//metrics", "/web//metrics",
    ):  # fmt: skip
        answer = exchange(locked, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert answer.split(b" ", 2)[1] in (b"400", b"401", b"404"), path
        assert b"tidesight_requests" not in answer


def test_the_body_is_neither_awaited_nor_asked_for(locked: Server) -> None:
    """Twenty megabytes are announced and none is sent: the answer comes at once, and no 100 Continue before it."""
    head = b"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 20000000\r\n"
    with socket.create_connection(locked.address, timeout=5) as connection:
        connection.sendall(head + b"Expect: 100-continue\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    "faults", [{"X-Request-Timeout-Ms": "1"}, {"X-Request-Timeout-Ms": "x"}, {"Content-Type": "text/x"}, {"Content-Encoding": "gzip"}]
)  # fmt: skip
def test_without_a_key_nothing_else_is_looked_at(locked: Server, faults: dict[str, str]) -> None:
    reply = httpx.post(f"{locked.url}/v1/detect?confidence=9", content=b"no picture", headers={**HEADERS, **faults})
    assert reply.status_code == 401


def test_a_refused_connection_goes_on(locked: Server) -> None:
    with httpx.Client(base_url=locked.url, headers=HEADERS) as client:
        for _ in range(3):
            assert client.post("/v1/detect", content=JPEG * 50).status_code == 401
        assert client.post("/v1/detect", content=JPEG, headers={"X-API-Key": KEY}).status_code == 200


def test_the_document_says_that_keys_are_needed(locked: Server, fake_server: Server) -> None:
    document = httpx.get(f"{locked.url}/openapi.json").json()
    assert document["paths"]["/v1/detect"]["post"]["security"] == [{"bearer": []}, {"api_key": []}]
    assert "security" not in httpx.get(f"{fake_server.url}/openapi.json").text


def test_no_key_shows_in_the_list_of_processes(locked: Server) -> None:
    assert KEY.encode() not in Path(f"/proc/{locked.process.pid}/cmdline").read_bytes()


def test_keys_are_changed_without_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{KEY}\n")
    server = start_server(tmp_path, "--engine", "fake", "--model", "fake", "--api-key-file", str(file))
    assert ask(server, X_API_Key=KEY).status_code == 200
    file.write_text(f"{KEY}\n{OTHER}\n")
    time.sleep(1.1)
    assert [ask(server, X_API_Key=key).status_code for key in (KEY, OTHER)] == [200, 200]
    file.write_text(f"{OTHER}\n")
    time.sleep(1.1)
    assert [ask(server, X_API_Key=key).status_code for key in (KEY, OTHER)] == [401, 200]
    file.unlink()
    time.sleep(1.1)
    assert ask(server, X_API_Key=OTHER).status_code == 200
    assert ask(server).status_code == 401
    assert server.stop() == 0
    assert "the API keys stay as they were" in server.log.read_text()


@pytest.mark.parametrize("keys", ["short", ",", "with a space in the middle"])
def test_an_instance_does_not_start_with_keys_it_cannot_use(tmp_path: Path, keys: str) -> None:
    with pytest.raises(RuntimeError, match="ended with 2") as caught:
        start_server(tmp_path, "--engine", "fake", "--model", "fake", TIDESIGHT_API_KEYS=keys)
    assert "Traceback" not in str(caught.value)
    assert keys == "," or keys not in str(caught.value)


def test_keys_are_no_flag(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="o such option"):
        start_server(tmp_path, "--engine", "fake", "--model", "fake", "--api-keys", KEY)


PAGES = ["/", "/docs", "/web/style.css", "/web/playground.js", "/web/contours.svg"]


@pytest.mark.parametrize("path", PAGES)
def test_pages_allow_nothing_but_their_own_files(fake_server: Server, path: str) -> None:
    headers = httpx.get(fake_server.url + path).headers
    rules = dict(rule.strip().partition(" ")[::2] for rule in headers["content-security-policy"].split(";"))
    assert rules == {
        "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self' blob:",
        "connect-src": "'self'", "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'",
    }  # fmt: skip
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
    assert "camera=()" in headers["permissions-policy"]
    assert "strict-transport-security" not in headers, "TLS ends in front"
    assert "server" not in headers


@pytest.mark.parametrize("path", [*PAGES, "/openapi.json", "/metrics", "/healthz", "/readyz", "/nothing", "/v1/detect"])
def test_no_reply_is_to_be_guessed_at(fake_server: Server, path: str) -> None:
    headers = httpx.get(fake_server.url + path).headers
    assert headers.get_list("x-content-type-options") == ["nosniff"]


def test_nor_is_a_picture_or_a_refusal(fake_server: Server, locked: Server) -> None:
    url = f"{fake_server.url}/v1/detect"
    picture = httpx.post(url, content=JPEG, headers={**HEADERS, "Accept": "image/jpeg"})
    assert picture.headers["content-type"] == "image/jpeg"
    for reply in (picture, httpx.post(url, content=b"x", headers=HEADERS), ask(locked)):
        assert reply.headers.get_list("x-content-type-options") == ["nosniff"]


def test_doctor_sees_what_an_instance_would_be_set_to(tmp_path: Path) -> None:
    environment = {**os.environ, "TIDESIGHT_MAX_PIXELS": "2000000000", "TIDESIGHT_WORKERS": "64"}
    for keys, verdict in (("too-short", "wrong"), (KEY, "ok")):
        command = [sys.executable, "-m", "tidesight", "doctor", "--json", "--engine", "onnxruntime"]
        done = subprocess.run(
            command, cwd=tmp_path, env={**environment, "TIDESIGHT_API_KEYS": keys}, capture_output=True, check=False
        )
        checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
        assert checks["memory need"]["verdict"] == "note"
        assert "lower max_pixels" in checks["memory need"]["seen"]
        assert checks["API keys"]["verdict"] == verdict
        assert keys.encode() not in done.stdout + done.stderr
        assert done.returncode == (verdict == "wrong")
