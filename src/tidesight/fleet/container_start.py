"""Starting an instance as a container of Docker or Podman; `containers.py` has what it is told.

Each container has a process of ours beside it (`container_watch.py`), which is held as any instance's process is.
"""

import asyncio
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tidesight.errors import ConfigError, Unavailable
from tidesight.fleet.cgroup_mounts import groups_of
from tidesight.fleet.cgroups import Group
from tidesight.fleet.container_watch import KILL, ask, remove
from tidesight.fleet.containers import Containers, Limits, Mount, container_user, run_command, serve_words
from tidesight.fleet.processes import Order, Process, spawn


class ContainerProcess:
    """A container, held by the process beside it.

    Args:
        watcher: That process.
        runtime: Program.
        name: Of the container.

    Attributes:
        pid: The instance's own, once it listens and where it can be seen from here; or None.
    """

    def __init__(self, watcher: Process, runtime: str, name: str) -> None:
        self.pid: int | None = None
        self._watcher = watcher
        self._runtime = runtime
        self._name = name
        self._listens = False

    def send(self, number: signal.Signals) -> None:
        """Send it SIGTERM or SIGKILL.

        Before it listens it has nothing to finish, and as the first process of a container it would not notice
        SIGTERM: it is killed then.
        """
        self._watcher.send(number if number == signal.SIGTERM and self._listens else KILL)

    async def wait(self) -> int | None:
        """Wait for the end of both; the container's exit code."""
        code = await self._watcher.wait()
        if code is None or code < 0:  # it was killed, and could not clear up
            await asyncio.to_thread(remove, self._runtime, self._name)
            return code
        return 128 - code if code > 128 else code

    async def locate(self) -> Group | None:
        """Find its process and control group; where they cannot be seen, its CPU and memory are not known."""
        self._listens = True
        asked = await asyncio.to_thread(ask, self._runtime, "inspect", "-f", "{{.State.Pid}} {{.Id}}", self._name)
        pid, _, identity = asked.stdout.strip().partition(" ")
        folders = groups_of(int(pid), identity) if pid.isdecimal() and identity else {}
        if not folders:
            return None
        self.pid = int(pid)
        return Group(folders)


class ContainerStart:
    """Starts `tidesight serve` in a new container.

    Call it from a thread that lives as long as the fleet.

    Args:
        how: What is the same for all instances.
        limits: Of each.
        arguments: Of `tidesight serve`.
        lifeline_fd: Read end of the lifeline.
    """

    def __init__(self, how: Containers, limits: Limits, arguments: Sequence[str], lifeline_fd: int) -> None:
        self.name = how.runtime
        self._how = how
        self._limits = limits
        self._arguments = arguments
        self._lifeline_fd = lifeline_fd
        # A watcher of the fleet before this one may be about to remove its containers: none of ours has such a name.
        self._run = secrets.token_hex(3)

    async def open(self) -> None:
        """Find out whether containers can be run, and remove what a dead fleet left.

        Raises:
            ConfigError: there is no such program, or no such image.
            Unavailable: the runtime does not work.
        """
        how, runtime = self._how, self._how.runtime
        if shutil.which(runtime) is None:
            told = f"--runtime: {runtime} is not installed; install it, or leave --runtime out to run processes"
            raise ConfigError(told, field="runtime")
        left = await asyncio.to_thread(ask, runtime, "ps", "-aq", "--filter", f"label={how.label}")
        if left.returncode:
            raise Unavailable(f"{runtime} does not work here: {_last_line(left.stderr)}")
        await asyncio.to_thread(remove, runtime, *left.stdout.split())
        found = await asyncio.to_thread(ask, runtime, "image", "inspect", "-f", "{{.Id}}", how.image)
        if found.returncode:
            told = f"--image: {runtime} has no image {how.image!r}; build it ({runtime} build -f deploy/Dockerfile " \
                f"-t {how.image} .) or fetch it ({runtime} pull {how.image})"  # fmt: skip
            raise ConfigError(told, field="image")
        how.way.mkdir(parents=True, exist_ok=True)
        how.way.chmod(0o755)

    async def start(self, order: Order) -> ContainerProcess:
        """Start it.

        Raises:
            CannotStart: the machine has no room for one more process.
            OSError: its spool cannot be made.
        """
        name = f"tidesight-{self._how.fleet.name}-{order.name}-{self._run}"
        own = []
        if spool := order.settings.get("spool"):
            give(Path(spool))
            own.append(Mount(Path(spool), writable=True))
        serve = [*self._arguments, *serve_words(order.settings)]
        command = run_command(self._how, self._limits, name, serve, own)
        told = [str(self._lifeline_fd), name, str(self._how.fleet), *command]
        watcher = spawn(
            [sys.executable, "-m", "tidesight.fleet.container_watch", *told],
            (self._lifeline_fd,),
            order.stdout_fd,
            order.stderr_fd,
        )
        return ContainerProcess(watcher, self._how.runtime, name)


def give(folder: Path) -> None:
    """Make a folder of ours, and let it with all that is in it belong to the user inside containers.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        for one in (folder, *folder.rglob("*")):
            os.chown(one, *container_user(), follow_symlinks=False)


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else "it does not say why"
