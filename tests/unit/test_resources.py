"""Usable CPUs and memory, from made-up cgroup trees and in a real one."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tidesight.resources import Resources, usable_connections, usable_resources

V1_UNLIMITED = "9223372036854771712"
GIB = 1024**3


class Host:
    """A made-up machine: files under `proc` and `cgroups`, and a number of CPUs."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.proc, self.cgroups = folder / "proc", folder / "cgroup"
        self._monkeypatch = monkeypatch
        self.write("proc/self/cgroup", "0::/")
        self.cpus(64)

    def write(self, path: str, text: str) -> None:
        file = self.proc.parent / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")

    def v2(self, path: str = "/") -> None:
        """Mount the unified hierarchy, with this process at `path`."""
        self.write("cgroup/cgroup.controllers", "cpuset cpu io memory pids")
        self.write("proc/self/cgroup", f"0::{path}")

    def cpus(self, count: int) -> None:
        self._monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(count)), raising=False)

    def resources(self) -> Resources:
        return usable_resources(self.proc, self.cgroups)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def test_without_cgroups_affinity_counts(host: Host) -> None:
    assert host.resources() == Resources(64.0, None, 64, None, "affinity")


def test_without_proc(host: Host, tmp_path: Path) -> None:
    assert usable_resources(tmp_path / "none", tmp_path / "none").cpus == 64


