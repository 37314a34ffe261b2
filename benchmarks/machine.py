"""What the figures were taken on."""

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tidesight.detection.engines import cpu_has_bf16
from tidesight.resources import usable_resources


def describe() -> dict[str, str]:
    """CPU, cores, memory, kernel, versions; nothing that names the machine."""
    info = Path("/proc/cpuinfo").read_text()
    model = next((line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")), "?")
    flags = next((line.split() for line in info.splitlines() if line.startswith("flags")), [])
    widest = next((name for name in ("avx512_vnni", "avx512f", "avx2", "sse4_2") if name in flags), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ("onnxruntime", "openvino", "opencv-python-headless", "numpy", "uvicorn", "starlette")
    return {
        "CPU": f"{model}, {widest}, {'BF16' if cpu_has_bf16() else 'no BF16'}",
        "usable CPUs": f"{usable_resources().cpus:g}, shared with the load generator",
        "memory": f"{memory:.0f} GiB",
        "Python": platform.python_version(),
        "kernel": platform.release().split("-")[0],
        "packages": ", ".join(filter(None, map(_named, packages))),
    }


def _named(package: str) -> str:
    """Name and version; nothing when it is not installed."""
    with suppress(PackageNotFoundError):
        return f"{package} {version(package)}"
    return ""
