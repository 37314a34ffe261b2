"""The spool as a whole, over a store that does as a test says: limits, group commit, troubles, and the drain."""

import asyncio
import errno
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tidesight.errors import ConfigError, StoreError
from tidesight.results import uploader
from tidesight.results.bucket import Refusal
from tidesight.results.group_writer import GroupWriter
from tidesight.results.journal import Journal
from tidesight.results.segment import Entry
from tidesight.results.spool import Spool, SpoolLimits, SpoolStatus
from tidesight.results.store import ResultObject
from tidesight.results.writer import ResultWriter

DOWN = Refusal("the store is down", "fake://bucket: it is down", lasting=False)
MISSING = Refusal("its bucket does not exist", "fake://bucket does not exist: create it", lasting=True)
LIMIT_S = 10.0


class FakeStore:
    """Takes what it is given while `refusal` is None and `open` is set, and counts."""

    def __init__(self, refusal: Refusal | None = None) -> None:
        self.refusal = refusal
        self.open = threading.Event()
        self.open.set()
        self.objects: dict[str, bytes] = {}
        self.most_at_once = self.at_once = self.tries = 0
        self._guard = threading.Lock()

    def url(self, key: str) -> str:
        return f"fake://bucket/{key}"

    def try_write(self, key: str, data: bytes, content_type: str) -> Refusal | None:
        with self._guard:
            self.tries += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.open.wait(LIMIT_S)
        with self._guard:
            self.at_once -= 1
            if self.refusal is None:
                self.objects[key] = data
            return self.refusal


def one(key: str, size_bytes: int = 1000) -> ResultObject:
    return ResultObject(key, key[-1:].encode() * size_bytes, "image/jpeg")


@contextmanager
def spool_in(folder: Path, store: FakeStore, limits: SpoolLimits | None = None) -> Iterator[Spool]:
    spool = Spool(folder, store, limits or SpoolLimits())
    spool.open()
    try:
        yield spool
    finally:
        store.open.set()
        spool.close(LIMIT_S)


def put(spool: Spool, *keys: str, size_bytes: int = 1000, at_s: float = 0.0) -> None:
    spool.append([one(key, size_bytes) for key in keys], at_s).result(LIMIT_S)


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come about"
        time.sleep(0.005)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_put_arrives_and_leaves_nothing_behind(tmp_path: Path) -> None:
    store = FakeStore()
    with spool_in(tmp_path, store) as spool:
        for number in range(50):
            put(spool, f"{number}/a", f"{number}/b")
        assert spool.close(LIMIT_S) == 0
    assert len(store.objects) == 100
    assert all(data == one(key).data for key, data in store.objects.items())
    assert store.tries == 100
    assert files(tmp_path) == ["lock"]
    assert spool.status().uploads["stored"] == 100


def test_acknowledged_means_durable_while_the_store_hangs(tmp_path: Path) -> None:
    store = FakeStore()
    store.open.clear()
    with spool_in(tmp_path, store, SpoolLimits(uploads=3)) as spool:
        put(spool, *"abcdefgh", at_s=time.time() - 60)
        until(lambda: store.at_once == 3)
        status = spool.status()
        assert (status.records, store.objects) == (8, {})
        assert 60 <= status.oldest_age_s < 75
        journal = next(tmp_path.glob("*.segment")).read_bytes()
        assert all(one(key).data in journal for key in "abcdefgh")
    assert store.most_at_once == 3
    assert set(store.objects) == set("abcdefgh")


def test_what_arrives_during_a_flush_is_flushed_together(tmp_path: Path) -> None:
    flushing, go_on = threading.Semaphore(0), threading.Semaphore(0)
    flushes: list[int] = []

    def sync(fd: int) -> None:
        flushes.append(fd)
        flushing.release()
        assert go_on.acquire(timeout=LIMIT_S)

    journal = Journal(tmp_path, "fake://x", 1_000_000, sync)
    journal.open()
    durable: list[Entry] = []
    writer = GroupWriter(journal, 1_000_000, durable.extend)
    writer.start()
    futures = [writer.submit([one("first")], 0, 1000)]
    assert flushing.acquire(timeout=LIMIT_S)
    futures += [writer.submit([one(f"{n}")], 0, 1000) for n in range(40)]
    assert (writer.pending_records, [f.done() for f in futures]) == (41, [False] * 41)
    go_on.release()
    assert flushing.acquire(timeout=LIMIT_S)
    assert [f.done() for f in futures] == [True] + [False] * 40
    go_on.release()
    for future in futures:
        future.result(LIMIT_S)
    assert (len(flushes), len(durable), writer.pending_bytes) == (2, 41, 0)
    writer.close(LIMIT_S)
    journal.close()


