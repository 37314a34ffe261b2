"""An instance under more load than it can bear, and at half of it; the reference stacks under the same."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from benchmarks.client import closed_loop, request_bytes
from benchmarks.cpu import OTHERS_LIMIT_CPUS, on_cpus, watch
from benchmarks.generator import OBJECTIVE_S, Load, poisson
from benchmarks.instance import CONNECTIONS_PER_WORKER, Figures, json_bodies
from benchmarks.probes import probing
from benchmarks.rounds import resumed, turned
from benchmarks.stacks import OURS, Field, Running, contenders, ours
from tidesight.resources import usable_resources

LAG_LIMIT_MS = 50.0
"""A run whose generator sent later than this, in the 99th percentile, is no open loop and does not count."""
_PICTURES = 32
_LEAD_S = 2.0


def small(pictures: Sequence[bytes]) -> list[bytes]:
    """The smallest of the pictures: at ten times the capacity, the larger ones would measure the loopback."""
    return sorted(pictures, key=len)[:_PICTURES]


def is_valid(one: Figures) -> bool:
    """Whether a round was an open loop, and little else ran beside it."""
    return bool(one["lag_ms"]["p99"] <= LAG_LIMIT_MS and one["others_cpus"] <= OTHERS_LIMIT_CPUS)


class Shared:
    """Requests, and how long to send them, for rounds in which generator and server share the CPUs.

    Args:
        pictures: To take the bodies from.
        engine: Of the instance.
        rounds: At each load.
        seconds: Of each round.
    """

    def __init__(self, pictures: Sequence[bytes], engine: str, rounds: int, seconds: float) -> None:
        bodies = json_bodies(small(pictures))
        self.first_body = bodies[0]
        self._requests = [request_bytes(body, "application/json") for body in bodies]
        self._rounds = rounds
        self._seconds = seconds
        body_bytes = sum(map(len, bodies)) // len(bodies)
        self._settings: Figures = {"engine": engine, "body_bytes": body_bytes, "seconds": seconds}

    def overload(self, factors: Sequence[float], earlier: Figures) -> Iterator[Figures]:
        """Goodput at multiples of the capacity, which is measured before and after each."""
        with self._instance("--deadline-s", str(OBJECTIVE_S)) as server:
            yield from self._at(server, factors, earlier)

    def half(self, earlier: Figures) -> Iterator[Figures]:
        """Latency at half the capacity, default settings."""
        with self._instance() as server:
            yield from self._at(server, [0.5], earlier)

    def pinned(self, factors: Sequence[float], earlier: Figures) -> Iterator[Figures]:
        """Overload with the instance on one CPU and the generator on the others: neither takes from the other."""
        cpus = sorted(os.sched_getaffinity(0))
        if len(cpus) < 2:
            yield {"skipped": "one CPU only"}
            return
        with ExitStack() as stack:
            with on_cpus({cpus[0]}):
                server = stack.enter_context(self._instance("--deadline-s", str(OBJECTIVE_S)))
            stack.enter_context(on_cpus(set(cpus[1:])))
            yield from self._at(server, factors, earlier)

    def curve(self, stacks: Sequence[str], factors: Sequence[float], earlier: Figures) -> Iterator[Figures]:
        """Goodput of each stack at multiples of its own capacity; started afresh for each, as backlogs outlast it."""
        found = resumed(earlier, self._settings)
        done = {(one["stack"], one["factor"]) for one in found}
        missing: dict[str, str] = earlier.get("missing", {}) if found else {}
        starts = contenders(Field(None, stacks), self.first_body)
        starts[OURS] = lambda: self._instance("--deadline-s", str(OBJECTIVE_S))
        for number, factor in enumerate(factors):
            for name in turned([*starts], number):
                if (name, factor) in done or name in missing:
                    continue
                try:
                    with starts[name]() as server:
                        self._warm_up(server)
                        one = self._round(server, factor, self._capacity(server), seed=number)
                    found.append({"stack": name, **one})
                except ModuleNotFoundError as error:
                    missing[name] = str(error.name)
                yield {**self._settings, "missing": missing, "rounds": found}

    def _instance(self, *arguments: str) -> Any:
        return ours("--engine", self._settings["engine"], *arguments)

    def _at(self, server: Running, factors: Sequence[float], earlier: Figures) -> Iterator[Figures]:
        found = resumed(earlier, self._settings)
        self._warm_up(server)
        before_per_s = self._capacity(server)
        for number in range(len(found), self._rounds * len(factors)):
            one = self._round(server, factors[number % len(factors)], before_per_s, seed=number // len(factors))
            after_per_s = self._capacity(server)
            found.append({**one, "capacity_per_s": (before_per_s + after_per_s) / 2})
            before_per_s = after_per_s
            yield {**self._settings, "rounds": found}

    def _round(self, server: Running, factor: float, capacity_per_s: float, seed: int) -> Figures:
        load = Load(server.port, factor * capacity_per_s, self._seconds, seed, _LEAD_S)
        with watch(server.pid) as usage, ExitStack() as stack:
            probes = stack.enter_context(probing(server.port))
            summary = poisson(load, self._requests)
        used = {"server_cpus": usage.cpu_s / usage.seconds, "others_cpus": usage.others_cpus}
        return {"factor": factor, "capacity_per_s": capacity_per_s, **summary, **used, "probes": probes}

    def _warm_up(self, server: Running) -> None:
        closed_loop(server.port, self._requests, _connections(), 32)

    def _capacity(self, server: Running) -> float:
        count = max(64, int(10 * self._seconds))
        return closed_loop(server.port, self._requests, _connections(), count).per_second


def _connections() -> int:
    return CONNECTIONS_PER_WORKER * usable_resources().threads
