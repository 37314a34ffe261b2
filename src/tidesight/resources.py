"""How much CPU and memory this process may really use: affinity and cgroup v1 or v2 limits.

Inference libraries size their thread pools to the host. In a container with half a CPU on a
64-core host that starts 64 threads that throttle each other; every pool here is sized by this file.

Sources: Linux `Documentation/admin-guide/cgroup-v2.rst` (`cpu.max`, `memory.max`; a limit holds for
the whole subtree, so the tightest one on the path to the root counts) and
`Documentation/scheduler/sched-bwc.rst` (`cpu.cfs_quota_us`, `cpu.cfs_period_us`).
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_SPARE_FILES = 96  # for the model, the store, and connections held for probes
_Number = TypeVar("_Number", int, float)

# cgroup v1 says "no limit" with a page-rounded number near 2**63.
_V1_UNLIMITED_BYTES = 1 << 60


@dataclass(frozen=True)
class Resources:
    """What this process may use.

    Attributes:
        cpus: Usable CPUs, > 0; fractional under a quota (0.5 = half a CPU).
        memory_bytes: Memory limit, or None when there is none.
        affinity_cpus: CPUs the scheduler may place this process on.
        quota_cpus: The cgroup's CPU quota, or None.
        source: Where the CPU figure comes from: "affinity", "cgroup v1" or "cgroup v2".
    """

    cpus: float
    memory_bytes: int | None
    affinity_cpus: int
    quota_cpus: float | None
    source: str

    @property
    def threads(self) -> int:
        """Worker threads to start: usable CPUs rounded down, at least 1.

        Rounded down because a thread more than the quota covers is throttled by the kernel for the
        rest of the period, which costs every request its latency.
        """
        return max(1, int(self.cpus + 1e-6))


def usable_resources(proc: Path = Path("/proc"), cgroup_root: Path = Path("/sys/fs/cgroup")) -> Resources:
    """Read the limits of the calling process.

    Args:
        proc: The proc file system (another folder in tests).
        cgroup_root: Where cgroups are mounted (another folder in tests).
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    version, quota, memory = _cgroup_limits(proc, cgroup_root)
    if quota is not None and quota < affinity:
        return Resources(quota, memory, affinity, quota, f"cgroup v{version}")
    return Resources(float(affinity), memory, affinity, quota, "affinity")


def usable_memory_bytes(found: Resources, proc: Path = Path("/proc")) -> int:
    """What this process may count on: its memory limit, or without one what the machine has available now.

    Args:
        found: The limits of this process.
        proc: The proc file system (another folder in tests).

    Returns:
        Bytes; 0 when neither is known.
    """
    machine = dict(line.split(":", 1) for line in _read(proc / "meminfo").splitlines() if ":" in line)
    if found.memory_bytes is None:
        return _kilobytes(machine.get("MemAvailable", ""))
    # A limit may be above what the machine has at all.
    return min(found.memory_bytes, _kilobytes(machine.get("MemTotal", "")) or found.memory_bytes)


def _kilobytes(text: str) -> int:
    number = text.removesuffix("kB").strip()
    return int(number) * 1024 if number.isdecimal() else 0


def usable_connections(wanted: int) -> int:
    """How many connections this process may have open at a time: those wanted, as far as its limit of files allows."""
    import resource  # not on Windows

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - _SPARE_FILES))


def _cgroup_limits(proc: Path, root: Path) -> tuple[int, float | None, int | None]:
    """(cgroup version, tightest CPU quota in CPUs, tightest memory limit in bytes)."""
    paths = _cgroup_paths(proc / "self" / "cgroup")
    if (root / "cgroup.controllers").exists():
        folders = list(_ancestors(root, paths.get("", "/")))
        return 2, _least(map(_v2_quota, folders)), _least(_v2_memory(f) for f in folders)
    cpu = [f for mount in ("cpu", "cpu,cpuacct") for f in _ancestors(root / mount, paths.get("cpu", "/"))]
    memory = list(_ancestors(root / "memory", paths.get("memory", "/")))
    return 1, _least(map(_v1_quota, cpu)), _least(_v1_memory(f) for f in memory)


def _cgroup_paths(file: Path) -> dict[str, str]:
    """Controller -> path of this process; the unified (v2) hierarchy has the key ""."""
    paths: dict[str, str] = {}
    for line in _read(file).splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


def _ancestors(mount: Path, path: str) -> Iterator[Path]:
    """The cgroup's folder and every folder above it up to the mount.

    In a container the path is the host's while the mount shows only the container's own part:
    folders that do not exist there are skipped, and the mount itself always counts.
    """
    folder = mount / path.lstrip("/")
    while folder != mount and mount in folder.parents:
        if folder.is_dir():
            yield folder
        folder = folder.parent
    yield mount


def _v2_quota(folder: Path) -> float | None:
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    return None if quota in ("", "max") else int(quota) / int(period or 100_000)


def _v1_quota(folder: Path) -> float | None:
    quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota and period and int(quota) > 0 else None


def _v2_memory(folder: Path) -> int | None:
    limit = _read(folder / "memory.max")
    return None if limit in ("", "max") else int(limit)


def _v1_memory(folder: Path) -> int | None:
    limit = _read(folder / "memory.limit_in_bytes")
    return int(limit) if limit and int(limit) < _V1_UNLIMITED_BYTES else None


def _least(values: Iterable[_Number | None]) -> _Number | None:
    return min((value for value in values if value is not None), default=None)


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
