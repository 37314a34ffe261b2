"""App Engine: the standard environment (classes F1 to F4_1G, a pending queue, zero) and the flexible one (machines).

The scaling of both is a model from the documented fields of app.yaml; `autoscaling.app_engine` says what is assumed.
"""

from dataclasses import dataclass
from decimal import Decimal

from tidesight.autoscaling.app_engine import FlexibleSettings as FlexiblePolicy
from tidesight.autoscaling.app_engine import StandardSettings as StandardPolicy
from tidesight.errors import ConfigError
from tidesight.platforms.billing import HOUR_S, MONTH_S, US, Bill, Line, Usage, kept_s, length_s, merged
from tidesight.platforms.numbers import Range, Settings, Source, number
from tidesight.platforms.platform import Delay, Drain, InstanceClass, Platform, Queueing, Scaling, StartUp
from tidesight.platforms.prices import Prices

_FIELDS = Source("cloud.google.com/appengine/docs/standard/reference/app-yaml", "2026-11-21", "recalled")
_NEW = Source("docs.cloud.google.com/appengine/docs/standard/how-instances-are-managed", "2026-11-22", "documented")
_CLASSES = Source("repositories citing cloud.google.com/appengine/docs/standard", "2026-11-22", "secondary")
_QUEUE = Source("catapult-project/catapult#4408, the-blue-alliance#7200 (others saw 503)", "2026-11-21", "secondary")
_IDLE = Source("cloud.google.com/appengine/docs/standard/how-instances-are-managed", "2026-11-21", "recalled")
_FREE = Source("cloud.google.com/free/docs/free-cloud-features", "2026-11-22", "secondary")
_FLEX = Source("cloud.google.com/appengine/docs/flexible/reference/app-yaml", "2026-11-21", "recalled")
_MACHINES = Source("cloud.google.com/compute/docs/autoscaler", "2026-11-21", "recalled")
_MINUTES = Source("cloud.lalitwrites.com/Google-Cloud/App-Engine/Standard-vs-Flexible", "2026-11-22", "secondary")
_MINUTE = Source("cloud.google.com/appengine/pricing", "2026-11-22", "recalled")
_OURS = Source("Tidesight", "2026-11-22", "chosen")


@dataclass(frozen=True)
class StandardSettings(Settings):
    """What can be set of the standard environment.

    Raises:
        ConfigError: a value outside its range, or values that do not go together.
    """

    instance_class: str = number("F1", "", "CPU and memory of an instance", _FIELDS, ("F1", "F2", "F4", "F4_1G"))
    min_instances: int = number(0, "instances", "the least", _FIELDS, Range(0, 1000))
    max_instances: int = number(20, "instances", "the most; for newer projects", _NEW, Range(1, 2_147_483_647))
    min_idle_instances: int = number(0, "instances", "beyond what the load needs", _FIELDS, Range(0, 1000))
    max_concurrent_requests: int = number(10, "requests", "in one instance", _FIELDS, Range(1, 1000))
    target_cpu_utilization: float = number(0.6, "", "to aim at", _FIELDS, Range(0.5, 0.95))
    target_throughput_utilization: float = number(0.6, "", "of the requests in one", _FIELDS, Range(0.5, 0.95))
    min_pending_latency_s: float = number(0.5, "s", "a shorter wait starts nothing", _FIELDS, Range(0.01, 15))
    max_pending_latency_s: float = number(10.0, "s", "a longer one starts at once", _FIELDS, Range(0.01, 15))
    idle_retention_s: float = number(900.0, "s", "how long an idle instance stays", _IDLE, Range(0, 86_400))
    idle_charged_s: float = number(900.0, "s", "charged after the last request", _IDLE, Range(0, 86_400))
    tick_s: float = number(1.0, "s", "how often it decides; not documented", _OURS, Range(0.1, 60))
    placing_s: float = number(0.5, "s", "before the process, typical", _OURS, Range(0, 600))
    placing_slow_s: float = number(2.0, "s", "the same, one in twenty", _OURS, Range(0, 600))
    queue_s: float = number(10.0, "s", "how long a request is held", _QUEUE, Range(0, 3600))
    queue_most: int = number(1000, "requests", "held at a time; not documented", _OURS, Range(0, None))
    status: int = number(500, "", "answer when that is over", _QUEUE, Range(400, 599))
    lame_duck_s: float = number(0.0, "s", "without new requests, before SIGTERM", _OURS, Range(0, 600))
    grace_s: float = number(3.0, "s", "from SIGTERM to SIGKILL", _IDLE, Range(0, 60))
    mhz_per_vcpu: float = number(2400.0, "MHz", "taken for one vCPU", _OURS, Range(100, 10_000))
    f1_mhz: float = number(600.0, "MHz", "CPU of F1", _CLASSES, Range(1, None))
    f2_mhz: float = number(1200.0, "MHz", "CPU of F2", _CLASSES, Range(1, None))
    f4_mhz: float = number(2400.0, "MHz", "CPU of F4", _CLASSES, Range(1, None))
    f4_1g_mhz: float = number(2400.0, "MHz", "CPU of F4_1G", _CLASSES, Range(1, None))
    f1_mib: float = number(384.0, "MiB", "memory of F1", _CLASSES, Range(1, None))
    f2_mib: float = number(768.0, "MiB", "memory of F2", _CLASSES, Range(1, None))
    f4_mib: float = number(1536.0, "MiB", "memory of F4", _CLASSES, Range(1, None))
    f4_1g_mib: float = number(3072.0, "MiB", "memory of F4_1G", _CLASSES, Range(1, None))
    free_tier: bool = number(False, "", "take the daily free hours off the bill, by the time billed", _FREE)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse_above("min_instances", "max_instances")
        self.refuse_above("min_pending_latency_s", "max_pending_latency_s")
        self.refuse_above("placing_s", "placing_slow_s")

    @property
    def instance(self) -> InstanceClass:
        """What the instance class has."""
        name = self.instance_class.lower()
        vcpu = getattr(self, f"{name}_mhz") / self.mhz_per_vcpu
        return InstanceClass(vcpu, getattr(self, f"{name}_mib") / 1024, self.max_concurrent_requests)


