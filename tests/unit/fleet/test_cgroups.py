"""Control groups: found in made-up machines of every kind, and enforced by the real kernel where it lets us."""

import fcntl
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.fleet.enforcing import require_enforced
from tidesight.fleet.cgroup_mounts import Hierarchy, NotUsable, find_hierarchies
from tidesight.fleet.cgroups import Cgroups, Group, clear_dead_fleets
from tidesight.fleet.usage import Usage, group_usage, process_usage

MIB = 2**20
JOIN = 'for file in "$@"; do echo 0 > "$file"; done; exec "$PYTHON" -c "$CODE"'


class Machine:
    """A made-up machine: `proc`, and folders where cgroups are mounted."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.proc = folder, folder / "proc"
        (self.proc / "self").mkdir(parents=True)
        self._mounts: list[str] = []

    def mount(self, kind: str, where: str, options: str = "rw", root: str = "/") -> Path:
        point = self.folder / where
        point.mkdir(parents=True, exist_ok=True)
        self._mounts.append(f"31 23 0:28 {root} {point} rw,relatime shared:9 - {kind} {kind} {options}")
        (self.proc / "self" / "mountinfo").write_text("\n".join(["22 1 8:1 / / rw - ext4 /dev/a rw", *self._mounts]))
        return point

    def groups(self, *lines: str) -> None:
        (self.proc / "self" / "cgroup").write_text("\n".join(lines) + "\n")

    def find(self) -> Hierarchy:
        return find_hierarchies(self.proc)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def v2_group(folder: Path, handed_down: str = "", pids: str = "", **limits: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup.controllers").write_text("cpu io memory pids")
    (folder / "cgroup.subtree_control").write_text(handed_down)
    (folder / "cgroup.procs").write_text(pids)
    for name in ("cpu_max", "memory_max"):
        (folder / name.replace("_", ".")).write_text(limits.get(name, "max"))
    return folder


def test_v1_each_controller_in_its_own_place(machine: Machine) -> None:
    for name in ("cpu", "cpuacct", "memory"):
        (machine.mount("cgroup", f"cg/{name}", f"rw,{name}") / "docker" / "a").mkdir(parents=True)
    machine.groups("4:memory:/docker/a", "3:cpuacct:/", "2:cpu:/docker/a", "0::/")
    cg = machine.folder / "cg"
    expected = {"cpu": cg / "cpu/docker/a", "cpuacct": cg / "cpuacct", "memory": cg / "memory/docker/a"}
    assert machine.find() == Hierarchy(1, expected)


def test_v1_controllers_in_one_place_make_one_folder_each(machine: Machine) -> None:
    machine.mount("cgroup", "cg/cpu,cpuacct", "rw,cpu,cpuacct")
    machine.mount("cgroup", "cg/memory", "rw,memory")
    machine.groups("4:memory:/x", "2:cpu,cpuacct:/x")
    found = machine.find()
    assert found.folders["cpu"] == found.folders["cpuacct"] == machine.folder / "cg/cpu,cpuacct"
    assert len(Group(found.folders).entrances) == 2


def test_v1_in_a_container_that_reads_the_hosts_path(machine: Machine) -> None:
    for name in ("cpu", "cpuacct", "memory"):
        (machine.mount("cgroup", f"cg/{name}", f"rw,{name}", root="/docker/a") / "in").mkdir()
    machine.groups("4:memory:/docker/a/in", "3:cpuacct:/docker/a", "2:cpu:/elsewhere/b")
    names = {key: str(folder.relative_to(machine.folder)) for key, folder in machine.find().folders.items()}
    assert names == {"cpu": "cg/cpu", "cpuacct": "cg/cpuacct", "memory": "cg/memory/in"}


def test_hybrid_takes_the_version_that_has_the_controllers(machine: Machine) -> None:
    for name in ("cpu", "cpuacct", "memory"):
        machine.mount("cgroup", f"cg/{name}", f"rw,{name}")
    (machine.mount("cgroup2", "cg/unified") / "cgroup.controllers").write_text("hugetlb")
    machine.groups("4:memory:/", "3:cpuacct:/", "2:cpu:/", "0::/")
    assert machine.find().version == 1


def test_memory_without_a_cpu_controller_is_of_no_use(machine: Machine) -> None:
    machine.mount("cgroup", "cg/memory", "rw,memory")
    machine.groups("4:memory:/")
    with pytest.raises(NotUsable, match="neither"):
        machine.find()


def test_v2_our_group_already_hands_down(machine: Machine) -> None:
    own = v2_group(v2_group(machine.mount("cgroup2", "cg")) / "app", handed_down="cpu memory", pids="1\n2")
    machine.groups("0::/app")
    assert machine.find() == Hierarchy(2, {"": own})


def test_v2_our_group_is_made_to_hand_down(machine: Machine) -> None:
    own = v2_group(v2_group(machine.mount("cgroup2", "cg")) / "app")
    machine.groups("0::/app")
    assert machine.find().folders == {"": own}
    assert (own / "cgroup.subtree_control").read_text() == "+cpu +memory"


class Busy:
    """The kernel's rule: a group with processes does not hand controllers down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.busy: set[Path] = set()
        original = Path.write_text

        def write_text(path: Path, text: str) -> int:
            if path.name == "cgroup.subtree_control" and path.parent in self.busy:
                raise OSError(16, "Device or resource busy", str(path))
            if path.name == "cgroup.procs" and text == "0":
                self.busy.discard(path.parent.parent)
            return original(path, text)

        monkeypatch.setattr(Path, "write_text", write_text)


