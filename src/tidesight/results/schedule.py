"""Which record is uploaded next, and when: the order, the retries, and how a store in trouble is spared.

Pure: the time is an argument, and so is the source of randomness.
"""

import heapq
from dataclasses import dataclass
from math import inf
from random import Random

from tidesight.results.backoff import Backoff
from tidesight.results.bucket import Refusal
from tidesight.results.segment import Entry

PASSING = Backoff(first_s=0.2, longest_s=30.0)
# A person has to act first.
LASTING = Backoff(first_s=5.0, longest_s=60.0)


@dataclass(frozen=True)
class _Flight:
    entry: Entry
    doubt: int


class Schedule:
    """The records that wait, by the time at which each may be tried.

    A failure makes a record wait. When no success came since, it also puts the store in doubt: then nothing
    is tried for a while, and after that one record at a time, until one is stored. A record that fails again
    and again while others are stored delays only itself.

    Of records with the same key only the latest is uploaded, and never beside an earlier one.

    Args:
        concurrency: The most uploads at a time.
        random: For the jitter.
        gather_s: How long the first of a batch waits for others, so that one waking of a thread serves many.
    """

    def __init__(self, concurrency: int, random: Random, gather_s: float = 0.0) -> None:
        self._concurrency = concurrency
        self._random = random
        self._gather_s = gather_s
        self._batch_at_s = -inf
        self._latest: dict[str, Entry] = {}
        self._flights: dict[str, _Flight] = {}
        self._heap: list[tuple[float, int, Entry]] = []
        self._pushed = 0
        self._doubt = 0
        self._resume_at_s = -inf

    @property
    def doubt(self) -> int:
        """How often in a row the store has failed; 0 since it took something."""
        return self._doubt

    @property
    def under_way(self) -> int:
        """How many uploads there are now."""
        return len(self._flights)

    @property
    def idle(self) -> int:
        """How many records wait and are not under way."""
        return len(self._latest) - len(self._flights)

    def __len__(self) -> int:
        """How many records wait or are under way, of each key the latest."""
        return len(self._latest)

    def add(self, entry: Entry, now_s: float) -> Entry | None:
        """Take a record in; the one it replaces, if one waits under the same key and need not be uploaded now."""
        replaced = self._latest.get(entry.key)
        self._latest[entry.key] = entry
        flight = self._flights.get(entry.key)
        if flight is None:
            if self._batch_at_s < now_s:
                self._batch_at_s = now_s + self._gather_s
            self._push(entry, self._batch_at_s)
        return None if flight and flight.entry is replaced else replaced

    def take(self, now_s: float) -> Entry | float:
        """The record to upload now; or the seconds until there may be one, infinite until something ends."""
        wait_s = self.due_s() - now_s
        if wait_s > 0:
            return wait_s
        entry = heapq.heappop(self._heap)[2]
        self._flights[entry.key] = _Flight(entry, self._doubt)
        return entry

    def due_s(self) -> float:
        """When there may be a record to upload; infinite until something ends or is added."""
        while self._heap and self._latest.get(self._heap[0][2].key) is not self._heap[0][2]:
            heapq.heappop(self._heap)
        if not self._heap or len(self._flights) >= (1 if self._doubt else self._concurrency):
            return inf
        return max(self._heap[0][0], self._resume_at_s)

    def finish(self, entry: Entry, refusal: Refusal | None, now_s: float) -> bool:
        """An upload ended; whether the record is done with: stored, or replaced by a later one meanwhile."""
        flight = self._flights.pop(entry.key)
        if refusal is None:
            self._doubt, self._resume_at_s = 0, -inf
        else:
            self._note_failure(flight, refusal, now_s)
        latest = self._latest[entry.key]
        if latest is not entry:
            self._push(latest, now_s)
            return True
        if refusal is None:
            del self._latest[entry.key]
            return True
        entry.attempts += 1
        self._push(entry, now_s + self._delay_s(refusal, entry.attempts))
        return False

    def _note_failure(self, flight: _Flight, refusal: Refusal, now_s: float) -> None:
        # Uploads that were under way together count once; a record known to fail alone starts no doubt.
        if flight.doubt == self._doubt and (self._doubt or not flight.entry.attempts):
            self._doubt += 1
            self._resume_at_s = now_s + self._delay_s(refusal, self._doubt)

    def hurry(self, now_s: float) -> None:
        """Let everything be tried now, once more."""
        self._resume_at_s = now_s
        self._heap = [(min(at_s, now_s), number, entry) for at_s, number, entry in self._heap]
        heapq.heapify(self._heap)

    def _push(self, entry: Entry, not_before_s: float) -> None:
        self._pushed += 1
        heapq.heappush(self._heap, (not_before_s, self._pushed, entry))

    def _delay_s(self, refusal: Refusal, failures: int) -> float:
        backoff = LASTING if refusal.lasting else PASSING
        return max(backoff.delay_s(failures, self._random), refusal.retry_after_s or 0.0)
