"""What every target needs to know, worked out once: the platform's numbers, the instance's environment, its end."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tidesight.deploying.settings import ConfigFile, DeploySettings
from tidesight.errors import ConfigError
from tidesight.platforms.platform import Platform
from tidesight.platforms.registry import platform, read_overrides

CLOSING_S = 1.0  # after the last upload, for the process to end
PORT = 8080
TARGETS = {
    "gke": "gke",
    "kubernetes": "gke",
    "cloud-run": "cloud-run",
    "app-engine-flex": "app-engine-flexible",
    "app-engine-standard": "app-engine-standard",
    "compose": "gke",
}
"""Target: the platform whose numbers it takes."""
KUBERNETES = ("gke", "kubernetes")
GOOGLE = ("gke", "cloud-run", "app-engine-flex", "app-engine-standard")
_CLASSES = ("F1", "F2", "F4", "F4_1G")


@dataclass(frozen=True)
class Plan:
    """One target of one settings file.

    Attributes:
        target: A name of `TARGETS`.
        deploy: The table `[deploy]`.
        platform: The platform with its numbers, of `[deploy]` and of `[platform.NAME]`.
        threads: Worker threads of an instance.
        grace_s: For accepted requests to finish after SIGTERM.
        store_drain_s: For results to be uploaded after that.
    """

    target: str
    deploy: DeploySettings
    platform: Platform
    threads: int
    grace_s: float
    store_drain_s: float

    @property
    def number(self) -> Mapping[str, object]:
        """The platform's numbers by key."""
        return {one.key: one.value for one in self.platform.settings.numbers}

    @property
    def environment(self) -> dict[str, str]:
        """The settings of the instance, as environment variables; no secrets."""
        deploy = self.deploy
        values = {
            "host": "0.0.0.0",  # noqa: S104  # in a container; the platform is in front
            "deadline_s": f"{deploy.deadline_s:g}",
            "max_queue": str(max(0, deploy.concurrency - self.threads)),
            "max_body_bytes": str(round(deploy.max_body_mib * 2**20)),
            "grace_s": f"{self.grace_s:g}",
            "store_drain_s": f"{self.store_drain_s:g}",
            "log_format": "json",
            "access_log": "errors",  # the load balancers of all targets write a line per request themselves
        }
        if deploy.store:
            values |= {"store": deploy.store, "store_mode": deploy.store_mode}
        if deploy.store_mode == "async":
            values |= {"spool": "/var/spool/tidesight"}
        if deploy.keys_secret:
            values |= {"api_key_file": "/etc/tidesight/keys/api-keys"}
        return {f"TIDESIGHT_{key.upper()}": value for key, value in values.items()}


def plan(config: ConfigFile, target: str) -> Plan:
    """What a target needs to know.

    Raises:
        ConfigError: something that the target cannot do; with the line and the remedy.
    """
    deploy = config.deploy
    found = _platform(config, target)
    drain_s = 0.0
    if deploy.store and deploy.store_mode == "async":
        drain_s = min(5.0, round(found.drain.grace_s / 4, 1))
    grace_s = round(found.drain.grace_s - CLOSING_S - drain_s, 1)
    return Plan(target, deploy, found, max(1, math.floor(found.instance.vcpu + 1e-6)), grace_s, drain_s)


def _platform(config: ConfigFile, target: str) -> Platform:
    name = TARGETS[target]
    own = read_overrides(config.path, name)
    ours = _numbers(config.deploy, target)
    try:
        return platform(name, {**ours, **own})
    except ConfigError as error:
        key = error.field or ""
        if key in own:
            raise config.error(error.detail, "platform", name, key) from None
        raise config.error(f"on {target}, {error.detail}", "deploy", _KEYS.get(key, key)) from None


_KEYS = {
    "max_concurrency": "concurrency", "max_concurrent_requests": "concurrency", "target_cpu_percent": "target",
    "target_utilization": "target", "target_cpu_utilization": "target", "instance_class": "memory_gib",
}  # fmt: skip


def _numbers(deploy: DeploySettings, target: str) -> dict[str, object]:
    """What of `[deploy]` is a number of the target's platform."""
    least = deploy.min_instances if target in ("cloud-run", "app-engine-standard") else max(1, deploy.min_instances)
    bounds = {"min_instances": least, "max_instances": deploy.max_instances}
    size = {"vcpu": deploy.vcpu, "memory_gib": deploy.memory_gib}
    percent = deploy.target if deploy.scaling == "cpu" else None
    if target == "compose":
        return {**size, "mode": "standard", "max_instances": deploy.max_instances}
    if target in KUBERNETES:
        cpu = {} if percent is None else {"target_cpu_percent": round(percent)}
        return {**bounds, **size, **cpu, "mode": "autopilot" if target == "gke" else "standard"}
    if target == "cloud-run":
        return {**bounds, **size, "max_concurrency": deploy.concurrency}
    share = {} if percent is None else {"target_utilization": percent / 100}
    if target == "app-engine-flex":
        return {**bounds, **size, **share}
    share = {} if percent is None else {"target_cpu_utilization": percent / 100}
    return {
        **bounds, **share, "max_concurrent_requests": deploy.concurrency, "instance_class": _instance_class(deploy),
    }  # fmt: skip


def _instance_class(deploy: DeploySettings) -> str:
    """The smallest class of the standard environment with that memory; the largest when none has."""
    for name in _CLASSES:
        one = platform("app-engine-standard", {"instance_class": name}).instance
        if one.memory_gib >= deploy.memory_gib and one.vcpu >= deploy.vcpu:
            return name
    return _CLASSES[-1]
