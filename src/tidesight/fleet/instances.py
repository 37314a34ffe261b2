"""What an instance of a fleet is, what it gets, and how it is to be started and stopped; `launcher.py` does that.

An instance's states: starting -> ready -> draining -> stopped; or crashed, from any state, when it ends unasked.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tidesight.errors import ConfigError
from tidesight.fleet.cgroups import Group
from tidesight.fleet.containers import Containers
from tidesight.fleet.usage import Usage, process_usage

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


class State(StrEnum):
    """Where an instance is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"
    CRASHED = "crashed"


ENDED = (State.STOPPED, State.CRASHED)


@dataclass(frozen=True)
class InstanceClass:
    """What an instance gets.

    Attributes:
        cpu: CPUs, at least 0.01; 0.25 is a quarter of one.
        memory_bytes: At least 64 MiB, in which no instance can live but the limit can be set.
    """

    cpu: float = 1.0
    memory_bytes: int = 512 * 2**20

    def __post_init__(self) -> None:
        if not 0.01 <= self.cpu < 4096:
            raise ConfigError(f"cpu: expected at least 0.01, got {self.cpu}", field="cpu")
        if not 64 * 2**20 <= self.memory_bytes < 2**60:
            raise ConfigError(f"memory: expected at least 64Mi, got {self.memory_bytes} bytes", field="memory")

    @classmethod
    def parse(cls, cpu: str, memory: str) -> "InstanceClass":
        """Quantities as Kubernetes writes them: "0.25" or "250m"; "512Mi", "1G" or bytes.

        Raises:
            ConfigError: one of them is none.
        """
        try:
            cpus = int(cpu[:-1]) / 1000 if cpu.endswith("m") else float(cpu)
        except ValueError:
            raise ConfigError(f"cpu: expected a number or such as 250m, got {cpu!r}", field="cpu") from None
        number = memory.rstrip("KMGki")
        try:
            size_bytes = round(float(number) * _UNITS[memory[len(number) :]])
        except (ValueError, KeyError, OverflowError):
            raise ConfigError(f"memory: expected such as 512Mi or 1G, got {memory!r}", field="memory") from None
        return cls(cpus, size_bytes)


@dataclass(frozen=True)
class LaunchPlan:
    """How instances are started and stopped.

    Attributes:
        folder: For their logs, one file for each.
        instance_class: What each gets.
        arguments: Further ones of `tidesight serve`, the same for all.
        delay_s: Declared: waited before a process is started, for what one machine cannot show (an image that is
            pulled, a node that is provisioned). Part of the start-up time.
        start_limit_s: For an instance to become ready once its process is started; then it is killed.
        lame_duck_s: Between losing readiness and the end of listening, for load balancers to notice.
        grace_s: For accepted requests to be finished after that.
        kill_after_s: From SIGTERM to SIGKILL; the platform's own limit.
        spool: With `--store-mode async`: folder under which each has a spool of its own. The next instance in the
            same place uploads what a killed one left.
        fork: Whether to fork from a template where that is safe.
        containers: How instances run as containers, which are not forked; None runs them as processes.
    """

    folder: Path
    instance_class: InstanceClass = InstanceClass()
    arguments: Sequence[str] = ()
    delay_s: float = 0.0
    start_limit_s: float = 240.0
    lame_duck_s: float = 0.0
    grace_s: float = 10.0
    kill_after_s: float = 30.0
    spool: Path | None = None
    fork: bool = False
    containers: Containers | None = None


@dataclass(frozen=True)
class Transition:
    """When and why an instance entered a state; `at_s` is `time.monotonic`."""

    state: State
    at_s: float
    reason: str


@dataclass(eq=False)
class Instance:
    """One instance, for as long as anybody cares.

    Attributes:
        id: Unique in its fleet's life.
        slot: Its place, the lowest that was free; a number for what outlives it, such as a spool.
        log: File with what it says.
        enforced: Whether the kernel holds it to its class.
        how: "forked", "fresh" or the runtime of its container; empty until its process exists.
        pid: Its process, or None; that of a container once it listens.
        address: (host, port) where it listens, or None.
        exit_code: Of its process (negative: the signal), or None when there is none or it is not known.
        history: Its states so far, the first one the decision to start it.
        spawned_s: `time.monotonic` when its process was started, or None.
        final_usage: What it took in all, once it has ended.
        group: Its control group.
    """

    id: str
    slot: int
    log: Path
    enforced: bool
    history: list[Transition]
    how: str = ""
    pid: int | None = None
    address: tuple[str, int] | None = None
    exit_code: int | None = None
    spawned_s: float | None = None
    final_usage: Usage | None = None
    group: Group = field(default_factory=Group)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def state(self) -> State:
        """Where it is in its life."""
        return self.history[-1].state

    @property
    def reason(self) -> str:
        """Why it is there."""
        return self.history[-1].reason

    @property
    def url(self) -> str | None:
        """Where it answers, or None."""
        return f"http://{self.address[0]}:{self.address[1]}" if self.address else None

    @property
    def start_s(self) -> float | None:
        """Seconds from the decision to readiness, or None; a declared delay is part of them."""
        ready = next((one.at_s for one in self.history if one.state is State.READY), None)
        return None if ready is None else ready - self.history[0].at_s

    def usage(self) -> Usage | None:
        """What it takes of CPU and memory; None while it has no process."""
        if self.final_usage or self.pid is None:
            return self.final_usage
        return self.group.usage() or process_usage(self.pid)

    async def until(self, *states: State) -> State:
        """Wait until it is in one of these states, or has ended; which it is in then."""
        while self.state not in states and self.state not in ENDED:
            changed = self._changed
            await changed.wait()
        return self.state

    def enter(self, state: State, reason: str) -> None:
        """Note a state; for the launcher alone."""
        self.history.append(Transition(state, time.monotonic(), reason))
        self._changed.set()
        self._changed = asyncio.Event()
