"""Every policy by name, and in which order its parts act: what is innermost comes first."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, get_type_hints

from tidesight.autoscaling.app_engine import Flexible, FlexibleSettings, Standard, StandardSettings
from tidesight.autoscaling.behavior import Behavior
from tidesight.autoscaling.hpa import HpaMetrics, HpaSettings
from tidesight.autoscaling.limits import DownStabilized, FactorLimited, RateLimited, Stabilized
from tidesight.autoscaling.policy import Bounded, Policy
from tidesight.autoscaling.revision import KpaSettings
from tidesight.autoscaling.scale_to_zero import ScaleToZero
from tidesight.errors import ConfigError

# name: "module:function"; the function takes its settings, a dataclass, and returns a policy
POLICIES = {
    "hpa": "tidesight.autoscaling.registry:hpa",
    "kpa": "tidesight.autoscaling.registry:kpa",
    "app-engine-standard": "tidesight.autoscaling.registry:app_engine_standard",
    "app-engine-flexible": "tidesight.autoscaling.registry:app_engine_flexible",
}
Builder = Callable[[Any], Policy[Any]]


def hpa(settings: HpaSettings) -> Policy[Any]:
    """Metrics, then stabilisation, then rates together with bounds; the bounds also come before the metrics."""
    rule = HpaMetrics(settings.metrics, settings.calculator)
    if settings.behavior is None:
        stable = DownStabilized(rule, settings.downscale_stabilization_s)
        return FactorLimited(stable, settings.bounds, settings.scale_up_limit_factor, settings.scale_up_limit_minimum)
    up_s, down_s = _windows(settings.behavior, settings.downscale_stabilization_s)
    return RateLimited(Stabilized(rule, up_s, down_s), settings.bounds, settings.behavior)


def kpa(settings: KpaSettings) -> Policy[Any]:
    """Averages with panic, rates and delay in one (Knative's `Scale`), then bounds, then the last step to zero.

    The bounds outside hold where that step only keeps the present count.
    """
    to_zero = ScaleToZero(
        Bounded(settings.rule, settings.bounds),
        enabled=settings.enable_scale_to_zero,
        stable_window_s=settings.stable_window_s,
        grace_s=settings.scale_to_zero_grace_period_s,
        retention_s=settings.scale_to_zero_pod_retention_period_s,
    )
    return Bounded(to_zero, settings.bounds)


def app_engine_standard(settings: StandardSettings) -> Policy[Any]:
    """Load and idle instances, then bounds."""
    return Bounded(Standard(settings), settings.bounds)


def app_engine_flexible(settings: FlexibleSettings) -> Policy[Any]:
    """CPU, then stabilisation of the scale-down, then bounds."""
    return Bounded(DownStabilized(Flexible(settings), settings.stabilization_s), settings.bounds)


def builder(name: str) -> tuple[Builder, type]:
    """The function that makes a policy from its settings, and the class of these settings.

    Args:
        name: One of `POLICIES`, or "module:function" of one's own.

    Raises:
        ConfigError: there is no such policy.
    """
    module, _, function = POLICIES.get(name, name).partition(":")
    try:
        make: Builder = getattr(import_module(module), function)
        hints = {key: hint for key, hint in get_type_hints(make).items() if key != "return"}
        (settings,) = hints.values()
    except (ImportError, AttributeError, ValueError, TypeError):
        known = f"there are: {', '.join(POLICIES)}, or module:function with one typed parameter"
        raise ConfigError(f"unknown policy {name!r}; {known}", field="policy") from None
    return make, settings


def _windows(behavior: Behavior, default_down_s: float) -> tuple[float, float]:
    up_s, down_s = behavior.scale_up.stabilization_window_s, behavior.scale_down.stabilization_window_s
    return up_s or 0.0, default_down_s if down_s is None else down_s
