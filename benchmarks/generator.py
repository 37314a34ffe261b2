"""An open loop of Poisson arrivals from a process of its own: raw sockets, bodies made beforehand, one pool.

`poisson` starts `python -m benchmarks.generator`, which imports nothing of Tidesight, and reads its summary. A caller
keeps its connection, waits `PATIENCE_S` from when its request was due, and then closes the connection. A refused caller
still sends the rest of its body, as HTTP/1.1 asks, and nobody says `Expect: 100-continue`.
"""

import asyncio
import gc
import json
import pickle
import random
import resource
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Any

import uvloop

OBJECTIVE_S = 0.5
PATIENCE_S = 5.0
_SWEEP_S = 0.05
_TAIL_S = 1.0  # after it, so that those who came last in it did not have the server to themselves
_TIMED_OUT, _LOST = "timed out", "connection lost"


@dataclass(frozen=True)
class Load:
    """What to send.

    Attributes:
        port: Of the server, on 127.0.0.1.
        rate_rps: Mean arrivals a second.
        seconds: How long the part that counts lasts.
        seed: Of the arrival times.
        lead_s: How long to send before that part, so that queue and estimates have settled.
    """

    port: int
    rate_rps: float
    seconds: float
    seed: int
    lead_s: float = 2.0


def poisson(load: Load, requests: Sequence[bytes]) -> dict[str, Any]:
    """Send whole requests in turn; the summary of those due in the part that counts."""
    command = [sys.executable, "-m", "benchmarks.generator"]
    done = subprocess.run(command, input=pickle.dumps((load, list(requests))), stdout=subprocess.PIPE, check=True)
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


class _Caller:
    """One request: when it was due, when its connection was ready, when and how it ended."""

    __slots__ = ("connection", "due", "ended", "lag", "ready", "request", "result")

    def __init__(self, due: float, request: bytes) -> None:
        self.due = due
        self.request = request
        self.lag = perf_counter() - due
        self.ready = self.ended = 0.0
        self.result = ""
        self.connection: _Connection | None = None


class _Connection(asyncio.Protocol):
    """A connection; free for the next caller once the last one's body is sent and its answer read."""

    def __init__(self, pool: "list[_Connection]", caller: _Caller) -> None:
        self._pool = pool
        self._caller: _Caller | None = caller
        self._answer = bytearray()
        self._sending = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # it is one here
        self.transport = transport
        transport.set_write_buffer_limits(0)  # so that `resume_writing` says that the body is sent
        caller = self._caller
        if caller is None or caller.result:
            transport.abort()
        else:
            self.ask(caller)

    def ask(self, caller: _Caller) -> None:
        self._caller = caller
        caller.connection = self
        caller.ready = perf_counter()
        self.transport.write(caller.request)

    def pause_writing(self) -> None:
        self._sending = True

    def resume_writing(self) -> None:
        self._sending = False
        self._maybe_free()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        end = self._answer.find(b"\r\n\r\n")
        if end < 0 or self._caller is None:
            return
        head = bytes(self._answer[:end]).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(self._answer) < end + 4 + length:
            return
        self._end(head[9:12].decode())
        self._answer.clear()
        if b"connection: close" in head:
            self.transport.close()
        else:
            self._maybe_free()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(_LOST)
        with suppress(ValueError):
            self._pool.remove(self)

    def _end(self, result: str) -> None:
        if self._caller is not None and not self._caller.result:
            self._caller.result = result
            self._caller.ended = perf_counter()
        self._caller = None

    def _maybe_free(self) -> None:
        if self._caller is None and not self._sending and not self.transport.is_closing():
            self._pool.append(self)


