"""A fleet that goes by a script: what its page, its terminal view and their tests look at."""

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from tidesight.errors import ConfigError
from tidesight.fleet.snapshot import BackOffView, CostView, DecisionView, FrontView, InstanceView, Snapshot

LEAST, MOST = 1, 8
MIB = 1024 * 1024


def instance(slot: int, state: str = "ready", **told: object) -> InstanceView:
    """An instance in a place, with plausible figures while it is ready."""
    one = InstanceView(f"i-{slot}", slot, state, reason="answers /readyz", since_s=12.5, how="forked", pid=4000 + slot)
    if state == "ready":
        busy = {"in_flight": 1.4, "queued": 0.2, "cpu": 0.91, "memory_bytes": 310 * MIB, "answered_per_s": 23.5}
        one = replace(one, start_s=0.118, url=f"http://127.0.0.1:{9000 + slot}", **busy)  # type: ignore[arg-type]
    return replace(one, **told)  # type: ignore[arg-type]


def decision(at_s: float, current: int, desired: int, reason: str = "cpu 84 % of 60 %") -> DecisionView:
    """A valid one."""
    return DecisionView(at_s, current, desired, reason, True, "4 ready, proposal 6, clamp ScaleUpLimit 6 -> 5")


def snapshot(at_s: float = 0.0, **told: object) -> Snapshot:
    """A fleet of one ready instance, unless told otherwise."""
    front = FrontView(
        "instances", 24.0, {"2xx": 23.5, "4xx": 0.5}, {"2xx": 4000, "4xx": 12, "5xx": 0}, 21.0, 38.0, 61.0
    )
    plain = Snapshot(
        at_s=at_s,
        url="http://127.0.0.1:8080",
        platform="cloud-run",
        policy="kpa",
        instance_class="1 CPU, 512 MiB",
        enforced="enforced by control groups (v1)",
        wanted=1,
        least=LEAST,
        most=MOST,
        pinned=None,
        instances=(instance(1),),
        front=front,
        cost=CostView(0.00213, 0.2105, 0.00053, "2026-11-01"),
    )
    return replace(plain, **told)  # type: ignore[arg-type]


def tide(at_s: float) -> Snapshot:
    """A fleet under a load that comes and goes within two minutes, with an instance that does not start."""
    load = 0.5 - 0.5 * math.cos(2 * math.pi * at_s / 120)
    wanted = 1 + round(4 * load)
    ripple = 1 + 0.08 * math.sin(at_s * 1.7)
    instances = [instance(slot, "ready", since_s=at_s, cpu=0.35 + 0.6 * load * ripple) for slot in range(1, wanted + 1)]
    if 20 < at_s % 120 < 40:
        instances[-1] = instance(wanted, "starting", reason="the model is loading", since_s=at_s % 20, start_s=None)
    if 70 < at_s % 120 < 100:
        instances.append(instance(wanted + 1, "draining", reason="lame duck: 1 request inside", since_s=at_s % 30))
    if at_s % 120 > 45:
        crash = "killed by signal 9: more memory than its class has (512 MiB)"
        instances.append(instance(7, "crashed", reason=crash, since_s=at_s % 120 - 45, how="fresh", pid=None))
    offered = 110 * load * ripple + 4
    bad = max(0.0, offered - 100)
    rates = {"2xx": offered - bad - 0.4, "4xx": bad + 0.4, "5xx": 1.5 if 44 < at_s % 120 < 48 else 0.0}
    quiet = load < 0.005
    front = FrontView(
        path="activator" if load < 0.2 else "instances",
        offered_per_s=offered,
        answered_per_s=rates,
        answered={"2xx": int(55 * at_s), "4xx": int(at_s), "5xx": int(at_s / 20)},
        p50_ms=None if quiet else 18 + 22 * load * ripple,
        p95_ms=None if quiet else 31 + 70 * load * ripple,
        p99_ms=None if quiet else 48 + 190 * load**3 * ripple,
        active=round(9 * load),
        held=round(6 * (1 - load) ** 8),
        held_oldest_s=0.3,
        retries=3,
        restarts=1 if at_s > 300 else 0,
    )
    decisions = [one for one in _tidal_decisions(at_s) if one.at_s <= at_s]
    waits = BackOffView(7, 3, 8 - at_s % 8, "killed by signal 9: more memory than its class has (512 MiB)")
    return snapshot(
        at_s,
        wanted=wanted,
        instances=tuple(instances),
        front=front,
        decisions=tuple(decisions[::-1][:20]),
        back_offs=(waits,) if at_s % 120 > 45 else (),
        cost=CostView(0.2105 * at_s / 3600, 0.2105 * wanted, 0.00053, "2026-11-01"),
    )


def _tidal_decisions(at_s: float) -> list[DecisionView]:
    made, before = [], 1
    for second in range(int(at_s) + 1):
        wanted = 1 + round(4 * (0.5 - 0.5 * math.cos(2 * math.pi * second / 120)))
        if wanted != before:
            reason = "ScaleUp: concurrency above its target" if wanted > before else "ScaleDown: stable window 60 s"
            detail = f"average {wanted * 0.68:.1f} in flight, target 0.7 each, proposal {wanted}; no clamp"
            made.append(DecisionView(float(second), before, wanted, reason, True, detail))
        before = wanted
    return made


class ScriptedFleet:
    """A fleet's view whose snapshots a test gives.

    Attributes:
        scaled: What was asked for by `scale`.
        failure: What `replace_all` raises.
        waiting: How many wait for a change.
    """

    def __init__(self, first: Snapshot | None = None, earlier: Sequence[Snapshot] = ()) -> None:
        self._latest = first or snapshot()
        self._earlier = deque(earlier, maxlen=600)
        self._changed = asyncio.Event()
        self.scaled: list[int | None] = []
        self.failure: Exception | None = None
        self.waiting = 0

    def show(self, newer: Snapshot) -> None:
        """Let there be a newer snapshot."""
        if not self._earlier or self._latest.at_s >= self._earlier[-1].at_s + 1:
            self._earlier.append(self._latest)
        self._latest = newer
        self._changed.set()
        self._changed = asyncio.Event()

    def snapshot(self) -> Snapshot:
        """The latest."""
        return self._latest

    def history(self) -> Sequence[Snapshot]:
        """Earlier ones."""
        return tuple(self._earlier)

    async def changed(self) -> None:
        """Wait for a newer one."""
        self.waiting += 1
        try:
            await self._changed.wait()
        finally:
            self.waiting -= 1

    async def replace_all(self) -> int:
        """All two of them, unless a test has put a failure there."""
        if self.failure is not None:
            raise self.failure
        return 2

    def scale(self, count: int | None) -> None:
        """Pin the count."""
        if count is not None and not LEAST <= count <= MOST:
            raise ConfigError(f"count: expected {LEAST} to {MOST}, got {count}", field="count")
        self.scaled.append(count)
        self.show(replace(self._latest, at_s=self._latest.at_s + 0.001, pinned=count, wanted=count or 1))
