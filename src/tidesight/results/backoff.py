"""Waits between attempts."""

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Backoff:
    """Waits that double, with jitter, so that many instances do not come back at once.

    Attributes:
        first_s: The longest first wait.
        longest_s: The longest wait of all.
    """

    first_s: float
    longest_s: float

    def delay_s(self, failures: int, random: Random) -> float:
        """The wait after so many failures in a row (>= 1): between half of the doubled wait and all of it."""
        whole_s = min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, 60))
        return random.uniform(whole_s / 2, whole_s)
