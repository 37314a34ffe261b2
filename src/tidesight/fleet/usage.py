"""What an instance takes of CPU and memory: from its control group, or else from its process."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """CPU and memory of one instance at a moment.

    Attributes:
        cpu_s: CPU seconds since its start, which is part of it.
        memory_bytes: Charged to it now. In a group the page cache of files it read first is included, and memory that
            a forked instance shares with its template is not.
        working_set_bytes: The same without page cache that can be dropped at once; what Kubernetes shows and scales by.
        memory_peak_bytes: The most it was.
        throttled_s: Seconds for which the kernel held it back by its quota, summed over CPUs.
        throttled_periods: In how many periods it did.
        oom_kills: How often the kernel ended a process for want of memory.
    """

    cpu_s: float
    memory_bytes: int
    working_set_bytes: int
    memory_peak_bytes: int
    throttled_s: float = 0.0
    throttled_periods: int = 0
    oom_kills: int = 0


def group_usage(folders: dict[str, Path]) -> Usage | None:
    """Read a control group.

    Args:
        folders: By controller, as in `cgroup_mounts.Hierarchy`: the key "" is version 2.

    Returns:
        None when the group is gone.
    """
    try:
        return _v2(folders[""]) if "" in folders else _v1(folders["cpu"], folders["cpuacct"], folders["memory"])
    except (OSError, ValueError):  # ValueError: a file that a kernel leaves empty
        return None


def process_usage(pid: int, proc: Path = Path("/proc")) -> Usage | None:
    """Read one process, for where there is no group; None when it is gone."""
    try:
        after_name = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
        status = _numbers((proc / str(pid) / "status").read_text().replace(":", ""))
    except OSError:
        return None
    ticks = int(after_name[11]) + int(after_name[12])  # user and system; the fields 14 and 15 of proc(5)
    rss_bytes = status.get("VmRSS", 0) * 1024
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), rss_bytes, rss_bytes, status.get("VmHWM", 0) * 1024)


def _v2(folder: Path) -> Usage:
    cpu, now_bytes = _numbers((folder / "cpu.stat").read_text()), int((folder / "memory.current").read_text())
    droppable_bytes = _numbers((folder / "memory.stat").read_text()).get("inactive_file", 0)
    peak = folder / "memory.peak"  # since Linux 5.19
    return Usage(
        cpu["usage_usec"] / 1e6,
        now_bytes,
        max(0, now_bytes - droppable_bytes),
        int(peak.read_text()) if peak.exists() else now_bytes,
        cpu.get("throttled_usec", 0) / 1e6,
        cpu.get("nr_throttled", 0),
        _numbers((folder / "memory.events").read_text()).get("oom_kill", 0),
    )


def _v1(cpu: Path, cpuacct: Path, memory: Path) -> Usage:
    throttling = _numbers((cpu / "cpu.stat").read_text())
    now_bytes = int((memory / "memory.usage_in_bytes").read_text())
    droppable_bytes = _numbers((memory / "memory.stat").read_text()).get("total_inactive_file", 0)
    return Usage(
        int((cpuacct / "cpuacct.usage").read_text()) / 1e9,
        now_bytes,
        max(0, now_bytes - droppable_bytes),
        int((memory / "memory.max_usage_in_bytes").read_text()),
        throttling.get("throttled_time", 0) / 1e9,
        throttling.get("nr_throttled", 0),
        _numbers((memory / "memory.oom_control").read_text()).get("oom_kill", 0),
    )


def _numbers(text: str) -> dict[str, int]:
    """`name 123` lines; what is no number is left out."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) > 1 and pair[1].isdecimal()}
