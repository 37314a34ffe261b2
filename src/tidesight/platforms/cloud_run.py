"""Cloud Run: requests inside instances and CPU, a queue in front, idle instances for 15 minutes, down to zero.

Google publishes what its autoscaler looks at, not the algorithm: Knative's KPA with a second target for CPU is our
**model**, not the original. Documented are the targets, the queue, the retention, the end and the prices.
"""

import math
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from tidesight.autoscaling.kpa import Kpa, KpaMemory
from tidesight.autoscaling.limits import DownStabilized
from tidesight.autoscaling.observation import Observation
from tidesight.autoscaling.policy import Bounded, Bounds, Decision, Policy, Reason
from tidesight.autoscaling.revision import KpaSettings
from tidesight.errors import ConfigError
from tidesight.platforms.billing import Bill, Line, Usage, kept_s, length_s, merged
from tidesight.platforms.numbers import Range, Settings, Source, number
from tidesight.platforms.platform import Delay, Drain, InstanceClass, Platform, Queueing, Scaling, StartUp
from tidesight.platforms.prices import Prices

_SCALING = Source("cloud.google.com/run/docs/about-instance-autoscaling", "2026-11-21", "documented")
_TARGETS = Source("cloud.google.com/run/docs/configuring/scaling-controls", "2026-11-21", "documented")
_BILL = Source("cloud.google.com/run/pricing", "2026-11-22", "documented")
_BILLING_KINDS = Source("cloud.google.com/run/docs/configuring/billing-settings", "2026-11-22", "documented")
_PERIOD = Source("cloud.google.com/run/docs/about-instance-autoscaling (older text)", "2026-11-22", "documented")
_RETENTION = Source("cloud.google.com/run/docs/about-instance-autoscaling", "2026-11-21", "recalled")
_LIMITS = Source("cloud.google.com/run/docs/configuring/services/cpu, memory-limits", "2026-11-22", "recalled")
_LEAST = Source("cloud.google.com/run/pricing", "2026-11-22", "recalled")
_MAX = Source("google/oss-rebuild#1605 and docs that say 100", "2026-11-21", "secondary")
_START = Source("deployu.ai/interviews/gcp-interview/fix-cloud-run-cold-starts", "2026-11-22", "secondary")
_KNATIVE = Source("knative/serving config/core/configmaps/autoscaler.yaml (our model)", "2026-11-21", "documented")
_OURS = Source("Tidesight", "2026-11-22", "chosen")
_CPU_WINDOW_S = 60.0
_GRANULE_S = 0.1
_MEMORY_BY_VCPU = {4: 2.0, 6: 4.0, 8: 4.0}  # the least GiB from so many vCPU on


