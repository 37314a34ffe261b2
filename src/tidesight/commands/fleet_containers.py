"""From what `tidesight up` is told to how its instances run as containers, and what of this machine they see."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tidesight.errors import ConfigError
from tidesight.settings import PREFIX, SECRETS, serve_environment

if TYPE_CHECKING:
    from tidesight.fleet.containers import Containers, Mount

_FILES = ("model", "labels", "api_key_file")
_OF_PROCESSES = ("host", "port", "spool", "lifeline_fd")  # set by the fleet, or of no use in a container


@dataclass(frozen=True)
class ContainerWishes:
    """What `tidesight up` was told about containers.

    Attributes:
        runtime: docker or podman.
        image: Name.
        options: Further ones of the runtime's `run`.
        settings: Of `tidesight serve`, by name.
    """

    runtime: str
    image: str
    options: Sequence[str]
    settings: Mapping[str, str]


def container_wishes(
    runtime: str | None, image: str | None, options: str | None, given: Mapping[str, object]
) -> ContainerWishes | None:
    """What was asked for; None where instances are to be processes.

    Args:
        runtime: docker or podman.
        image: Name.
        options: Further ones of the runtime's `run`, written as for a shell.
        given: Settings of the instances; None where not. They go before those of the environment, which a container
            does not inherit.

    Raises:
        ConfigError: no such runtime, or one option without the other.
    """
    from tidesight.fleet.containers import RUNTIMES

    if runtime is None:
        if image:
            raise ConfigError("--image needs --runtime docker or podman", field="runtime")
        return None
    if runtime not in RUNTIMES:
        raise ConfigError(f"--runtime: expected {' or '.join(RUNTIMES)}, got {runtime!r}", field="runtime")
    if not image:
        raise ConfigError("--runtime needs --image, the name of an image of deploy/Dockerfile", field="image")
    try:
        words = shlex.split(options or "")
    except ValueError as error:
        raise ConfigError(f"--runtime-args: {error}", field="runtime_args") from None
    left_out = {*_OF_PROCESSES, *SECRETS}
    inherited = {name: value for name, value in serve_environment().items() if name not in left_out}
    told = {name: str(value) for name, value in given.items() if value is not None}
    return ContainerWishes(runtime, image, words, inherited | told)


def containers(wishes: ContainerWishes, folder: Path) -> "tuple[Containers, list[str]]":
    """How instances run as containers, and their arguments with each path absolute.

    Args:
        wishes: What was asked for.
        folder: Of the fleet; results go there when no store is named.

    Raises:
        ConfigError: a path that cannot be mounted, or not be used by the user inside.
    """
    from tidesight.fleet.containers import Containers, Mount, serve_words

    settings = dict(wishes.settings)
    mounts = []
    for name in _FILES:
        if name in settings:
            mounts.append(Mount(Path(settings[name]).absolute()))
            settings[name] = str(mounts[-1].path)
    if (store := _store_folder(settings.get("store") or str(folder.absolute() / "results"))) is not None:
        mounts.append(Mount(store, writable=True))
        settings["store"] = str(store)
    for mount in mounts:
        _check(mount)
    secrets = [f"{PREFIX}{name.upper()}" for name in serve_environment() if name in SECRETS]
    how = Containers(wishes.runtime, wishes.image, folder.absolute(), wishes.options, mounts, secrets)
    return how, serve_words(settings)


def _store_folder(store: str) -> Path | None:
    """The folder results go to, made when it is missing; None when they go elsewhere."""
    from tidesight.fleet.container_start import give
    from tidesight.results.store import local_folder

    path = local_folder(store)
    if path is not None and not path.exists():
        try:
            give(path)
        except OSError as error:
            raise ConfigError(f"--store: cannot make {path}: {error.strerror}", field="store") from None
    return path


def _check(mount: "Mount") -> None:
    """Whether a container's user may use a path, which the runtime finds whatever is above it.

    Raises:
        ConfigError: not.
    """
    from tidesight.fleet.containers import container_user

    if ":" in str(mount.path):
        raise ConfigError(f"{mount.path}: a container cannot be given a path with ':'; rename it", field="runtime")
    uid, gid = container_user()
    try:
        found = mount.path.stat()
    except OSError as error:
        raise ConfigError(f"{mount.path}: {error.strerror}", field="runtime") from None
    wanted = 0o7 if mount.writable else 0o4
    shift = 6 if found.st_uid == uid else 3 if found.st_gid == gid else 0
    if (found.st_mode >> shift) & wanted != wanted:
        what = "written" if mount.writable else "read"
        told = f"{mount.path} cannot be {what} by user {uid}, as which containers run: chown {uid}:{gid} {mount.path}"
        raise ConfigError(told, field="runtime")
