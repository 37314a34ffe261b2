"""After a crash: how long a place stays empty. Pure; the rule is that of Kubernetes' CrashLoopBackOff.

kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle#restart-policy: the first restart is at once, then 10 s, 20 s,
40 s ... up to 5 minutes; an instance that ran for 10 minutes without trouble begins anew.
"""

from dataclasses import dataclass

_FIRST_S, _LONGEST_S = 10.0, 300.0
_FORGIVEN_AFTER_S = 600.0


@dataclass(frozen=True, slots=True)
class Crashes:
    """The crashes of one place.

    Attributes:
        count: In a row.
        retry_s: When it may be filled again.
        why: The last one.
    """

    count: int
    retry_s: float
    why: str


class BackOff:
    """Which places of a fleet wait after crashes. Time is an argument."""

    def __init__(self) -> None:
        self._places: dict[int, Crashes] = {}

    def crashed(self, slot: int, now_s: float, ran_s: float, why: str) -> Crashes:
        """Note a crash.

        Args:
            slot: The place.
            now_s: When.
            ran_s: For how long the instance had run.
            why: In words.
        """
        known = self._places.get(slot)
        count = 1 if known is None or ran_s >= _FORGIVEN_AFTER_S else known.count + 1
        pause_s = 0.0 if count == 1 else min(_FIRST_S * 2 ** (count - 2), _LONGEST_S)
        self._places[slot] = Crashes(count, now_s + pause_s, why)
        return self._places[slot]

    def ended(self, slot: int, ran_s: float) -> None:
        """Note an end that was asked for, after so long: a place that did well is forgiven."""
        if ran_s >= _FORGIVEN_AFTER_S:
            self._places.pop(slot, None)

    def waiting(self, now_s: float) -> dict[int, Crashes]:
        """The places that are not to be filled yet."""
        return {slot: crashes for slot, crashes in self._places.items() if crashes.retry_s > now_s}

    def forget(self) -> None:
        """Begin anew, as when somebody sets the count by hand."""
        self._places.clear()