@dataclass(frozen=True)
class StandardBilling:
    """Instance hours, from the start to 15 minutes after the last request; instances of a minimum all the time.

    Not rounded; the tail is charged in full when the instance ends earlier.
    """

    settings: StandardSettings
    prices: Prices

    def bill(self, usage: Usage) -> Bill:
        """The cost of a usage."""
        tail = round(self.settings.idle_charged_s * US)
        charged = [
            (one.life, merged((start, end + tail) for start, end in (one.starting, *one.busy)))
            for one in usage.instances
        ]
        kept = kept_s(charged, self.settings.min_instances, self.settings.min_idle_instances)
        price = self.prices[f"{self.settings.instance_class.lower()}_h"]
        hours = (sum((length_s(stretches) for _, stretches in charged), Decimal(0)) + kept) / HOUR_S
        what = f"instances, {self.settings.instance_class}"
        return Bill((Line(what, hours, "h", price, self._free_h(usage, price)),))

    def _free_h(self, usage: Usage, price: Decimal) -> Decimal:
        if not self.settings.free_tier or not price:
            return Decimal(0)
        days = length_s([usage.period]) / HOUR_S / 24
        return self.prices["free_f1_h_day"] * days * self.prices["f1_h"] / price


def app_engine_standard(settings: StandardSettings, prices: Prices) -> Platform:
    """The standard environment with these settings."""
    policy = StandardPolicy(
        target_cpu_utilization=settings.target_cpu_utilization,
        target_throughput_utilization=settings.target_throughput_utilization,
        max_concurrent_requests=settings.max_concurrent_requests,
        min_pending_latency_s=settings.min_pending_latency_s,
        max_pending_latency_s=settings.max_pending_latency_s,
        min_instances=settings.min_instances,
        max_instances=settings.max_instances,
        min_idle_instances=settings.min_idle_instances,
        idle_timeout_s=settings.idle_retention_s,
        period_s=settings.tick_s,
    )
    return Platform(
        name="app-engine-standard",
        settings=settings,
        prices=prices,
        scaling=Scaling("app-engine-standard", policy, policy.bounds, settings.tick_s, on_demand=True),
        instance=settings.instance,
        start_up=StartUp(Delay(settings.placing_s, settings.placing_slow_s)),
        queueing=Queueing("activator", settings.queue_s, 0.0, settings.queue_most, settings.status, retry_after_s=None),
        drain=Drain(settings.lame_duck_s, settings.grace_s),
        idle_retention_s=settings.idle_retention_s,
        billing=StandardBilling(settings, prices),
    )


