"""Saturation throughput of Tidesight and of the reference stacks, in interleaved rounds of one run."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from time import perf_counter, sleep
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from benchmarks.client import closed_loop, request_bytes
from benchmarks.instance import CONNECTIONS_PER_WORKER, Figures, InProcess, json_bodies, served
from benchmarks.reference_stacks import STACKS, start

LIMIT, OURS = "in-process limit", "Tidesight"
_START_LIMIT_S = 120
_STOP_LIMIT_S = 5


def compare(pictures: Sequence[bytes], rounds: int, count: int) -> Figures:
    """Good answers a second of each stack and of the job without a server, all with ONNX Runtime and one file.

    Every stack is up throughout and idle while another is measured; the order turns from round to round.
    """
    bodies = json_bodies(pictures)
    requests = [request_bytes(body, "application/json") for body in bodies]
    inside = InProcess(bodies, "onnxruntime")
    connections = CONNECTIONS_PER_WORKER * inside.threads
    found = []
    with ExitStack() as stack:
        _, port = stack.enter_context(served("--engine", "onnxruntime"))
        others, missing = _start_all(stack, bodies[0])
        ports = {OURS: port, **others}
        for port in ports.values():
            closed_loop(port, requests, connections, count // 4)
        for number in range(rounds):
            one: dict[str, Any] = {"failures": {}}
            for name in _turned([LIMIT, *ports], number):
                if name == LIMIT:
                    one[name] = inside.per_second(count)
                else:
                    outcome = closed_loop(ports[name], requests, connections, count)
                    one[name], one["failures"][name] = outcome.per_second, outcome.failures
            found.append(one)
    return {"connections": connections, "requests_per_round": count, "missing": missing, "rounds": found}


def _turned(names: list[str], by: int) -> list[str]:
    by %= len(names)
    return names[by:] + names[:by]


def _start_all(stack: ExitStack, body: bytes) -> tuple[dict[str, int], dict[str, str]]:
    """Start what is installed: port by name, and by name the package that is missing."""
    ports, missing = {}, {}
    for name in STACKS:
        try:
            ports[name] = stack.enter_context(running(name, body))
        except ModuleNotFoundError as error:
            missing[name] = str(error.name)
            print(f"  {name} is left out: {error.name} is not installed", flush=True)
    return ports, missing


@contextmanager
def running(name: str, body: bytes) -> Iterator[int]:
    """A reference stack that answers `body`, and its port.

    Raises:
        ModuleNotFoundError: one of its packages is not installed.
    """
    port = _free_port()
    process = start(name, port)
    try:
        _await_answer(name, port, body, process)
        yield port
    finally:
        _stop(process)


def _await_answer(name: str, port: int, body: bytes, process: "subprocess.Popen[bytes]") -> None:
    request = Request(f"http://127.0.0.1:{port}/v1/detect", body, {"Content-Type": "application/json"})
    started = perf_counter()
    while perf_counter() - started < _START_LIMIT_S and process.poll() is None:
        with suppress(URLError, ConnectionError), urlopen(request, timeout=30) as answer:
            json.load(answer)
            return
        sleep(0.1)
    raise RuntimeError(f"{name} does not answer (exit code {process.poll()})")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End a stack with all its processes."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_LIMIT_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