def test_a_group_is_no_larger_than_a_segment(tmp_path: Path) -> None:
    store = FakeStore()
    store.open.clear()
    limits = SpoolLimits(max_bytes=160_000)
    with spool_in(tmp_path, store, limits) as spool:
        futures = [spool.append([one(f"{n}", 3000)], 0) for n in range(30)]
        for future in futures:
            future.result(LIMIT_S)
        assert max(path.stat().st_size for path in tmp_path.glob("*.segment")) < 2 * limits.max_bytes / 16
        store.open.set()


def test_a_full_spool_says_why_and_takes_again_once_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = FakeStore(MISSING)
    with spool_in(tmp_path, store, SpoolLimits(max_bytes=100_000)) as spool:
        put(spool, "first")
        until(lambda: spool.status().uploads.get("refused") == 1)
        with pytest.raises(StoreError) as refused:
            for number in range(200):
                put(spool, f"{number}")
        assert refused.value.detail == "the spool is full (0.1 MB): its bucket does not exist"
        assert (refused.value.status, refused.value.retry_after_s) == (503, 60)
        assert 80_000 < spool.status().size_bytes <= 100_000
        for _ in range(20):
            with pytest.raises(StoreError, match="full"):
                put(spool, "again")
        accepted = spool.status().records
        store.refusal = None
        assert spool.close(LIMIT_S) == 0
    assert len(store.objects) == accepted
    levels = [record.getMessage() for record in caplog.records if record.name.startswith("tidesight")]
    assert len([text for text in levels if "is full" in text]) == 1
    assert len([text for text in levels if "results wait in" in text]) == 1
    assert len([text for text in levels if "takes results again" in text]) == 1


def test_the_number_of_objects_is_limited_too(tmp_path: Path) -> None:
    store = FakeStore()
    store.open.clear()
    with spool_in(tmp_path, store, SpoolLimits(max_records=5)) as spool:
        put(spool, "a", "b")
        put(spool, "c", "d")
        with pytest.raises(StoreError, match=r"full \(5 objects\): the store takes results more slowly") as refused:
            put(spool, "e", "f")
        assert refused.value.retry_after_s == 5
        put(spool, "g")
    assert set(store.objects) == set("abcdg")


def test_a_store_that_comes_back_gets_everything(tmp_path: Path) -> None:
    store = FakeStore(DOWN)
    with spool_in(tmp_path, store) as spool:
        for number in range(20):
            put(spool, f"{number}")
        until(lambda: spool.status().uploads.get("failed", 0) >= 3)
        assert store.tries < 10
        store.refusal = None
        until(lambda: spool.status().records == 0)
    assert len(store.objects) == 20


def test_what_is_left_at_the_end_is_uploaded_by_the_next_start(tmp_path: Path) -> None:
    store = FakeStore(DOWN)
    spool = Spool(tmp_path, store, SpoolLimits())
    spool.open()
    put(spool, "a", "b", "c")
    started_s = time.monotonic()
    assert spool.close(0.3) == 3
    assert 0.2 < time.monotonic() - started_s < 3
    store.refusal = None
    with spool_in(tmp_path, store):
        until(lambda: set(store.objects) == set("abc"))


def test_a_store_that_refuses_for_good_does_not_hold_up_the_end(tmp_path: Path) -> None:
    store = FakeStore(MISSING)
    spool = Spool(tmp_path, store, SpoolLimits())
    spool.open()
    put(spool, "a", "b", "c")
    started_s = time.monotonic()
    assert spool.close(LIMIT_S) == 3
    assert time.monotonic() - started_s < 3
    with pytest.raises(StoreError, match="stopping"):
        put(spool, "d")


def test_a_store_that_hangs_does_not_hold_up_the_end(tmp_path: Path) -> None:
    store = FakeStore()
    store.open.clear()
    spool = Spool(tmp_path, store, SpoolLimits(uploads=2))
    spool.open()
    put(spool, "a", "b", "c")
    until(lambda: store.at_once == 2)
    assert spool.close(0.2) == 3
    with pytest.raises(ConfigError, match="in use"):  # its threads may still write
        Spool(tmp_path, store, SpoolLimits()).open()
    store.open.set()
    until(lambda: len(store.objects) == 2)

    def reopened() -> bool:
        try:
            spool = Spool(tmp_path, store, SpoolLimits())
            spool.open()
        except ConfigError:
            return False
        return spool.close(LIMIT_S) == 0

    until(reopened)
    assert set(store.objects) == set("abc")
    assert store.tries == 3


def test_an_unforeseen_error_of_a_client_loses_nothing(tmp_path: Path) -> None:
    class Buggy(FakeStore):
        def try_write(self, key: str, data: bytes, content_type: str) -> Refusal | None:
            if not self.tries:
                self.tries += 1
                raise ZeroDivisionError
            return super().try_write(key, data, content_type)

    store = Buggy()
    with spool_in(tmp_path, store) as spool:
        put(spool, "a")
        until(lambda: spool.status().records == 0)
    assert set(store.objects) == {"a"}


