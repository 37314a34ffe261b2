"""Instances as containers: what Docker or Podman is told. The same words for both, but for who the user is.

A container has the host's network, so that it listens on the loopback like any instance; else nothing of the host but
the files it is given: a read-only root, no capabilities, a user without rights.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

RUNTIMES = ("docker", "podman")
LABEL = "tidesight.fleet"
_IMAGE_USER = 65532  # of deploy/Dockerfile
_ROOTS_HOME = Path("/root")


@dataclass(frozen=True)
class Mount:
    """A file or folder of the host that is at the same path in the container.

    Attributes:
        path: Absolute.
        writable: Whether it is.
    """

    path: Path
    writable: bool = False


@dataclass(frozen=True)
class Limits:
    """What the runtime enforces.

    Attributes:
        cpu: CPUs.
        memory_bytes: Without swap.
    """

    cpu: float
    memory_bytes: int


@dataclass(frozen=True)
class Containers:
    """How the instances of a fleet run as containers.

    Attributes:
        runtime: One of `RUNTIMES`, which is also its program.
        image: Whose entry point is `tidesight serve`.
        fleet: The fleet's folder, by which its containers are known to the next fleet there.
        options: Further ones of `docker run` or `podman run`.
        mounts: What every instance sees.
        environment: Names of variables that are handed on with their values, which no list of processes shows.
    """

    runtime: str
    image: str
    fleet: Path
    options: Sequence[str] = ()
    mounts: Sequence[Mount] = ()
    environment: Sequence[str] = ()

    @property
    def label(self) -> str:
        """Of all containers of the fleet: its folder is held by one fleet at a time, whatever its name."""
        return f"{LABEL}={self.fleet}"

    @property
    def way(self) -> Path:
        """An empty folder that stands for root's home, which in an image is closed to its user, on the way to files."""
        return self.fleet / "way"


def container_user() -> tuple[int, int]:
    """User and group inside: root stands in for the image's own; others are themselves, and own what it writes."""
    return (_IMAGE_USER, _IMAGE_USER) if os.geteuid() == 0 else (os.geteuid(), os.getegid())


def run_command(how: Containers, limits: Limits, name: str, serve: Sequence[str], own: Sequence[Mount]) -> list[str]:
    """The command that runs one instance in the foreground.

    Args:
        how: What is the same for all.
        limits: Of CPU and memory.
        name: Of the container.
        serve: Arguments of `tidesight serve`.
        own: What this instance alone sees.
    """
    uid, gid = container_user()
    mounts = [*how.mounts, *own]
    # The logs are the fleet's own; the image is not fetched behind the user's back.
    settled = {
        "name": name, "label": how.label, "network": "host", "log-driver": "none", "pull": "never",
        "cpus": f"{limits.cpu:g}", "memory": f"{limits.memory_bytes}b", "memory-swap": f"{limits.memory_bytes}b",
        "user": f"{uid}:{gid}", "cap-drop": "ALL", "security-opt": "no-new-privileges", "tmpfs": "/tmp",  # noqa: S108
    }  # fmt: skip
    words = [word for key, value in settled.items() for word in (f"--{key}", value)]
    if how.runtime == "podman" and uid != _IMAGE_USER:
        words += ["--userns", "keep-id"]  # without root: the user inside is the user outside
    if any(one.path.is_relative_to(_ROOTS_HOME) for one in mounts):
        words += ["--volume", f"{how.way}:{_ROOTS_HOME}"]
    for one in mounts:
        words += ["--volume", f"{one.path}:{one.path}{'' if one.writable else ':ro'}"]
    for variable in how.environment:
        words += ["--env", variable]
    return [how.runtime, "run", *words, "--read-only", *how.options, how.image, *serve]


def serve_words(settings: Mapping[str, str]) -> list[str]:
    """Settings of `tidesight serve` as its arguments."""
    return [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", value)]
