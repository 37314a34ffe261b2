"""The spool's folder: segments of records, a lock, and what becomes of them at start, append and confirmation.

    lock                        held while in use; holds the URL of the store that the records are for
    0000000000000007.segment    records, see `journal_format`; deleted or used again once all of them are stored
    0000000000000003.damaged    a segment that could not be read to its end, kept for a person to look at

One thread appends; any thread reads and confirms.
"""

import fcntl
import logging
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tidesight.errors import ConfigError
from tidesight.results.journal_format import STORED, FoundRecord, encode, record_bytes, scan
from tidesight.results.local import explain_os_error, sync_folder
from tidesight.results.segment import Entry, Segment, write_all
from tidesight.results.store import ResultObject

_log = logging.getLogger(__name__)
# The pictures are nobody else's business.
_FOLDER_MODE, _FILE_MODE = 0o700, 0o600
# Writing over a file costs a quarter of the CPU that filling a new one does (measured; docs/decisions/0004).
_MAX_SPARES = 2


@dataclass
class Journal:
    """The records of one folder.

    Attributes:
        folder: Made, with its parents, when missing.
        url: The store that the records are for.
        segment_bytes: A segment that has reached this length gets no more records.
        sync: Makes a file's content durable, given its descriptor.
        max_held_bytes: The most data of records that wait that is also kept in memory, to be uploaded without reading.
        size_bytes: Length of all segments in use.
        waiting: The records that are not stored, oldest first.
    """

    folder: Path
    url: str
    segment_bytes: int
    sync: Callable[[int], None] = os.fdatasync
    max_held_bytes: int = 32 * 1024 * 1024
    size_bytes: int = 0
    waiting: dict[Entry, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._guard = threading.Lock()
        self._segments: set[Segment] = set()
        self._spares: deque[Segment] = deque()
        self._active: Segment | None = None
        self._lock_fd = -1
        self._next_number = 0
        self._held_bytes = 0

    def open(self) -> None:
        """Take the folder and find what an earlier process left in it.

        Raises:
            ConfigError: Another process has the folder, it cannot be used, or it holds results for another store.
        """
        try:
            self.folder.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)
            sync_folder(self.folder.parent)
            self._lock_fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, _FILE_MODE)
            try:
                self._take_lock()
                for path in self._numbered():
                    if path.suffix == ".segment":
                        self._recover(path)
                    self._next_number = int(path.stem) + 1
                self._claim_for_store()
            except BaseException:
                self.close()
                raise
        except OSError as error:
            refusal = explain_os_error(f"--spool {self.folder}", error)
            raise ConfigError(refusal.detail, field="spool") from error

    def _numbered(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if re.fullmatch("[0-9]{16}", path.stem))

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            detail = f"--spool {self.folder} is in use by another instance; give each a folder of its own"
            raise ConfigError(detail, field="spool") from None

    def _claim_for_store(self) -> None:
        owner = os.pread(self._lock_fd, 4096, 0).decode("utf-8", "replace")
        if owner == self.url:
            return
        if self.waiting:
            detail = (
                f"--spool {self.folder} holds {len(self.waiting)} objects that wait for {owner or 'another store'}; "
                "start once with that --store so that they arrive, or name another folder"
            )
            raise ConfigError(detail, field="spool")
        os.ftruncate(self._lock_fd, 0)
        write_all(self._lock_fd, [self.url.encode()], 0)
        os.fsync(self._lock_fd)

    def _recover(self, path: Path) -> None:
        """Cut what a killed process left half written, and take up the records that wait."""
        content = path.read_bytes()
        found = scan(content, int(path.stem))
        segment = Segment(path, os.open(path, os.O_RDWR), found.intact_bytes, sealed=True, damaged=found.damaged)
        if found.damaged:
            _log.error("%s is damaged from byte %d on; the file will be kept", path, found.intact_bytes)
        elif len(content) > found.intact_bytes:
            os.ftruncate(segment.fd, found.intact_bytes)
        self._segments.add(segment)
        self.size_bytes += segment.size_bytes
        self._enlist(segment, [record for record in found.records if record.waits])
        self._retire_if_done(segment)

    def _enlist(self, segment: Segment, records: Sequence[FoundRecord]) -> list[Entry]:
        entries = [Entry(segment, record) for record in records]
        segment.waiting += len(entries)
        self.waiting.update(dict.fromkeys(entries))
        return entries

    def append(self, objects: Sequence[tuple[ResultObject, float]]) -> list[Entry]:
        """Make objects durable together: one write and one flush; blocks for both.

        Args:
            objects: Each with the Unix time when it was handed in.

        Raises:
            OSError: None of them is kept.
        """
        segment = self._active or self._create()
        buffers: list[bytes] = []
        records: list[FoundRecord] = []
        end = segment.size_bytes
        for one, at_s in objects:
            buffers += encode(one, at_s, segment.number)
            records.append(FoundRecord(end, one.key, one.content_type, len(one.data), at_s, waits=True))
            end += record_bytes(one)
        try:
            write_all(segment.fd, buffers, segment.size_bytes)
            self.sync(segment.fd)
        except OSError:
            self._give_up(segment)
            raise
        with self._guard:
            self.size_bytes += end - segment.size_bytes
            segment.size_bytes = end
            entries = self._enlist(segment, records)
            for entry, (one, _) in zip(entries, objects, strict=True):
                self._hold(entry, one.data)
        if end >= self.segment_bytes:
            self._seal(segment)
        return entries

    def _hold(self, entry: Entry, data: bytes) -> None:
        if self._held_bytes + len(data) <= self.max_held_bytes:
            self._held_bytes += len(data)
            entry.data = data

    def _create(self) -> Segment:
        path = self.folder / f"{self._next_number:016d}.segment"
        self._next_number += 1
        if self._spares:  # only this thread takes from them
            self._spares[0].path.rename(path)
            segment = Segment(path, self._spares.popleft().fd)
        else:
            segment = Segment(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, _FILE_MODE))
        self._segments.add(segment)
        self._active = segment
        try:
            sync_folder(self.folder)
        except OSError:
            self._give_up(segment)
            raise
        return segment

    def _give_up(self, segment: Segment) -> None:
        """Append nowhere after a failed write or flush: what the kernel kept of it is not known."""
        with suppress(OSError):
            os.ftruncate(segment.fd, segment.size_bytes)
        self._seal(segment)

    def _seal(self, segment: Segment) -> None:
        self._active = None
        with self._guard:
            segment.sealed = True
        self._retire_if_done(segment)

    def oldest_at_s(self) -> float | None:
        """When the oldest record that waits was handed in, Unix time in seconds; None when none waits."""
        with self._guard:
            oldest = next(iter(self.waiting), None)
        return oldest.record.at_s if oldest else None

    def read(self, entry: Entry) -> bytes:
        """The data of a record that waits.

        Raises:
            OSError: The disk does not give it.
        """
        if (held := entry.data) is not None:
            return held
        data = os.pread(entry.segment.fd, entry.record.data_bytes, entry.record.data_offset)
        if len(data) != entry.record.data_bytes:
            raise OSError(f"{entry.segment.path} is shorter than it was")
        return data

    def confirm(self, entry: Entry) -> None:
        """Mark a record as stored, or as replaced by a later one of the same key.

        The mark is not flushed: should it be lost, the object is written once more, with the same bytes.
        """
        with suppress(OSError):
            os.pwrite(entry.segment.fd, STORED, entry.record.offset)
        with self._guard:
            del self.waiting[entry]
            if entry.data is not None:
                self._held_bytes -= len(entry.data)
                entry.data = None
            entry.segment.waiting -= 1
        self._retire_if_done(entry.segment)

    def _retire_if_done(self, segment: Segment) -> None:
        """Free a segment that gets no more records and of which none waits."""
        with self._guard:
            if not segment.sealed or segment.waiting or segment not in self._segments:
                return
            self._segments.remove(segment)
            self.size_bytes -= segment.size_bytes
            if not segment.damaged and len(self._spares) < _MAX_SPARES:
                self._spares.append(segment)
                return
        _remove(segment)

    def close(self) -> None:
        """Close the files and leave the folder; nothing may be under way."""
        if self._active:
            self._seal(self._active)
        for segment in self._segments:
            os.close(segment.fd)
        self._segments.clear()
        while self._spares:
            _remove(self._spares.popleft())
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def _remove(segment: Segment) -> None:
    os.close(segment.fd)
    try:
        if segment.damaged:
            segment.path.rename(segment.path.with_suffix(".damaged"))
        else:
            segment.path.unlink()
    except OSError as error:
        _log.warning("%s holds nothing that waits, but could not be removed: %s", segment.path, error)
