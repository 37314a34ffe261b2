"""What a run was made with and on: nothing that names the machine."""

import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tidesight.resources import usable_resources


def machine(proc: Path = Path("/proc")) -> dict[str, Any]:
    """CPU model, usable CPUs, memory, kernel.

    Args:
        proc: The proc file system (another folder in tests).
    """
    try:
        lines = (proc / "cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
    return {
        "cpu": model or platform.machine(),
        "usable_cpus": usable_resources().cpus,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release().split("-")[0],
    }


def versions(packages: Iterable[str] = ()) -> dict[str, str]:
    """Of Tidesight, Python and those of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in ("tidesight", *packages):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
