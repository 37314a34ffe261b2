"""Keeps as many instances as are wanted: starts, retires and replaces them, and lets a scaling rule set the count.

    tick:       observe -> decide -> resize             `autoscaling.control.tick`, whenever the platform's rule says
    reconcile:  wanted and actual -> start or retire     after each resize, each crash, each end, each second

Whoever leaves gets no more requests before it is told to end: see `routing.py`.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass, field
from typing import Any

from tidesight.autoscaling import observation
from tidesight.autoscaling.control import tick
from tidesight.autoscaling.observation import Observation
from tidesight.autoscaling.policy import Decision
from tidesight.errors import ConfigError, Unavailable
from tidesight.fleet.crashes import BackOff
from tidesight.fleet.endpoints import Endpoint
from tidesight.fleet.instances import Instance, State
from tidesight.fleet.observing import seen
from tidesight.fleet.parts import Parts, ScalingPlan

log = logging.getLogger(__name__)
_HUNG_AFTER = 10  # looks in a row without an answer


@dataclass(eq=False)
class Controller:
    """Of one fleet, on its event loop.

    Attributes:
        plan: By what rule.
        parts: What it acts on.
        when_decided: Called with each decision and the observation it was made on.
        wanted: Instances wanted.
        pinned: A count that was set by hand and overrules the rule; None where none is.
        back_off: Which places wait after crashes.
        starts_s: What the latest starts took, from the decision to readiness.
    """

    plan: ScalingPlan
    parts: Parts
    when_decided: Callable[[Observation, Decision], None]
    wanted: int = 0
    pinned: int | None = None
    back_off: BackOff = field(default_factory=BackOff)
    starts_s: list[float] = field(default_factory=list)
    _leaving: set[Instance] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _on_demand: bool = False
    _extra: int = 0
    _closing: bool = False

    def __post_init__(self) -> None:
        self._draw = random.Random(self.plan.seed).random  # noqa: S311 - delays, no secrets
        self._report = self.parts.activator.report()

    # The two methods of `control.Scalable`.

    def observe(self) -> Observation:
        """The fleet now; figures are means since the last observation."""
        now_s, report = time.monotonic(), self.parts.activator.report()
        # On demand there is no time to have a mean over: the request that asks for an instance has only come.
        buffered = float(report.held) if self._on_demand else report.mean_held(self._report)
        self._report = report
        return Observation(
            now_s=now_s,
            replicas=self.wanted,
            instances=tuple(self._seen(one) for one in self.parts.launcher.instances),
            queued=float(report.held),
            queue_wait_s=report.oldest_age_s,
            buffered=buffered,
            activator_since_s=self.parts.routing.activator_since_s,
            at_once=self._on_demand,
        )

    def resize(self, replicas: int) -> None:
        """Want this many from now on."""
        log.info("%d instances wanted, %d before", replicas, self.wanted)
        self.wanted = replicas
        self.reconcile()

    # What happens.

    def tick(self, on_demand: bool = False) -> None:
        """Decide once; nothing while a count is set by hand.

        Args:
            on_demand: A request has just found no instance.
        """
        if self.pinned is not None or self._closing:
            return
        self._on_demand = on_demand
        observed: list[Observation] = []
        decision = tick(_Recording(self, observed), self.plan.autoscaler)
        if self.plan.platform.queueing.where == "activator" and decision.valid:
            by_activator = decision.activator is not False
            if by_activator != self.parts.routing.by_activator:
                self.parts.routing.by_activator = by_activator
                self._publish()
        self.when_decided(observed[0], decision)

    def pin(self, count: int | None) -> None:
        """Set the count by hand, or hand it back to the rule with None.

        Raises:
            ConfigError: it is out of bounds.
        """
        most = self.plan.bounds.most
        if count is not None and (count < 0 or (most is not None and count > most)):
            expected = "at least 0" if most is None else f"0 to {most} (--max)"
            raise ConfigError(f"scale: expected {expected}, got {count}", field="count")
        self.pinned = count
        if count is not None:
            self.back_off.forget()
            self.resize(count)
            return
        self.observe()  # what was measured until now is no evidence of what the rule would have had
        if self.wanted < self.plan.bounds.least:
            self.resize(self.plan.bounds.least)

    async def replace_all(self) -> int:
        """Replace every instance, one after another, each only once another one is ready; how many it were.

        Raises:
            Unavailable: a new one cannot be had; those that are left stay as they are.
        """
        replaced = 0
        for old in self.staying():
            if old not in self.staying():  # it went meanwhile: whoever came in its place is new
                continue
            await self._one_more()
            self._leaving.add(old)
            await self._see_off(old, "it is replaced")
            replaced += 1
        return replaced

    async def _one_more(self) -> None:
        """Have one instance more than is wanted, until whoever asked takes one away.

        Raises:
            Unavailable: there is no place for it, or it does not become ready.
        """
        known, self._extra = set(self.staying()), 1
        try:
            self.reconcile()
            new = next((one for one in self.staying() if one not in known), None)
            if new is None:
                waiting = self.back_off.waiting(time.monotonic()).values()
                why = next((one.why for one in waiting), "the fleet is being stopped")
                raise Unavailable(f"no new instance can be started now: {why}")
            if await new.until(State.READY) is not State.READY:
                raise Unavailable(f"{new.id} did not become ready: {new.reason}")
            await self.parts.routing.publish(self.ready)
        finally:
            self._extra = 0

    def changed(self, instance: Instance) -> None:
        """An instance entered a state; the launcher's `on_change`."""
        if instance.state is State.READY and instance.start_s is not None:
            self.starts_s = [*self.starts_s[-9:], instance.start_s]
            self._publish()
        elif instance.state is State.CRASHED:
            ran_s = instance.history[-1].at_s - instance.history[0].at_s
            crashes = self.back_off.crashed(instance.slot, time.monotonic(), ran_s, instance.reason)
            self._publish()
            self._later(crashes.retry_s - time.monotonic())
        elif instance.state is State.STOPPED:
            self.back_off.ended(instance.slot, instance.history[-1].at_s - instance.history[0].at_s)
            self.reconcile()

    def look_after(self) -> None:
        """Retire an instance that hangs, one at a time: if none answers it may be us who are slow."""
        for instance, meter in self.parts.scraper.meters.items():
            if meter.missed >= _HUNG_AFTER and instance.state is State.READY and instance not in self._leaving:
                log.warning("%s has not answered %d times in a row; it is replaced", instance.id, meter.missed)
                self._retire(instance, "it hangs")
                break
        self.reconcile()

    def ready(self) -> frozenset[Endpoint]:
        """Where instances take requests."""
        here = (one for one in self.parts.launcher.instances if one.state is State.READY and one not in self._leaving)
        return frozenset(Endpoint(*one.address) for one in here if one.address is not None)

    def staying(self) -> list[Instance]:
        """Instances that start or serve and are not about to leave."""
        alive = (State.STARTING, State.READY)
        return [one for one in self.parts.launcher.instances if one.state in alive and one not in self._leaving]

    def is_leaving(self, instance: Instance) -> bool:
        """Whether it gets no more requests, although it may not have been told to end yet."""
        return instance in self._leaving

    @property
    def mean_start_s(self) -> float | None:
        """What a start takes; None before the first."""
        return sum(self.starts_s) / len(self.starts_s) if self.starts_s else None

    def reconcile(self) -> None:
        """Start or retire until as many are there as are wanted; of the places that are missing some may wait."""
        if self._closing:
            return
        staying, wanted = self.staying(), self.wanted + self._extra
        # The lowest places are filled first; those that wait beyond what is wanted hold up nobody.
        free = sorted(set(range(wanted + len(self.parts.launcher.instances))) - {one.slot for one in staying})
        missing = free[: max(0, wanted - len(staying))]
        waiting = self.back_off.waiting(time.monotonic())
        for _ in [slot for slot in missing if slot not in waiting]:
            self._start(avoid=waiting.keys())
        surplus = len(staying) - wanted
        for instance in sorted(staying, key=self._cheapest_first)[: max(0, surplus)]:
            self._retire(instance, "fewer are wanted")

    async def close(self) -> None:
        """Start and retire nothing more; the launcher ends what is left."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, avoid: Collection[int]) -> None:
        machine_s, instance_s = 0.0, 0.0
        if self.plan.delays:
            machine_s, instance_s = self.plan.platform.start_up.delays_s(len(self.staying()), self._draw)
        instance = self.parts.launcher.start(machine_s + instance_s, avoid)
        self.parts.ledger.opened(instance, machine_s)

    def _retire(self, instance: Instance, reason: str) -> None:
        self._leaving.add(instance)
        self._spawn(self._see_off(instance, reason))

    async def _see_off(self, instance: Instance, reason: str) -> None:
        try:
            if instance.state is State.READY:
                await self.parts.routing.publish(self.ready)
                await asyncio.sleep(self.plan.platform.drain.lame_duck_s)
            await self.parts.launcher.stop(instance, reason)
        finally:  # where that failed it stays, and is retired again
            self._leaving.discard(instance)

    def _cheapest_first(self, instance: Instance) -> tuple[bool, float, float]:
        """Not ready before ready, as Kubernetes does; then whoever has the fewest requests; then the youngest."""
        meter = self.parts.scraper.meters.get(instance)
        figures = meter.latest.figures if meter is not None and meter.latest is not None else None
        inside = figures.in_flight if figures is not None else 0.0
        return instance.state is State.READY, inside, -instance.history[0].at_s

    def _seen(self, one: Instance) -> observation.Instance:
        meter, gets = self.parts.scraper.meters.get(one), self.parts.launcher.plan.instance_class
        return seen(one, meter, gets, one in self._leaving)

    def _publish(self) -> None:
        self._spawn(self.parts.routing.publish(self.ready))

    def _later(self, pause_s: float) -> None:
        async def after() -> None:
            await asyncio.sleep(max(0.0, pause_s) + 0.001)
            self.reconcile()

        self._spawn(after())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("the controller failed in a step", exc_info=task.exception())


@dataclass(frozen=True)
class _Recording:
    """A fleet that remembers what was seen."""

    controller: Controller
    observed: list[Observation]

    def observe(self) -> Observation:
        self.observed.append(self.controller.observe())
        return self.observed[-1]

    def resize(self, replicas: int) -> None:
        self.controller.resize(replicas)