def test_v2_alone_in_our_group_we_move_into_a_leaf(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    own = v2_group(machine.mount("cgroup2", "cg"), pids=f"{os.getpid()}\n")
    machine.groups("0::/")
    Busy(monkeypatch).busy.add(own)
    assert machine.find().folders == {"": own}
    assert (own / "controller.tidesight" / "cgroup.procs").read_text() == "0"
    assert clear_dead_fleets(own) == [], "it is no fleet's group"
    assert (own / "cgroup.subtree_control").read_text() == "+cpu +memory"


def test_v2_with_others_in_our_group_one_above_will_do(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    root = v2_group(machine.mount("cgroup2", "cg"), handed_down="cpu memory pids")
    own = v2_group(v2_group(root / "user.slice") / "session", pids="1\n2")
    machine.groups("0::/user.slice/session")
    Busy(monkeypatch).busy.add(own)
    assert machine.find().folders == {"": root}


@pytest.mark.parametrize("limit", ["cpu_max", "memory_max"])
def test_v2_no_limit_is_left_behind(machine: Machine, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    root = v2_group(machine.mount("cgroup2", "cg"), handed_down="cpu memory")
    own = v2_group(root / "pod", pids="1\n2", **{limit: "50000 100000"})
    machine.groups("0::/pod")
    Busy(monkeypatch).busy.add(own)
    with pytest.raises(NotUsable, match="left behind"):
        machine.find()


def test_v2_limits_are_written_and_swap_is_off(machine: Machine) -> None:
    own = v2_group(machine.mount("cgroup2", "cg"), handed_down="cpu memory")
    machine.groups("0::/")
    written = Hierarchy(2, {"": own}).limits({"": own}, 25_000, 100_000, 64 * MIB)
    assert {file.name: value for file, value, _ in written} == {
        "cpu.max": "25000 100000", "memory.max": "67108864", "memory.swap.max": "0", "memory.oom.group": "1",
        "cpu.weight": "25",
    }  # fmt: skip


def test_v2_usage(tmp_path: Path) -> None:
    values = {
        "cpu.stat": "usage_usec 1500000\nnr_throttled 3\nthrottled_usec 250000",
        "memory.current": "1000", "memory.peak": "3000", "memory.stat": "anon 5\ninactive_file 400",
        "memory.events": "oom 1\noom_kill 2",
    }  # fmt: skip
    for name, text in values.items():
        (tmp_path / name).write_text(text + "\n")
    assert group_usage({"": tmp_path}) == Usage(1.5, 1000, 600, 3000, 0.25, 3, 2)
    (tmp_path / "memory.peak").unlink()  # before Linux 5.19
    usage = group_usage({"": tmp_path})
    assert usage and usage.memory_peak_bytes == 1000


def test_a_group_that_is_gone_has_no_usage(tmp_path: Path) -> None:
    assert group_usage({"": tmp_path}) is None
    assert group_usage(dict.fromkeys(("cpu", "cpuacct", "memory"), tmp_path)) is None
    assert Group().usage() is None


def test_usage_of_a_process_without_a_group() -> None:
    before = process_usage(os.getpid())
    until_s = time.process_time() + 0.1
    while time.process_time() < until_s:
        pass
    after = process_usage(os.getpid())
    assert before and after
    assert 0.05 < after.cpu_s - before.cpu_s < 1
    assert after.memory_peak_bytes >= after.memory_bytes > MIB
    assert process_usage(2**22 + 1) is None


def test_without_cgroups_nothing_is_enforced_and_it_says_so(machine: Machine) -> None:
    machine.groups("0::/")
    found = Cgroups.open(machine.proc)
    assert not found.enforced
    assert "neither cgroup v1 nor v2" in found.reason
    group = found.group("a", 1.0, 64 * MIB)
    assert group.entrances == [] and group.remove()
    found.close()


def test_without_permission_nothing_is_enforced_and_it_says_so(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    v2_group(machine.mount("cgroup2", "cg"), handed_down="cpu memory")
    machine.groups("0::/")

    def refused(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refused)
    found = Cgroups.open(machine.proc)
    assert not found.enforced
    assert "Permission denied" in found.reason and "tidesight-" in found.reason


def test_a_live_fleets_groups_are_left_alone(tmp_path: Path) -> None:
    for name in ("tidesight-1-live", "tidesight-2-dead/i1", "another"):
        (tmp_path / name).mkdir(parents=True)
    lock = os.open(tmp_path / "tidesight-1-live", os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert clear_dead_fleets(tmp_path) == ["tidesight-2-dead"]
        assert sorted(one.name for one in tmp_path.iterdir()) == ["another", "tidesight-1-live"]
    finally:
        os.close(lock)


@pytest.fixture
def real() -> Iterator[Cgroups]:
    opened = Cgroups.open()
    require_enforced(opened)
    yield opened
    opened.close()


def inside(group: Group, code: str) -> "subprocess.Popen[str]":
    command = ["sh", "-c", JOIN, "sh", *group.entrances]
    env = {**os.environ, "PYTHON": sys.executable, "CODE": code}
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE)


def code_of(process: "subprocess.Popen[str]") -> int:
    process.communicate(timeout=60)
    return process.returncode


def test_the_kernel_enforces_the_cpu(real: Cgroups) -> None:
    group = real.group("a", 0.25, 64 * MIB)
    started_s = time.monotonic()
    process = inside(group, "import time\nwhile time.process_time() < 0.3: pass")
    assert code_of(process) == 0
    took_s, usage = time.monotonic() - started_s, group.usage()
    assert usage
    # 0.3 s of CPU at a quarter of one take 1.2 s, of which the first 25 ms and the last are not waited for.
    assert took_s > 0.9
    assert usage.cpu_s < 0.25 * (took_s + 0.2)
    assert usage.cpu_s >= 0.3
    assert usage.throttled_periods >= 3 and usage.throttled_s > 0  # less where others took the CPU anyway
    real.remove(group)


def test_the_process_reads_its_own_limits(real: Cgroups) -> None:
    group = real.group("a", 1.5, 96 * MIB)
    code = "from tidesight.resources import usable_resources as r; print(r().quota_cpus, r().memory_bytes)"
    process = inside(group, code)
    assert process.communicate(timeout=60)[0].split() == ["1.5", str(96 * MIB)]
    real.remove(group)


def test_the_kernel_enforces_the_memory(real: Cgroups) -> None:
    group = real.group("a", 1.0, 64 * MIB)
    assert code_of(inside(group, "held = bytearray(32 << 20)")) == 0
    usage = group.usage()
    assert usage and 32 * MIB < usage.memory_peak_bytes < 64 * MIB and usage.oom_kills == 0
    assert code_of(inside(group, "held = bytearray(128 << 20)")) == -9
    usage = group.usage()
    assert usage and usage.oom_kills == 1 and usage.memory_peak_bytes <= 64 * MIB
    real.remove(group)


def test_what_a_dead_fleet_left_is_ended_and_removed(real: Cgroups) -> None:
    """A fleet whose controller was killed, with a process that outlived it."""
    code = (
        "import subprocess, sys\nfrom tidesight.fleet.cgroups import Cgroups\n"
        "group = Cgroups.open().group('i1', 1.0, 64 << 20)\n"
        'enter = \'for f in "$@"; do echo 0 > "$f"; done; echo in; exec sleep 600\'\n'
        "left = subprocess.Popen(['sh', '-c', enter, 'sh', *group.entrances], stdout=subprocess.PIPE)\n"
        "left.stdout.readline()\nprint(left.pid, *group.entrances, flush=True)\nsys.stdin.read()"
    )
    dead = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert dead.stdout
    pid, *entrances = dead.stdout.readline().split()
    left = os.pidfd_open(int(pid))
    assert pid in Path(entrances[0]).read_text().split()
    other = Cgroups.open()
    try:
        assert Path(entrances[0]).exists(), "its controller lives"
    finally:
        other.close()
    dead.kill()
    dead.communicate(timeout=20)

    Cgroups.open().close()
    assert not any(Path(one).parent.parent.exists() for one in entrances)
    assert select.select([left], [], [], 10)[0], "it has ended"
    os.close(left)


def test_close_leaves_nothing(real: Cgroups) -> None:
    other = Cgroups.open()
    group = other.group("a", 1.0, 64 * MIB)
    process = inside(group, "import time; print('in', flush=True); time.sleep(600)")
    assert process.stdout and process.stdout.readline() == "in\n"
    other.close()
    assert code_of(process) == -9
    assert not any(Path(one).parent.parent.exists() for one in group.entrances)