@pytest.mark.parametrize(
    ("code", "words"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EIO, "Input/output")]
)
def test_a_disk_that_fails_refuses_and_recovers(
    tmp_path: Path, code: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = FakeStore()
    with spool_in(tmp_path, store) as spool:
        put(spool, "before")
        sync = spool._journal.sync

        def fail(fd: int) -> None:
            raise OSError(code, os.strerror(code))

        spool._journal.sync = fail
        for _ in range(3):
            with pytest.raises(StoreError, match=f"the result spool takes nothing.*{words}"):
                put(spool, "meanwhile")
        assert len([r for r in caplog.records if "takes no results" in r.getMessage()]) == 1
        spool._journal.sync = sync
        put(spool, "after")
        assert "can be written again" in caplog.text
    assert set(store.objects) == {"before", "after"}
    assert spool.status() == SpoolStatus(0, 0, 0.0, spool.status().uploads)


def test_one_waking_of_a_thread_serves_what_came_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploader, "_JOIN_S", 1.0)
    threads: list[str] = []

    class Quick(FakeStore):
        def try_write(self, key: str, data: bytes, content_type: str) -> Refusal | None:
            threads.append(threading.current_thread().name)
            time.sleep(0.001)
            return super().try_write(key, data, content_type)

    with spool_in(tmp_path, Quick()) as spool:
        for number in range(20):
            put(spool, f"{number}")
        until(lambda: spool.status().records == 0)
        # One works through what has gathered; a busy machine may gather twice.
        assert len(threads) == 20
        assert len(set(threads)) <= 3


def test_a_store_that_fails_slowly_is_tried_again(tmp_path: Path) -> None:
    class SlowlyDown(FakeStore):
        def try_write(self, key: str, data: bytes, content_type: str) -> Refusal | None:
            time.sleep(0.05)  # meanwhile the other threads find that nothing may be tried
            return super().try_write(key, data, content_type)

    store = SlowlyDown(DOWN)
    with spool_in(tmp_path, store, SpoolLimits(uploads=3)) as spool:
        put(spool, "a", "b", "c")
        until(lambda: spool.status().uploads["failed"] >= 5)
        store.refusal = None
        until(lambda: set(store.objects) == set("abc"))


def test_threads_join_in_when_the_store_is_slow(tmp_path: Path) -> None:
    store = FakeStore()
    store.open.clear()
    with spool_in(tmp_path, store, SpoolLimits(uploads=5)) as spool:
        put(spool, *"abcdefgh")
        until(lambda: store.at_once == 5)
        store.open.set()
        until(lambda: spool.status().records == 0)
    assert store.most_at_once == 5


def test_an_upload_that_hangs_does_not_hold_up_others(tmp_path: Path) -> None:
    class HangsOnA(FakeStore):
        def try_write(self, key: str, data: bytes, content_type: str) -> Refusal | None:
            if key == "a":
                self.open.wait(LIMIT_S)
            else:
                self.objects[key] = data
            return None

    store = HangsOnA()
    store.open.clear()
    with spool_in(tmp_path, store, SpoolLimits(uploads=2)) as spool:
        put(spool, "a", "b", "c")
        until(lambda: set(store.objects) == {"b", "c"})
        put(spool, "d")  # when one thread hangs and the other rests
        until(lambda: set(store.objects) == {"b", "c", "d"})
        assert spool.status().records == 1


def test_a_later_object_of_the_same_key_wins(tmp_path: Path) -> None:
    store = FakeStore()
    store.open.clear()
    with spool_in(tmp_path, store, SpoolLimits(uploads=2)) as spool:
        for text in (b"1", b"22", b"333"):
            spool.append([ResultObject("a", text, "t/t")], 0).result(LIMIT_S)
            until(lambda: store.at_once == 1)
    assert store.objects == {"a": b"333"}
    assert spool.status().uploads == {"stored": 2, "failed": 0, "refused": 0, "replaced": 1}


def full_file_system(folder: Path, code: str) -> "subprocess.CompletedProcess[str]":
    """Run code in a process that may write no file beyond 300 kB."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    return subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        preexec_fn=limit,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_file_that_may_not_grow_loses_nothing_acknowledged(tmp_path: Path) -> None:
    done = full_file_system(
        tmp_path,
        """
import sys
from pathlib import Path
from tests.unit.test_spool import FakeStore, DOWN, one
from tidesight.errors import StoreError
from tidesight.results.spool import Spool, SpoolLimits
spool = Spool(Path(sys.argv[1]), FakeStore(DOWN), SpoolLimits())
spool.open()
for number in range(6):
    try:
        spool.append([one(f"{number}", 120_000)], 0).result(9)
        print("kept", number)
    except StoreError as error:
        print(error.detail, error.retry_after_s)
