"""The inside of a template: a process with everything imported and the model loaded, which forks ready instances.

A fork copies one thread. A lock that another one holds would stay locked in the copy for ever, so a template has no
other thread: it is counted before every fork, and with a second one nothing is forked.

A fork shares its memory with the template until it writes to it; that shared part is charged to the template's group.

One message of the channel is one JSON object:

    template -> controller   {"ready": true} or {"unsafe": reason}, once; {"forked": n, "pid": pid} with a pidfd, or
                             {"refused": n, "reason": text}; {"ended": pid, "code": code}
    controller -> template   {"fork": n, "entrances": [...], "settings": {...}} with stdout, stderr, and a pipe: the
                             fork begins when a byte comes through it, and ends when it closes. So no instance runs of
                             which the controller was not told.
"""

import gc
import json
import os
import select
import socket
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from tidesight.fleet.lifeline import end_with

Serve = Callable[[Mapping[str, str]], int]
"""Runs an instance with settings of its own, to its end; the exit code."""

_MAX_MESSAGE_BYTES = 65_536
_FDS = 3


def other_threads(tasks: Path = Path("/proc/self/task")) -> list[str]:
    """Names of this process's threads but for the main one, those of native libraries included.

    Args:
        tasks: Where the kernel lists them (another folder in tests).
    """
    others = []
    for task in tasks.iterdir():
        if task.name != str(os.getpid()):
            others.append((task / "comm").read_text().strip())
    return sorted(others)


class Forker:
    """Forks instances until the controller closes the channel.

    Args:
        channel: A SOCK_SEQPACKET socket to the controller.
        lifeline_fd: Read end of the controller's lifeline, to which each instance is tied too.
        serve: What a fork does.
    """

    def __init__(self, channel: socket.socket, lifeline_fd: int, serve: Serve) -> None:
        self._channel = channel
        self._lifeline_fd = lifeline_fd
        self._serve = serve
        self._children: dict[int, int] = {}  # pidfd: pid

    def run(self) -> None:
        """Say whether forking is safe, and fork when asked to; returns when the controller has gone."""
        gc.collect()
        gc.freeze()  # a collection in a fork would touch, and so copy, every object of the template
        if others := other_threads():
            self._send({"unsafe": _told(others)})
            return
        self._send({"ready": True})
        while True:
            poll = select.poll()
            for fd in (self._channel.fileno(), *self._children):
                poll.register(fd, select.POLLIN)
            for fd, _ in poll.poll():
                if fd in self._children:
                    self._report_end(fd)
                elif not self._obey():
                    return

    def _obey(self) -> bool:
        """Take one request; False when there will be none any more."""
        try:
            data, fds, _, _ = socket.recv_fds(self._channel, _MAX_MESSAGE_BYTES, _FDS)
        except OSError:
            data, fds = b"", []
        if data:
            request = json.loads(data)
            try:
                self._fork(request, fds)
            except OSError as error:
                self._send({"refused": request["fork"], "reason": f"cannot fork: {error}"})
        for fd in fds:
            os.close(fd)
        return bool(data)

    def _fork(self, request: dict[str, Any], fds: list[int]) -> None:
        if others := other_threads():
            self._send({"refused": request["fork"], "reason": _told(others)})
            return
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._be_an_instance(request, *fds)
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = pid
        self._send({"forked": request["fork"], "pid": pid}, [pidfd])

    def _be_an_instance(self, request: dict[str, Any], stdout_fd: int, stderr_fd: int, begin_fd: int) -> NoReturn:
        """From here on as a process that was started for itself."""
        code = 1
        try:
            os.dup2(stdout_fd, 1)
            os.dup2(stderr_fd, 2)
            for entrance in request["entrances"]:
                Path(entrance).write_text("0")
            os.setsid()
            # Its parent is the template, whose end is no reason to stop serving: the lifeline is the controller's.
            end_with(self._lifeline_fd, parent=False)
            begun = os.read(begin_fd, 1)
            for fd in (stdout_fd, stderr_fd, begin_fd, self._channel.detach(), *self._children):
                os.close(fd)
            if begun:
                _forget_the_random_state()
                code = self._serve(request["settings"])
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(OSError):  # a full disk: else a fork would go on as a second template
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)  # not through what the template would do at its end

    def _report_end(self, pidfd: int) -> None:
        pid = self._children.pop(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        self._send({"ended": pid, "code": os.waitstatus_to_exitcode(status)})

    def _send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        with suppress(OSError):  # the controller has gone, which the next poll tells
            socket.send_fds(self._channel, [json.dumps(message).encode()], fds)


def _forget_the_random_state() -> None:
    """Python's `random` seeds itself anew in a fork, NumPy's global state does not."""
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed()


def _told(others: list[str]) -> str:
    return f"{len(others)} threads beside the main one, which a fork would lose: {', '.join(others)}"
