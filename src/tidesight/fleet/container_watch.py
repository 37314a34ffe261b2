"""The process beside a container: its exit code is the container's, and it never leaves the container behind.

    python -m tidesight.fleet.container_watch LIFELINE_FD NAME FOLDER RUNTIME run ... --name NAME ... IMAGE ...

The client of Docker or Podman runs in the foreground as its child, which passes on output and signals. But a client
that is killed leaves its container running; so whoever has to end with the controller is this process: when the
lifeline closes, or SIGUSR1 comes, it has the runtime kill the container. SIGTERM goes to the container.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from tidesight.fleet.lifeline import end_with

KILL = signal.SIGUSR1
_ASKED_LIMIT_S = 20.0
_KILL_LIMIT_S = 10.0
_POLL_S = 0.2
_KILLED = 128 + signal.SIGKILL
_NOT_FOUND = 127


def ask(runtime: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """What a runtime says to a command; blocks.

    Args:
        runtime: Its program.
        arguments: Of it.
    """
    command = [runtime, *arguments]
    try:
        return subprocess.run(  # noqa: S603 - the user's own runtime
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_ASKED_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer within {_ASKED_LIMIT_S:g} s")
    except OSError as error:
        return subprocess.CompletedProcess(command, _NOT_FOUND, "", f"{runtime}: {error.strerror}")


def remove(runtime: str, *names: str) -> None:
    """Kill and remove containers, whichever of them there are; blocks."""
    if names:
        ask(runtime, "kill", *names)  # first, as Podman's `rm -f` would wait for each to end by itself
        ask(runtime, "rm", "-f", *names)


def watch(lifeline_fd: int, name: str, folder: Path, command: Sequence[str]) -> int:
    """Run a container to its end, and remove it.

    Args:
        lifeline_fd: Read end of the lifeline.
        name: Of the container.
        folder: Where the runtime may leave files of its own: Podman's conmon notes an `oom` wherever it was started.
        command: That runs it in the foreground; the first word is the runtime's program.

    Returns:
        Its exit code; 128 + the signal that ended it.
    """
    signals = _signals(signal.SIGTERM, KILL, signal.SIGCHLD)
    end_with(lifeline_fd, parent=True, number=KILL)
    runtime = command[0]
    try:
        client = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL)  # noqa: S603 - what the controller says
    except OSError as error:
        print(f"tidesight: cannot start {runtime}: {error.strerror}", file=sys.stderr)
        return _NOT_FOUND
    asked = False
    while client.poll() is None:
        number = next(signals)
        if number == signal.SIGTERM:
            client.send_signal(signal.SIGTERM)
        elif number == KILL:
            asked = True
            _kill(runtime, name, client)
    code = client.returncode if client.returncode >= 0 else 128 - client.returncode
    if code == _KILLED and not asked:
        print(f"tidesight: {_why_killed(runtime, name)}", file=sys.stderr)
    remove(runtime, name)
    return code


def _signals(*numbers: signal.Signals) -> Iterator[int]:
    """The signals that come from now on, one after another; none is lost and none interrupts."""
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, lambda *_: None)
    return (number for _ in iter(int, 1) for number in os.read(read_fd, 1))


def _why_killed(runtime: str, name: str) -> str:
    if ask(runtime, "inspect", "-f", "{{.State.OOMKilled}}", name).stdout.strip() == "true":
        return "out of memory: killed by the kernel at its limit"
    return "killed: out of memory, unless somebody did it"  # Podman is not told of each


def _kill(runtime: str, name: str, client: "subprocess.Popen[bytes]") -> None:
    """Kill a container which the client may not have made yet; a runtime that does not answer is given up."""
    until_s = time.monotonic() + _KILL_LIMIT_S
    while client.poll() is None and time.monotonic() < until_s:
        ask(runtime, "kill", name)
        with suppress(subprocess.TimeoutExpired):
            client.wait(_POLL_S)
    client.kill()


if __name__ == "__main__":
    sys.exit(watch(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4:]))
