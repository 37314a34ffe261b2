"""Who is held, for how long, and who is handed on to which instance: the activator's rules without its sockets.

As Knative's activator does: first come, first served; an instance gets so many at a time; a request that cannot be held
is answered by the platform's own rule. Time is an argument.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tidesight.errors import ConfigError
from tidesight.fleet.endpoints import Endpoint

if TYPE_CHECKING:
    from tidesight.platforms.platform import Queueing

_LEAST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
_Request = TypeVar("_Request")
TOLD = {
    "timeout": "no instance was free in time; retry later",
    "deadline": "the deadline passed before an instance was free; retry later",
    "full": "as many requests as may wait do so already; retry later",
    "memory": "too many bytes are waiting already; retry later",
    "none_ready": "no instance is ready; retry later",
    "too_large": "the body is larger than a request may be",
    "slow": "the request took too long to arrive",
    "lost": "the instance that had the request ended",
    "stopping": "the fleet is being stopped; retry later",
}
"""What callers are told, by the reason for which they are refused."""


@dataclass(frozen=True)
class HoldRules:
    """How long requests wait for an instance, and what becomes of those that may not.

    Attributes:
        limit_s: From when a request is there in full until an instance takes it; 0: at once or not at all.
        status: Of the answer to those that may not wait (any longer): 429 (Cloud Run), 500 (App Engine), 503 (GKE).
        concurrency: Requests that an instance gets at a time; None: as many as come.
        max_requests: Held at a time.
        max_bytes: Of all their bodies; of those that are with instances, too.
        retry_after_s: The `Retry-After` of answers that are 429 or 503; None sends none.

    Raises:
        ConfigError: a value outside its range.
    """

    limit_s: float = 10.0
    status: int = 429
    concurrency: int | None = None
    max_requests: int = 1000
    max_bytes: int = 256 * 1024 * 1024
    retry_after_s: float | None = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.limit_s < float("inf"):
            raise ConfigError(f"limit_s: expected at least 0, got {self.limit_s}", field="limit_s")
        if self.status not in (429, 500, 503):
            raise ConfigError(f"status: expected 429, 500 or 503, got {self.status}", field="status")
        for name in ("concurrency", "max_requests", "max_bytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}: expected at least 1, got {value}", field=name)

    @classmethod
    def of(cls, queueing: "Queueing", mean_start_up_s: float, concurrency: int | None = None) -> "HoldRules":
        """A platform's rules.

        Args:
            queueing: What the platform does with requests that no instance takes.
            mean_start_up_s: What an instance took to start, on average.
            concurrency: Requests that an instance gets at a time, where the platform holds the others.
        """
        rules = cls(status=queueing.status, retry_after_s=queueing.retry_after_s)
        if queueing.most == 0:
            return replace(rules, limit_s=0.0)
        limit_s = queueing.limit_s(mean_start_up_s)
        return replace(rules, limit_s=limit_s, max_requests=queueing.most, concurrency=concurrency)


class Level:
    """A count that goes up and down, and its integral over time."""

    def __init__(self, now_s: float) -> None:
        self.value = 0
        self._total = 0.0
        self._since_s = now_s

    def add(self, change: int, now_s: float) -> None:
        """Change it."""
        self._total = self.total(now_s)
        self._since_s = now_s
        self.value += change

    def total(self, now_s: float) -> float:
        """The sum of all times it was up: the difference of two, by the time between them, is its mean."""
        return self._total + self.value * (now_s - self._since_s)


@dataclass(frozen=True)
class ActivatorReport:
    """What the activator did until now; all but the counts of the present only grow.

    Attributes:
        at_s: When, on the event loop's clock.
        held: Requests that wait for an instance now, or still arrive.
        handed_on: Requests that are with instances now.
        held_bytes: Of bodies in memory.
        oldest_age_s: How long the one longest held has been; 0 when none is.
        arrivals: Requests that came.
        answered: Requests whose answer an instance gave.
        refused: Requests answered here, by reason: see `TOLD`.
        left: Requests whose callers left.
        retried: Connections that were refused, so that a request went elsewhere.
        held_s: Time that requests were held, of all together.
        handed_on_s: Time that they were with instances, likewise.
    """

    at_s: float
    held: int
    handed_on: int
    held_bytes: int
    oldest_age_s: float
    arrivals: int
    answered: int
    refused: dict[str, int]
    left: int
    retried: int
    held_s: float
    handed_on_s: float

    @classmethod
    def of(cls, counts: Counter[str], **present: Any) -> "ActivatorReport":
        """From a dispatcher's counts, and what is so at present."""
        refused = {name[8:]: count for name, count in counts.items() if name.startswith("refused ")}
        past = {name: counts[name] for name in ("answered", "left", "retried")}
        return cls(arrivals=counts["arrived"], refused=refused, **past, **present)

    def mean_held(self, since: "ActivatorReport") -> float:
        """Requests held, on average since an earlier report."""
        span_s = self.at_s - since.at_s
        return (self.held_s - since.held_s) / span_s if span_s > 0 else float(self.held)

    def mean_handed_on(self, since: "ActivatorReport") -> float:
        """Requests with instances by way of the activator, on average since an earlier report."""
        span_s = self.at_s - since.at_s
        return (self.handed_on_s - since.handed_on_s) / span_s if span_s > 0 else float(self.handed_on)


