"""From what `tidesight up` is told to a plan of a fleet: platform, rule, bounds, class, how instances start and end."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidesight.commands.fleet_containers import ContainerWishes, containers
from tidesight.errors import ConfigError
from tidesight.resources import usable_resources

if TYPE_CHECKING:
    from tidesight.autoscaling.policy import Bounds
    from tidesight.fleet.instances import InstanceClass, LaunchPlan
    from tidesight.fleet.parts import FleetPlan
    from tidesight.fleet.state import FleetState
    from tidesight.platforms.platform import Platform

_LAME_DUCK_S = 0.3  # of the process itself, for requests on their way while the load balancer's list changes
_FLUSH_S = 0.7  # of the platform's time to end, for results and logs
_BOUND_NAMES = (
    ("min_replicas", "max_replicas"), ("min_scale", "max_scale"), ("min_instances", "max_instances"),
    ("min_num_instances", "max_num_instances"),
)  # fmt: skip


@dataclass(frozen=True)
class Wishes:
    """What `tidesight up` was told; None where it was not.

    Attributes:
        platform: Its name.
        sets: KEY=VALUE texts for its numbers.
        config: A TOML file with a table `[platform.NAME]`.
        policy: Another rule than the platform's own.
        policy_sets: KEY=VALUE texts for that rule.
        least: Instances.
        most: Instances.
        cpu: Of an instance, as Kubernetes writes it.
        memory: Likewise.
        delays: Whether instances also wait for what the platform does before their process starts.
        host: To listen on.
        port: To listen on.
        serve: Arguments of `tidesight serve`.
        store_mode: Of the instances, for the folder in which each has its spool.
        fork: Whether instances may be forked from a template.
        containers: In which instances run; None runs them as processes.
        api_key: That instances accept from us; None where they want none.
    """

    platform: str = "gke"
    sets: Sequence[str] = ()
    config: Path | None = None
    policy: str | None = None
    policy_sets: Sequence[str] = ()
    least: int | None = None
    most: int | None = None
    cpu: str | None = None
    memory: str | None = None
    delays: bool = False
    host: str = "127.0.0.1"
    port: int = 8080
    serve: Sequence[str] = ()
    store_mode: str | None = None
    fork: bool = True
    containers: ContainerWishes | None = None
    api_key: str | None = field(default=None, repr=False)


def fleet_plan(wishes: Wishes, folder: Path, before: "FleetState | None" = None) -> "FleetPlan":
    """The plan of a fleet.

    Args:
        wishes: What was asked for.
        folder: Of the fleet.
        before: What a fleet that was killed has left; this one goes on if it is of the same platform.

    Raises:
        ConfigError: what was asked for cannot be.
    """
    from tidesight.autoscaling.policy import Autoscaler
    from tidesight.autoscaling.registry import POLICIES
    from tidesight.fleet.front import FrontSettings
    from tidesight.fleet.parts import FleetPlan, ScalingPlan

    platform = _with_policy(chosen_platform(wishes), wishes)
    bounds = platform.scaling.bounds
    if bounds.least == 0 and platform.queueing.where == "instance":
        told = f"{platform.name} holds no requests, so without an instance all would be refused: set --min 1 or more"
        raise ConfigError(told, field="min")
    wanted, pinned = bounds.least, None
    if before is not None and before.platform == platform.name:
        pinned = None if before.pinned is None else bounds.capped(before.pinned)
        wanted = bounds.capped(max(bounds.least, before.wanted)) if pinned is None else pinned
    return FleetPlan(
        ScalingPlan(platform, Autoscaler(platform.scaling.build()), bounds, wishes.delays),
        platform.scaling.policy if platform.scaling.policy in POLICIES else f"{platform.name}'s own",
        _launch(wishes, platform, folder),
        FrontSettings(wishes.host, wishes.port),
        wanted,
        pinned,
        wishes.api_key,
    )


def platform_facts(plan: "FleetPlan") -> dict[str, Any]:
    """What a run says of the fleet it was made with."""
    platform, gets = plan.scaling.platform, plan.launch.instance_class
    return {
        "name": platform.name,
        "policy": plan.policy,
        "min": plan.scaling.bounds.least,
        "max": plan.scaling.bounds.most,
        "set": {one.key: str(one.value) for one in platform.numbers if one.overridden},
        "delays": plan.scaling.delays,
        "fork": plan.launch.fork,
        "instance": {"cpu": gets.cpu, "memory_bytes": gets.memory_bytes},
        "billed": {"vcpu": platform.instance.vcpu, "memory_gib": platform.instance.memory_gib},
    }


def chosen_platform(wishes: Wishes) -> "Platform":
    """The platform with all that was set; without --max no more instances than this machine has CPUs for.

    Raises:
        ConfigError: an unknown platform, or numbers that cannot be.
    """
    from tidesight.platforms.registry import parse_assignments, platform, read_overrides

    in_file = read_overrides(wishes.config, wishes.platform) if wishes.config else {}
    numbers: dict[str, Any] = {**in_file, **parse_assignments(wishes.sets)}
    for key, value in (("min_instances", wishes.least), ("max_instances", wishes.most)):
        if value is not None:
            numbers[key] = value
    if "max_instances" not in numbers:
        found = platform(wishes.platform, {**numbers, "max_instances": 1000})
        numbers["max_instances"] = max(1, found.scaling.bounds.least, room(instance_class(wishes, found)))
    return platform(wishes.platform, numbers)


def room(gets: "InstanceClass") -> int:
    """For how many instances this machine has CPUs."""
    return max(1, int(usable_resources().cpus / gets.cpu + 1e-9))


def instance_class(wishes: Wishes, platform: "Platform") -> "InstanceClass":
    """What each instance gets: the platform's class, unless told otherwise.

    Raises:
        ConfigError: quantities that are none.
    """
    from tidesight.fleet.instances import InstanceClass

    own = platform.instance
    return InstanceClass.parse(wishes.cpu or f"{own.vcpu:g}", wishes.memory or f"{round(own.memory_gib * 1024)}Mi")


def _with_policy(platform: "Platform", wishes: Wishes) -> "Platform":
    if wishes.policy is None:
        if wishes.policy_sets:
            raise ConfigError("--policy-set needs --policy; a platform's own numbers are set by --set", field="policy")
        return platform
    from tidesight.autoscaling.registry import builder
    from tidesight.commands.explain_scaling import parse_settings

    _, kind = builder(wishes.policy)
    settings = _bounded(parse_settings(kind, wishes.policy_sets), platform.scaling.bounds)
    scaling = replace(platform.scaling, policy=wishes.policy, settings=settings, bounds=settings.bounds)
    return replace(platform, scaling=scaling)


def _bounded(settings: Any, bounds: "Bounds") -> Any:
    """The settings of a rule with these bounds, whatever it calls them."""
    known = {one.name for one in fields(settings)}
    for least, most in _BOUND_NAMES:
        if {least, most} <= known:
            return replace(settings, **{least: bounds.least, most: bounds.most or 0})
    return settings


def _launch(wishes: Wishes, platform: "Platform", folder: Path) -> "LaunchPlan":
    from tidesight.fleet.instances import LaunchPlan

    how, arguments = (None, wishes.serve) if wishes.containers is None else containers(wishes.containers, folder)
    kill_after_s = max(platform.drain.grace_s, 2 * (_LAME_DUCK_S + _FLUSH_S))
    return LaunchPlan(
        folder / "instances",
        instance_class(wishes, platform),
        arguments=arguments,
        lame_duck_s=_LAME_DUCK_S,
        grace_s=kill_after_s - _LAME_DUCK_S - _FLUSH_S,
        kill_after_s=kill_after_s,
        spool=folder / "spool" if wishes.store_mode == "async" else None,
        fork=wishes.fork,
        containers=how,
    )