@dataclass(frozen=True)
class CloudRunSettings(Settings):
    """What can be set of Cloud Run.

    Raises:
        ConfigError: a value outside its range, or values that do not go together.
    """

    billing: str = number("request", "", "what is paid for", _BILLING_KINDS, ("request", "instance"))
    min_instances: int = number(0, "instances", "the least", _SCALING, Range(0, None))
    max_instances: int = number(20, "instances", "the most; the vendor's default is unclear", _MAX, Range(1, None))
    max_concurrency: int = number(80, "requests", "in one instance at most", _SCALING, Range(1, 1000))
    target_concurrency_percent: float = number(60.0, "%", "of that, to aim at", _TARGETS, Range(10, 95))
    target_cpu_percent: float = number(60.0, "%", "CPU use to aim at, one-minute mean", _TARGETS, Range(10, 95))
    tick_s: float = number(5.0, "s", "how often it decides; now 'periodically'", _PERIOD, Range(0.5, 60))
    stable_window_s: float = number(60.0, "s", "over which requests are averaged", _SCALING, Range(6, 3600))
    panic_window_percentage: float = number(10.0, "%", "of that, for bursts", _KNATIVE, Range(1, 100))
    panic_threshold_percentage: float = number(200.0, "%", "of the ready, to panic", _KNATIVE, Range(110, 1000))
    idle_retention_s: float = number(900.0, "s", "how long an idle instance stays at most", _RETENTION, Range(0, 3600))
    vcpu: float = number(1.0, "vCPU", "of an instance: 1, 2, 4, 6, 8 or less than 1", _LIMITS, Range(0.08, 8))
    memory_gib: float = number(1.0, "GiB", "of an instance", _LIMITS, Range(0.125, 32))
    placing_s: float = number(1.0, "s", "placing and image, before the process, typical", _START, Range(0, 240))
    placing_slow_s: float = number(3.0, "s", "the same, one in twenty", _START, Range(0, 240))
    queue_at_least_s: float = number(10.0, "s", "how long a request is held at least", _SCALING, Range(0, 3600))
    queue_start_ups: float = number(3.5, "start-ups", "or so many mean start-ups", _SCALING, Range(0, 100))
    queue_most: int = number(1000, "requests", "held at a time; not documented", _OURS, Range(0, None))
    status: int = number(429, "", "answer when that is over", _SCALING, Range(400, 599))
    retry_after_s: float = number(0.0, "s", "Retry-After in it; 0: none, as far as is known", _OURS, Range(0, 3600))
    lame_duck_s: float = number(0.0, "s", "without new requests, before SIGTERM", _OURS, Range(0, 600))
    grace_s: float = number(10.0, "s", "from SIGTERM to SIGKILL", _BILLING_KINDS, Range(0, 60))
    instance_least_s: float = number(60.0, "s", "least charge, instance-based", _LEAST, Range(0, 3600))
    free_tier: bool = number(False, "", "take the monthly free tier off the bill, by the time billed", _BILL)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse_above("min_instances", "max_instances")
        self.refuse_above("placing_s", "placing_slow_s")
        if self.vcpu < 1 and self.max_concurrency > 1:
            remedy = "less than one vCPU takes one request at a time: set max_concurrency to 1 or vcpu to 1"
            raise ConfigError(f"vcpu {self.vcpu:g}: {remedy}", field="vcpu")
        if self.vcpu > 1 and self.vcpu not in (2, 4, 6, 8):
            raise ConfigError(f"vcpu {self.vcpu:g}: set 1, 2, 4, 6, 8 or less than 1", field="vcpu")
        least_gib = _MEMORY_BY_VCPU.get(math.floor(self.vcpu), 0.0)
        if self.memory_gib < least_gib:
            remedy = f"{self.vcpu:g} vCPU need at least {least_gib:g} GiB"
            raise ConfigError(f"memory_gib {self.memory_gib:g}: {remedy}", field="memory_gib")


@dataclass(frozen=True)
class Targets:
    """What the policy is made of; it is built by `policy`.

    Attributes:
        requests: Knative's rule on requests inside instances.
        cpu: CPU use to aim at, a part of 1.
        idle_retention_s: How long the highest count holds.
        bounds: The least and the most.
    """

    requests: KpaSettings
    cpu: float
    idle_retention_s: float
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class TargetsMemory:
    """The KPA's memory, and CPU use in instances' worth with its time, as far back as the mean reaches."""

    requests: KpaMemory
    cpu: tuple[tuple[float, float], ...] = field(default=())


@dataclass(frozen=True)
class TwoTargets:
    """The larger of what requests and CPU ask for; zero only by requests. Without CPU figures, requests alone."""

    requests: Kpa
    cpu: float

    def initial(self, first: Observation) -> TargetsMemory:
        """No CPU figures yet."""
        return TargetsMemory(self.requests.initial(first))

    def decide(self, seen: Observation, memory: TargetsMemory) -> tuple[Decision, TargetsMemory]:
        """The count for both targets."""
        decision, inner = self.requests.decide(seen, memory.requests)
        cpu = tuple(sample for sample in memory.cpu if sample[0] > seen.now_s - _CPU_WINDOW_S)
        used = _cpu_in_use(seen)
        if used is not None:
            cpu = (*cpu, (seen.now_s, used))
        memory = TargetsMemory(inner, cpu)
        if not decision.valid or not cpu:
            return decision, memory
        mean = math.fsum(use for _, use in cpu) / len(cpu)
        decision = replace(decision, inputs={**decision.inputs, "cpu": mean})
        if 0 < decision.replicas < math.ceil(mean / self.cpu):
            decision = decision.clamped(math.ceil(mean / self.cpu), Reason.TARGET_CPU_UTILIZATION)
        return decision, memory


def policy(targets: Targets) -> Policy[Any]:
    """Both targets, then the retention of idle instances, then bounds. The queue is always there, so zero is too."""
    both = TwoTargets(targets.requests.rule, targets.cpu)
    return Bounded(DownStabilized(both, targets.idle_retention_s), targets.bounds)


