"""What the fleet's instances were used for, and what the platform would charge for that."""

from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal
from time import perf_counter
from typing import Protocol

from tidesight.fleet.instances import ENDED, Instance, State
from tidesight.fleet.snapshot import CostView
from tidesight.platforms.billing import Bill, InstanceUse, Usage

_CLOSE_AFTER_S = 86_400.0  # what is older is a sum: a bill is made of every stretch with a request inside
_RATE_S = 60.0
_BILL_EVERY_S = 5.0
_LEAST_PAUSES = 200.0  # so many times what a bill takes: half a per cent of a CPU
_LIVES = 10_000


class Charged(Protocol):
    """What of a platform a ledger needs."""

    def bill(self, usage: Usage) -> Bill:
        """The cost of a usage."""
        ...


@dataclass(frozen=True, slots=True)
class Life:
    """When an instance reached each stage of its life; None where it did not. Times are `time.monotonic`.

    Attributes:
        id: Of the instance.
        asked_s: It was decided on.
        placed_s: There was a machine for it.
        spawned_s: Its process was started: before that is what the platform takes to place it, declared, not measured.
        ready_s: It answered that it was ready.
        ended_s: Its process ended.
        how: "forked" or "fresh".
    """

    id: str
    asked_s: float
    placed_s: float | None
    spawned_s: float | None
    ready_s: float | None
    ended_s: float | None
    how: str

    def since(self, zero_s: float) -> dict[str, object]:
        """As plain values, in seconds since then."""

        def after(at_s: float | None) -> float | None:
            return None if at_s is None else round(at_s - zero_s, 3)

        stages = {name: after(getattr(self, name)) for name in _STAGES}
        return {"id": self.id, **stages, "how": self.how}


_STAGES = ("asked_s", "placed_s", "spawned_s", "ready_s", "ended_s")


def _life(instance: Instance, placed_s: float) -> Life:
    def entered(*states: State) -> float | None:
        return next((one.at_s for one in instance.history if one.state in states), None)

    asked_s, spawned_s, ended_s = instance.history[0].at_s, instance.spawned_s, entered(*ENDED)
    placed = placed_s if spawned_s is not None or ended_s is None or placed_s <= ended_s else None
    return Life(instance.id, asked_s, placed, spawned_s, entered(State.READY), ended_s, instance.how)


@dataclass(eq=False)
class _Entry:
    placed_s: float
    busy_s: list[tuple[float, float]] = field(default_factory=list)


class Ledger:
    """Adds up what instances cost. Times are `time.monotonic`.

    Once a day the account is closed and a new one begun, so that a bill need not be made of all that ever was. What a
    platform charges beyond the last request of an idle instance (App Engine: 15 minutes) can be missed then, once.

    Args:
        billing: Of the platform.
        prices_of: Date of the price list.
        now_s: When the fleet starts.
    """

    def __init__(self, billing: Charged, prices_of: str, now_s: float) -> None:
        self._billing = billing
        self._prices_of = prices_of
        self._since_s = now_s
        self._entries: dict[Instance, _Entry] = {}
        self._closed_usd = Decimal(0)
        self._requests_before = 0
        self._instance_s = 0.0
        self._usd = Decimal(0)
        self._next_bill_s = now_s
        self._marks: list[tuple[float, Decimal]] = [(now_s, Decimal(0))]
        self._lives: deque[tuple[Instance, float]] = deque(maxlen=_LIVES)

    def opened(self, instance: Instance, machine_delay_s: float) -> None:
        """An instance was decided on; there is a machine for it after so many seconds."""
        entry = self._entries[instance] = _Entry(instance.history[0].at_s + machine_delay_s)
        self._lives.append((instance, entry.placed_s))

    def busy(self, instance: Instance, start_s: float, end_s: float) -> None:
        """Requests were inside from then to then."""
        entry = self._entries.get(instance)
        if entry is None or end_s <= start_s:
            return
        if entry.busy_s and entry.busy_s[-1][1] >= start_s:
            start_s = entry.busy_s.pop()[0]
        entry.busy_s.append((start_s, end_s))

    def instance_s(self, now_s: float) -> float:
        """Seconds of all instances together, from asked for to ended."""
        return self._instance_s + sum(
            use.ended_s - use.asked_s for use in (self._use(one, now_s) for one in self._entries)
        )

    def lives(self) -> list[Life]:
        """Of each instance, the oldest first; of very many the latest."""
        return [_life(instance, placed_s) for instance, placed_s in self._lives]

    def cost(self, now_s: float, requests: int, good: int) -> CostView:
        """What it has come to.

        Args:
            now_s: Now.
            requests: That reached an instance, since the fleet started.
            good: Of these, those answered 2xx.
        """
        if now_s >= self._next_bill_s:  # each is made of every stretch with a request inside
            started_s = perf_counter()
            self._usd = self._closed_usd + self._bill(now_s, requests)
            self._next_bill_s = now_s + max(_BILL_EVERY_S, _LEAST_PAUSES * (perf_counter() - started_s))
            if now_s - self._since_s >= _CLOSE_AFTER_S:
                self._close(now_s, requests, self._usd)
        usd = self._usd
        self._marks = [mark for mark in self._marks if mark[0] >= now_s - _RATE_S] or self._marks[-1:]
        since_s, before = self._marks[0]
        self._marks.append((now_s, usd))
        hourly = (usd - before) * 3600 / Decimal(now_s - since_s) if now_s > since_s else Decimal(0)
        per_thousand = float(usd * 1000 / good) if good else None
        return CostView(float(usd), float(hourly), per_thousand, self._prices_of)

    def _bill(self, now_s: float, requests: int) -> Decimal:
        uses = tuple(self._use(one, now_s) for one in self._entries)
        usage = Usage(self._since_s, max(self._since_s, now_s), uses, max(0, requests - self._requests_before))
        return self._billing.bill(usage).usd

    def _use(self, instance: Instance, now_s: float) -> InstanceUse:
        entry = self._entries[instance]
        times = {state: at_s for at_s, state in ((one.at_s, one.state) for one in reversed(instance.history))}
        asked_s = max(instance.history[0].at_s, self._since_s)
        last = instance.history[-1]
        ended_s = max(last.at_s if last.state in ENDED else now_s, asked_s)

        def within(at_s: float | None) -> float | None:
            return None if at_s is None else min(max(at_s, asked_s), ended_s)

        ready_s = within(times.get(State.READY))
        stopped_s = within(times.get(State.DRAINING))
        placed_s = min(max(entry.placed_s, asked_s), ready_s if ready_s is not None else ended_s, stopped_s or ended_s)
        if ready_s is not None and stopped_s is not None:
            stopped_s = max(ready_s, stopped_s)
        busy = tuple((max(start, asked_s), min(end, ended_s)) for start, end in entry.busy_s if start < ended_s)
        return InstanceUse(
            asked_s, ended_s, ready_s, stopped_s, placed_s, tuple((start, end) for start, end in busy if start <= end)
        )

    def _close(self, now_s: float, requests: int, usd: Decimal) -> None:
        self._instance_s = self.instance_s(now_s)
        self._closed_usd, self._requests_before, self._since_s = usd, requests, now_s
        self._entries = {one: _Entry(entry.placed_s) for one, entry in self._entries.items() if one.state not in ENDED}
        self._closed_usd -= self._bill(now_s, requests)  # what the new account would charge a second time
