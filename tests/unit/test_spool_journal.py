"""What the spool's files hold, and what is found in them after every way of ending early."""

import errno
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidesight.errors import ConfigError
from tidesight.results.journal import Journal
from tidesight.results.journal_format import STORED, encode, record_bytes, scan
from tidesight.results.store import ResultObject

NUMBER = 7
URL = "s3://bucket/prefix"
objects = st.builds(
    ResultObject,
    st.from_regex(r"[A-Za-z0-9._-]{1,40}", fullmatch=True),
    st.binary(max_size=60),
    st.sampled_from(["image/jpeg", "application/json"]),
)


def segment_of(kept: list[ResultObject], number: int = NUMBER) -> bytes:
    return b"".join(buffer for one in kept for buffer in encode(one, 1.5, number))


def read_back(content: bytes, number: int = NUMBER) -> list[ResultObject]:
    return [
        ResultObject(r.key, content[r.data_offset : r.data_offset + r.data_bytes], r.content_type)
        for r in scan(content, number).records
    ]


def whole_before(kept: list[ResultObject], position: int) -> list[ResultObject]:
    """The objects whose records end at or before a position."""
    ends = [sum(map(record_bytes, kept[: count + 1])) for count in range(len(kept))]
    return [one for one, end in zip(kept, ends, strict=True) if end <= position]


def test_the_layout_of_a_record_is_as_documented() -> None:
    [head, data] = encode(ResultObject("ab", b"xyz", "t/u"), 2.0, 258)
    assert head.hex(" ") == (
        "00 54 53 52 31 02 01 00 00 00 00 00 00 02 00 03 00 03 00 00 00 00 00 00 00 00 00 00 40 "
        # Both checksums by `gzip`: of abt/uxyz, and of the 32 bytes after the first.
        "59 e6 46 fe d6 2f e9 0a 61 62 74 2f 75"
    )
    assert data == b"xyz"


@given(st.lists(objects, max_size=6))
def test_what_is_written_is_found(kept: list[ResultObject]) -> None:
    content = segment_of(kept)
    assert read_back(content) == kept
    assert (scan(content, NUMBER).intact_bytes, scan(content, NUMBER).damaged) == (len(content), False)


@given(st.lists(objects, min_size=1, max_size=6), st.data())
def test_a_segment_cut_anywhere_gives_the_records_that_are_whole(kept: list[ResultObject], data: st.DataObject) -> None:
    content = segment_of(kept)
    cut = data.draw(st.integers(0, len(content)))
    assert read_back(content[:cut]) == whole_before(kept, cut)
    assert not scan(content[:cut], NUMBER).damaged


@given(st.lists(objects, min_size=1, max_size=6), st.data())
def test_a_flipped_bit_ends_the_records_before_it(kept: list[ResultObject], data: st.DataObject) -> None:
    content = bytearray(segment_of(kept))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    before = whole_before(kept, at)
    in_state = at == sum(map(record_bytes, before))
    found = scan(bytes(content), NUMBER)
    if in_state:  # the only byte that is not checked: one flipped bit does not make a record look stored
        assert read_back(bytes(content)) == kept
        assert all(record.waits for record in found.records)
    else:
        assert read_back(bytes(content)) == before
        assert found.damaged == (len(before) < len(kept) - 1)


@given(st.lists(objects, max_size=4), st.lists(objects, max_size=6), st.data())
def test_what_an_earlier_use_of_the_file_left_is_not_found(
    kept: list[ResultObject], earlier: list[ResultObject], data: st.DataObject
) -> None:
    fresh, stale = segment_of(kept), segment_of(earlier, NUMBER - 1)
    torn = data.draw(st.integers(0, len(fresh)))
    found = scan(fresh[:torn] + stale[torn:], NUMBER)
    # What is left may happen to be the very bytes that are missing; anything else ends the records.
    assert len(found.records) >= len(whole_before(kept, torn))
    assert [r.key for r in found.records] == [one.key for one in kept[: len(found.records)]]
    assert not found.damaged


def opened(folder: Path, segment_bytes: int = 1_000_000, url: str = URL) -> Journal:
    journal = Journal(folder, url, segment_bytes)
    journal.open()
    return journal


def some(*keys: str, size_bytes: int = 100) -> list[tuple[ResultObject, float]]:
    return [(ResultObject(key, key[-1:].encode() * size_bytes, "image/jpeg"), 5.0) for key in keys]


def segments(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "lock")