class _Run:
    """Starts callers when they are due, and ends those whose patience is over."""

    def __init__(self, load: Load, requests: Sequence[bytes]) -> None:
        self._load = load
        self._requests = requests
        self._random = random.Random(load.seed)
        self._loop = asyncio.get_running_loop()
        self._pool: list[_Connection] = []
        self._callers: list[_Caller] = []
        self._waiting: deque[_Caller] = deque()
        self._connecting: set[asyncio.Task[Any]] = set()
        self._opened = 0
        self._done = asyncio.Event()

    async def run(self) -> dict[str, Any]:
        gc.collect()
        gc.freeze()
        gc.disable()  # a collection over all that was sent would be a pause of our making
        self._first = perf_counter()
        self._next = self._first
        self._last = self._first + self._load.lead_s + self._load.seconds + _TAIL_S
        busy_s = process_time()
        self._arrive()
        self._sweep()
        await asyncio.sleep(self._last - perf_counter())
        busy_s = process_time() - busy_s
        await self._done.wait()
        return self._summary(busy_s / (self._last - self._first))

    def _arrive(self) -> None:
        while self._next <= perf_counter():
            caller = _Caller(self._next, self._requests[len(self._callers) % len(self._requests)])
            self._callers.append(caller)
            self._waiting.append(caller)
            if self._pool:
                self._pool.pop().ask(caller)
            else:
                self._opened += 1
                task = self._loop.create_task(self._connect(caller))
                self._connecting.add(task)
                task.add_done_callback(self._connecting.discard)
            self._next += self._random.expovariate(self._load.rate_rps)
        if self._next < self._last:
            self._loop.call_later(self._next - perf_counter(), self._arrive)

    async def _connect(self, caller: _Caller) -> None:
        try:
            await self._loop.create_connection(lambda: _Connection(self._pool, caller), "127.0.0.1", self._load.port)
        except OSError:
            caller.result, caller.ended = caller.result or _LOST, perf_counter()

    def _sweep(self) -> None:
        now = perf_counter()
        while self._waiting and (self._waiting[0].result or self._waiting[0].due + PATIENCE_S < now):
            caller = self._waiting.popleft()
            if not caller.result:
                caller.result, caller.ended = _TIMED_OUT, now
                if caller.connection is not None:
                    caller.connection.transport.abort()
        if self._waiting or self._next < self._last:
            self._loop.call_later(_SWEEP_S, self._sweep)
        else:
            self._done.set()

    def _summary(self, cpus: float) -> dict[str, Any]:
        begin = self._first + self._load.lead_s
        end = begin + self._load.seconds
        counted = [caller for caller in self._callers if begin <= caller.due < end]
        answered = [caller for caller in counted if caller.result == "200"]
        refused = [caller for caller in counted if caller.result == "429"]
        good = sum(caller.ended - caller.due <= OBJECTIVE_S for caller in answered)
        return {
            "rate_rps": self._load.rate_rps,
            "seconds": self._load.seconds,
            "sent": len(counted),
            "good_per_s": good / self._load.seconds,
            "late": len(answered) - good,
            "results": dict(Counter(caller.result for caller in counted)),
            "answered_ms": _percentiles([caller.ended - caller.due for caller in answered]),
            "refused_ms": _percentiles([caller.ended - caller.ready for caller in refused]),
            "refused_from_due_ms": _percentiles([caller.ended - caller.due for caller in refused]),
            "lag_ms": _percentiles([caller.lag for caller in counted]),
            "connections_opened": self._opened,
            "generator_cpus": cpus,
        }


def _percentiles(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    if not ordered:
        return {}
    return {name: round(1e3 * ordered[int(q * (len(ordered) - 1))], 2) for name, q in _QUANTILES.items()}


_QUANTILES = {"p50": 0.5, "p99": 0.99, "max": 1.0}


def main() -> None:
    """Read the load and the requests from stdin, print the summary."""
    load, requests = pickle.load(sys.stdin.buffer)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    async def run() -> dict[str, Any]:
        return await _Run(load, requests).run()

    print(json.dumps(uvloop.run(run())))


if __name__ == "__main__":
    main()
