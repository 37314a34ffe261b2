"""An instance under more load than it can bear, and at half of it; the reference stacks under the same."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks.client import closed_loop, request_bytes
from benchmarks.generator import OBJECTIVE_S, Load, poisson
from benchmarks.instance import CONNECTIONS_PER_WORKER, Figures, json_bodies, served
from benchmarks.reference_stacks import STACKS
from benchmarks.stacks import running
from tidesight.resources import usable_resources

LAG_LIMIT_MS = 50.0
"""A run whose generator sent later than this, in the 99th percentile, is no open loop and does not count."""
_PICTURES = 32


def small(pictures: Sequence[bytes]) -> list[bytes]:
    """The smallest of the pictures: at ten times the capacity, the larger ones would measure the loopback."""
    return sorted(pictures, key=len)[:_PICTURES]


def overload(pictures: Sequence[bytes], engine: str, factors: Sequence[float], rounds: int, seconds: float) -> Figures:
    """Goodput at multiples of the capacity, which is measured before and after each; all on the same CPUs."""
    requests = _requests(pictures)
    with served("--engine", engine, "--deadline-s", str(OBJECTIVE_S)) as (_, port):
        found = _rounds(port, requests, factors, rounds, seconds)
    return {"engine": engine, "body_bytes": _mean_bytes(requests), "rounds": found}


def pinned(pictures: Sequence[bytes], engine: str, factors: Sequence[float], rounds: int, seconds: float) -> Figures:
    """The same with the instance on one CPU and the generator on the others, so that neither takes from the other."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        return {"skipped": "one CPU only"}
    requests = _requests(pictures)
    with _on_cpus({cpus[0]}):
        instance = served("--engine", engine, "--deadline-s", str(OBJECTIVE_S))
        _, port = instance.__enter__()
    try:
        with _on_cpus(set(cpus[1:])):
            found = _rounds(port, requests, factors, rounds, seconds)
    finally:
        instance.__exit__(None, None, None)
    return {"engine": engine, "body_bytes": _mean_bytes(requests), "rounds": found}


def half(pictures: Sequence[bytes], engine: str, rounds: int, seconds: float) -> Figures:
    """Latency at half the capacity, Poisson arrivals, default settings."""
    requests = _requests(pictures)
    with served("--engine", engine) as (_, port):
        found = _rounds(port, requests, [0.5], rounds, seconds)
    return {"engine": engine, "rounds": found}


def references(pictures: Sequence[bytes], factor: float, seconds: float) -> Figures:
    """One round of each reference stack at a multiple of its own capacity."""
    bodies = json_bodies(small(pictures))
    requests = _requests(pictures)
    found: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name in STACKS:
        try:
            with running(name, bodies[0]) as port:
                found[name] = _rounds(port, requests, [factor], 1, seconds)[0]
        except ModuleNotFoundError as error:
            missing[name] = str(error.name)
            print(f"  {name} is left out: {error.name} is not installed", flush=True)
    return {"factor": factor, "stacks": found, "missing": missing}


def _rounds(port: int, requests: Sequence[bytes], factors: Sequence[float], rounds: int, seconds: float) -> list[Any]:
    found = []
    _capacity(port, requests, seconds)  # warms up
    for number in range(rounds):
        for factor in factors:
            before_per_s = _capacity(port, requests, seconds)
            summary = poisson(Load(port, factor * before_per_s, seconds, seed=number), requests)
            capacity_per_s = (before_per_s + _capacity(port, requests, seconds)) / 2
            found.append({"factor": factor, "capacity_per_s": capacity_per_s, **summary})
    return found


def _capacity(port: int, requests: Sequence[bytes], seconds: float) -> float:
    connections = CONNECTIONS_PER_WORKER * usable_resources().threads
    count = max(64, int(10 * seconds))
    return closed_loop(port, requests, connections, count).per_second


def _requests(pictures: Sequence[bytes]) -> list[bytes]:
    return [request_bytes(body, "application/json") for body in json_bodies(small(pictures))]


def _mean_bytes(requests: Sequence[bytes]) -> int:
    return sum(map(len, requests)) // len(requests)


@contextmanager
def _on_cpus(cpus: set[int]) -> Iterator[None]:
    """This thread, and the processes it starts meanwhile, on these CPUs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