def test_what_waits_is_found_again_and_what_was_confirmed_is_not(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    entries = journal.append(some("a", "b", "c"))
    journal.confirm(entries[1])
    journal.close()
    again = opened(tmp_path)
    assert [(entry.key, again.read(entry)) for entry in again.waiting] == [("a", b"a" * 100), ("c", b"c" * 100)]
    assert again.oldest_at_s() == 5.0


def test_only_so_much_of_what_waits_is_also_in_memory(tmp_path: Path) -> None:
    journal = Journal(tmp_path, URL, 1_000_000, max_held_bytes=250)
    journal.open()
    entries = journal.append(some(*"abc"))
    assert [entry.data is not None for entry in entries] == [True, True, False]
    assert [journal.read(entry) for entry in entries] == [key * 100 for key in (b"a", b"b", b"c")]
    journal.confirm(entries[0])
    assert entries[0].data is None
    [later] = journal.append(some("d"))
    assert later.data is not None
    [last] = journal.append(some("e"))
    assert (last.data, journal.read(last)) == (None, b"e" * 100)


def test_a_segment_goes_with_its_last_record(tmp_path: Path) -> None:
    journal = opened(tmp_path, segment_bytes=250)
    entries = [entry for key in "abcdef" for entry in journal.append(some(key))]
    assert len(segments(tmp_path)) == 3
    for entry in entries[:1] + entries[2:]:
        journal.confirm(entry)
    journal.close()
    assert len(segments(tmp_path)) == 1
    journal = opened(tmp_path)
    assert [entry.key for entry in journal.waiting] == ["b"]
    journal.confirm(next(iter(journal.waiting)))
    journal.close()
    assert segments(tmp_path) == []


def test_files_are_used_again_and_the_size_counts_what_waits(tmp_path: Path) -> None:
    journal = opened(tmp_path, segment_bytes=300)
    inodes = set()
    for round_number in range(20):
        for key in "xyz":
            for entry in journal.append(some(f"{round_number}{key}")):
                journal.confirm(entry)
        inodes |= {path.stat().st_ino for path in tmp_path.glob("*.segment")}
    assert len(inodes) <= 3
    assert journal.size_bytes <= 300
    journal.append(some("left"))
    copy = tmp_path / "copy"  # what the next process finds after SIGKILL: nothing was closed
    copy.mkdir()
    for path in (tmp_path / "lock", *tmp_path.glob("*.segment")):
        shutil.copy(path, copy)
    assert [entry.key for entry in opened(copy).waiting] == ["left"]


def test_a_torn_tail_is_cut_and_appending_goes_on(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append(some("a", "b"))
    journal.close()
    [path] = tmp_path.glob("*.segment")
    os.truncate(path, path.stat().st_size - 1)
    journal = opened(tmp_path)
    assert path.stat().st_size == record_bytes(some("a")[0][0])
    journal.append(some("c"))
    journal.close()
    assert [entry.key for entry in opened(tmp_path).waiting] == ["a", "c"]


def test_a_damaged_segment_is_kept_for_a_person(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = opened(tmp_path)
    journal.append(some("a", "b", "c"))
    journal.close()
    [path] = tmp_path.glob("*.segment")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    journal = opened(tmp_path)
    [entry] = journal.waiting
    assert entry.key == "a"
    journal.confirm(entry)
    assert "is damaged from byte" in caplog.text
    assert segments(tmp_path) == [path.stem + ".damaged"]
    kept = path.with_suffix(".damaged").read_bytes()
    assert kept == STORED + bytes(content[1:])
    journal.append(some("d"))
    assert path.with_suffix(".damaged").read_bytes() == kept


def test_a_failed_flush_keeps_nothing_of_its_group(tmp_path: Path) -> None:
    broken = False

    def sync(fd: int) -> None:
        if broken:
            raise OSError(errno.EIO, "flush")
        os.fdatasync(fd)

    journal = Journal(tmp_path, URL, 1_000_000, sync)
    journal.open()
    journal.append(some("a"))
    broken = True
    with pytest.raises(OSError, match="flush"):
        journal.append(some("b"))
    broken = False
    journal.append(some("c"))
    journal.close()
    assert [entry.key for entry in opened(tmp_path).waiting] == ["a", "c"]


def test_more_buffers_than_the_kernel_takes_at_once(tmp_path: Path) -> None:
    journal = opened(tmp_path, segment_bytes=10_000_000)
    names = [f"k{number}" for number in range(1500)]
    journal.append(some(*names))
    journal.close()
    assert [entry.key for entry in opened(tmp_path).waiting] == names


def test_a_second_owner_is_refused(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    with pytest.raises(ConfigError, match="in use by another instance") as refused:
        opened(tmp_path)
    assert refused.value.field == "spool"
    journal.close()
    opened(tmp_path).close()


def test_another_process_is_refused_too(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    code = f"from pathlib import Path; from tidesight.results.journal import *; Journal(Path({str(tmp_path)!r}), {URL!r}, 9).open()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
    assert "in use by another instance" in done.stderr
    journal.close()


def test_results_for_another_store_are_not_sent_to_this_one(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    [entry] = journal.append(some("a"))
    journal.close()
    with pytest.raises(ConfigError, match="1 objects that wait for s3://bucket/prefix; start once with that"):
        opened(tmp_path, url="s3://other")
    journal = opened(tmp_path)
    [entry] = journal.waiting
    journal.confirm(entry)
    journal.close()
    opened(tmp_path, url="s3://other").close()


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="a file is where a folder is needed"):
        opened(tmp_path / "file")


def test_reading_and_confirming_beside_appending(tmp_path: Path) -> None:
    journal = opened(tmp_path, segment_bytes=5_000)
    wrong: list[str] = []

    def consume(entries: list[object]) -> None:
        for entry in list(journal.waiting):
            if entry in entries:
                if journal.read(entry) != entry.key[-1:].encode() * 300:
                    wrong.append(entry.key)
                journal.confirm(entry)

    threads = []
    for number in range(60):
        new: list[object] = list(journal.append(some(f"{number}a", f"{number}b", size_bytes=300)))
        threads.append(threading.Thread(target=consume, args=(new,)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(journal.waiting) == 0
    journal.close()
    assert segments(tmp_path) == []
