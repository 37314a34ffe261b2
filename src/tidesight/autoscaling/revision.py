"""How a Knative revision is to be scaled: its annotations and the cluster's settings, in Knative's words.

Targets are those of knative/serving `pkg/reconciler/autoscaling/resources/target.go`, defaults those of
`config/core/configmaps/autoscaler.yaml`, ranges those of `pkg/apis/autoscaling/annotation_validation.go`.
"""

from dataclasses import dataclass

from tidesight.autoscaling.kpa import TARGET_MIN, Kpa, ScalingMetric
from tidesight.autoscaling.policy import Bounds, check_range
from tidesight.autoscaling.window import Algorithm


@dataclass(frozen=True)
class TargetDefaults:
    """The cluster's settings that a target is made of."""

    container_concurrency_target_fraction: float = 0.7
    container_concurrency_target_default: float = 100.0
    rps_target_default: float = 200.0
    rps_target_utilization: float = 0.7


def resolve_target(
    metric: ScalingMetric,
    container_concurrency: float = 0,
    target: float | None = None,
    utilization_percent: float | None = None,
    defaults: TargetDefaults = TargetDefaults(),
) -> tuple[float, float]:
    """What to aim at per instance, and what an instance can take at all.

    Args:
        metric: "concurrency" or "rps".
        container_concurrency: The limit of an instance; 0 is none.
        target: The annotation `autoscaling.knative.dev/target`.
        utilization_percent: The annotation `autoscaling.knative.dev/target-utilization-percentage`.
        defaults: The cluster's settings.
    """
    if metric == "rps":
        total, fraction = defaults.rps_target_default, defaults.rps_target_utilization
    else:
        total = container_concurrency or defaults.container_concurrency_target_default
        fraction = defaults.container_concurrency_target_fraction
    if target is not None:
        limited = metric == "concurrency" and container_concurrency
        total = min(target, container_concurrency) if limited else target
    if utilization_percent is not None:
        fraction = utilization_percent / 100
    return max(TARGET_MIN, total * fraction), total


@dataclass(frozen=True)
class KpaSettings:
    """Annotations of a revision and settings of the autoscaler.

    Attributes:
        metric: "concurrency" (requests inside instances) or "rps" (requests answered per second).
        container_concurrency: Requests that an instance takes at once; 0 is no limit.
        target: What an instance should have; None is `container_concurrency` or the default (100, or 200 per second).
        target_utilization_percentage: The part of it to aim at; None is the default (70).
        min_scale: The least.
        max_scale: The most; 0 is no limit.
        activation_scale: The least while there is load at all.
        scale_down_delay_s: A lower count waits so long, 0 to 3600.
        stable_window_s: 6 to 3600.
        panic_window_percentage: Of the stable window, 1 to 100.
        panic_threshold_percentage: 110 to 1000 of the ready instances.
        target_burst_capacity: Requests that may come at once without the activator; 0: only from zero, -1: always.
        max_scale_up_rate: A tick may multiply the ready instances by at most this ...
        max_scale_down_rate: ... or divide them by this.
        algorithm: Of the averages, "linear" or "exponential".
        enable_scale_to_zero: Whether zero is allowed at all.
        scale_to_zero_grace_period_s: How long requests go through the activator before the last instance ends.
        scale_to_zero_pod_retention_period_s: How long the last instance stays at least.
        tick_s: How often the controller decides.

    Raises:
        ConfigError: a value outside its range.
    """

    metric: ScalingMetric = "concurrency"
    container_concurrency: int = 0
    target: float | None = None
    target_utilization_percentage: float | None = None
    min_scale: int = 0
    max_scale: int = 0
    activation_scale: int = 1
    scale_down_delay_s: float = 0.0
    stable_window_s: float = 60.0
    panic_window_percentage: float = 10.0
    panic_threshold_percentage: float = 200.0
    target_burst_capacity: float = 211.0
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    algorithm: Algorithm = "linear"
    enable_scale_to_zero: bool = True
    scale_to_zero_grace_period_s: float = 30.0
    scale_to_zero_pod_retention_period_s: float = 0.0
    tick_s: float = 2.0

    def __post_init__(self) -> None:
        ranges = {
            "container_concurrency": (0, 1000), "target": (TARGET_MIN, 1e9), "target_utilization_percentage": (1, 100),
            "stable_window_s": (6, 3600), "panic_window_percentage": (1, 100), "scale_down_delay_s": (0, 3600),
            "panic_threshold_percentage": (110, 1000),
        }  # fmt: skip
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if value is not None:
                check_range(name, value, least, most)
        Bounds(self.min_scale, self.max_scale or None)

    @property
    def bounds(self) -> Bounds:
        """The least and the most instances."""
        return Bounds(self.min_scale, self.max_scale or None)

    @property
    def rule(self) -> Kpa:
        """The autoscaler, its target resolved."""
        target, total = resolve_target(
            self.metric, self.container_concurrency, self.target, self.target_utilization_percentage
        )
        return Kpa(
            metric=self.metric,
            target=target,
            total=total,
            target_burst_capacity=self.target_burst_capacity,
            panic_threshold=self.panic_threshold_percentage / 100,
            max_scale_up_rate=self.max_scale_up_rate,
            max_scale_down_rate=self.max_scale_down_rate,
            stable_window_s=self.stable_window_s,
            panic_window_percentage=self.panic_window_percentage,
            scale_down_delay_s=self.scale_down_delay_s,
            activation_scale=self.activation_scale,
            algorithm=self.algorithm,
            tick_s=self.tick_s,
        )
