"""CPU and memory of an instance, enforced by the kernel: a control group for each, version 1 or 2.

    <this process's own group>/tidesight-<fleet>/<instance>

Limits are those a container gets: a CPU quota for each 100 ms (as Kubernetes sets it), memory without swap. They lie
below the group that this process is in, so that its limits hold too. A fleet locks its folders (`flock`); what lies
unlocked is of a fleet that has ended, and is cleared by the next one, whatever still runs in it.

Where there is no permission, `Cgroups.enforced` is False and `reason` says why; nothing here raises.

Sources: Linux `Documentation/admin-guide/cgroup-v2.rst`, `cgroup-v1/memory.rst`, `scheduler/sched-bwc.rst`.
"""

import fcntl
import os
import secrets
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tidesight.fleet.cgroup_mounts import Hierarchy, NotUsable, find_hierarchies
from tidesight.fleet.usage import Usage, group_usage
from tidesight.resources import usable_resources

PREFIX = "tidesight-"
_PERIOD_US = 100_000
_LEAST_QUOTA_US = 1_000  # the kernel's own
_REMOVAL_LIMIT_S = 2.0
_POLL_S = 0.01


@dataclass(frozen=True)
class Group:
    """The control group of one instance.

    Attributes:
        folders: One (version 2), or one for each of cpu, cpuacct and memory (version 1); empty when not enforced.
    """

    folders: dict[str, Path] = field(default_factory=dict)

    @property
    def entrances(self) -> list[str]:
        """Files to which a process writes "0" to enter."""
        return [str(folder / "cgroup.procs") for folder in _distinct(self.folders)]

    def usage(self) -> Usage | None:
        """What its processes took since it was made; None where there is no group, or no longer."""
        return group_usage(self.folders) if self.folders else None

    def kill(self) -> None:
        """End every process in it."""
        for folder in _distinct(self.folders):
            _kill_all(folder)

    def remove(self) -> bool:
        """Remove it, which the kernel allows once nothing runs in it; whether it is gone."""
        return all([_removed(folder) for folder in _distinct(self.folders)])  # each of them, whatever the first says


class Cgroups:
    """The control groups of one fleet.

    Attributes:
        enforced: Whether instances get their CPU and memory and no more.
        reason: Why not; where they are, when they do.
    """

    def __init__(self, hierarchy: Hierarchy | None, reason: str) -> None:
        self.enforced = False
        self.reason = reason
        self._folders: dict[str, Path] = {}
        self._locks: list[int] = []
        self._leftover: list[Group] = []
        self._hierarchy = hierarchy
        if hierarchy is not None:
            try:
                self._found(hierarchy)
            except OSError as error:
                self.close()
                self.reason = _why(error)

    @classmethod
    def open(cls, proc: Path = Path("/proc")) -> "Cgroups":
        """Find out what this machine allows, clear what dead fleets left, and make this fleet's folders.

        Args:
            proc: The proc file system (another folder in tests).
        """
        try:
            return cls(find_hierarchies(proc), "")
        except NotUsable as error:
            return cls(None, str(error))
        except OSError as error:
            return cls(None, _why(error))

    def _found(self, hierarchy: Hierarchy) -> None:
        name = f"{PREFIX}{os.getpid()}-{secrets.token_hex(3)}"
        for folder in _distinct(hierarchy.folders):
            clear_dead_fleets(folder)
            made = folder / name
            self._folders |= {key: made for key, parent in hierarchy.folders.items() if parent == folder}
            self._locks.append(_made_and_locked(made))
            hierarchy.hand_down(made)
            file, weight = hierarchy.weight(made, usable_resources().cpus)
            if file.exists():
                file.write_text(weight)
        # Whether limits are accepted is found out now, and not with the first instance.
        probe = self._made("probe", 0.1, 64 * 2**20)
        probe.remove()
        self.enforced = True
        self.reason = f"cgroup v{hierarchy.version}: {next(iter(self._folders.values()))}"

    def group(self, name: str, cpu: float, memory_bytes: int) -> Group:
        """A group with limits for one instance; one without folders when nothing is enforced.

        Args:
            name: Of the instance.
            cpu: CPUs, > 0; 0.25 is a quarter of one.
            memory_bytes: Of all its processes, page cache included; swap is not used.
        """
        if not self.enforced:
            return Group()
        try:
            return self._made(name, cpu, memory_bytes)
        except OSError as error:  # such as a limit beyond that of the group above
            self.reason, self.enforced = _why(error), False
            return Group()

    def _made(self, name: str, cpu: float, memory_bytes: int) -> Group:
        assert self._hierarchy is not None
        group = Group({key: folder / name for key, folder in self._folders.items()})
        try:
            for folder in _distinct(group.folders):
                folder.mkdir(exist_ok=True)
            quota_us = max(_LEAST_QUOTA_US, round(cpu * _PERIOD_US))
            for file, value, needed in self._hierarchy.limits(group.folders, quota_us, _PERIOD_US, memory_bytes):
                if needed or file.exists():
                    file.write_text(value)
        except OSError:
            group.remove()
            raise
        return group

    def remove(self, group: Group) -> None:
        """Remove a group whose processes have ended; the kernel may let go of them a little later."""
        waiting, self._leftover = [*self._leftover, group], []
        self._leftover = [one for one in waiting if not one.remove()]

    def close(self) -> None:
        """End what still runs in any of the groups, and remove them; waits for the kernel, 2 s at most."""
        for folder in _distinct(self._folders):
            _clear(folder)
        for lock in self._locks:
            os.close(lock)
        self._locks, self._folders, self.enforced = [], {}, False


def _made_and_locked(folder: Path) -> int:
    """Make a group and lock it; made once more when another fleet, starting now, took it for a dead one's."""
    while True:
        folder.mkdir(exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return lock
        os.close(lock)


def clear_dead_fleets(folder: Path) -> list[str]:
    """End and remove the groups of fleets that are gone.

    Args:
        folder: A group under which fleets make theirs.

    Returns:
        The names of what was cleared.
    """
    cleared = []
    for left in sorted(folder.glob(f"{PREFIX}*")):
        try:
            lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # its fleet lives
            continue
        else:
            _clear(left)
            cleared.append(left.name)
        finally:
            os.close(lock)
    return cleared


def _clear(fleet: Path) -> None:
    """Kill what is in a fleet's groups, and remove them and the fleet's own."""
    until_s = time.monotonic() + _REMOVAL_LIMIT_S
    while not _removed(fleet) and time.monotonic() < until_s:
        for group in _subfolders(fleet):
            _kill_all(group)
            _removed(group)
        time.sleep(_POLL_S)


def _kill_all(folder: Path) -> None:
    with suppress(OSError):  # before Linux 5.14 and in version 1 there is no such file
        if (folder / "cgroup.kill").exists():
            (folder / "cgroup.kill").write_text("1")
            return
    with suppress(OSError):
        for pid in (folder / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(int(pid), signal.SIGKILL)


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _subfolders(folder: Path) -> list[Path]:
    try:
        return [one for one in folder.iterdir() if one.is_dir()]
    except OSError:
        return []


def _distinct(folders: dict[str, Path]) -> Iterable[Path]:
    return dict.fromkeys(folders.values())


def _why(error: OSError) -> str:
    return f"{error.filename or 'cgroups'}: {error.strerror or error}"
