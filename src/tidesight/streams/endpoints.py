"""Which of several URLs is asked next."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tidesight.results.backoff import Backoff

_AFTER_FAILURE = Backoff(first_s=0.2, longest_s=5.0)


@dataclass
class Endpoint:
    """One URL.

    Attributes:
        url: Without a slash at the end.
        in_flight: Requests under way.
        failures: In a row.
        not_before_s: Not to be asked earlier, if there is a choice.
    """

    url: str
    in_flight: int = 0
    failures: int = 0
    not_before_s: float = 0.0


class Endpoints:
    """The URLs and how they do; time is an argument.

    Args:
        urls: One or more.
        random: For jitter.
    """

    def __init__(self, urls: Sequence[str], random: Random) -> None:
        self.all = [Endpoint(url.rstrip("/")) for url in urls]
        self._random = random

    def choose(self, now_s: float, avoid: Endpoint | None = None) -> Endpoint | None:
        """That with the fewest requests of those that may be asked; not `avoid`, unless it is the only one."""
        free = [one for one in self.all if one.not_before_s <= now_s]
        others = [one for one in free if one is not avoid]
        return min(others or free, key=lambda one: one.in_flight, default=None)

    def next_free_s(self) -> float:
        """When at least one may be asked."""
        return min(one.not_before_s for one in self.all)

    def answered(self, endpoint: Endpoint) -> None:
        """It works."""
        endpoint.failures = 0

    def failed(self, endpoint: Endpoint, now_s: float) -> None:
        """No answer: leave it alone for a while, longer each time."""
        endpoint.failures += 1
        wait_s = _AFTER_FAILURE.delay_s(endpoint.failures, self._random)
        endpoint.not_before_s = max(endpoint.not_before_s, now_s + wait_s)

    def pause(self, endpoint: Endpoint, now_s: float, seconds: float) -> None:
        """It asked for a pause; up to a quarter is added, so that callers do not come back together."""
        until_s = now_s + seconds * self._random.uniform(1.0, 1.25)
        endpoint.not_before_s = max(endpoint.not_before_s, until_s)