spool.close(0)
""",
    )
    refused = "the result spool takes nothing: it would hold a file larger than this process may write 60.0"
    assert done.stdout.splitlines() == ["kept 0", "kept 1", refused, "kept 3", "kept 4", refused], done.stderr
    store = FakeStore()
    with spool_in(tmp_path, store):
        until(lambda: set(store.objects) == {"0", "1", "3", "4"})
    assert all(data == one(key, 120_000).data for key, data in store.objects.items())


@contextmanager
def tmpfs(folder: Path, options: str) -> Iterator[None]:
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_refuses_and_takes_again_when_the_store_has_made_room(tmp_path: Path) -> None:
    store = FakeStore(DOWN)
    with tmpfs(tmp_path / "disk", "size=1m"), spool_in(tmp_path / "disk/spool", store) as spool:
        kept = []
        with pytest.raises(StoreError, match="the result spool takes nothing: its disk is full") as refused:
            for number in range(20):
                put(spool, f"{number}", size_bytes=150_000)
                kept.append(f"{number}")
        assert refused.value.retry_after_s == 60
        assert len(kept) >= 5
        store.refusal = None
        until(lambda: set(store.objects) == set(kept))
        put(spool, "after", size_bytes=500_000)
        assert spool.close(LIMIT_S) == 0
    assert set(store.objects) == {*kept, "after"}
    assert all(store.objects[key] == one(key, 150_000).data for key in kept)


def test_a_read_only_disk_is_told_at_the_start(tmp_path: Path) -> None:
    with (
        tmpfs(tmp_path / "disk", "size=1m,ro"),
        pytest.raises(ConfigError, match="file system is read-only") as refused,
    ):
        Spool(tmp_path / "disk/spool", FakeStore(), SpoolLimits()).open()
    assert refused.value.field == "spool"


@pytest.mark.parametrize("limits", [{"max_bytes": 0}, {"max_records": 0}, {"uploads": 0}])
def test_limits_are_at_least_one(limits: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        SpoolLimits(**limits)


AT = datetime(2026, 3, 9, 7, 5, 4, 56_000, tzinfo=UTC)


def test_the_writer_answers_with_the_urls_and_the_objects_follow(tmp_path: Path) -> None:
    writer = ResultWriter(str(tmp_path / "store"), "async", str(tmp_path / "spool"))
    writer.open()
    urls = asyncio.run(writer.put("cam-7", AT, b"jpeg", b"{}"))
    assert urls.detections_url == f"{(tmp_path / 'store').as_uri()}/be/2026/03/09/070504.056Z-cam-7.json"
    assert urls.image_url == urls.detections_url.replace(".json", ".jpg")
    assert writer.close(LIMIT_S) == 0
    assert Path(urls.image_url.removeprefix("file://")).read_bytes() == b"jpeg"
    assert Path(urls.detections_url.removeprefix("file://")).read_bytes() == b"{}"
    assert writer.status().uploads["stored"] == 2


def test_a_caller_that_leaves_does_not_disturb_the_writer(tmp_path: Path) -> None:
    writer = ResultWriter(str(tmp_path / "store"), "async", str(tmp_path / "spool"))
    writer.open()

    async def main() -> None:
        puts = [asyncio.create_task(writer.put(f"r{n}", AT, b"jpeg", b"{}")) for n in range(20)]
        await asyncio.sleep(0)
        for task in puts[::2]:
            task.cancel()
        assert len(await asyncio.gather(*puts[1::2])) == 10
        await writer.put("last", AT, b"jpeg", b"{}")

    asyncio.run(main())
    assert writer.close(LIMIT_S) == 0
    assert len(list((tmp_path / "store").rglob("*.jpg"))) == 21


def test_the_writer_says_which_modes_there_are() -> None:
    with pytest.raises(ConfigError, match="expected sync or async, got 'later'"):
        ResultWriter("", "later")


def test_sync_needs_no_spool_and_makes_no_folder_before_the_first_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    writer = ResultWriter("")
    writer.open()
    assert files(tmp_path) == []
    asyncio.run(writer.put("a", AT, b"jpeg", b"{}"))
    assert files(tmp_path) == ["tidesight-results"]
    assert (writer.status(), writer.close(1)) == (SpoolStatus(), 0)


def test_putting_before_the_spool_is_open_is_refused(tmp_path: Path) -> None:
    writer = ResultWriter(str(tmp_path), "async", str(tmp_path / "spool"))
    with pytest.raises(StoreError, match="not open yet"):
        asyncio.run(writer.put("a", AT, b"jpeg", b"{}"))
