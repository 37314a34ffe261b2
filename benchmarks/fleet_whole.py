"""A whole fleet: beside its instances alone, while nothing happens, and while instances come and go.

For the throughput an instance gets half a CPU, so that two of them, Envoy and the generator fit the two CPUs of the
machine: with one CPU each it would measure who wins the CPU.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any
from urllib.request import urlopen

from benchmarks.client import closed_loop, request_bytes
from benchmarks.cpu import watch
from benchmarks.instance import Figures
from benchmarks.rounds import resumed

FLEET, ALONE = "fleet", "instances alone"
_CALLERS = 3  # for each instance
_IDLE_S = 20.0
_LEAST_REQUESTS = 10_000
_LIMIT_S = 60.0
_TICKS = os.sysconf("SC_CLK_TCK")


def fleet_throughput(
    pictures: Sequence[bytes], engine: str, rounds: int, count: int, earlier: Figures
) -> Iterator[Figures]:
    """Requests a second through Envoy, and to each of the two instances alone, in turns."""
    requests = [request_bytes(picture, "image/jpeg") for picture in pictures]
    settings = {"requests_per_round": count, "engine": engine}
    found = resumed(earlier, settings)
    with Up(2, "--cpu", "0.5", "--memory", "512Mi", "--engine", engine) as fleet:
        ports = [_port(one["url"]) for one in fleet.status()["instances"]]

        def through() -> tuple[float, int]:
            outcome = closed_loop(_port(fleet.url), requests, len(ports) * _CALLERS, count)
            return outcome.per_second, outcome.failures

        def alone() -> tuple[float, int]:
            outcomes = [closed_loop(port, requests, _CALLERS, count // len(ports)) for port in ports]
            return sum(one.per_second for one in outcomes), sum(one.failures for one in outcomes)

        for number in range(len(found), rounds):
            ways = [(FLEET, through), (ALONE, alone)]
            with watch(os.getpid()) as usage:
                of = {
                    name: dict(zip(("per_s", "failures"), take(), strict=True))
                    for name, take in ways[:: 1 - 2 * (number % 2)]
                }
            found.append({"of": of, "others_cpus": usage.others_cpus})
            yield {**settings, "rounds": found}


def fleet_idle(engine: str, seconds: float = _IDLE_S) -> Figures:
    """CPU of Envoy and of the controller, in percent of one, with two instances and no request."""
    with Up(2, "--cpu", "0.5", "--memory", "512Mi", "--engine", engine) as fleet:
        envoy = next(pid for pid in _children(fleet.pid) if "envoy" in _name(pid))
        sleep(3)  # the template is ready, the instances have been found well
        with watch(os.getpid()) as usage:
            before, started = [_cpu_s(pid) for pid in (fleet.pid, envoy)], monotonic()
            sleep(seconds)
            after, took_s = [_cpu_s(pid) for pid in (fleet.pid, envoy)], monotonic() - started
    controller, front = (100 * (late - early) / took_s for early, late in zip(before, after, strict=True))
    return {"controller_percent": controller, "envoy_percent": front, "others_cpus": usage.others_cpus}


def fleet_rolling(picture: bytes, least: int = _LEAST_REQUESTS) -> Figures:
    """Answers by status while a fleet of four is scaled down and up, and replaced instance by instance."""
    request = request_bytes(picture, "image/jpeg")
    statuses: Counter[str] = Counter()
    with Up(4, "--cpu", "0.25", "--memory", "256Mi", *_fake()) as fleet:
        rounds = 0
        while sum(statuses.values()) < least:
            changing = Thread(target=fleet.change)
            changing.start()
            while changing.is_alive():
                statuses += closed_loop(_port(fleet.url), [request], 8, 200).statuses
            rounds += 1
    return {"requests": sum(statuses.values()), "statuses": dict(statuses), "rounds_of_changes": rounds}


class Up:
    """A `tidesight up` of its own, with so many instances."""

    def __init__(self, count: int, *arguments: str) -> None:
        self._count = count
        self._folder = tempfile.TemporaryDirectory()
        self._environment = {**os.environ, "TIDESIGHT_FLEETS": self._folder.name}
        bounds = ("--platform", "gke", "--min", str(count), "--max", str(count), "--set", "lame_duck_s=0")
        command = [sys.executable, "-m", "tidesight", "up", "--port", "0", *bounds, *arguments]
        with Path(self._folder.name, "said.txt").open("wb") as said:
            self._process = subprocess.Popen(command, stdout=said, stderr=said, env=self._environment)
        self.pid = self._process.pid

    def __enter__(self) -> "Up":
        try:
            self._until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._folder.cleanup()

    def status(self) -> dict[str, Any]:
        """As its page has it."""
        state = json.loads(Path(self._folder.name, "default", "fleet.json").read_text())
        with urlopen(f"{state['page']}/api/status", timeout=_LIMIT_S) as answer:
            shown: dict[str, Any] = json.loads(answer.read())
        self.url = str(shown["url"])
        return shown

    def change(self) -> None:
        """Scale down, up again, and replace all."""
        for arguments in (("scale", "2"), ("scale", str(self._count)), ("replace",)):
            command = [sys.executable, "-m", "tidesight", *arguments]
            subprocess.run(command, check=True, env=self._environment, stdout=subprocess.DEVNULL, timeout=_LIMIT_S)
            sleep(1)

    def _until_ready(self) -> None:
        limit = monotonic() + _LIMIT_S
        while monotonic() < limit:
            try:
                if sum(one["state"] == "ready" for one in self.status()["instances"]) == self._count:
                    return
            except OSError:  # not there yet
                if self._process.poll() is not None:
                    break
            sleep(0.1)
        raise RuntimeError(Path(self._folder.name, "said.txt").read_text())


def _fake() -> tuple[str, ...]:
    """An engine that sleeps for 10 ms, by the name of a model file that is never read."""
    file = Path(tempfile.mkdtemp(), "fake-10ms")
    file.touch()
    return ("--engine", "fake", "--model", str(file))


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
