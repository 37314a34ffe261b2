"""Saturation throughput of Tidesight and of the reference stacks, in interleaved rounds of one run."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter, process_time, sleep
from urllib.error import URLError
from urllib.request import Request, urlopen

from benchmarks.client import closed_loop, request_bytes
from benchmarks.cpu import watch
from benchmarks.instance import CONNECTIONS_PER_WORKER, Figures, InProcess, json_bodies, served
from benchmarks.ports import free_port
from benchmarks.reference_stacks import start
from benchmarks.reference_stacks.job import MODEL
from benchmarks.rounds import resumed, turned
from benchmarks.tuned import choice_for, open_plain, open_tuned
from tidesight.resources import usable_resources

LIMIT, TUNED_LIMIT = "in-process limit", "in-process limit, tuned"
OURS, TUNED = "Tidesight", "Tidesight, tuned"
FASTAPI, FIRST_STUDY = "FastAPI + uvicorn", "Flask + Gunicorn + Ultralytics"
_START_LIMIT_S = 120
_STOP_LIMIT_S = 5


@dataclass(frozen=True)
class Running:
    """A server that answers.

    Attributes:
        port: On 127.0.0.1.
        pid: Of its first process; all others are below it.
    """

    port: int
    pid: int


Start = Callable[[], AbstractContextManager[Running]]


@dataclass(frozen=True)
class Field:
    """Who takes part.

    Attributes:
        model: The ONNX file that all of them load; None is the embedded one.
        stacks: Names of the reference stacks.
    """

    model: Path | None
    stacks: Sequence[str]


@contextmanager
def ours(*arguments: str) -> Iterator[Running]:
    """An instance of Tidesight."""
    with served(*arguments) as (instance, port):
        yield Running(port, instance.process.pid)


def compare(pictures: Sequence[bytes], field: Field, rounds: int, count: int, earlier: Figures) -> Iterator[Figures]:
    """Good answers a second, and CPU time, of each stack and of the job without a server, all with one file.

    Every stack is up throughout and idle while another is measured; the order turns from round to round.
    """
    bodies = json_bodies(pictures)
    requests = [request_bytes(body, "application/json") for body in bodies]
    connections = CONNECTIONS_PER_WORKER * usable_resources().threads
    plain = open_plain(field.model)
    inside = {LIMIT: InProcess(bodies, plain)}
    if choice := choice_for(field.model):
        inside[TUNED_LIMIT] = InProcess(bodies, open_tuned(field.model, choice))
    with ExitStack() as stack:
        servers, missing = _start_all(stack, contenders(field, bodies[0]))
        tuned = choice.describe() if choice else ""
        settings: Figures = {
            "connections": connections,
            "requests_per_round": count,
            "missing": missing,
            "tuned": tuned,
            "margin_px": plain[0].plan.margin_px,
        }
        settings["runs"] = {name: _model_info(servers[name].port) for name in (OURS, TUNED) if name in servers}
        for one in servers.values():
            closed_loop(one.port, requests, connections, max(count // 4, 2 * connections))
        found = resumed(earlier, settings)
        for number in range(len(found), rounds):
            of = {}
            for name in turned([*inside, *servers], number):
                of[name] = (
                    _inside(inside[name], count)
                    if name in inside
                    else _served(servers[name], requests, connections, count)
                )
            found.append({"of": of, "others_cpus": max(one["others_cpus"] for one in of.values())})
            yield {**settings, "rounds": found}


def contenders(field: Field, body: bytes) -> dict[str, Start]:
    """How to start each that takes part, by name."""
    model = [] if field.model is None else ["--model", str(field.model)]
    starts: dict[str, Start] = {OURS: partial(ours, "--engine", "onnxruntime", *model)}
    if choice_for(field.model):
        starts[TUNED] = partial(ours, "--engine", "auto", *model)
    return starts | {name: partial(running, name, body, field.model) for name in field.stacks}


def _model_info(port: int) -> str:
    """What an instance says that it runs."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    info: str = next(line for line in lines if line.startswith("tidesight_model_info{"))
    return info.partition("{")[2].rpartition("}")[0]


def _served(server: Running, requests: Sequence[bytes], connections: int, count: int) -> Figures:
    with watch(server.pid) as usage:
        generator_s = process_time()
        outcome = closed_loop(server.port, requests, connections, count)
        generator_s = process_time() - generator_s
    return {
        "per_s": outcome.per_second,
        "cpu_ms": 1e3 * usage.cpu_s / count,
        "generator_cpu_ms": 1e3 * generator_s / count,
        "failures": outcome.failures,
        "others_cpus": usage.others_cpus,
    }


def _inside(inside: InProcess, count: int) -> Figures:
    with watch(os.getpid()) as usage:
        per_s = inside.per_second(count)
    cpu_ms = 1e3 * usage.cpu_s / count
    return {"per_s": per_s, "cpu_ms": cpu_ms, "failures": 0, "others_cpus": usage.others_cpus}


def _start_all(stack: ExitStack, starts: Mapping[str, Start]) -> tuple[dict[str, Running], dict[str, str]]:
    """Start what is installed: servers by name, and by name the package that is missing."""
    servers, missing = {}, {}
    for name, begin in starts.items():
        try:
            servers[name] = stack.enter_context(begin())
        except ModuleNotFoundError as error:
            missing[name] = str(error.name)
            print(f"  {name} is left out: {error.name} is not installed", flush=True)
    return servers, missing


@contextmanager
def running(name: str, body: bytes, model: Path | None = None) -> Iterator[Running]:
    """A reference stack that answers `body`.

    Raises:
        ModuleNotFoundError: one of its packages is not installed.
    """
    port = free_port()
    os.environ[MODEL] = "" if model is None else str(model)
    try:
        process = start(name, port)
    finally:
        del os.environ[MODEL]
    try:
        _await_answer(name, port, body, process)
        yield Running(port, process.pid)
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
