"""The durable outbox: results are safe on the local disk at once, and in the store soon after.

`GroupWriter` appends to a `Journal` on disk, `Uploader` carries its records to the store. A result that was
acknowledged is never given up: it stays in the folder until the store has it, over restarts too.
"""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tidesight.clock import Clock, SystemClock
from tidesight.errors import ConfigError
from tidesight.results.bucket import Refusal
from tidesight.results.group_writer import GroupWriter
from tidesight.results.journal import Journal
from tidesight.results.journal_format import record_bytes
from tidesight.results.schedule import Schedule
from tidesight.results.store import ResultObject
from tidesight.results.trouble import Trouble
from tidesight.results.uploader import Destination, Uploader

_log = logging.getLogger(__name__)
_MAX_SEGMENT_BYTES = 4 * 1024 * 1024
# A segment is deleted as a whole, so the limit must be many of them.
_MIN_SEGMENTS = 16
# Uploads are of no hurry: what comes within this time is uploaded by the same waking of a thread.
_GATHER_S = 0.2


@dataclass(frozen=True)
class SpoolLimits:
    """What may wait, and how much goes on at a time.

    Attributes:
        max_bytes: Of the files in the folder; > 0.
        max_records: Objects that wait; > 0. A result is two: the picture and the detections.
        uploads: At a time; > 0.
    """

    max_bytes: int = 256 * 1024 * 1024
    max_records: int = 20_000
    uploads: int = 8

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_records", "uploads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"spool_{name}: expected at least 1", field=f"spool_{name}")


@dataclass(frozen=True)
class SpoolStatus:
    """A moment of a spool.

    Attributes:
        records: Objects that wait for the store.
        size_bytes: Of its files, some of whose objects may be stored already.
        oldest_age_s: Since the oldest of them came up; 0 when none waits.
        uploads: How many ended how since the start, see `Uploader.outcomes`.
    """

    records: int = 0
    size_bytes: int = 0
    oldest_age_s: float = 0.0
    uploads: dict[str, int] = field(default_factory=dict)


class Spool:
    """Takes objects, keeps them in a folder, and uploads them behind.

    Args:
        folder: Its own; no other instance may use it.
        destination: Where it uploads to.
        limits: What may wait.
        clock: For the waits between uploads.
        random: For their jitter.
        unix_time_s: The time of day, for the age of the oldest record.
    """

    def __init__(
        self,
        folder: Path,
        destination: Destination,
        limits: SpoolLimits,
        *,
        clock: Clock | None = None,
        random: Random | None = None,
        unix_time_s: Callable[[], float] = time.time,
    ) -> None:
        self._limits = limits
        self._clock = clock or SystemClock()
        self._unix_time_s = unix_time_s
        segment_bytes = max(1, min(_MAX_SEGMENT_BYTES, limits.max_bytes // _MIN_SEGMENTS))
        self._journal = Journal(folder, destination.url("").rstrip("/"), segment_bytes)
        schedule = Schedule(limits.uploads, random or Random(), _GATHER_S)  # noqa: S311  # jitter is no secret
        self._uploader = Uploader(self._journal, destination, schedule, self._clock)
        self._writer = GroupWriter(self._journal, segment_bytes, self._uploader.add)
        self._trouble = Trouble(_log, f"{folder} has room again")

    def open(self) -> None:
        """Take the folder, take up what an earlier process left there, begin to upload; blocks while it reads.

        Raises:
            ConfigError: The folder cannot be used, another instance has it, or it is for another store.
        """
        self._journal.open()
        left = list(self._journal.waiting)
        if left:
            _log.warning("uploading %d objects that an earlier process left in %s", len(left), self._journal.folder)
        self._uploader.add(left)
        self._uploader.start(self._limits.uploads)
        self._writer.start()

    def close(self, deadline_s: float) -> int:
        """Take nothing more, and upload what goes within the time; blocks.

        Args:
            deadline_s: How long it may take, in seconds from now.

        Returns:
            How many objects are left in the folder, for the next start.
        """
        ends_s = self._clock.now_s() + deadline_s
        self._writer.close(deadline_s)
        self._uploader.close(ends_s)
        left = len(self._journal.waiting)
        if left:
            _log.warning("%d objects are left in %s; the next start uploads them", left, self._journal.folder)
        return left

    def status(self) -> SpoolStatus:
        """What waits now, and what was uploaded so far."""
        at_s = self._journal.oldest_at_s()
        age_s = 0.0 if at_s is None else max(0.0, self._unix_time_s() - at_s)
        uploads = self._uploader.outcomes.copy()
        return SpoolStatus(len(self._journal.waiting), self._journal.size_bytes, age_s, dict(uploads))

    def append(self, objects: Sequence[ResultObject], at_s: float) -> "Future[None]":
        """Take objects in, all or none; does not block, and copies no data.

        Args:
            objects: What to keep and upload.
            at_s: When they came up, Unix time in seconds.

        Returns:
            Done once they are durable; fails with a `StoreError` when they are not.

        Raises:
            StoreError: The spool is full, or closed.
        """
        size_bytes = sum(map(record_bytes, objects))
        self._check_room(size_bytes, len(objects))
        return self._writer.submit(objects, at_s, size_bytes)

    def _check_room(self, size_bytes: int, count: int) -> None:
        limits, journal, writer = self._limits, self._journal, self._writer
        limit = ""
        if journal.size_bytes + writer.pending_bytes + size_bytes > limits.max_bytes:
            limit = f"{limits.max_bytes / 1e6:g} MB"
        elif len(journal.waiting) + writer.pending_records + count > limits.max_records:
            limit = f"{limits.max_records} objects"
        if not limit:
            self._trouble.is_over()
            return
        slow = "the store takes results more slowly than they come"
        why = self._uploader.refusal or Refusal(slow, slow, lasting=False)
        what = f"the spool is full ({limit})"
        self._trouble.is_met(f"{what}: {why.detail}")
        raise why.as_error(what)
