"""Ending with the controller: the kernel ends an instance whose controller is gone, however that came about.

Two means, because each has a hole that the other closes:

- A pipe whose write end the controller alone holds. When it closes, the kernel sends SIGKILL to whoever asked for it
  (`O_ASYNC` with `F_SETSIG`): no thread has to be awake for that, so it also ends an instance that hangs with the GIL
  held. Its hole is a copy of the write end in a process that the controller forked.
- `PR_SET_PDEATHSIG`: the kernel sends SIGKILL when the parent ends. Its hole is that the parent is a *thread*: an
  instance ends with the thread that started it, so that has to be one that lives as long as the fleet.

Both outlive an exec, so any program can be tied: `python -m tidesight.fleet.lifeline FD PROGRAM ARGUMENT...`

Sources: fcntl(2) and pipe(7) on signal-driven I/O, prctl(2) on `PR_SET_PDEATHSIG`. Linux only.
"""

import ctypes
import fcntl
import os
import select
import signal
import sys
from contextlib import suppress

from tidesight.errors import ConfigError

_PR_SET_PDEATHSIG = 1


class Lifeline:
    """The controller's end. Keep it for as long as the instances are to live.

    Attributes:
        fd: Read end, to be inherited by instances; the other end is never inherited.
    """

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe()

    def close(self) -> None:
        """Let go: every process that is tied to it and still runs is killed."""
        for fd in (self._write_fd, self.fd):
            with suppress(OSError):  # closed before
                os.close(fd)
        self._write_fd = self.fd = -1


def end_with(fd: int, *, parent: bool, number: signal.Signals = signal.SIGKILL) -> None:
    """Have this process killed when the other end of a lifeline closes; at once, if it has closed already.

    Args:
        fd: Read end of the lifeline, as it was inherited.
        parent: Also when the thread that started this process ends.
        number: Another signal in place of SIGKILL, for a process that has to clear up; it may come more than once.

    Raises:
        ConfigError: the descriptor is no pipe.
    """
    try:
        # A description of its own: the signal's receiver is set for the description, which an inherited one shares.
        own = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK)
        os.set_inheritable(own, True)  # over an exec; a program that is started from here has a copy of no effect
        fcntl.fcntl(own, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(own, fcntl.F_SETSIG, number)
        fcntl.fcntl(own, fcntl.F_SETFL, fcntl.fcntl(own, fcntl.F_GETFL) | os.O_ASYNC)
    except OSError as error:
        raise ConfigError(f"lifeline_fd: {fd} is no pipe: {error.strerror}", field="lifeline_fd") from None
    if parent:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if _is_closed(own):  # before the signal was asked for
        os.kill(os.getpid(), number)


def _is_closed(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, 0)  # a hang-up is always reported
    return bool(poll.poll(0))


def main() -> None:
    """Become a program that ends with the controller."""
    end_with(int(sys.argv[1]), parent=True)
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - what the controller says


if __name__ == "__main__":
    main()
