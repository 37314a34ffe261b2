"""How the S3 and GCS stores take a service that misbehaves: a loopback server that answers as a test says.

The emulators of `test_store.py` cannot refuse, stall or fail; this server can do nothing else. No request
leaves the machine: the clients' look-ups of machine credentials are pointed at loopback as well.
"""

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tidesight.errors import ConfigError, StoreError
from tidesight.results.store import open_store

HANG = 0
INTERNALS = b"internals of the service"
URLS = {"s3": "s3://my-bucket/prefix", "gs": "gs://my-bucket/prefix"}


class Service(ThreadingHTTPServer):
    """Answers with `statuses` in turn, the last of them for ever, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses = [200]
        self.stored = b"{}"  # the body of a 200
        self.retry_after = ""
        self.requests: list[tuple[str, str, str]] = []
        self.stopping = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def next_status(self) -> int:
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]


class Handler(BaseHTTPRequestHandler):
    server: Service

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.command, self.path, self.headers.get("Authorization", "")))
        if self.command == "GET":
            status, body = metadata(self.path)
        else:
            status = self.server.next_status()
            body = self.server.stored if status == 200 else INTERNALS
        if status == HANG:
            self.server.stopping.wait()
            return
        self.send_response(status)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", "application/json" if body.startswith(b"{") else "text/plain")
        self.send_header("ETag", '"1"')
        if self.server.retry_after and status != 200:
            self.send_header("Retry-After", self.server.retry_after)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = answer

    def log_message(self, *args: object) -> None:
        """Print nothing."""


def metadata(path: str) -> tuple[int, bytes]:
    """What the metadata server of Google's machines says."""
    if path == "/":
        return 200, b"computeMetadata/"
    if "/token" in path:
        return 200, b'{"access_token": "token-of-the-workload", "expires_in": 3600, "token_type": "Bearer"}'
    if "/service-accounts/" in path:
        return 200, b'{"email": "tidesight@example.org", "scopes": [], "aliases": ["default"]}'
    return 404, INTERNALS


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.stopping.set()
        running.shutdown()
        thread.join()


