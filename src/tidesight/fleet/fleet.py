"""A fleet on one machine: instances behind Envoy and an activator, their count set by a platform's own rule.

    fleet = Fleet(plan)
    await fleet.open()      # Envoy listens; instances start
    await fleet.run()       # until cancelled
    await fleet.close()     # drained

`controller.py` decides, this file opens, looks once a second, ticks and closes.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from tidesight.autoscaling.observation import Observation
from tidesight.autoscaling.policy import Decision
from tidesight.errors import ConfigError, TidesightError
from tidesight.fleet.activator import Activator
from tidesight.fleet.controller import Controller
from tidesight.fleet.envoy import Envoy
from tidesight.fleet.holding import HoldRules
from tidesight.fleet.instances import Instance
from tidesight.fleet.launcher import Launcher
from tidesight.fleet.ledger import Ledger
from tidesight.fleet.parts import FleetPlan, Parts
from tidesight.fleet.recording import Recording
from tidesight.fleet.routing import Routing
from tidesight.fleet.scrape import Scraper
from tidesight.fleet.snapshot import Snapshot
from tidesight.fleet.state import FleetFolder
from tidesight.fleet.traffic import Traffic
from tidesight.fleet.viewing import viewed

log = logging.getLogger(__name__)
_SAMPLE_S = 1.0
_LEAST_TICK_S = 0.05  # between two ticks, however many requests ask for an instance
_HISTORY = 600
_ENDED_SHOWN_S = 60.0
_GUESSED_START_S = 1.0
_ACCESS_LOG_BYTES = 64 * 1024 * 1024


class Fleet:
    """One fleet; belongs to one event loop.

    Args:
        plan: All of it.
        folder: Which it holds.
        when_sampled: Called once a second.

    Attributes:
        plan: All of it.
        launcher: Starts and stops instances.
        envoy: The load balancer.
        activator: Holds requests.
        controller: Decides.
        latest: What the fleet looked like at the last look.
        earlier: What it looked like before, the oldest first.
        recording: Where samples and decisions go; None records nothing.
    """

    launcher: Launcher
    envoy: Envoy
    activator: Activator
    controller: Controller
    latest: Snapshot

    def __init__(
        self,
        plan: FleetPlan,
        folder: FleetFolder,
        when_sampled: Callable[[Snapshot], None] | None = None,
    ) -> None:
        self.plan = plan
        self.earlier: deque[Snapshot] = deque(maxlen=_HISTORY)
        self._folder = folder
        self.recording: Recording | None = None
        self._when_sampled = when_sampled
        self._started_s = time.monotonic()
        self._replacing = False
        self._demand = asyncio.Event()
        self._sampled = asyncio.Event()
        self._ended: deque[Instance] = deque(maxlen=8)
        self._decisions: deque[tuple[float, Observation, Decision]] = deque(maxlen=50)

    async def open(self) -> None:
        """Start all; requests are taken, and held, from the end of this on.

        Raises:
            ConfigError: it cannot listen there.
            Unavailable: Envoy does not start.
            MissingExtra: Envoy is not installed.
        """
        plan = self.plan
        self.launcher = Launcher(plan.launch, self._changed)
        await self.launcher.open()
        self.activator = Activator(self._hold_rules(None), plan.front.max_body_bytes, self._demand.set)
        try:
            self.envoy = Envoy(plan.front, self._folder.path / "envoy", await self.activator.start())
            address = await self.envoy.start()
        except BaseException:
            await self.activator.stop(0)
            await self.launcher.close()
            raise
        self.url = f"http://{address}"
        routing = Routing(self.envoy, self.activator)
        platform = plan.scaling.platform
        routing.by_activator = platform.queueing.where == "activator"
        prices = max((one.source.as_of for one in platform.prices.numbers), default="")
        ledger = Ledger(platform.billing, prices, self._started_s)
        parts = Parts(self.launcher, self.activator, routing, Scraper(plan.api_key), ledger)
        self.controller = Controller(plan.scaling, parts, self._decided, pinned=plan.pinned)
        self.controller.resize(plan.wanted)
        self._traffic = Traffic()
        await self._look()

    async def run(self) -> None:
        """Look and tick until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sampling())
            tasks.create_task(self._ticking())

    async def close(self, drain_s: float = 5.0) -> None:
        """Take no more requests, finish those that came, end all instances.

        Args:
            drain_s: For requests that came.
        """
        await self.controller.close()
        try:
            await self.envoy.drain(drain_s)
            with suppress(TidesightError, OSError):  # it has ended, or the disk is full: the rest matters more
                await self._look()
            await self.envoy.stop(0)
            await self.activator.stop(drain_s=1.0)
        finally:
            await self.launcher.close()
            if self.recording:
                self.recording.finish(self.latest, self.controller.parts.ledger, self._started_s)

    # What the page, the terminal and the commands see and do.

    def snapshot(self) -> Snapshot:
        """What it looked like at the last look."""
        return self.latest

    def history(self) -> Sequence[Snapshot]:
        """What it looked like before, the oldest first; at most ten minutes."""
        return tuple(self.earlier)

    async def changed(self) -> None:
        """Return when there is a newer snapshot."""
        sampled = self._sampled
        await sampled.wait()

    @property
    def age_s(self) -> float:
        """Since it started."""
        return time.monotonic() - self._started_s

    def scale(self, count: int | None) -> None:
        """Set the count by hand, or hand it back with None.

        Raises:
            ConfigError: it is out of bounds.
        """
        self.controller.pin(count)
        self._folder.note(self.controller.wanted, self.controller.pinned)

    async def replace_all(self) -> int:
        """Replace every instance, one after another, each once another one is ready; how many it were.

        Raises:
            ConfigError: that is under way already.
            Unavailable: a new one does not become ready; the others stay as they are.
        """
        if self._replacing:
            raise ConfigError("the instances are being replaced already", field="replace")
        self._replacing = True
        try:
            await self.launcher.renew_template()  # it may have loaded a model that has changed since
            return await self.controller.replace_all()
        finally:
            self._replacing = False

    # Looking and ticking.

    async def _sampling(self) -> None:
        due_s = time.monotonic()
        while True:
            due_s = max(due_s + _SAMPLE_S, time.monotonic())
            await asyncio.sleep(due_s - time.monotonic())
            try:
                await self._look()
                self.controller.look_after()
                await self.envoy.rotate_access_log(_ACCESS_LOG_BYTES)
            except Exception:  # the control loop: whatever it was, the fleet goes on
                log.exception("a look at the fleet failed")

    async def _look(self) -> None:
        await self.controller.parts.scraper.scrape(self.launcher.instances)
        await self._traffic.read(self.envoy, self.activator)
        self._charge()
        self.activator.rules = self._hold_rules(self.controller.mean_start_s)
        if self.earlier or hasattr(self, "latest"):
            self.earlier.append(self.latest)
        self.latest = viewed(self, self.age_s)
        self._folder.note(self.controller.wanted, self.controller.pinned)
        if self.recording:
            self.recording.sample(self.latest, self.launcher.plan.instance_class.cpu)
        sampled, self._sampled = self._sampled, asyncio.Event()
        sampled.set()
        if self._when_sampled:
            self._when_sampled(self.latest)

    async def _ticking(self) -> None:
        scaling = self.plan.scaling.platform.scaling
        due_s = time.monotonic() + scaling.tick_s
        while True:
            asked = await self._asked_for(max(0.0, due_s - time.monotonic()), scaling.on_demand)
            if not asked:
                due_s = max(due_s + scaling.tick_s, time.monotonic())
            try:
                self.controller.tick(on_demand=asked)
            except Exception:  # the control loop: whatever it was, the fleet goes on
                log.exception("a decision failed")
            await asyncio.sleep(_LEAST_TICK_S)

    async def _asked_for(self, limit_s: float, on_demand: bool) -> bool:
        """Whether a request asked for an instance before the time was over."""
        if not on_demand:
            await asyncio.sleep(limit_s)
            return False
        try:
            async with asyncio.timeout(limit_s):
                await self._demand.wait()
        except TimeoutError:
            return False
        self._demand.clear()
        return True

    def _changed(self, instance: Instance) -> None:
        if instance not in self.launcher.instances:
            self._ended.append(instance)
        self.controller.changed(instance)

    def _decided(self, seen: Observation, decision: Decision) -> None:
        at_s = self.age_s
        told = decision.replicas != seen.replicas or not decision.valid
        last = self._decisions[0][2] if self._decisions else None
        if told and (last is None or decision.valid or last.reason != decision.reason):
            self._decisions.appendleft((at_s, seen, decision))
        if self.recording:
            self.recording.decision(at_s, self.plan.policy, seen, decision)

    def _charge(self) -> None:
        for instance, meter in self.controller.parts.scraper.meters.items():
            found, latest = meter.last_second(), meter.latest
            if found is not None and found.busy_s and latest is not None:
                start_s = latest.at_s - found.window_s
                self.controller.parts.ledger.busy(instance, start_s, start_s + found.busy_s)

    def _hold_rules(self, mean_start_s: float | None) -> HoldRules:
        platform = self.plan.scaling.platform
        start_s = mean_start_s if mean_start_s is not None else _GUESSED_START_S
        rules = HoldRules.of(platform.queueing, start_s, platform.instance.concurrency)
        return replace(rules, limit_s=round(rules.limit_s, 1))

    # What `viewing.viewed` reads.

    @property
    def traffic(self) -> Traffic:
        """Counts of Envoy and the activator."""
        return self._traffic

    @property
    def ended(self) -> Sequence[Instance]:
        """Instances that ended in the last minute."""
        since_s = time.monotonic() - _ENDED_SHOWN_S
        return tuple(one for one in self._ended if one.history[-1].at_s >= since_s)

    @property
    def decisions(self) -> Sequence[tuple[float, Observation, Decision]]:
        """The latest decisions that changed something, newest first."""
        return tuple(self._decisions)
