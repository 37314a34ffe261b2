"""The spool over real stores: processes killed at any moment, and stores that fail in every way between."""

import asyncio
import fcntl
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from tests.contract import spool_child
from tests.contract.fault_proxy import FaultProxy, fault_proxy
from tests.contract.spool_child import data_of
from tests.contract.test_store import CLOUDS, Place, gcs_server, read_file, read_http, s3_server, server
from tidesight.errors import StoreError
from tidesight.results.spool import Spool, SpoolLimits
from tidesight.results.store import ResultObject, StoredResult, open_store, put_result
from tidesight.results.writer import ResultWriter

AT = datetime(2026, 3, 9, 7, 5, 4, tzinfo=UTC)
KILLS = {"file": 10, "s3": 5, "gs": 5}
SCHEMES = list(KILLS)


@pytest.fixture(scope="module")
def endpoints() -> Iterator[dict[str, str]]:
    with server(s3_server()) as (_, s3), server(gcs_server()) as (_, gcs):
        yield {"s3": s3, "gs": gcs}


def keys_of(place: Place, endpoint: str, folder: Path) -> list[str]:
    """What a store lists."""
    bucket = place.url.partition("://")[2]
    if place.url.startswith("file:"):
        return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    keys: list[str] = []
    more = ""
    while True:  # a page at a time
        if place.url.startswith("s3:"):
            text = read_http(f"{endpoint}/{bucket}?marker={more}")[0].decode()
            keys += re.findall("<Key>([^<]+)</Key>", text)
            more = quote(keys[-1]) if "<IsTruncated>true" in text else ""
        else:
            with urlopen(f"{endpoint}/storage/v1/b/{quote(bucket)}/o?pageToken={more}", timeout=10) as reply:
                page = json.load(reply)
            keys += [item["name"] for item in page.get("items", [])]
            more = quote(page.get("nextPageToken", ""))
        if not more:
            return keys