def test_without_affinity(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert host.resources().cpus == 12


@pytest.mark.parametrize(
    ("cpu_max", "cpus", "threads"),
    [
        ("50000 100000", 0.5, 1),
        ("150000 100000", 1.5, 1),
        ("200000 100000", 2.0, 2),
        ("399999 100000", 3.99999, 3),
        ("10000 20000", 0.5, 1),
        ("150000", 1.5, 1),
        ("1000 1000000", 0.001, 1),
    ],
)
def test_v2_quota(host: Host, cpu_max: str, cpus: float, threads: int) -> None:
    host.v2()
    host.write("cgroup/cpu.max", cpu_max)
    found = host.resources()
    assert found == Resources(pytest.approx(cpus), None, 64, pytest.approx(cpus), "cgroup v2")  # type: ignore[arg-type]
    assert found.threads == threads


def test_half_a_cpu_of_64_is_one_thread(host: Host) -> None:
    host.v2("/pod/container")
    host.write("cgroup/pod/container/cpu.max", "50000 100000")
    assert host.resources().affinity_cpus == 64
    assert host.resources().threads == 1


def test_v2_without_a_limit(host: Host) -> None:
    host.v2("/user.slice")
    host.write("cgroup/user.slice/cpu.max", "max 100000")
    host.write("cgroup/user.slice/memory.max", "max")
    assert host.resources() == Resources(64.0, None, 64, None, "affinity")


def test_v2_the_tightest_limit_on_the_path_counts(host: Host) -> None:
    host.v2("/a/b/c")
    host.write("cgroup/cpu.max", "max 100000")
    host.write("cgroup/a/cpu.max", "300000 100000")
    host.write("cgroup/a/b/cpu.max", "100000 50000")
    host.write("cgroup/a/b/c/cpu.max", "max 100000")
    host.write("cgroup/a/b/c/memory.max", str(4 * GIB))
    host.write("cgroup/a/memory.max", str(2 * GIB))
    host.write("cgroup/elsewhere/cpu.max", "1000 100000")
    found = host.resources()
    assert (found.cpus, found.memory_bytes) == (2.0, 2 * GIB)


def test_v2_in_a_container_that_sees_its_own_cgroup_as_the_root(host: Host) -> None:
    host.v2("/")
    host.write("cgroup/cpu.max", "150000 100000")
    host.write("cgroup/memory.max", str(GIB))
    assert host.resources() == Resources(1.5, GIB, 64, 1.5, "cgroup v2")


def test_v2_in_a_container_that_reads_the_hosts_path(host: Host) -> None:
    host.v2("/kubepods.slice/pod1.slice/cri-1.scope")
    host.write("cgroup/cpu.max", "150000 100000")
    assert host.resources().cpus == 1.5


def test_v2_a_path_above_the_namespace(host: Host) -> None:
    host.v2("/../../sibling")
    host.write("cgroup/cpu.max", "150000 100000")
    assert host.resources().cpus == 1.5


def test_affinity_counts_when_it_is_the_tighter(host: Host) -> None:
    host.v2()
    host.write("cgroup/cpu.max", "800000 100000")
    host.cpus(3)
    found = host.resources()
    assert found == Resources(3.0, None, 3, 8.0, "affinity")
    assert found.threads == 3


V1_PATHS = "9:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n2:cpuset:/docker/abc"


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(("quota", "cpus"), [("50000", 0.5), ("150000", 1.5)])
def test_v1_quota(host: Host, mount: str, quota: str, cpus: float) -> None:
    host.write("proc/self/cgroup", V1_PATHS)
    host.write(f"cgroup/{mount}/docker/abc/cpu.cfs_quota_us", quota)
    host.write(f"cgroup/{mount}/docker/abc/cpu.cfs_period_us", "100000")
    host.write(f"cgroup/{mount}/cpu.cfs_quota_us", "-1")
    host.write(f"cgroup/{mount}/cpu.cfs_period_us", "100000")
    host.write("cgroup/memory/docker/abc/memory.limit_in_bytes", str(GIB))
    host.write("cgroup/memory/memory.limit_in_bytes", V1_UNLIMITED)
    assert host.resources() == Resources(cpus, GIB, 64, cpus, "cgroup v1")


def test_v1_without_a_limit(host: Host) -> None:
    host.write("proc/self/cgroup", V1_PATHS)
    host.write("cgroup/cpu/docker/abc/cpu.cfs_quota_us", "-1")
    host.write("cgroup/cpu/docker/abc/cpu.cfs_period_us", "100000")
    host.write("cgroup/memory/docker/abc/memory.limit_in_bytes", V1_UNLIMITED)
    assert host.resources() == Resources(64.0, None, 64, None, "affinity")


def test_v1_in_a_container_that_does_not_see_the_hosts_path(host: Host) -> None:
    host.write("proc/self/cgroup", V1_PATHS)
    host.write("cgroup/cpu/cpu.cfs_quota_us", "25000")
    host.write("cgroup/cpu/cpu.cfs_period_us", "50000")
    host.write("cgroup/memory/memory.limit_in_bytes", str(GIB))
    assert host.resources() == Resources(0.5, GIB, 64, 0.5, "cgroup v1")


def test_v1_nested_limits(host: Host) -> None:
    host.write("proc/self/cgroup", "4:cpu:/outer/inner\n5:memory:/outer/inner")
    for folder, quota in (("outer", "100000"), ("outer/inner", "400000")):
        host.write(f"cgroup/cpu/{folder}/cpu.cfs_quota_us", quota)
        host.write(f"cgroup/cpu/{folder}/cpu.cfs_period_us", "100000")
        host.write(f"cgroup/memory/{folder}/memory.limit_in_bytes", quota + "000000")
    assert host.resources() == Resources(1.0, 100_000_000_000, 64, 1.0, "cgroup v1")


def test_hybrid_the_controllers_are_in_v1(host: Host) -> None:
    host.write("proc/self/cgroup", "5:memory:/box\n1:cpu:/box\n9:name=systemd:/\n0::/unified-path")
    host.write("cgroup/unified/cgroup.controllers", "")
    host.write("cgroup/cpu/box/cpu.cfs_quota_us", "50000")
    host.write("cgroup/cpu/box/cpu.cfs_period_us", "100000")
    host.write("cgroup/memory/box/memory.limit_in_bytes", str(GIB))
    assert host.resources() == Resources(0.5, GIB, 64, 0.5, "cgroup v1")


def test_a_path_with_colons(host: Host) -> None:
    host.v2("/odd:name:here")
    host.write("cgroup/odd:name:here/cpu.max", "50000 100000")
    assert host.resources().cpus == 0.5


def python(code: str, *arguments: str) -> dict[str, float]:
    """Run Python in a process of its own; the JSON it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, float] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize(
    ("wanted", "soft", "usable"),
    [(2048, 1024, 928), (2048, 1_048_576, 2048), (2048, 2144, 2048), (2048, resource.RLIM_INFINITY, 2048), (5, 64, 1)],
)
def test_connections_leave_files_to_spare(monkeypatch: pytest.MonkeyPatch, wanted: int, soft: int, usable: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    assert usable_connections(wanted) == usable


def test_real_affinity() -> None:
    code = (
        "import json, os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from tidesight.resources import usable_resources; r = usable_resources()\n"
        "print(json.dumps({'affinity': r.affinity_cpus, 'cpus': r.cpus, 'threads': r.threads}))"
    )
    found = python(code)
    assert found["affinity"] == found["threads"] == 1
    assert found["cpus"] <= 1


@pytest.fixture
def half_a_cpu() -> Iterator[Path]:
    """The `cgroup.procs` of a real cgroup with half a CPU; skipped where none can be made."""
    root = Path("/sys/fs/cgroup")
    unified = (root / "cgroup.controllers").exists()
    folder = (root if unified else root / "cpu") / f"tidesight-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"cannot make a cgroup: {error}")
    try:
        if unified:
            (folder / "cpu.max").write_text("50000 100000")
        else:
            (folder / "cpu.cfs_period_us").write_text("100000")
            (folder / "cpu.cfs_quota_us").write_text("50000")
        yield folder / "cgroup.procs"
    except OSError as error:
        pytest.skip(f"cannot limit a cgroup's CPU: {error}")
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    deadline_s = time.monotonic() + 5  # an exiting process may hold it for a moment
    while folder.exists() and time.monotonic() < deadline_s:
        with suppress(OSError):
            folder.rmdir()


def test_real_half_a_cpu(half_a_cpu: Path) -> None:
    code = """
import json, os, sys
open(sys.argv[1], "w").write(str(os.getpid()))
import cv2
import numpy as np
from tidesight.detection.detector import Detector
from tidesight.resources import usable_resources
idle = len(os.listdir("/proc/self/task"))
found = usable_resources()
detector = Detector.open(engine="onnxruntime", threads=found.threads)
detector.detect(np.zeros((1500, 2000, 3), np.uint8))
print(json.dumps({"cpus": found.cpus, "threads": found.threads, "idle": idle, "opencv": cv2.getNumThreads(),
                  "running": len(os.listdir("/proc/self/task"))}))
"""
    found = python(code, str(half_a_cpu))
    assert found["cpus"] == 0.5
    assert found["threads"] == 1
    assert found["opencv"] == 1
    assert found["running"] - found["idle"] <= 1
