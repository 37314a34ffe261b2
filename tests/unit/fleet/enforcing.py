"""Whether control groups can be had here, found out without the code under test: where they can, it must use them."""

import os
from pathlib import Path

import pytest

from tidesight.fleet.cgroups import Cgroups

V1 = ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/memory")


def require_enforced(cgroups: Cgroups) -> None:
    """Skip where this machine lets nobody make groups; fail where it does and they were not made."""
    if not cgroups.enforced and not version_1_lets_us():
        pytest.skip(f"needs cgroups that we may make: {cgroups.reason}")
    assert cgroups.enforced, cgroups.reason


def version_1_lets_us() -> bool:
    try:
        for mounted in V1:
            folder = Path(mounted, f"probe-{os.getpid()}")
            folder.mkdir()
            folder.rmdir()
    except OSError:
        return False
    return True
