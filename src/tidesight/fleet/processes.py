"""Processes of instances: how one is started afresh, and a handle that no reused process id can mislead.

A process is held by a pidfd: it tells of its end without a thread and without polling, takes signals that can hit no
other process, and works for processes that are not our children (a template's forks).

The seam for other ways to run an instance is `Starter`, which has one method; `container_start.py` is one.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tidesight.errors import TidesightError
from tidesight.fleet.cgroups import Group

# A shell enters the groups and becomes the instance: all that it does counts, its start included.
_ENTER = 'while [ "$1" != -- ]; do echo 0 > "$1" || exit; shift; done; shift; exec "$@"'
_ADDRESS = re.compile(rb"listens on http://(\S+):(\d+)\s")
_MOST_UNREAD_BYTES = 65_536
_MOST_SEARCHED_BYTES = 65_536


class CannotStart(TidesightError):
    """An instance could not be started in this way."""


@dataclass(frozen=True)
class Order:
    """One instance to be started.

    Attributes:
        entrances: Files of control groups to which its process writes "0" before anything else.
        stdout_fd: Its standard output.
        stderr_fd: Its standard error.
        settings: Of `tidesight serve`, of this instance alone, by name.
        name: Of the instance.
    """

    entrances: Sequence[str]
    stdout_fd: int
    stderr_fd: int
    settings: Mapping[str, str] = field(default_factory=dict)
    name: str = ""


class Running(Protocol):
    """An instance that was started, as whoever started it holds it."""

    @property
    def pid(self) -> int | None:
        """Its process; None while that is not known."""
        ...

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens when it has ended."""
        ...

    async def wait(self) -> int | None:
        """Wait for its end, once; its exit code (negative: the signal), or None when that is not known."""
        ...

    async def locate(self) -> Group | None:
        """Call this once it listens, to find what was not known before: `pid`, and its control group.

        Returns:
            None when it has none other than what it was started in.
        """
        ...


class Process:
    """A running process.

    Args:
        pid: Its id.
        pidfd: The descriptor by which it is held; closed by `wait`.
        collect: Called once it has ended: its exit code (negative: the signal), or None when that is not known.
    """

    def __init__(self, pid: int, pidfd: int, collect: Callable[[], Awaitable[int | None]]) -> None:
        self.pid = pid
        self._pidfd = pidfd
        self._collect = collect

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens when it has ended."""
        if self._pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    async def wait(self) -> int | None:
        """Wait for its end, once; its exit code (negative: the signal), or None when that is not known."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self._pidfd, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._pidfd)
        code = await self._collect()
        os.close(self._pidfd)
        self._pidfd = -1
        return code

    async def locate(self) -> None:
        """All is known of it from the start."""


class Starter(Protocol):
    """A way to start an instance."""

    name: str

    async def start(self, order: Order) -> Running:
        """Start it.

        Raises:
            CannotStart: not in this way, and nothing was started.
        """
        ...


class FreshStart:
    """Starts `tidesight serve` as a new process, a child of this one.

    Call it from a thread that lives as long as the fleet: an instance ends with the thread that started it.

    Args:
        arguments: Of `tidesight serve`.
        lifeline_fd: Read end of the lifeline.
    """

    name = "fresh"

    def __init__(self, arguments: Sequence[str], lifeline_fd: int) -> None:
        self._arguments = [*arguments, "--lifeline-fd", str(lifeline_fd)]
        self._lifeline_fd = lifeline_fd

    async def start(self, order: Order) -> Process:
        """Start it."""
        own = [word for name, value in order.settings.items() for word in (f"--{name.replace('_', '-')}", value)]
        command = [sys.executable, "-m", "tidesight", "serve", *self._arguments, *own]
        if order.entrances:
            command = ["/bin/sh", "-c", _ENTER, "sh", *order.entrances, "--", *command]
        return spawn(command, (self._lifeline_fd,), order.stdout_fd, order.stderr_fd)


def spawn(command: Sequence[str], fds: Sequence[int], stdout_fd: int, stderr_fd: int) -> Process:
    """Start a command in a session of its own, so that Ctrl-C in a terminal reaches the controller alone.

    Args:
        command: Program and arguments.
        fds: Descriptors it inherits, under the same numbers.
        stdout_fd: Its standard output.
        stderr_fd: Its standard error.

    Raises:
        CannotStart: the machine has no room for one more process, or there is no such program.
    """
    try:
        child = subprocess.Popen(  # noqa: S603 - ourselves
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout_fd,
            stderr=stderr_fd,
            pass_fds=fds,
            start_new_session=True,
        )
    except OSError as error:
        raise CannotStart(f"cannot start a process: {error}") from None
    try:
        pidfd = os.pidfd_open(child.pid)
    except OSError as error:
        child.kill()
        child.wait()
        raise CannotStart(f"cannot hold a process: {error}") from None

    async def collect() -> int:
        return child.wait()  # it has ended: this only takes what it left

    return Process(child.pid, pidfd, collect)


class Output:
    """What an instance prints: its address is found in it, and all goes to its log. Never makes it wait.

    Standard error goes to the log file directly.

    Args:
        log: File to append to.

    Attributes:
        address: (host, port), once the instance has announced it; cancelled when its output ends before.
    """

    def __init__(self, log: Path) -> None:
        self.stderr_fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._read_fd, self.stdout_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        self._seen = b""
        self._loop = asyncio.get_running_loop()
        self.address: asyncio.Future[tuple[str, int]] = self._loop.create_future()
        self._loop.add_reader(self._read_fd, self._read)

    def handed_over(self) -> None:
        """The instance has its end of the pipe: drop ours, so that its end is seen."""
        if self.stdout_fd >= 0:
            os.close(self.stdout_fd)
            self.stdout_fd = -1

    def close(self) -> None:
        """Take what is left, and close everything."""
        self.handed_over()
        if self._read_fd >= 0:
            self._read()
        if self._read_fd >= 0:
            self._end()
        os.close(self.stderr_fd)

    def _read(self) -> None:
        try:
            data = os.read(self._read_fd, _MOST_UNREAD_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._end()
            return
        with suppress(OSError):  # a full disk is no reason to stop an instance
            os.write(self.stderr_fd, data)
        if not self.address.done():
            self._seen = (self._seen + data)[-_MOST_SEARCHED_BYTES:]
            if found := _ADDRESS.search(self._seen):
                self.address.set_result((found[1].decode().strip("[]"), int(found[2])))

    def _end(self) -> None:
        self._loop.remove_reader(self._read_fd)
        os.close(self._read_fd)
        self._read_fd = -1
        self.address.cancel()
