"""Group commit: one thread appends, and what arrives while it flushes the disk is flushed together next."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from tidesight.errors import StoreError
from tidesight.results.journal import Journal
from tidesight.results.local import explain_os_error
from tidesight.results.segment import Entry
from tidesight.results.store import ResultObject
from tidesight.results.trouble import Trouble

_log = logging.getLogger(__name__)


class _Append(NamedTuple):
    objects: Sequence[ResultObject]
    at_s: float
    size_bytes: int
    done: "Future[None]"


class GroupWriter:
    """The thread that appends to a journal.

    Args:
        journal: An open one, which nobody else appends to.
        max_group_bytes: The most that is flushed together, unless one append alone is larger.
        on_durable: Told of new records, before their append is acknowledged.

    Attributes:
        pending_bytes: Length of the records that are not in the journal yet.
        pending_records: How many these are.
    """

    def __init__(self, journal: Journal, max_group_bytes: int, on_durable: Callable[[Sequence[Entry]], None]) -> None:
        self.pending_bytes = self.pending_records = 0
        self._journal = journal
        self._max_group_bytes = max_group_bytes
        self._on_durable = on_durable
        self._trouble = Trouble(_log, f"{journal.folder} can be written again")
        self._arrived = threading.Condition()
        self._queue: deque[_Append] = deque()
        self._closing = False
        self._thread = threading.Thread(target=self._write_groups, name="spool-writer", daemon=True)

    def start(self) -> None:
        """Begin to append."""
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Append what has arrived and take nothing more; waits until it is done, or the time is over."""
        with self._arrived:
            self._closing = True
            self._arrived.notify()
        self._thread.join(timeout_s)

    def submit(self, objects: Sequence[ResultObject], at_s: float, size_bytes: int) -> "Future[None]":
        """Have objects appended, all or none; does not block.

        Args:
            objects: What to append.
            at_s: When they came up, Unix time in seconds.
            size_bytes: Length of their records.

        Returns:
            Done once they are durable; fails with a `StoreError` when they are not.

        Raises:
            StoreError: Closed.
        """
        one = _Append(objects, at_s, size_bytes, Future())
        one.done.set_running_or_notify_cancel()  # who waits may give up; the append goes on
        with self._arrived:
            if self._closing:
                raise StoreError("the instance is stopping", retry_after_s=1.0)
            self._queue.append(one)
            self.pending_bytes += size_bytes
            self.pending_records += len(objects)
            self._arrived.notify()
        return one.done

    def _write_groups(self) -> None:
        while group := self._next_group():
            objects = [(one, append.at_s) for append in group for one in append.objects]
            try:
                entries = self._journal.append(objects)
            except Exception as error:  # whatever it is, somebody waits for the answer
                _log.debug("append failed", exc_info=error)
                refusal = explain_os_error("the result spool", error)
                self._trouble.is_met(f"{self._journal.folder} takes no results: {refusal.detail}")
                self._forget(group)
                for append in group:
                    append.done.set_exception(refusal.as_error("the result spool takes nothing"))
            else:
                self._trouble.is_over()
                self._on_durable(entries)
                self._forget(group)
                for append in group:
                    append.done.set_result(None)

    def _next_group(self) -> list[_Append]:
        """What has arrived, up to the size of a group; waits for something, and is empty when nothing will come."""
        with self._arrived:
            while not self._queue and not self._closing:
                self._arrived.wait()
            group: list[_Append] = []
            room_bytes = self._max_group_bytes
            while self._queue and (not group or self._queue[0].size_bytes <= room_bytes):
                group.append(self._queue.popleft())
                room_bytes -= group[-1].size_bytes
            return group

    def _forget(self, group: list[_Append]) -> None:
        with self._arrived:
            self.pending_bytes -= sum(append.size_bytes for append in group)
            self.pending_records -= sum(len(append.objects) for append in group)