@pytest.fixture
def closed_port() -> Iterator[str]:
    """An address that refuses connections; bound, so that nobody else can open it meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def point_at(endpoint: str, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("AWS_ENDPOINT_URL", endpoint)
    patch.setenv("AWS_ALLOW_HTTP", "true")
    patch.setenv("AWS_ACCESS_KEY_ID", "tests")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    patch.setenv("STORAGE_EMULATOR_HOST", endpoint)


@pytest.fixture(params=["s3", "gs"])
def url(request: pytest.FixtureRequest, service: Service, monkeypatch: pytest.MonkeyPatch) -> str:
    point_at(service.url, monkeypatch)
    return URLS[request.param]


def put(url: str) -> str:
    return asyncio.run(open_store(url, put_timeout_s=2, probe=False).put("a.jpg", b"x", "image/jpeg"))


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_lasting_refusal_stops_the_start_and_says_what_to_do(url: str, service: Service, status: int) -> None:
    service.statuses = [status]
    with pytest.raises(ConfigError, match=r"create it|grant|credentials") as refused:
        open_store(url, put_timeout_s=2)
    assert INTERNALS.decode() not in refused.value.detail
    with pytest.raises(StoreError) as refused_later:
        put(url)
    assert refused_later.value.retry_after_s == 60


@pytest.mark.parametrize("status", [429, 500, 503, HANG])
def test_a_passing_failure_lets_the_start_go_on(
    url: str, service: Service, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    service.statuses = [status]
    start_s = time.monotonic()
    store = open_store(url, put_timeout_s=1)
    assert "starting although the store is not usable now" in caplog.text
    with pytest.raises(StoreError) as refused:
        asyncio.run(store.put("a.jpg", b"x", "image/jpeg"))
    assert time.monotonic() - start_s < 4
    assert (refused.value.status, refused.value.retry_after_s) == (503, 5)
    assert INTERNALS.decode() not in refused.value.detail


def test_a_failure_that_passes_soon_is_not_noticed(url: str, service: Service) -> None:
    service.statuses = [503, 200]
    assert put(url) == f"{url}/a.jpg"
    assert len([command for command, _, _ in service.requests if command != "GET"]) == 2


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_each_status_that_passes_is_retried_within_the_put(url: str, service: Service, status: int) -> None:
    service.statuses = [status, status, 200]
    assert put(url) == f"{url}/a.jpg"
    assert len([command for command, _, _ in service.requests if command != "GET"]) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412])
def test_a_refusal_is_not_repeated_within_the_put(url: str, service: Service, status: int) -> None:
    service.statuses = [status]
    with pytest.raises(StoreError):
        put(url)
    assert len([command for command, _, _ in service.requests if command != "GET"]) == 1


def test_a_caller_learns_no_names_and_the_log_does(
    url: str, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    for status in (401, 404, 503):
        service.statuses = [status]
        caplog.clear()
        with pytest.raises(StoreError, match="the result was not stored: the store") as refused:
            put(url)
        assert "my-bucket" in caplog.text
        for internal in ("my-bucket", "prefix", "127.0.0.1", "Error", INTERNALS.decode()):
            assert internal not in refused.value.detail


def test_gcs_waits_as_long_as_it_is_told(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(service.url, monkeypatch)
    service.statuses, service.retry_after = [429, 200], "1"
    start_s = time.monotonic()
    asyncio.run(open_store(URLS["gs"], put_timeout_s=6, probe=False).put("a.jpg", b"x", "image/jpeg"))
    assert time.monotonic() - start_s >= 1
    service.statuses, service.retry_after = [503], "30"
    start_s = time.monotonic()
    with pytest.raises(StoreError) as refused:
        asyncio.run(open_store(URLS["gs"], put_timeout_s=6, probe=False).put("a.jpg", b"x", "image/jpeg"))
    assert time.monotonic() - start_s < 2  # waiting would take longer than the put may
    assert refused.value.retry_after_s == 30


def test_gcs_that_received_other_bytes_is_sent_them_again(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(service.url, monkeypatch)
    service.stored = b'{"crc32c": "AAAAAA=="}'
    with pytest.raises(StoreError):
        put(URLS["gs"])
    assert len(service.requests) > 1
    service.stored = b'{"crc32c": "qTxfkw=="}'
    put(URLS["gs"])


def test_gcs_goes_through_the_proxy_of_the_environment(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at("http://storage.example.invalid", monkeypatch)
    monkeypatch.setenv("http_proxy", service.url)
    put(URLS["gs"])
    [(_, path, _)] = service.requests
    assert path.startswith("http://storage.example.invalid/upload/storage/v1/b/my-bucket/o?")


@pytest.mark.parametrize("scheme", URLS)
def test_nobody_listening_is_a_store_error(scheme: str, closed_port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(closed_port, monkeypatch)
    with pytest.raises(StoreError) as refused:
        put(URLS[scheme])
    assert refused.value.retry_after_s == 5


def test_a_bucket_in_another_region_names_the_remedy(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(service.url, monkeypatch)
    service.statuses = [301]
    with pytest.raises(ConfigError, match="set AWS_REGION"):
        open_store(URLS["s3"])


def test_s3_over_http_must_be_allowed(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(service.url, monkeypatch)
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    with pytest.raises(ConfigError, match="AWS_ALLOW_HTTP=true"):
        open_store(URLS["s3"])
    assert service.requests == []


def test_s3_without_credentials_stops_the_start(closed_port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", closed_port)
    with pytest.raises(ConfigError, match="no credentials were found"):
        open_store(URLS["s3"], put_timeout_s=1)


def test_gcs_without_credentials_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(ConfigError, match="no Google credentials were found"):
        open_store(URLS["gs"])


def test_gcs_writes_with_the_token_of_the_metadata_server(service: Service, tmp_path: Path) -> None:
    """Workload Identity in GKE, Cloud Run and App Engine all hand out tokens in this way."""
    host = service.url.removeprefix("http://")
    # A process of its own: google-auth reads these variables when it is imported.
    code = (
        "import asyncio; from tidesight.results.store import open_store;"
        f"print(asyncio.run(open_store('{URLS['gs']}').put('a.jpg', b'x', 'image/jpeg')))"
    )
    kept = ("GOOGLE_", "AWS_", "GCE_", "STORAGE_", "HTTP", "http", "ALL_PROXY", "all_proxy")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(kept)}
    environment |= {"GCE_METADATA_HOST": host, "GCE_METADATA_IP": host, "CLOUDSDK_CONFIG": str(tmp_path)}
    environment |= {"API_ENDPOINT_OVERRIDE": service.url}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.stdout.strip() == f"{URLS['gs']}/a.jpg", done.stderr
    uploads = [authorization for command, path, authorization in service.requests if command == "POST"]
    assert uploads == ["Bearer token-of-the-workload"] * 2