class Slot:
    """What one instance has from us.

    Attributes:
        endpoint: Where it is.
        active: Requests with it.
        resumes_s: Until when it is left alone, for it refused connections.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.active = 0
        self.resumes_s = 0.0
        self._pause_s = _LEAST_PAUSE_S

    def refused(self, now_s: float) -> None:
        """It refused a connection: leave it alone, for longer each time; of many at once only the first counts."""
        if now_s < self.resumes_s:
            return
        self.resumes_s = now_s + self._pause_s
        self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)

    def took(self) -> None:
        """It took a connection."""
        self.resumes_s, self._pause_s = 0.0, _LEAST_PAUSE_S


class Dispatcher(Generic[_Request]):
    """Requests in the order they came, and the instances they can go to.

    Args:
        rules: Present rules; may be replaced at any time.

    Attributes:
        counts: Of what happened, by name.
    """

    def __init__(self, rules: HoldRules) -> None:
        self.rules = rules
        self.counts: Counter[str] = Counter()
        self._slots: dict[Endpoint, Slot] = {}
        self._returned: dict[_Request, None] = {}  # a request that was refused a connection keeps its place
        self._waiting: dict[_Request, None] = {}

    def set_instances(self, endpoints: Iterable[Endpoint]) -> None:
        """Those that are ready; what the others have, they finish."""
        self._slots = {one: self._slots.get(one) or Slot(one) for one in sorted(set(endpoints))}

    @property
    def instances(self) -> tuple[Endpoint, ...]:
        """Those that are ready."""
        return tuple(self._slots)

    @property
    def waiting(self) -> int:
        """Requests that wait for an instance."""
        return len(self._returned) + len(self._waiting)

    def wait(self, request: _Request) -> None:
        """Put a request at the end."""
        self._waiting[request] = None

    def forget(self, request: _Request) -> None:
        """Take a request out that is not to be handed on."""
        self._returned.pop(request, None)
        self._waiting.pop(request, None)

    def take(self, now_s: float) -> tuple[_Request, Slot] | None:
        """The next request and the instance with the fewest, if one can take it; `release` must follow."""
        queue = self._returned or self._waiting
        if not queue:
            return None
        most = self.rules.concurrency
        free = [one for one in self._slots.values() if one.resumes_s <= now_s and (most is None or one.active < most)]
        if not free:
            return None
        slot = min(free, key=lambda one: one.active)
        request = next(iter(queue))
        del queue[request]
        slot.active += 1
        return request, slot

    def release(self, slot: Slot) -> None:
        """A request has left an instance."""
        slot.active -= 1

    def refused(self, request: _Request, slot: Slot, now_s: float) -> None:
        """An instance refused the connection for a request, which is therefore first again."""
        self.counts["retried"] += 1
        slot.refused(now_s)
        self.release(slot)
        self._returned[request] = None

    def resumes_s(self, now_s: float) -> float | None:
        """When the next instance that refused connections is to be tried again; None when there is none."""
        return min((one.resumes_s for one in self._slots.values() if one.resumes_s > now_s), default=None)
