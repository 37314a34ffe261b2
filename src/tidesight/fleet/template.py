"""Fast start: a template process that has everything imported and the model loaded forks ready instances.

    template = Template(arguments, lifeline, folder / "template.log")
    template.open()            # loads beside
    process = await template.start(order)

It says so itself where forking is not safe (a library keeps threads: OpenVINO does), and `usable` is then False for
good. When it ends otherwise a new one is started, with growing pauses; its forks go on meanwhile.
"""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tidesight.fleet.lifeline import Lifeline
from tidesight.fleet.processes import CannotStart, Order, Process, spawn

_MAX_MESSAGE_BYTES = 65_536
_FORK_LIMIT_S = 1.0
_FIRST_LOAD_LIMIT_S = 5.0
_CODE_LIMIT_S = 1.0
_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 60.0
_STEADY_S = 10.0  # after so long, an end is a new misfortune and not the last one again
# Libraries that would start threads as they are imported: NumPy's OpenBLAS, and ONNX Runtime's telemetry.
_SINGLE = 'OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 ORT_DISABLE_TELEMETRY=1 exec "$@"'


class Template:
    """A template process and the way to it.

    Args:
        arguments: Of `tidesight serve`, for all its instances.
        lifeline: What it and its instances are tied to.
        log: File for what it says itself.

    Attributes:
        ready: Whether it can fork now.
        usable: False once it is known that these settings cannot be forked safely.
        reason: Why it is not ready, or not usable.
    """

    name = "forked"

    def __init__(self, arguments: Sequence[str], lifeline: Lifeline, log: Path) -> None:
        self.ready = False
        self.usable = True
        self.reason = "the template is loading"
        self.pid: int | None = None
        self._arguments = [*arguments, "--lifeline-fd", str(lifeline.fd)]
        self._lifeline = lifeline
        self._log = log
        self._channel: socket.socket | None = None
        self._settled = asyncio.Event()
        self._orders = 0
        self._replies: dict[int, asyncio.Future[Process]] = {}
        self._codes: dict[int, asyncio.Future[int | None]] = {}
        self._running: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Start it; it loads beside."""
        self._running = asyncio.create_task(self._keep(), name="template")

    async def settled(self) -> bool:
        """Wait until it can fork or is known not to; whether it can."""
        await self._settled.wait()
        return self.ready

    async def close(self) -> None:
        """End it; its forks go on."""
        if self._running:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running

    async def start(self, order: Order) -> Process:
        """Fork an instance; at first, once the template has loaded: a start beside that would take longer.

        Raises:
            CannotStart: it is not ready, refused, or did not answer.
        """
        if not self._settled.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._settled.wait(), _FIRST_LOAD_LIMIT_S)
        if not self.ready or self._channel is None:
            raise CannotStart(self.reason)
        self._orders += 1
        number = self._orders
        begin_read_fd, begin_write_fd = os.pipe()
        reply: asyncio.Future[Process] = asyncio.get_running_loop().create_future()
        self._replies[number] = reply
        request = {"fork": number, "entrances": list(order.entrances), "settings": dict(order.settings)}
        try:
            fds = [order.stdout_fd, order.stderr_fd, begin_read_fd]
            socket.send_fds(self._channel, [json.dumps(request).encode()], fds)
            process = await asyncio.wait_for(reply, _FORK_LIMIT_S)
            os.write(begin_write_fd, b"1")  # without it, a fork that came too late ends by itself
        except TimeoutError:
            raise CannotStart(f"the template did not fork within {_FORK_LIMIT_S:g} s") from None
        except OSError as error:
            raise CannotStart(f"the template cannot be reached: {error}") from None
        finally:
            del self._replies[number]
            os.close(begin_read_fd)
            os.close(begin_write_fd)
        return process

    async def _keep(self) -> None:
        pause_s = _PAUSE_S
        while self.usable:
            began_s = time.monotonic()
            try:
                code = await self._run_once()
            except (CannotStart, OSError) as error:
                self.reason = str(error)
            else:
                self.reason = self.reason if not self.usable else f"the template ended with {code}; see {self._log}"
            steady = self.ready and time.monotonic() - began_s > _STEADY_S
            self.ready = False
            self._settled.set()
            if steady:
                pause_s = _PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _run_once(self) -> int | None:
        """Start it, listen to it until it ends; its exit code."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        log_fd = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        serve = [sys.executable, "-m", "tidesight.commands.serve_template", "--channel-fd", str(theirs.fileno())]
        command = ["/bin/sh", "-c", _SINGLE, "sh", *serve, *self._arguments]
        try:
            process = spawn(command, (self._lifeline.fd, theirs.fileno()), log_fd, log_fd)
            theirs.close()
            self._channel, self.pid = ours, process.pid
            loop.add_reader(ours, self._receive, ours)
            try:
                return await process.wait()
            except asyncio.CancelledError:
                process.send(signal.SIGKILL)
                await process.wait()
                raise
        finally:
            loop.remove_reader(ours)
            theirs.close()  # again, when nothing was started
            while self._receive(ours):  # what it said last
                pass
            ours.close()
            os.close(log_fd)
            self._channel = self.pid = None
            for reply in self._replies.values():
                if not reply.done():
                    reply.set_exception(CannotStart("the template ended"))
            for code in self._codes.values():
                if not code.done():
                    code.set_result(None)
            self._codes.clear()

    def _receive(self, channel: socket.socket) -> bool:
        """Take one message; False when there is none."""
        try:
            data, fds, _, _ = socket.recv_fds(channel, _MAX_MESSAGE_BYTES, 1)
        except (BlockingIOError, ConnectionError):
            return False
        if not data:
            asyncio.get_running_loop().remove_reader(channel)
            return False
        self._take(json.loads(data), fds)
        return True

    def _take(self, message: dict[str, Any], fds: list[int]) -> None:
        if message.get("ready"):
            self.ready, self.reason = True, ""
            self._settled.set()
        elif "unsafe" in message:
            self.usable, self.reason = False, message["unsafe"]
        elif "ended" in message:
            code = self._codes.pop(message["ended"], None)
            if code and not code.done():
                code.set_result(message["code"])
        elif "refused" in message:
            if reply := self._awaited(message["refused"]):
                reply.set_exception(CannotStart(message["reason"]))
        elif reply := self._awaited(message["forked"]):
            reply.set_result(self._held(message["pid"], fds[0]))
        else:
            os.close(fds[0])  # nobody waits any more; the fork ends by itself

    def _awaited(self, number: int) -> "asyncio.Future[Process] | None":
        reply = self._replies.get(number)
        return None if reply is None or reply.done() else reply

    def _held(self, pid: int, pidfd: int) -> Process:
        code: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._codes[pid] = code

        async def collect() -> int | None:
            told = None
            with suppress(TimeoutError):
                told = await asyncio.wait_for(code, _CODE_LIMIT_S)
            if told is None:  # the template is gone, and with it who could tell; unless its forks came to us
                with suppress(ChildProcessError):
                    told = os.waitstatus_to_exitcode(os.waitpid(pid, os.WNOHANG)[1])
            return told

        return Process(pid, pidfd, collect)