def until(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come about"
        time.sleep(0.01)


def one_life(url: str, spool: Path, life: int, random: Random) -> list[list[str]]:
    """Start a process, kill it at a random moment after its first acknowledgement; what it acknowledged."""
    command = [sys.executable, spool_child.__file__, url, str(spool), str(life)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        time.sleep(random.uniform(0, 0.12) if life % 2 else random.uniform(0.2, 0.5))  # appending; uploading too
        process.kill()
        lines += process.stdout.readlines()
    assert lines[0], "the process ended by itself"
    return [line.split() for line in lines if line.endswith("\n")]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_was_acknowledged_before_a_kill_is_stored_once(
    scheme: str, endpoints: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, spool, random = tmp_path / "store", tmp_path / "spool", Random(scheme)
    place = Place(folder.as_uri(), read_file)
    if scheme != "file":
        place = CLOUDS[scheme][1](endpoints[scheme], monkeypatch)
    acknowledged: list[list[str]] = []
    left_by_a_kill = 0
    for life in range(KILLS[scheme]):
        acknowledged += one_life(place.url, spool, life, random)
        left_by_a_kill += any(path.stat().st_size for path in spool.glob("*.segment"))
    uploaded_before = len(keys_of(place, endpoints.get(scheme, ""), folder))
    writer = ResultWriter(place.url, "async", str(spool))
    writer.open()
    assert writer.close(20) == 0
    assert left_by_a_kill > 0
    assert uploaded_before > 0
    assert writer.status().uploads["stored"] > 0  # some of it was left for the last life
    assert len(acknowledged) >= KILLS[scheme]
    for name, image_url, detections_url in acknowledged:
        assert place.read(image_url) == (data_of(name), "image/jpeg")
        assert place.read(detections_url) == (name.encode(), "application/json")
    keys = [key for key in keys_of(place, endpoints.get(scheme, ""), folder) if not key.endswith((".part", "probe"))]
    assert len(keys) == len(set(keys))
    # One object per name and kind: no result is there twice under two keys either.
    assert len({key.rpartition("Z-")[2] for key in keys}) == len(keys)
    assert not list(spool.glob("*.segment"))


@pytest.fixture(params=["s3", "gs"])
def faulty(
    request: pytest.FixtureRequest, endpoints: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[FaultProxy, Place]]:
    """A store's emulator behind a proxy; the place reads behind its back."""
    endpoint = endpoints[request.param]
    place = CLOUDS[request.param][1](endpoint, monkeypatch)
    with fault_proxy(endpoint, seed=7) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL" if request.param == "s3" else "STORAGE_EMULATOR_HOST", proxy.url)
        yield proxy, place


def spool_of(place: Place, folder: Path, limits: SpoolLimits | None = None) -> Spool:
    spool = Spool(
        folder, open_store(place.url, put_timeout_s=1, probe=False), limits or SpoolLimits(), random=Random(3)
    )
    spool.open()
    return spool


def objects(count: int, size_bytes: int = 0) -> list[ResultObject]:
    names = [f"a/{number}.jpg" for number in range(count)]
    return [ResultObject(name, (data_of(name) * 99)[:size_bytes] or data_of(name), "image/jpeg") for name in names]


def test_through_faults_of_every_kind_everything_arrives(faulty: tuple[FaultProxy, Place], tmp_path: Path) -> None:
    proxy, place = faulty
    spool = spool_of(place, tmp_path / "spool")
    kept = objects(60)
    for one in kept:
        spool.append([one], 0).result(10)
    until(lambda: spool.status().records == 0, 40)
    assert spool.close(5) == 0
    for one in kept:
        assert place.read(f"{place.url}/{one.key}") == (one.data, "image/jpeg")
    assert proxy.faults.keys() >= {"delay", "burst", "status", "cut before", "cut after"}, proxy.faults


def test_a_store_that_was_down_gets_everything(faulty: tuple[FaultProxy, Place], tmp_path: Path) -> None:
    proxy, place = faulty
    proxy.down = True
    spool = spool_of(place, tmp_path / "spool", SpoolLimits(max_bytes=1_000_000))
    kept = []
    with pytest.raises(StoreError, match=r"the spool is full \(1 MB\)") as refused:
        for one in objects(100, size_bytes=50_000):
            spool.append([one], 0).result(10)
            kept.append(one)
    assert (refused.value.status, len(kept) >= 15) == (503, True)
    assert refused.value.retry_after_s == 5
    assert spool.close(0.2) == len(kept)
    until(lambda: not _in_use(tmp_path / "spool"))
    proxy.down = False
    spool = spool_of(place, tmp_path / "spool")
    until(lambda: spool.status().records == 0, 40)
    assert spool.close(5) == 0
    assert all(place.read(f"{place.url}/{one.key}")[0] == one.data for one in kept)


def _in_use(folder: Path) -> bool:
    """Whether threads of a closed spool are still inside the client."""
    with (folder / "lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_bucket_that_vanished_is_named_and_waited_for(
    endpoints: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over GCS, whose emulator can make the bucket later."""
    place = CLOUDS["gs"][1](endpoints["gs"], monkeypatch)
    missing = f"{place.url}-later"
    spool = Spool(tmp_path, open_store(missing, put_timeout_s=1, probe=False), SpoolLimits(max_bytes=300_000))
    spool.open()
    with pytest.raises(StoreError, match=r"the spool is full \(0.3 MB\): the store's bucket does not exist") as refused:
        for one in objects(20, size_bytes=50_000):
            spool.append([one], 0).result(10)
            until(lambda: spool.status().uploads.get("refused", 0) > 0)
    assert refused.value.retry_after_s == 60
    waiting = spool.status().records
    body = f'{{"name": "{missing.removeprefix("gs://")}"}}'.encode()
    urlopen(f"{endpoints['gs']}/storage/v1/b", body, timeout=10).close()
    assert spool.close(10) == 0  # it tries once more at once
    assert spool.status().uploads["stored"] == waiting


EXPIRED = (
    b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
)


@pytest.mark.parametrize("status", [400, 401, 403])
def test_credentials_that_have_expired_are_named_and_nothing_is_lost(
    faulty: tuple[FaultProxy, Place], status: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    proxy, place = faulty
    if status == 400 and place.url.startswith("gs:"):
        pytest.skip("only S3 says it with 400")
    proxy.answer = (status, EXPIRED)
    spool = spool_of(place, tmp_path / "spool", SpoolLimits(max_bytes=300_000))
    kept = []
    with pytest.raises(StoreError, match=r"the spool is full.*refused the credentials") as refused:
        for one in objects(20, size_bytes=50_000):
            spool.append([one], 0).result(10)
            kept.append(one)
            until(lambda: spool.status().uploads["refused"] > 0)
    assert (refused.value.status, refused.value.retry_after_s) == (503, 60)
    bucket = place.url.partition("://")[2]
    assert bucket not in refused.value.detail
    assert bucket in caplog.text
    status_now = spool.status()
    assert (status_now.records, status_now.uploads["stored"], status_now.uploads["failed"]) == (len(kept), 0, 0)
    proxy.answer = None
    left = spool.close(10)  # it tries once more at once; the proxy has faults of its own
    if left:
        until(lambda: not _in_use(tmp_path / "spool"))
        assert _closed_after_a_while(spool_of(place, tmp_path / "spool"))
    assert all(place.read(f"{place.url}/{one.key}")[0] == one.data for one in kept)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_status_that_passes_is_retried_until_it_has_passed(
    faulty: tuple[FaultProxy, Place], status: int, tmp_path: Path
) -> None:
    proxy, place = faulty
    proxy.answer = (status, b"not now")
    spool = spool_of(place, tmp_path / "spool")
    kept = objects(3)
    for one in kept:
        spool.append([one], 0).result(10)
    until(lambda: spool.status().uploads["failed"] >= 2)
    assert spool.status().records == 3
    assert spool.status().uploads["refused"] == 0
    proxy.answer = None
    assert _closed_after_a_while(spool)
    assert spool.status().uploads["stored"] == 3
    assert all(place.read(f"{place.url}/{one.key}")[0] == one.data for one in kept)


def _closed_after_a_while(spool: Spool) -> bool:
    until(lambda: spool.status().records == 0, 40)
    return spool.close(10) == 0


def test_a_folder_that_could_not_be_written_gets_everything_later(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("in the way")
    spool = spool_of(Place((tmp_path / "store").as_uri(), read_file), tmp_path / "spool")
    kept = objects(5)
    for one in kept:
        spool.append([one], 0).result(10)
    until(lambda: spool.status().uploads.get("refused", 0) > 0)
    (tmp_path / "store").unlink()
    assert spool.close(10) == 0
    assert all((tmp_path / "store" / one.key).read_bytes() == one.data for one in kept)


def test_sync_answers_only_once_it_is_stored(faulty: tuple[FaultProxy, Place]) -> None:
    proxy, place = faulty
    store = open_store(place.url, put_timeout_s=1, probe=False)
    stored = refused = 0
    for number in range(9):
        proxy.down = number % 4 == 0
        try:
            urls = asyncio.run(put_result(store, StoredResult(f"r{number}", AT, b"{}", b"jpeg")))
        except StoreError as error:
            assert (error.status, error.retry_after_s) == (503, 5)
            refused += 1
        else:
            assert urls.image_url is not None
            assert place.read(urls.image_url)[0] == b"jpeg"
            assert place.read(urls.detections_url)[0] == b"{}"
            stored += 1
    assert stored >= 2
    assert refused >= 3
