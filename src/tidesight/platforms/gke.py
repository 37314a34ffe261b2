"""Google Kubernetes Engine: the HPA on CPU, nodes that are there or must come, pods or nodes that are paid for.

Nothing holds a request in front of the pods: with no pod ready the balancer answers 503, and pods that are full queue
or refuse by themselves.
"""

from dataclasses import dataclass, replace
from decimal import Decimal

from tidesight.autoscaling.behavior import DEFAULT_SCALE_DOWN, Behavior
from tidesight.autoscaling.hpa import HpaSettings, Metric
from tidesight.errors import ConfigError
from tidesight.platforms.billing import HOUR_S, US, Bill, Line, Span, Usage, counts, length_s, merged
from tidesight.platforms.numbers import Range, Settings, Source, number
from tidesight.platforms.platform import Delay, Drain, InstanceClass, Platform, Queueing, Scaling, StartUp
from tidesight.platforms.prices import Prices

_HPA = Source("kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale", "2026-11-21", "documented")
_HPA_CODE = Source("kubernetes/kubernetes pkg/controller/podautoscaler", "2026-11-21", "documented")
_BILL = Source("cloud.google.com/kubernetes-engine/pricing", "2026-11-22", "documented")
_STORAGE = Source(
    "cloud.google.com/kubernetes-engine/docs/concepts/autopilot-resource-requests", "2026-11-22", "recalled"
)
_POD = Source("kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle", "2026-11-22", "recalled")
_NODES = Source("kubernetes/autoscaler cluster-autoscaler FAQ, scale-down-unneeded-time", "2026-11-22", "recalled")
_NODE_TIME = Source("brtkwr.com/posts/2025-10-21-gke-cluster-autoscaler", "2026-11-22", "secondary")
_OURS = Source("Tidesight", "2026-11-22", "chosen")
_COMMON_LB = Source("Envoy and GKE load balancers answer 503 without a healthy backend", "2026-11-22", "recalled")


@dataclass(frozen=True)
class GkeSettings(Settings):
    """What can be set of GKE.

    Raises:
        ConfigError: a value outside its range, or values that do not go together.
    """

    mode: str = number("autopilot", "", "what is paid for: pods, or nodes", _OURS, ("autopilot", "standard"))
    min_instances: int = number(1, "instances", "the least; the HPA on CPU cannot go to zero", _HPA, Range(1, None))
    max_instances: int = number(10, "instances", "the most", _OURS, Range(1, None))
    target_cpu_percent: int = number(60, "%", "CPU use to aim at, of the request", _OURS, Range(1, 1000))
    tick_s: float = number(15.0, "s", "how often the HPA decides", _HPA_CODE, Range(1, 300))
    tolerance: float = number(0.1, "", "a ratio so close to 1 changes nothing", _HPA_CODE, Range(0, 0.99))
    stabilization_s: float = number(300.0, "s", "for how long a higher count holds", _HPA_CODE, Range(0, 3600))
    cpu_initialization_s: float = number(300.0, "s", "a younger pod must be ready", _HPA_CODE, Range(0, None))
    initial_readiness_s: float = number(30.0, "s", "unready so soon: was never ready", _HPA_CODE, Range(0, None))
    vcpu: float = number(1.0, "vCPU", "request of a pod", _OURS, Range(0.05, 416))
    memory_gib: float = number(2.0, "GiB", "request of a pod", _OURS, Range(0.05, 11776))
    ephemeral_storage_gib: float = number(1.0, "GiB", "request of a pod on Autopilot", _STORAGE, Range(0.01, 10))
    pod_start_s: float = number(3.0, "s", "from placed to process begun, typical", _OURS, Range(0, 3600))
    pod_start_slow_s: float = number(10.0, "s", "the same, one in twenty", _OURS, Range(0, 3600))
    node_start_s: float = number(120.0, "s", "for a new node, typical", _NODE_TIME, Range(0, 3600))
    node_start_slow_s: float = number(300.0, "s", "the same, one in twenty", _NODE_TIME, Range(0, 3600))
    warm_nodes: int = number(1, "nodes", "nodes that are always there", _OURS, Range(0, None))
    pods_per_node: int = number(3, "pods", "room on a node beside the system's pods", _OURS, Range(1, 256))
    node_type: str = number(
        "e2-standard-4", "", "machine of a node (standard)", _OURS, ("e2-standard-4", "n2-standard-4")
    )
    node_idle_s: float = number(600.0, "s", "how long a node stays that nobody needs", _NODES, Range(0, None))
    status: int = number(503, "", "answer when no pod is ready", _COMMON_LB, Range(400, 599))
    lame_duck_s: float = number(5.0, "s", "preStop pause, while the balancer learns of the end", _OURS, Range(0, 600))
    grace_s: float = number(30.0, "s", "from SIGTERM to SIGKILL", _POD, Range(0, 3600))
    free_tier: bool = number(False, "", "take the monthly credit for one cluster off the bill", _BILL)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse_above("min_instances", "max_instances")
        self.refuse_above("pod_start_s", "pod_start_slow_s")
        self.refuse_above("node_start_s", "node_start_slow_s")
        if self.mode == "autopilot" and not self.vcpu <= self.memory_gib <= 6.5 * self.vcpu:
            fit = f"set memory_gib to {self.vcpu:g} to {6.5 * self.vcpu:g}, or vcpu (Autopilot would raise one of them)"
            raise ConfigError(f"memory_gib {self.memory_gib:g} with vcpu {self.vcpu:g}: {fit}", field="memory_gib")


