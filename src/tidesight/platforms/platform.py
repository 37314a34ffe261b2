"""A platform is a rule set: when to scale, how long a start takes, where requests wait, what a second costs."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

from tidesight.autoscaling.policy import Bounds, Policy
from tidesight.autoscaling.registry import builder
from tidesight.platforms.billing import Billing
from tidesight.platforms.numbers import Number, Settings
from tidesight.platforms.prices import Prices

Where = Literal["instance", "activator"]
_SLOW = NormalDist().inv_cdf(0.95)


@dataclass(frozen=True, slots=True)
class Scaling:
    """When instances are added and removed.

    Attributes:
        policy: A name of `autoscaling.registry`, or "module:function".
        settings: What that policy takes.
        bounds: The least and the most instances.
        tick_s: How often it decides.
        on_demand: Whether it also decides at once when a request finds no instance that could take it.
    """

    policy: str
    settings: Any
    bounds: Bounds
    tick_s: float
    on_demand: bool

    def build(self) -> Policy[Any]:
        """The policy, without memory."""
        make, _ = builder(self.policy)
        return make(self.settings)


@dataclass(frozen=True, slots=True)
class InstanceClass:
    """What one instance has: CPUs, memory, and how many requests the platform sends it at once (None: no limit)."""

    vcpu: float
    memory_gib: float
    concurrency: int | None


@dataclass(frozen=True, slots=True)
class Delay:
    """A time that varies: log-normal, half below `typical_s`, one in twenty above `slow_s`."""

    typical_s: float
    slow_s: float

    def quantile_s(self, part: float) -> float:
        """The time below which this part of all cases lies, 0 to 1; at the ends that of 0.001 and 0.999."""
        if self.typical_s <= 0 or self.slow_s <= self.typical_s:
            return max(0.0, self.typical_s)
        spread = NormalDist().inv_cdf(min(max(part, 0.001), 0.999)) / _SLOW
        return float(self.typical_s * (self.slow_s / self.typical_s) ** spread)


@dataclass(frozen=True, slots=True)
class StartUp:
    """What the platform adds to the start of the process itself: placing, pulling the image, perhaps a machine.

    Attributes:
        instance: The delay of every instance.
        machine: The delay of a new machine, for instances beyond `warm`; None where the platform has machines at hand.
        warm: How many instances find a machine that is there already.
    """

    instance: Delay
    machine: Delay | None = None
    warm: int = 0

    def delays_s(self, present: int, draw: Callable[[], float]) -> tuple[float, float]:
        """How long a new instance waits for a machine, and then until its process may begin.

        Args:
            present: The instances that run or start already; a simplification: those beyond `warm` always wait.
            draw: Gives a number from 0 to 1; the caller's seeded generator, such as `random.Random(1).random`.
        """
        instance_s = self.instance.quantile_s(draw())
        if self.machine is None or present < self.warm:
            return 0.0, instance_s
        return self.machine.quantile_s(draw()), instance_s


@dataclass(frozen=True, slots=True)
class Queueing:
    """What becomes of a request when no instance is ready, or all are full.

    Attributes:
        where: "activator" (held in front of the fleet) or "instance" (the balancer holds nothing: a ready instance gets
            it whatever it has, and without one it is refused at once).
        at_least_s: How long it is held ...
        start_ups: ... or so many mean start-up times, when that is longer.
        most: Requests held at a time; 0 holds none.
        status: The answer when that is over: 429, 500 or 503.
        retry_after_s: The `Retry-After` in it; None sends none.
    """

    where: Where
    at_least_s: float
    start_ups: float
    most: int
    status: int
    retry_after_s: float | None

    def limit_s(self, mean_start_up_s: float) -> float:
        """How long a request is held.

        Args:
            mean_start_up_s: From an instance asked for to an instance ready, on average.
        """
        return max(self.at_least_s, self.start_ups * mean_start_up_s)


@dataclass(frozen=True, slots=True)
class Drain:
    """The end of an instance: it gets no new requests for `lame_duck_s`, then SIGTERM, and `grace_s` later SIGKILL."""

    lame_duck_s: float
    grace_s: float


@dataclass(frozen=True)
class Platform:
    """One platform with all that was set: policy, start-up, queueing and billing.

    Attributes:
        name: What it is called.
        settings: Its numbers; all below follows from them.
        prices: Its price list.
        scaling: When instances are added and removed.
        instance: What one instance has.
        start_up: What the platform adds to a start.
        queueing: Where requests wait.
        drain: How an instance ends.
        idle_retention_s: How long an instance stays that nobody needs; the policy sees to that.
        billing: What it costs.
    """

    name: str
    settings: Settings
    prices: Prices
    scaling: Scaling
    instance: InstanceClass
    start_up: StartUp
    queueing: Queueing
    drain: Drain
    idle_retention_s: float
    billing: Billing

    @property
    def numbers(self) -> tuple[Number, ...]:
        """Every number of it, prices last, with its source."""
        return (*self.settings.numbers, *self.prices.numbers)
