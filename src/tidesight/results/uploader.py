"""The threads that carry a journal's records to the store, in the order and at the times of a `Schedule`."""

import logging
import threading
from collections import Counter
from collections.abc import Sequence
from math import inf, isinf
from typing import Protocol

from tidesight.clock import Clock
from tidesight.results.bucket import Refusal
from tidesight.results.journal import Journal
from tidesight.results.local import explain_os_error
from tidesight.results.schedule import Schedule
from tidesight.results.segment import Entry
from tidesight.results.trouble import Trouble

_log = logging.getLogger(__name__)
OUTCOMES = ("stored", "failed", "refused", "replaced")
# Failures in a row; a single one is everyday life.
_WORTH_LOGGING = 3
# How long after a thread the next one joins in, when there is more to do. Waking a thread costs more than writing a
# small object to a quick store, and with a slow store eight threads are at work within 80 ms.
_JOIN_S = 0.01
_UNFORESEEN = "uploading failed in an unforeseen way"


class Destination(Protocol):
    """Where a spool uploads to."""

    def url(self, key: str) -> str:
        """Where the object of a key will be."""

    def try_write(self, key: str, data: bytes, content_type: str) -> Refusal | None:
        """Write an object, blocking; None, or why it is not written."""


class Uploader:
    """Uploads records until it is closed; closes the journal when its last thread ends.

    Args:
        journal: Where the records are.
        destination: Where they go.
        schedule: Which of them is next.
        clock: For the waits between.

    Attributes:
        refusal: Why the store took nothing lately; None while it does.
        outcomes: How many uploads ended how: "stored", "failed" (waiting helps), "refused" (somebody has to
            act), "replaced" (by a later object of the same key, before it was uploaded).
    """

    def __init__(self, journal: Journal, destination: Destination, schedule: Schedule, clock: Clock) -> None:
        self.refusal: Refusal | None = None
        self.outcomes = Counter(dict.fromkeys(OUTCOMES, 0))
        self._journal = journal
        self._destination = destination
        self._schedule = schedule
        self._clock = clock
        self._trouble = Trouble(_log, f"{journal.url} takes results again")
        self._guard = threading.Lock()
        # One resting thread watches for what is due next, the others sleep until they are needed.
        self._watch, self._sleep = threading.Condition(self._guard), threading.Condition(self._guard)
        self._watching = False
        self._watch_until_s = inf
        self._join_at_s = -inf
        self._closing = self._stopped = False
        self._threads: list[threading.Thread] = []
        self._running = 0

    def start(self, threads: int) -> None:
        """Begin to upload with so many threads."""
        self._running = threads
        for number in range(threads):
            thread = threading.Thread(target=self._run, name=f"spool-upload-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def add(self, entries: Sequence[Entry]) -> None:
        """Take records in, in the order in which they were appended."""
        now_s = self._clock.now_s()
        with self._guard:
            replaced = [old for entry in entries if (old := self._schedule.add(entry, now_s))]
            self.outcomes["replaced"] += len(replaced)
            self._have_watched(self._schedule.due_s())
        for entry in replaced:
            self._journal.confirm(entry)

    def close(self, deadline_s: float) -> None:
        """Try everything once more at once, and end when nothing waits, the store refuses, or the time is over.

        Args:
            deadline_s: When the time is over, on the clock.
        """
        with self._guard:
            self._closing = True
            self._schedule.hurry(self._clock.now_s())
            self._wake_all()
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - self._clock.now_s()))
        with self._guard:
            self._stopped = True
            self._wake_all()
            busy = self._schedule.under_way
        if not busy:
            for thread in self._threads:
                thread.join()

    def _run(self) -> None:
        while entry := self._next():
            self._finish(entry, self._try(entry))
        with self._guard:
            self._running -= 1
            last = not self._running
        if last:
            self._journal.close()

    def _next(self) -> Entry | None:
        """What to upload now; waits for it, and is None when it is time to end."""
        with self._guard:
            rested = False
            while not self._stopped and not (self._closing and not len(self._schedule)):
                now_s = self._clock.now_s()
                early_s = self._join_at_s - now_s if rested and not self._closing else 0.0
                taken = early_s if early_s > 0 else self._schedule.take(now_s)
                if isinstance(taken, Entry):
                    if rested:
                        self._join_at_s = now_s + _JOIN_S
                    if self._schedule.idle:
                        self._have_watched(max(self._join_at_s, self._schedule.due_s()))
                    return taken
                self._rest(now_s + taken)
                rested = True
            return None

    def _rest(self, until_s: float) -> None:
        """Watch until a time, or sleep when somebody else does."""
        if self._watching:
            self._have_watched(until_s)
            self._sleep.wait()
            return
        self._watching, self._watch_until_s = True, until_s
        self._watch.wait(None if isinf(until_s) else max(0.0, until_s - self._clock.now_s()))
        self._watching = False

    def _have_watched(self, at_s: float) -> None:
        """See that some resting thread, if there is one, looks again at a time."""
        if not self._watching:
            self._sleep.notify()
        elif at_s < self._watch_until_s:
            self._watch.notify()

    def _wake_all(self) -> None:
        self._watch.notify_all()
        self._sleep.notify_all()

    def _try(self, entry: Entry) -> Refusal | None:
        try:
            data = self._journal.read(entry)
        except OSError as error:
            _log.error("%s cannot be read: %s", entry.segment.path, error)
            return explain_os_error("the result spool", error)
        try:
            return self._destination.try_write(entry.key, data, entry.record.content_type)
        except Exception:  # whatever a client library raises: the record stays, and the thread goes on
            _log.exception("uploading %s failed in an unforeseen way", entry.key)
            return Refusal(_UNFORESEEN, f"{_UNFORESEEN}; see the log", lasting=False)

    def _finish(self, entry: Entry, refusal: Refusal | None) -> None:
        with self._guard:
            done_with = self._schedule.finish(entry, refusal, self._clock.now_s())
            doubt = self._schedule.doubt
            self.outcomes[_outcome(refusal)] += 1
            self.outcomes["replaced"] += bool(refusal and done_with)
            self.refusal = (refusal or self.refusal) if doubt else None
            self._stopped |= bool(refusal and refusal.lasting and doubt and self._closing)
            if self._closing:
                self._wake_all()
        if done_with:
            self._journal.confirm(entry)
        if refusal and doubt and (refusal.lasting or doubt >= _WORTH_LOGGING):
            self._trouble.is_met(f"results wait in {self._journal.folder}: {refusal.detail}")
        elif not doubt:
            self._trouble.is_over()


def _outcome(refusal: Refusal | None) -> str:
    if refusal is None:
        return "stored"
    return "refused" if refusal.lasting else "failed"
