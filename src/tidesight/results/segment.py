"""A segment file of the spool, a record in it that waits, and how both get to the disk."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tidesight.results.journal_format import FoundRecord

_MAX_BUFFERS = 1024  # IOV_MAX of Linux


@dataclass(eq=False, slots=True)
class Segment:
    """One file of records.

    Attributes:
        path: Where it is; its stem is its number.
        fd: Open for reading and writing.
        size_bytes: Length of the records that are durable.
        waiting: How many of its records are not stored.
        sealed: Nothing is appended any more.
        damaged: It could not be read to its end, so the file is kept.
    """

    path: Path
    fd: int
    size_bytes: int = 0
    waiting: int = 0
    sealed: bool = False
    damaged: bool = False

    @property
    def number(self) -> int:
        """What its records are marked with."""
        return int(self.path.stem)


@dataclass(eq=False, slots=True)
class Entry:
    """A durable record that is not stored yet.

    Attributes:
        segment: The file it is in.
        record: Where in that file, and what.
        attempts: Uploads tried and failed since the start.
        data: The object itself while it is in memory, else it is read from the file.
    """

    segment: Segment
    record: FoundRecord
    attempts: int = 0
    data: bytes | None = None

    @property
    def key(self) -> str:
        """The object's key."""
        return self.record.key


def write_all(fd: int, buffers: Sequence[bytes], offset: int) -> None:
    """Write buffers one after the other from an offset on, however little the kernel takes at a time."""
    left = [memoryview(buffer) for buffer in buffers if buffer]
    while left:
        written = os.pwritev(fd, left[:_MAX_BUFFERS], offset)
        offset += written
        while written:
            step = min(written, len(left[0]))
            left[0] = left[0][step:]
            written -= step
            if not left[0]:
                left.pop(0)
