"""The local folder, what `open_store` accepts, and what every store adds to its bucket."""

import asyncio
import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidesight.errors import ConfigError, MissingExtra, StoreError
from tidesight.results.bucket import BucketStore, Refusal
from tidesight.results.journal import Journal
from tidesight.results.local import LocalFolder
from tidesight.results.segment import Entry
from tidesight.results.spool import Spool, SpoolLimits
from tidesight.results.store import ResultObject, open_store


def put(url: str | Path, key: str = "ab/o.json", data: bytes = b"{}") -> str:
    return asyncio.run(open_store(str(url)).put(key, data, "application/json"))


def files_under(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_missing_folder_is_made_at_open(tmp_path: Path) -> None:
    open_store(str(tmp_path / "a/b"))
    assert files_under(tmp_path) == {"a/b/.tidesight-probe"}


def test_without_a_probe_nothing_is_written_at_open(tmp_path: Path) -> None:
    open_store(str(tmp_path / "a"), probe=False)
    assert not (tmp_path / "a").exists()


def test_a_relative_path_gives_absolute_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert put("results") == f"{(tmp_path / 'results').as_uri()}/ab/o.json"


def test_files_may_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        put(tmp_path)
    finally:
        os.umask(before)
    assert (tmp_path / "ab/o.json").stat().st_mode & 0o777 == 0o644


def test_a_reader_never_sees_half_an_object(tmp_path: Path) -> None:
    versions = {bytes([n]) * size for n, size in enumerate((200_000, 1, 350_000, 70_000))}
    folder = LocalFolder(tmp_path)
    folder.write("o.jpg", b"\0" * 200_000, "image/jpeg")
    seen = set()

    async def main() -> None:
        store = BucketStore(folder, put_timeout_s=10)
        writes = asyncio.gather(*(store.put("o.jpg", data, "image/jpeg") for data in [*versions] * 25))
        while not writes.done():
            seen.add((tmp_path / "o.jpg").read_bytes())
            await asyncio.sleep(0)
        await writes
        await store.close()

    asyncio.run(main())
    assert seen <= versions
    assert files_under(tmp_path) == {"o.jpg"}


@pytest.fixture
def disk_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is flushed to the disk and renamed from now on, in order: the call, and the path."""
    calls: list[tuple[str, str]] = []

    def spy(name: str) -> None:
        real = getattr(os, name)

        def call(target: int | str | Path, *rest: str) -> None:
            path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else str(target)
            calls.append((name, path))
            real(target, *rest)

        monkeypatch.setattr(os, name, call)

    for name in ("fsync", "fdatasync", "rename", "mkdir"):
        spy(name)
    return calls


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_is_written_is_on_the_disk_with_its_names(tmp_path: Path, disk_calls: list[tuple[str, str]]) -> None:
    folder = LocalFolder(tmp_path)
    folder.write("ab/2026/o.jpg", b"data", "image/jpeg")
    below, partial = tmp_path / "ab/2026", disk_calls[4][1]
    assert partial.endswith(".part")
    assert disk_calls == [
        ("mkdir", str(tmp_path / "ab")),
        ("fsync", str(tmp_path)),
        ("mkdir", str(below)),
        ("fsync", str(tmp_path / "ab")),
        ("fdatasync", partial),
        ("rename", partial),
        ("fsync", str(below)),
    ]
    disk_calls.clear()
    folder.write("ab/2026/o.jpg", b"data", "image/jpeg")
    assert [name for name, _ in disk_calls] == ["fdatasync", "rename", "fsync"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_spool_forgets_an_object_only_once_it_is_on_the_disk(
    tmp_path: Path, disk_calls: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    confirm = Journal.confirm

    def noted(journal: Journal, entry: Entry) -> None:
        disk_calls.append(("forgotten", entry.key))
        confirm(journal, entry)

    monkeypatch.setattr(Journal, "confirm", noted)
    spool = Spool(tmp_path / "spool", open_store(str(tmp_path / "store"), probe=False), SpoolLimits())
    spool.open()
    spool.append([ResultObject("ab/o.jpg", b"data", "image/jpeg")], 0).result(10)
    assert spool.close(10) == 0
    calls = [name for name, path in disk_calls if "/store/ab" in path or name == "forgotten"]
    assert calls[-4:] == ["fdatasync", "rename", "fsync", "forgotten"]


def test_a_flush_that_fails_is_no_stored_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    store = open_store(str(tmp_path))
    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(StoreError, match="not stored: it could not be written"):
        asyncio.run(store.put("ab/o.json", b"{}", "application/json"))
    assert files_under(tmp_path) == {".tidesight-probe"}


def test_a_folder_that_somebody_cleared_away_is_made_again(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path / "store")
    for _ in range(2):
        folder.write("ab/o.jpg", b"data", "image/jpeg")
        assert (tmp_path / "store/ab/o.jpg").read_bytes() == b"data"
        shutil.rmtree(tmp_path / "store")


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EIO])
def test_a_file_system_that_cannot_flush_folders_is_used_nonetheless(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    refusal = BucketStore(LocalFolder(tmp_path), 10).try_write("o.jpg", b"data", "image/jpeg")
    assert (refusal is None) == (code == errno.EINVAL)


def test_a_file_in_place_of_the_folder_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for folder in ("file", "file/below"):
        with pytest.raises(ConfigError, match="a file is where a folder is needed"):
            open_store(str(tmp_path / folder))


def test_a_folder_that_goes_wrong_later_is_a_store_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = open_store(str(tmp_path / "results"))
    (tmp_path / "results/ab").write_bytes(b"in the way")
    with pytest.raises(StoreError, match="not stored: a file is where a folder is needed") as refused:
        asyncio.run(store.put("ab/o.json", b"{}", "application/json"))
    assert (refused.value.status, refused.value.retry_after_s) == (503, 60)
    assert "/" not in refused.value.detail  # the caller learns no path, the log does
    assert f"{tmp_path}/results: a file is where a folder is needed: remove it" in caplog.text


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, where this user may mount one."""
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_disk_says_so_and_leaves_nothing_behind(small_disk: Path) -> None:
    put(small_disk)
    with pytest.raises(StoreError, match="not stored: its disk is full") as refused:
        put(small_disk, "ab/large.jpg", b"x" * 100_000)
    assert refused.value.retry_after_s == 60
    assert files_under(small_disk) == {".tidesight-probe", "ab/o.json"}


def test_a_read_only_file_system_stops_the_start(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(ConfigError, match="read-only: mount it writable"):
        open_store(str(small_disk))


@pytest.mark.parametrize(
    ("code", "words", "lasting"),
    [
        (errno.ENOSPC, "disk is full", True),
        (errno.EDQUOT, "quota", True),
        (errno.EROFS, "read-only", True),
        (errno.EACCES, "permission", True),
        (errno.EIO, "Input/output error", False),
        (errno.EMFILE, "Too many open files", False),
    ],
)
def test_each_local_failure_names_its_remedy(tmp_path: Path, code: int, words: str, lasting: bool) -> None:
    refusal = LocalFolder(tmp_path).explain(OSError(code, "internal words"))
    assert words in refusal.detail
    assert refusal.lasting is lasting
    assert "internal words" not in refusal.detail


@pytest.mark.parametrize(
    "url",
    ["https://user:hunter2@example.org/x", "ftp://x", "gs:/bucket", "s3:bucket", "file:x", "GS://bucket"],
)
def test_an_unknown_kind_of_store_lists_the_known(url: str) -> None:
    with pytest.raises(ConfigError, match=r"file:///folder, a path, gs://bucket/prefix or s3://") as refused:
        open_store(url)
    assert refused.value.field == "store"
    assert "hunter2" not in refused.value.detail


@pytest.mark.parametrize("url", ["", "file://", "file://folder/x", "file://folder", "a\0b"])
def test_a_url_that_names_no_folder_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        open_store(url)


def test_a_put_timeout_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="more than 0 s"):
        open_store(str(tmp_path), put_timeout_s=0)


@pytest.mark.parametrize(
    ("scheme", "module", "backend", "extra"),
    [
        ("s3", "obstore", "tidesight.results.s3", "s3"),
        ("gs", "google.cloud.storage", "tidesight.results.gcs", "gcs"),
    ],
)
def test_a_client_that_is_not_installed_names_the_extra(
    scheme: str, module: str, backend: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    package, _, name = module.rpartition(".")
    if package in sys.modules:  # `from package import name` also finds what an earlier import left there
        monkeypatch.delattr(sys.modules[package], name, raising=False)
    monkeypatch.delitem(sys.modules, backend, raising=False)
    with pytest.raises(MissingExtra, match=rf"tidesight\[{extra}\]"):
        open_store(f"{scheme}://my-bucket")


def test_a_local_folder_imports_no_client(tmp_path: Path) -> None:
    code = (
        "import sys; from tidesight.results.store import open_store; open_store(sys.argv[1]);"
        "print([name for name in sys.modules if name.partition('.')[0] in ('obstore', 'google', 'requests')])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class SlowBucket:
    """A bucket whose writes take a while."""

    url = "s3://slow"
    errors: tuple[type[Exception], ...] = ()

    def __init__(self, write_s: float) -> None:
        self.write_s = write_s
        self.written: list[str] = []
        self.closed_after: int | None = None

    def write(self, key: str, data: bytes, content_type: str) -> None:
        time.sleep(self.write_s)
        self.written.append(key)

    def explain(self, error: Exception) -> Refusal:
        raise AssertionError from error

    def close(self) -> None:
        self.closed_after = len(self.written)


def test_the_event_loop_runs_on_while_a_write_blocks() -> None:
    async def main() -> int:
        turns = 0
        write = asyncio.create_task(BucketStore(SlowBucket(0.2), put_timeout_s=5).put("a", b"", "x/y"))
        while not write.done():
            await asyncio.sleep(0.005)
            turns += 1
        return turns

    assert asyncio.run(main()) > 10


def test_a_write_that_hangs_is_given_up_in_time() -> None:
    async def main() -> float:
        store = BucketStore(SlowBucket(0.5), put_timeout_s=0.1)
        start_s = time.monotonic()
        with pytest.raises(StoreError, match=r"within 0\.1 s") as refused:
            await store.put("a", b"", "x/y")
        assert refused.value.retry_after_s == 5
        return time.monotonic() - start_s

    assert asyncio.run(main()) < 0.4


def test_close_waits_for_the_writes_under_way() -> None:
    async def main() -> SlowBucket:
        bucket = SlowBucket(0.1)
        store = BucketStore(bucket, put_timeout_s=5)
        writes = [asyncio.create_task(store.put(f"k{n}", b"", "x/y")) for n in range(5)]
        await asyncio.sleep(0.02)
        await store.close()
        await asyncio.gather(*writes)
        return bucket

    assert asyncio.run(main()).closed_after == 5