@dataclass(frozen=True)
class GkeBilling:
    """Autopilot: requests of pods from placed to ended. Standard: nodes, from asked for to no longer needed. And a fee.

    Both to the second and not rounded; a node costs at least a minute.
    """

    settings: GkeSettings
    prices: Prices

    def bill(self, usage: Usage) -> Bill:
        """The cost of a usage."""
        hours = length_s([usage.period]) / HOUR_S
        fee = self.prices["cluster_h"]
        credit_h = self.prices["free_cluster_usd_month"] * usage.months / fee if fee and self.settings.free_tier else 0
        lines = self._pods(usage) if self.settings.mode == "autopilot" else self._nodes(usage)
        return Bill((*lines, Line("cluster fee", hours, "h", fee, Decimal(credit_h))))

    def _pods(self, usage: Usage) -> tuple[Line, ...]:
        hours = length_s(one.placed for one in usage.instances) / HOUR_S
        vcpu, memory, storage = (
            Decimal(str(amount))
            for amount in (self.settings.vcpu, self.settings.memory_gib, self.settings.ephemeral_storage_gib)
        )
        return (
            Line("pods, CPU", hours * vcpu, "vCPU-h", self.prices["autopilot_vcpu_h"]),
            Line("pods, memory", hours * memory, "GiB-h", self.prices["autopilot_gib_h"]),
            Line("pods, storage", hours * storage, "GiB-h", self.prices["autopilot_storage_gib_h"]),
        )

    def _nodes(self, usage: Usage) -> tuple[Line, ...]:
        price = self.prices["node_" + self.settings.node_type.replace("-", "_") + "_h"]
        return (Line(f"nodes, {self.settings.node_type}", self.node_s(usage) / HOUR_S, "node-h", price),)

    def node_s(self, usage: Usage) -> Decimal:
        """Node-seconds: warm nodes all the time, the n-th node while there are pods for it and `node_idle_s` longer."""
        pods = list(counts(one.life for one in usage.instances))
        most = max((count for _, (count,) in pods), default=0)
        nodes = max(self.settings.warm_nodes, -(-most // self.settings.pods_per_node))
        return sum((length_s(self._life(usage, pods, index)) for index in range(nodes)), Decimal(0))

    def _life(self, usage: Usage, pods: list[tuple[Span, tuple[int, ...]]], index: int) -> list[Span]:
        warm = index < self.settings.warm_nodes
        idle = 0 if warm else round(self.settings.node_idle_s * US)
        full = index * self.settings.pods_per_node
        needed = [(start, end + idle) for (start, end), (count,) in pods if count > full]
        if warm:
            needed.append(usage.period)
        return merged(needed, least_s=60)


def gke(settings: GkeSettings, prices: Prices) -> Platform:
    """GKE with these settings."""
    scale_down = replace(DEFAULT_SCALE_DOWN, stabilization_window_s=settings.stabilization_s)
    policy = HpaSettings(
        min_replicas=settings.min_instances,
        max_replicas=settings.max_instances,
        metrics=(Metric("Resource", "cpu", settings.target_cpu_percent, "Utilization"),),
        behavior=Behavior(scale_down=scale_down),
        tolerance=settings.tolerance,
        cpu_initialization_period_s=settings.cpu_initialization_s,
        initial_readiness_delay_s=settings.initial_readiness_s,
        sync_period_s=settings.tick_s,
    )
    return Platform(
        name="gke",
        settings=settings,
        prices=prices,
        scaling=Scaling("hpa", policy, policy.bounds, settings.tick_s, on_demand=False),
        instance=InstanceClass(settings.vcpu, settings.memory_gib, concurrency=None),
        start_up=StartUp(
            Delay(settings.pod_start_s, settings.pod_start_slow_s),
            Delay(settings.node_start_s, settings.node_start_slow_s),
            warm=settings.warm_nodes * settings.pods_per_node,
        ),
        queueing=Queueing("instance", 0.0, 0.0, 0, settings.status, retry_after_s=None),
        drain=Drain(settings.lame_duck_s, settings.grace_s),
        idle_retention_s=0.0,
        billing=GkeBilling(settings, prices),
    )
