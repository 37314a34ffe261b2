"""Where control groups can be made: the hierarchies that are mounted, and the group this process is in.

Version 1 mounts controllers one by one, version 2 all in one place; in a hybrid both are there, and each controller is
in one of them. Only a place that has cpu *and* memory is of use.

Sources: proc(5) on `mountinfo`, cgroups(7), `Documentation/admin-guide/cgroup-v2.rst` ("No Internal Process
Constraint": in version 2 a group that hands controllers down holds no processes itself, but for the root).
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_CONTROLLERS = ("cpu", "memory")
_V1 = ("cpu", "cpuacct", "memory")
_OWN_LEAF = "controller.tidesight"  # not as fleets' groups begin, which are cleared when nobody locks them


class NotUsable(Exception):
    """Why no groups can be made here."""


@dataclass(frozen=True)
class Hierarchy:
    """A place for groups with limits of CPU and memory.

    Attributes:
        version: 1 or 2.
        folders: By controller: the group under which to make others. Version 2 has one, with the key "".
    """

    version: int
    folders: dict[str, Path]

    def hand_down(self, folder: Path) -> None:
        """Let the groups under this one have limits."""
        if self.version == 2:
            _hand_down(folder)

    def weight(self, folder: Path, cpus: float) -> tuple[Path, str]:
        """What gives a group its share of CPUs that others want too: as much as so many CPUs' worth of processes.

        Without it a fleet of many instances weighs as much as one busy process beside it; Kubernetes sets it likewise.
        """
        if self.version == 2:
            return folder / "cpu.weight", str(min(10_000, max(1, round(100 * cpus))))
        return folder / "cpu.shares", str(min(262_144, max(2, round(1024 * cpus))))

    def limits(
        self, group: dict[str, Path], quota_us: int, period_us: int, memory_bytes: int
    ) -> list[tuple[Path, str, bool]]:
        """What to write into a group's files, in order: (file, value, whether there has to be such a file)."""
        if self.version == 2:
            folder = group[""]
            return [
                (folder / "cpu.max", f"{quota_us} {period_us}", True),
                (folder / "memory.max", str(memory_bytes), True),
                (folder / "memory.swap.max", "0", False),
                (folder / "memory.oom.group", "1", False),
                (*self.weight(folder, quota_us / period_us), False),
            ]
        cpu, memory = group["cpu"], group["memory"]
        return [
            (cpu / "cpu.cfs_period_us", str(period_us), True),
            (cpu / "cpu.cfs_quota_us", str(quota_us), True),
            (memory / "memory.limit_in_bytes", str(memory_bytes), True),
            (memory / "memory.memsw.limit_in_bytes", str(memory_bytes), False),
            (memory / "memory.swappiness", "0", False),
            (*self.weight(cpu, quota_us / period_us), False),
        ]


def find_hierarchies(proc: Path = Path("/proc")) -> Hierarchy:
    """The place for groups of this process.

    Raises:
        NotUsable: there is none, with the reason.
        OSError: what is there may not be used.
    """
    own = dict(_groups(proc, "self"))
    mounts = list(_mounts(proc))
    v1 = {}
    for name in _V1:
        for kind, root, mounted, options in mounts:
            if kind == "cgroup" and name in options.split(",") and name not in v1:
                v1[name] = _own_folder(mounted, root, own.get(name, "/"))
    if len(v1) == len(_V1):
        return Hierarchy(1, v1)
    for kind, root, mounted, _ in mounts:
        if kind == "cgroup2" and _has_both(mounted / "cgroup.controllers"):
            return Hierarchy(2, {"": _v2_base(_own_folder(mounted, root, own.get("", "/")), mounted)})
    raise NotUsable("neither cgroup v1 nor v2 with the cpu and memory controllers is mounted")


def groups_of(pid: int, part: str, proc: Path = Path("/proc")) -> dict[str, Path]:
    """The groups of another process, such as a container's, by controller as in `Hierarchy.folders`.

    Args:
        pid: Its id.
        part: What their paths have to contain, as the id may be one of another machine.
        proc: The proc file system.

    Returns:
        Nothing where they cannot be seen.
    """
    of_it = dict(_groups(proc, str(pid)))
    found: dict[str, Path] = {}
    for kind, root, mounted, options in _mounts(proc):
        names = [""] if kind == "cgroup2" else [name for name in _V1 if name in options.split(",")]
        for name in names:
            path = of_it.get(name, "")
            folder = mounted / path.removeprefix(root.rstrip("/")).strip("/")
            if part in path and folder.is_dir():
                found.setdefault(name, folder)
    if all(name in found for name in _V1):
        return {name: found[name] for name in _V1}
    return {"": found[""]} if "" in found and (found[""] / "memory.current").exists() else {}


def _mounts(proc: Path) -> Iterator[tuple[str, str, Path, str]]:
    """(type, root of the mount within the hierarchy, where it is, super block options) of each."""
    for line in _read(proc / "self" / "mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ")[:3]
        if kind in ("cgroup", "cgroup2"):
            root, mounted = before.split(" ")[3:5]
            yield kind, root, Path(mounted.replace("\\040", " ")), options


def _groups(proc: Path, who: str) -> Iterator[tuple[str, str]]:
    """(controller, path) of the groups a process is in; the unified hierarchy has the controller ""."""
    for line in _read(proc / who / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, path


def _own_folder(mounted: Path, root: str, path: str) -> Path:
    """This process's group; in a container, which may read the host's path, the mount is all it has."""
    inside = path.removeprefix(root.rstrip("/")) if path.startswith(root) else "/"
    folder = mounted / inside.strip("/")
    return folder if ".." not in folder.parts and folder.is_dir() else mounted


def _v2_base(own: Path, mounted: Path) -> Path:
    """The nearest group that hands down cpu and memory, or can be made to.

    That is our own when it may: without processes, or when we are alone in it and move into a leaf. Else one above,
    as long as no limit is left behind.
    """
    with suppress(OSError):
        _hand_down(own)
        return own
    if _read(own / "cgroup.procs").split() == [str(os.getpid())]:
        leaf = own / _OWN_LEAF
        leaf.mkdir(exist_ok=True)
        (leaf / "cgroup.procs").write_text("0")
        _hand_down(own)
        return own
    folder = own
    while folder != mounted:
        if any(_read(folder / name).split()[:1] not in ([], ["max"]) for name in ("cpu.max", "memory.max")):
            raise NotUsable(f"{own} holds other processes, and the limits of {folder} would be left behind")
        folder = folder.parent
        if _has_both(folder / "cgroup.subtree_control"):
            return folder
    raise NotUsable(f"{own} holds other processes, and none above it hands down cpu and memory")


def _hand_down(folder: Path) -> None:
    file = folder / "cgroup.subtree_control"
    if not _has_both(file):
        file.write_text(" ".join(f"+{name}" for name in _CONTROLLERS))


def _has_both(file: Path) -> bool:
    return set(_CONTROLLERS) <= set(_read(file).split())


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
