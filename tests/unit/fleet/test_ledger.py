"""What a fleet's instances cost: their lives as the platforms' bills want them."""

from decimal import Decimal
from pathlib import Path

import pytest

from tidesight.fleet import ledger as ledgers
from tidesight.fleet.instances import Instance, State, Transition
from tidesight.fleet.ledger import Ledger
from tidesight.platforms.billing import Bill, InstanceUse, Line, Usage
from tidesight.platforms.registry import platform


class Noted:
    """A bill of 1 USD a second of instances; what it was asked for is kept."""

    def __init__(self) -> None:
        self.asked: list[Usage] = []

    def bill(self, usage: Usage) -> Bill:
        self.asked.append(usage)
        total_s = sum(one.ended_s - one.asked_s for one in usage.instances)
        return Bill((Line("all", Decimal(str(total_s)), "s", Decimal(1)),))


def instance(*history: tuple[State, float]) -> Instance:
    return Instance("i1", 0, Path("log"), False, [Transition(state, at_s, "") for state, at_s in history])


def test_a_life_is_billed_as_it_was() -> None:
    billing = Noted()
    ledger = Ledger(billing, "2026-11-22", now_s=100.0)
    one = instance((State.STARTING, 101.0), (State.READY, 104.0), (State.DRAINING, 110.0), (State.STOPPED, 111.0))
    ledger.opened(one, machine_delay_s=2.0)
    for start_s, end_s in ((105.0, 106.0), (106.0, 106.5), (108.0, 108.25), (109.0, 109.0)):
        ledger.busy(one, start_s, end_s)
    cost = ledger.cost(120.0, requests=5, good=4)
    use = billing.asked[-1].instances[0]
    assert (use.asked_s, use.placed_s, use.ready_s, use.stopped_s, use.ended_s) == (101, 103, 104, 110, 111)
    assert use.busy_s == ((105.0, 106.5), (108.0, 108.25))  # what touches is one stretch
    assert (billing.asked[-1].start_s, billing.asked[-1].end_s, billing.asked[-1].requests) == (100, 120, 5)
    assert (cost.usd, cost.usd_per_thousand) == (10.0, 2500.0)
    assert ledger.instance_s(120.0) == 10.0


@pytest.mark.parametrize(
    "history",
    [
        [(State.STARTING, 101.0)],
        [(State.STARTING, 101.0), (State.CRASHED, 102.0)],
        [(State.STARTING, 101.0), (State.DRAINING, 101.5), (State.STOPPED, 101.6)],
        [(State.STARTING, 101.0), (State.READY, 102.0), (State.CRASHED, 103.0)],
    ],
)
def test_every_kind_of_life_can_be_billed(history: list[tuple[State, float]]) -> None:
    for name in ("gke", "cloud-run", "app-engine", "app-engine-flexible"):
        ledger = Ledger(platform(name).billing, "today", now_s=100.0)
        ledger.opened(instance(*history), machine_delay_s=50.0)
        assert ledger.cost(105.0, 1, 1).usd > 0


def test_the_account_is_closed_and_nothing_is_lost_or_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "_CLOSE_AFTER_S", 3600.0)
    ledger = Ledger(Noted(), "today", now_s=0.0)
    lasting, early = instance((State.STARTING, 0.0)), instance((State.STARTING, 0.0), (State.CRASHED, 100.0))
    ledger.opened(lasting, 0.0)
    ledger.opened(early, 0.0)
    for now_s in range(100, 10_000, 100):
        cost = ledger.cost(float(now_s), now_s, now_s)
        assert cost.usd == pytest.approx(now_s + min(now_s, 100))
        assert ledger.instance_s(float(now_s)) == pytest.approx(now_s + min(now_s, 100))


def test_the_rate_is_that_of_the_last_minute() -> None:
    ledger = Ledger(Noted(), "today", now_s=0.0)
    one = instance((State.STARTING, 0.0))
    ledger.opened(one, 0.0)
    for now_s in range(0, 120):
        ledger.cost(float(now_s), 0, 0)
    assert ledger.cost(120.0, 0, 0).usd_per_hour == pytest.approx(3600)
    one.history.append(Transition(State.CRASHED, 120.0, ""))
    for now_s in range(121, 240):
        ledger.cost(float(now_s), 0, 0)
    assert ledger.cost(240.0, 0, 0).usd_per_hour == 0


def test_the_stages_of_each_life_are_kept() -> None:
    ledger = Ledger(Noted(), "today", now_s=0.0)
    one = instance((State.STARTING, 101.0), (State.READY, 104.0), (State.DRAINING, 110.0), (State.STOPPED, 111.0))
    one.spawned_s, one.how = 103.5, "fresh"
    ledger.opened(one, machine_delay_s=2.0)
    ledger.opened(instance((State.STARTING, 105.0), (State.STOPPED, 106.0)), machine_delay_s=60.0)
    ended, never_placed = (life.since(100.0) for life in ledger.lives())
    stages = {"asked_s": 1.0, "placed_s": 3.0, "spawned_s": 3.5, "ready_s": 4.0, "ended_s": 11.0}
    assert ended == {"id": "i1", **stages, "how": "fresh"}
    nothing = {"placed_s": None, "spawned_s": None, "ready_s": None}
    assert never_placed == {"id": "i1", "asked_s": 5.0, **nothing, "ended_s": 6.0, "how": ""}


@pytest.mark.parametrize("name", ["gke", "cloud-run", "app-engine", "app-engine-flexible"])
def test_what_reaches_beyond_the_end_of_an_account_counts_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "_CLOSE_AFTER_S", 3600.0)
    billing = platform(name).billing
    closed = Ledger(billing, "today", 0.0)
    one = instance((State.STARTING, 0.0), (State.READY, 2.0))
    closed.opened(one, 0.0)
    busy = []
    for now_s in range(10, 7900, 10):
        if now_s % 1000 < 300:
            busy.append((float(now_s), now_s + 5.0))
            closed.busy(one, *busy[-1])
        shown = closed.cost(now_s + 9.0, 100, 100).usd
    use = InstanceUse(0.0, 7899.0, 2.0, None, 0.0, tuple(busy))
    whole = float(billing.bill(Usage(0.0, 7899.0, (use,), 100)).usd)
    assert 0.9 * whole <= shown <= 1.002 * whole
