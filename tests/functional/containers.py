"""The image of deploy/Dockerfile, built without a registry: a base from Debian's packages, wheels fetched once.

The base and the wheels are kept in the user's cache folder, so that only the first build takes minutes.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CACHE = Path.home() / ".cache" / "tidesight-tests"
BASE_PACKAGES = "python3-venv,ca-certificates"
BASE_PYTHON = "3.11"  # of Debian 12
LIMITS = ("--ulimit", "nofile=4096:4096", "--ulimit", "nproc=512:512", "--pids-limit", "256")


def missing() -> str:
    """Why no image can be built and run here, or nothing."""
    if os.geteuid() != 0:
        return "needs root, to build without a daemon"
    needed = ("buildah", "podman", "runc")
    absent = [one for one in needed if shutil.which(one) is None]
    if not any(map(shutil.which, ("mmdebstrap", "debootstrap"))):
        absent.append("mmdebstrap")
    return f"needs {', '.join(absent)}: apt install {' '.join(absent)}" if absent else ""


@dataclass(frozen=True)
class Engine:
    """Images and containers of one test, in a folder of their own."""

    folder: Path

    def run(self, *arguments: str, check: bool = True, program: str = "podman") -> str:
        """Run podman or buildah; what it printed."""
        places = ["--root", str(self.folder / "images"), "--runroot", str(self.folder / "run")]
        done = subprocess.run([program, *places, *arguments], capture_output=True, text=True, check=False, timeout=500)
        assert done.returncode == 0 or not check, (
            f"{program} {' '.join(arguments)}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
        return done.stdout

    def start(self, name: str, port: int, *options: str) -> None:
        """Start the image as it is meant to run: read-only, without rights, with limits."""
        hardened = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "all", "--security-opt", "no-new-privileges")
        # The host's network, as no plug-ins of a bridge are to be had; so it listens on the loopback alone.
        network = ("--network", "host", "-e", "TIDESIGHT_HOST=127.0.0.1", "-e", f"PORT={port}")
        self.run(
            "--runtime",
            "runc",
            "run",
            "-d",
            "--name",
            name,
            *hardened,
            *network,
            *LIMITS,
            *options,
            "localhost/tidesight",
        )

    def inspect(self, name: str) -> dict[str, Any]:
        """All about a container or an image."""
        found: dict[str, Any] = json.loads(self.run("inspect", name))[0]
        return found

    def build(self) -> None:
        """The base, and the image on it."""
        self.run("import", "-q", str(_base()), "localhost/base")
        configuration = self.folder / "pip.conf"
        configuration.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
        self.run(
            "bud", "--isolation", "chroot", "--build-arg", "BASE=localhost/base", "--build-arg", "VERSION=test",
            "-v", f"{_wheels()}:/wheels:ro", "-v", f"{configuration}:/etc/pip.conf:ro",
            "-f", str(ROOT / "deploy/Dockerfile"), "-t", "localhost/tidesight", str(ROOT),
            program="buildah",
        )  # fmt: skip

    def close(self) -> None:
        """Remove all of it."""
        self.run("rm", "-f", "-t", "0", "-a", check=False)
        self.run("rmi", "-f", "-a", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def _base() -> Path:
    """A Debian with Python: what stands in for python:slim, which is in a registry."""
    file = CACHE / "debian-12.tar"
    if file.exists():
        return file
    CACHE.mkdir(parents=True, exist_ok=True)
    made, include = file.with_suffix(".part"), f"--include={BASE_PACKAGES}"
    if shutil.which("mmdebstrap"):
        _quietly("mmdebstrap", "--variant=minbase", "--format=tar", include, "bookworm", str(made))
    else:
        _quietly("debootstrap", "--variant=minbase", include, "bookworm", str(CACHE / "root"))
        _quietly("tar", "-C", str(CACHE / "root"), "-cf", str(made), ".")
        shutil.rmtree(CACHE / "root")
    return made.rename(file)


def _wheels() -> Path:
    """Every wheel that the image is made of."""
    constraints = ROOT / "constraints.txt"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["gcs"],
        *project["build-system"]["requires"],
        "cyclonedx-bom",
    ]
    name = hashlib.sha256(constraints.read_bytes() + repr(wanted).encode()).hexdigest()[:12]
    folder = CACHE / f"wheels-{name}"
    if not folder.is_dir():
        made = folder.with_suffix(".part")
        which = ("--only-binary", ":all:", "--python-version", BASE_PYTHON, "-c", str(constraints))
        _quietly(sys.executable, "-m", "pip", "download", "-q", "-d", str(made), *which, *wanted)
        made.rename(folder)
    return folder


def _quietly(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, f"{command[0]}:\n{done.stderr[-3000:]}"