@dataclass(frozen=True)
class FlexibleSettings(Settings):
    """What can be set of the flexible environment.

    Raises:
        ConfigError: a value outside its range, or values that do not go together.
    """

    min_instances: int = number(2, "instances", "the least; never zero", _FLEX, Range(1, 1500))
    max_instances: int = number(20, "instances", "the most", _FLEX, Range(1, 1500))
    target_utilization: float = number(0.5, "", "CPU use to aim at", _FLEX, Range(0.01, 1))
    cool_down_period_s: float = number(120.0, "s", "a new instance does not count", _FLEX, Range(60, 86_400))
    stabilization_s: float = number(600.0, "s", "the highest count holds", _MACHINES, Range(0, 86_400))
    tick_s: float = number(10.0, "s", "how often it decides; not documented", _OURS, Range(0.1, 300))
    vcpu: float = number(1.0, "vCPU", "of an instance: 1 or an even number", _FLEX, Range(1, 80))
    memory_gib: float = number(2.0, "GiB", "of an instance, for the app", _FLEX, Range(0.1, 520))
    memory_overhead_gib: float = number(0.4, "GiB", "beside it, for the system, charged", _FLEX, Range(0, 10))
    disk_gib: float = number(10.0, "GiB", "of an instance", _FLEX, Range(10, 10_240))
    machine_s: float = number(120.0, "s", "for a machine and its image, typical: minutes", _MINUTES, Range(0, 3600))
    machine_slow_s: float = number(300.0, "s", "the same, one in twenty", _MINUTES, Range(0, 3600))
    status: int = number(503, "", "answer when none is ready; 502 was also seen", _MINUTES, Range(400, 599))
    lame_duck_s: float = number(0.0, "s", "without new requests, before SIGTERM", _OURS, Range(0, 600))
    grace_s: float = number(30.0, "s", "from SIGTERM to SIGKILL", _FLEX, Range(0, 600))
    charged_least_s: float = number(60.0, "s", "least charge for an instance", _MINUTE, Range(0, 3600))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse_above("min_instances", "max_instances")
        self.refuse_above("machine_s", "machine_slow_s")
        if self.vcpu != 1 and self.vcpu % 2:
            raise ConfigError(f"vcpu {self.vcpu:g}: set 1 or an even number", field="vcpu")
        least, most = (part * self.vcpu - self.memory_overhead_gib for part in (0.9, 6.5))
        if not least <= self.memory_gib <= most:
            remedy = f"with {self.vcpu:g} vCPU set {least:g} to {most:g}"
            raise ConfigError(f"memory_gib {self.memory_gib:g}: {remedy}", field="memory_gib")


@dataclass(frozen=True)
class FlexibleBilling:
    """CPU, memory and disk of every machine from asked for to ended, at least a minute, not rounded."""

    settings: FlexibleSettings
    prices: Prices

    def bill(self, usage: Usage) -> Bill:
        """The cost of a usage."""
        lives = [merged([one.life], least_s=self.settings.charged_least_s) for one in usage.instances]
        time_s = sum(map(length_s, lives), Decimal(0))
        vcpu, memory, overhead, disk = (
            Decimal(str(getattr(self.settings, name)))
            for name in ("vcpu", "memory_gib", "memory_overhead_gib", "disk_gib")
        )
        return Bill(
            (
                Line("CPU", time_s / HOUR_S * vcpu, "vCPU-h", self.prices["vcpu_h"]),
                Line("memory", time_s / HOUR_S * (memory + overhead), "GiB-h", self.prices["gib_h"]),
                Line("disk", time_s / MONTH_S * disk, "GiB-month", self.prices["disk_gib_month"]),
            )
        )


def app_engine_flexible(settings: FlexibleSettings, prices: Prices) -> Platform:
    """The flexible environment with these settings."""
    policy = FlexiblePolicy(
        target_utilization=settings.target_utilization,
        cool_down_period_s=settings.cool_down_period_s,
        min_num_instances=settings.min_instances,
        max_num_instances=settings.max_instances,
        stabilization_s=settings.stabilization_s,
        period_s=settings.tick_s,
    )
    return Platform(
        name="app-engine-flexible",
        settings=settings,
        prices=prices,
        scaling=Scaling("app-engine-flexible", policy, policy.bounds, settings.tick_s, on_demand=False),
        instance=InstanceClass(settings.vcpu, settings.memory_gib, concurrency=None),
        start_up=StartUp(Delay(settings.machine_s, settings.machine_slow_s)),
        queueing=Queueing("instance", 0.0, 0.0, 0, settings.status, retry_after_s=None),
        drain=Drain(settings.lame_duck_s, settings.grace_s),
        idle_retention_s=0.0,
        billing=FlexibleBilling(settings, prices),
    )
