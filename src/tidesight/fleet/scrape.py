"""What instances do, once a second: figures of their /metrics, and what the kernel says of their processes."""

import asyncio
import re
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from tidesight.fleet.endpoints import Endpoint
from tidesight.fleet.exchange import exchange
from tidesight.fleet.instances import Instance, State
from tidesight.telemetry import BUSY_TIME, IN_FLIGHT, QUEUE_LENGTH, REQUEST_TIME, REQUESTS

_LIMIT_S = 1.0
_FIGURE = re.compile(
    rb"^(%s)(?:\{status=\"(\d+)\"\})? (\S+)$"
    % "|".join(one.name for one in (IN_FLIGHT, QUEUE_LENGTH, REQUEST_TIME, BUSY_TIME, REQUESTS)).encode(),
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What an instance says of itself. The last three only grow.

    Attributes:
        in_flight: Requests inside.
        queued: Of these, those that wait for a worker.
        answered: Requests answered with 200.
        request_s: Time that requests were inside, of all together.
        busy_s: Time with at least one inside.
    """

    in_flight: float
    queued: float
    answered: int
    request_s: float
    busy_s: float


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at an instance; what could not be read is None.

    Attributes:
        at_s: `time.monotonic`.
        figures: Of its /metrics.
        cpu_s: CPU seconds since its start.
        memory_bytes: Its working set.
    """

    at_s: float
    figures: Figures | None = None
    cpu_s: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Rates:
    """Means over the time between two readings; None where a reading was missing.

    Attributes:
        window_s: That time.
        concurrency: Requests inside.
        answered_per_s: Requests answered with 200.
        cpu: CPUs in use.
        busy_s: Of that time, with a request inside.
    """

    window_s: float
    concurrency: float | None = None
    answered_per_s: float | None = None
    cpu: float | None = None
    busy_s: float | None = None


def rates(before: Reading | None, after: Reading | None) -> Rates | None:
    """The means between two readings of one instance; None without two of different times."""
    if before is None or after is None or after.at_s <= before.at_s:
        return None
    span_s = after.at_s - before.at_s
    cpu = None if before.cpu_s is None or after.cpu_s is None else max(0.0, after.cpu_s - before.cpu_s) / span_s
    if before.figures is None or after.figures is None:
        return Rates(span_s, cpu=cpu)
    old, new = before.figures, after.figures
    return Rates(
        span_s,
        max(0.0, new.request_s - old.request_s) / span_s,
        max(0, new.answered - old.answered) / span_s,
        cpu,
        min(max(0.0, new.busy_s - old.busy_s), span_s),
    )


@dataclass(eq=False)
class Meter:
    """The readings of one instance.

    Attributes:
        readings: The latest two.
        observed: The reading that the last observation ended with.
        rates: Of the last observation, for one that comes before there is a newer reading.
        missed: Looks in a row that got no answer.
    """

    readings: deque[Reading] = field(default_factory=lambda: deque(maxlen=2))
    observed: Reading | None = None
    rates: Rates | None = None
    missed: int = 0

    @property
    def latest(self) -> Reading | None:
        """The newest reading."""
        return self.readings[-1] if self.readings else None

    def last_second(self) -> Rates | None:
        """The means between the latest two readings."""
        return rates(self.readings[0], self.readings[1]) if len(self.readings) == 2 else None

    def since_observed(self) -> Rates | None:
        """The means since the last call of this; the same again when nothing was read since."""
        found = rates(self.observed, self.latest)
        if self.latest is not None:
            self.observed = self.latest
        self.rates = found or self.rates
        return self.rates


class Scraper:
    """Reads all instances of a fleet.

    Args:
        key: API key that they accept; None where they want none.

    Attributes:
        meters: By instance, for those that have not ended.
    """

    def __init__(self, key: str | None = None) -> None:
        self.meters: dict[Instance, Meter] = {}
        self._key = key

    async def scrape(self, instances: Iterable[Instance]) -> None:
        """Read each of these once, all at a time; whoever is not among them is forgotten."""
        self.meters = {one: self.meters.get(one) or Meter() for one in instances}
        await asyncio.gather(*(self._read(one, meter) for one, meter in list(self.meters.items())))

    async def _read(self, instance: Instance, meter: Meter) -> None:
        figures = None
        if instance.address is not None and instance.state in (State.READY, State.DRAINING):
            try:
                figures = await figures_of(Endpoint(*instance.address), self._key)
                meter.missed = 0
            except OSError:  # TimeoutError is one
                meter.missed += 1
        usage = instance.usage()
        now_s = time.monotonic()
        if usage is None:
            meter.readings.append(Reading(now_s, figures))
        else:
            meter.readings.append(Reading(now_s, figures, usage.cpu_s, usage.working_set_bytes))


async def figures_of(where: Endpoint, key: str | None = None) -> Figures | None:
    """What an instance's /metrics says; None when it answers, but not with that.

    Raises:
        OSError: it does not answer in time.
    """
    async with asyncio.timeout(_LIMIT_S):
        status, text = await exchange(where, "/metrics", key=key)
    return parse(text) if status == 200 else None


def parse(text: bytes) -> Figures:
    """The figures of an instance in Prometheus' text; what is not there is 0."""
    values: dict[str, float] = {}
    for name, status, value in _FIGURE.findall(text):
        if status in (b"", b"200"):
            values[name.decode()] = float(value)
    return Figures(
        in_flight=values.get(IN_FLIGHT.name, 0.0),
        queued=values.get(QUEUE_LENGTH.name, 0.0),
        answered=int(values.get(REQUESTS.name, 0)),
        request_s=values.get(REQUEST_TIME.name, 0.0),
        busy_s=values.get(BUSY_TIME.name, 0.0),
    )
