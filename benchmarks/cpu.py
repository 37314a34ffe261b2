"""CPU time from /proc: of a process with all below it, and of everything else on the machine meanwhile."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

OTHERS_LIMIT_CPUS = 0.2
"""A round beside which other processes (or the host, by steal) took more than this many CPUs does not count."""
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass
class Usage:
    """What the time inside a `with watch(...)` took.

    Attributes:
        seconds: Wall clock.
        cpu_s: Of the watched process and all below it.
        others_cpus: Mean CPUs taken by processes that are not ours.
    """

    seconds: float = 0.0
    cpu_s: float = 0.0
    others_cpus: float = 0.0


@contextmanager
def watch(pid: int) -> Iterator[Usage]:
    """Measure what happens inside; `pid` is a process of ours, or our own."""
    usage = Usage()
    watched_s, ours_s, busy_s, started = tree_s(pid), tree_s(os.getpid()), _busy_s(), perf_counter()
    yield usage
    usage.seconds = perf_counter() - started
    usage.cpu_s = tree_s(pid) - watched_s
    others_s = (_busy_s() - busy_s) - (tree_s(os.getpid()) - ours_s)
    usage.others_cpus = max(0.0, others_s / usage.seconds)


def tree_s(pid: int) -> float:
    """CPU seconds of a process and all below it, those that have ended and were waited for included."""
    parents, seconds = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except OSError:  # it has ended
                continue
            fields = text.rpartition(")")[2].split()  # the name before it may hold anything
            parents[int(entry.name)] = int(fields[1])
            seconds[int(entry.name)] = sum(map(int, fields[11:15])) * _TICK_S
    return sum(own_s for one, own_s in seconds.items() if _is_below(one, pid, parents))


def _is_below(one: int, top: int, parents: dict[int, int]) -> bool:
    while one not in (top, 0):
        one = parents.get(one, 0)
    return one == top


def _busy_s() -> float:
    """CPU seconds that were not idle, over all CPUs; what the host took away counts as busy."""
    user, nice, system, _, _, irq, softirq, steal, *_ = map(int, Path("/proc/stat").read_text().split()[1:11])
    return (user + nice + system + irq + softirq + steal) * _TICK_S


@contextmanager
def on_cpus(cpus: set[int]) -> Iterator[None]:
    """This thread, and the processes it starts meanwhile, on these CPUs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