@dataclass(frozen=True)
class CloudRunBilling:
    """Request-based: stretches with a request inside, start and end; instance-based: whole lives. To 100 ms, upwards.

    Each stretch is rounded by itself. Of instances kept by `min_instances`, idle time costs less (request-based).
    """

    settings: CloudRunSettings
    prices: Prices

    def bill(self, usage: Usage) -> Bill:
        """The cost of a usage."""
        if self.settings.billing == "instance":
            least_s = self.settings.instance_least_s
            lives = [merged([one.life], _GRANULE_S, least_s) for one in usage.instances]
            return Bill(self._resources("instance", "", sum(map(length_s, lives), Decimal(0)), usage))
        charged = [(one.life, merged([*one.busy, one.starting, one.stopping], _GRANULE_S)) for one in usage.instances]
        active_s = sum((length_s(stretches) for _, stretches in charged), Decimal(0))
        idle_s = kept_s(charged, self.settings.min_instances)
        free = self._free("free_requests_m", usage)
        requests = Line("requests", Decimal(usage.requests) / 10**6, "million", self.prices["requests_m"], free)
        return Bill(
            (
                *self._resources("request", "active", active_s, usage),
                *self._resources("idle", "idle", idle_s),
                requests,
            )
        )

    def _resources(self, kind: str, what: str, time_s: Decimal, usage: Usage | None = None) -> tuple[Line, ...]:
        label = f"{what} " if what else ""
        vcpu, memory = Decimal(str(self.settings.vcpu)), Decimal(str(self.settings.memory_gib))
        free = (Decimal(0), Decimal(0))
        if usage is not None:
            free = self._free(f"free_{kind}_vcpu_s", usage), self._free(f"free_{kind}_gib_s", usage)
        return (
            Line(f"{label}CPU", time_s * vcpu, "vCPU-s", self.prices[f"{kind}_vcpu_s"], free[0]),
            Line(f"{label}memory", time_s * memory, "GiB-s", self.prices[f"{kind}_gib_s"], free[1]),
        )

    def _free(self, name: str, usage: Usage) -> Decimal:
        return self.prices[name] * usage.months if self.settings.free_tier else Decimal(0)


def cloud_run(settings: CloudRunSettings, prices: Prices) -> Platform:
    """Cloud Run with these settings."""
    bounds = Bounds(settings.min_instances, settings.max_instances)
    requests = KpaSettings(
        container_concurrency=settings.max_concurrency,
        target_utilization_percentage=settings.target_concurrency_percent,
        target_burst_capacity=-1,  # the queue in front is always in the path of requests
        max_scale_down_rate=1000,  # the retention holds instances; halving on top would repeat it for every half
        stable_window_s=settings.stable_window_s,
        panic_window_percentage=settings.panic_window_percentage,
        panic_threshold_percentage=settings.panic_threshold_percentage,
        tick_s=settings.tick_s,
    )
    targets = Targets(requests, settings.target_cpu_percent / 100, settings.idle_retention_s, bounds)
    queueing = Queueing(
        where="activator",
        at_least_s=settings.queue_at_least_s,
        start_ups=settings.queue_start_ups,
        most=settings.queue_most,
        status=settings.status,
        retry_after_s=settings.retry_after_s or None,
    )
    return Platform(
        name="cloud-run",
        settings=settings,
        prices=prices,
        scaling=Scaling("tidesight.platforms.cloud_run:policy", targets, bounds, settings.tick_s, on_demand=True),
        instance=InstanceClass(settings.vcpu, settings.memory_gib, settings.max_concurrency),
        start_up=StartUp(Delay(settings.placing_s, settings.placing_slow_s)),
        queueing=queueing,
        drain=Drain(settings.lame_duck_s, settings.grace_s),
        idle_retention_s=settings.idle_retention_s,
        billing=CloudRunBilling(settings, prices),
    )


def _cpu_in_use(seen: Observation) -> float | None:
    """CPU in use in instances' worth; those without a figure count as the mean of the others, None when all are."""
    serving = seen.serving or ()
    known = [ratio for ratio in (one.cpu_ratio for one in serving) if ratio is not None]
    return math.fsum(known) / len(known) * len(serving) if known else None
